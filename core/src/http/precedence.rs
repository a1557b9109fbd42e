//! Reports before reads: while reports are under way, few lists are read at once. Workspaces take turns.
//! A list that takes long rests now and then as well.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use chrono::TimeDelta;
use futures_channel::oneshot::{Receiver, Sender, channel};

use super::turns::await_with;
use crate::ports::RestAfter;
use crate::{FairQueue, Timestamp, Workspace};

/// How long a read makes way for reports. Then it begins all the same.
pub(super) const COURTESY: Duration = Duration::from_secs(1);

/// How long a read that rests beside reports goes on at least before its next rest.
const STRETCH: TimeDelta = TimeDelta::milliseconds(1);

/// How many times as long a read rests, so that it works for a seventh of its time.
const RESTS: u32 = 6;

/// The longest rest. What has gone on for longer has mostly been held up by others.
const MAX_REST: Duration = Duration::from_millis(30);

/// How many times as long a read rests where other instances read beside it, as readers are spread over several.
const AMONG_SIBLINGS: u32 = 2;

/// How long it takes at least until storage is looked at again.
const LOOK_AGAIN: TimeDelta = TimeDelta::milliseconds(50);

/// How long ago storage may have been looked at, for a change since then to mean that reports are under way.
const LATELY: TimeDelta = TimeDelta::seconds(1);

/// What is under way at a host. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Precedence(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The most reads at once beside reports.
    few: usize,
    /// How many times as long as elsewhere a read rests.
    rests: u32,
    /// Reports under way.
    reports: AtomicUsize,
    /// How many reports have come.
    come: AtomicUsize,
    /// How many had come when the last read began.
    come_before: AtomicUsize,
    /// Whether siblings report, as far as the last look at storage tells.
    siblings_report: AtomicBool,
    looks: Mutex<Looks>,
    reads: Mutex<Reads>,
}

/// Looks at storage for what siblings report.
#[derive(Debug, Default)]
struct Looks {
    /// When the last one began.
    began: Option<Timestamp>,
    /// What the last one saw.
    last: Option<Look>,
}

#[derive(Debug)]
struct Look {
    revision: i64,
    at: Timestamp,
    /// How many of the host's own reports had come.
    come: usize,
}

#[derive(Debug)]
struct Reads {
    at_work: usize,
    waiting: FairQueue<Workspace, Sender<Read>>,
}

/// A report under way; over when dropped.
#[derive(Debug)]
pub(super) struct Reporting(Arc<Shared>);

/// A read at work; over when dropped.
#[derive(Debug)]
pub(super) struct Read {
    shared: Arc<Shared>,
    /// How many reports had come when it began.
    come: usize,
}

impl Precedence {
    /// `few`: the most reads at once beside reports.
    pub(super) fn new(few: usize, has_siblings: bool) -> Self {
        let reads = Reads {
            at_work: 0,
            waiting: FairQueue::new(usize::MAX),
        };
        Self(Arc::new(Shared {
            few,
            rests: if has_siblings { AMONG_SIBLINGS } else { 1 },
            reports: AtomicUsize::new(0),
            come: AtomicUsize::new(0),
            come_before: AtomicUsize::new(0),
            siblings_report: AtomicBool::new(false),
            looks: Mutex::default(),
            reads: Mutex::new(reads),
        }))
    }

    /// Notes that a report is under way.
    pub(super) fn report(&self) -> Reporting {
        self.0.reports.fetch_add(1, Ordering::Relaxed);
        self.0.come.fetch_add(1, Ordering::Relaxed);
        Reporting(Arc::clone(&self.0))
    }

    /// Checks whether no report is under way, and none has come since the last read began.
    pub(super) fn is_quiet(&self) -> bool {
        self.0.is_quiet()
    }

    /// Whether to look at storage now, for whether siblings report: not where the host itself does, and not
    /// often. Whoever is told to does.
    pub(super) fn is_to_look(&self, now: Timestamp) -> bool {
        let mut looks = self.0.looks();
        let is_old = |began: Timestamp| (now - began).abs() >= LOOK_AGAIN;
        let is_due = self.0.none_here_since(self.0.come_before()) && looks.began.is_none_or(is_old);
        if is_due {
            looks.began = Some(now);
        }
        is_due
    }

    /// Notes what storage looks like. If it has changed since the last look, lately and not by the host's own
    /// reports, siblings report. So it takes two reads in a second until they are known of.
    pub(super) fn look(&self, revision: i64, now: Timestamp) {
        let come = self.0.come.load(Ordering::Relaxed);
        let look = Look {
            revision,
            at: now,
            come,
        };
        let last = self.0.looks().last.replace(look);
        let report = last.is_some_and(|last| {
            let is_recent = (now - last.at).abs() < LATELY;
            last.revision != revision && last.come == come && is_recent
        });
        self.0.siblings_report.store(report, Ordering::Relaxed);
        if !report {
            self.0.let_in();
        }
    }

    /// Waits until a read may begin, but not beyond `courtesy`.
    pub(super) async fn read(
        &self,
        workspace: &Workspace,
        courtesy: impl Future<Output = ()>,
    ) -> Read {
        let receiver = match self.0.join(workspace) {
            Ok(read) => return read,
            Err(receiver) => receiver,
        };
        match await_with(courtesy, receiver).await {
            Some(read) => read,
            None => {
                let mut reads = self.0.lock();
                self.0.begin(&mut reads)
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Reads> {
        // Nothing that holds the lock leaves the state half-changed.
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no report is under way anywhere, as far as is known, and none has come to this host since
    /// there had been so many.
    fn is_quiet_since(&self, come: usize) -> bool {
        self.none_here_since(come) && !self.siblings_report.load(Ordering::Relaxed)
    }

    /// Whether no report is under way at this host, and none has come since there had been so many. That
    /// none but a report's client can send its next one takes a moment, in which it seems that there are none.
    fn none_here_since(&self, come: usize) -> bool {
        self.reports.load(Ordering::Relaxed) == 0 && self.come.load(Ordering::Relaxed) == come
    }

    /// How many reports had come when the last read began.
    fn come_before(&self) -> usize {
        self.come_before.load(Ordering::Relaxed)
    }

    /// Whether it is quiet since the last read began.
    fn is_quiet(&self) -> bool {
        self.is_quiet_since(self.come_before())
    }

    /// Whether another read may begin.
    fn admits(&self, reads: &Reads) -> bool {
        reads.at_work < self.few || self.is_quiet()
    }

    fn begin(self: &Arc<Self>, reads: &mut Reads) -> Read {
        let come = self.come.load(Ordering::Relaxed);
        self.come_before.store(come, Ordering::Relaxed);
        reads.at_work += 1;
        Read {
            shared: Arc::clone(self),
            come,
        }
    }

    /// A read now, or a place in the queue.
    fn join(self: &Arc<Self>, workspace: &Workspace) -> Result<Read, Receiver<Read>> {
        let mut reads = self.lock();
        if self.admits(&reads) {
            return Ok(self.begin(&mut reads));
        }
        let (sender, receiver) = channel();
        reads.waiting.push(workspace.clone(), sender);
        Err(receiver)
    }

    /// The next one that waits, if it may begin now.
    fn next(self: &Arc<Self>) -> Option<(Sender<Read>, Read)> {
        let mut reads = self.lock();
        while self.admits(&reads) {
            let sender = reads.waiting.pop()?;
            if !sender.is_canceled() {
                return Some((sender, self.begin(&mut reads)));
            }
        }
        None
    }

    /// Has those begin that wait and may.
    fn let_in(self: &Arc<Self>) {
        while let Some((sender, read)) = self.next() {
            // Whoever has gone meanwhile drops the read, and so passes it on.
            let _ = sender.send(read);
        }
    }
}

impl Read {
    /// Does what the read is to do, with a rest after each [`STRETCH`] or more at the end of which reports
    /// are under way or have come meanwhile: for [`COURTESY`] in all.
    pub(super) async fn with_rests<T, R: Future<Output = ()>>(
        &self,
        work: impl Future<Output = T>,
        after: RestAfter,
        now: impl Fn() -> Timestamp,
        rest: impl Fn(Duration) -> R,
    ) -> T {
        let mut work = pin!(work);
        let mut gone = TimeDelta::zero();
        let mut courtesy = COURTESY;
        let mut come = self.come;
        let mut began = now();
        loop {
            let step = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
            if let Poll::Ready(done) = step {
                return done;
            }
            let stopped = now();
            // A clock may have been set back.
            gone += (stopped - began).max(TimeDelta::zero());
            began = stopped;
            if gone >= STRETCH {
                let length = gone.to_std().unwrap_or_default() * RESTS;
                gone = TimeDelta::zero();
                let length = (length.min(MAX_REST) * self.shared.rests).min(courtesy);
                if !length.is_zero() && !self.shared.is_quiet_since(come) {
                    come = self.shared.come.load(Ordering::Relaxed);
                    courtesy -= length;
                    rest(length).await;
                    began = now();
                    continue;
                }
            }
            woken().await;
            if after == RestAfter::Work {
                began = now();
            }
        }
    }
}

/// Waits until the task is woken, by whatever it has polled before.
async fn woken() {
    let mut has_waited = false;
    poll_fn(|_| match std::mem::replace(&mut has_waited, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

impl Drop for Reporting {
    fn drop(&mut self) {
        self.0.reports.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        self.shared.lock().at_work -= 1;
        self.shared.let_in();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::future::{pending, ready};
    use std::ops::Range;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use futures_executor::block_on;
    use proptest::prelude::*;

    use super::*;
    use crate::{AccountId, yield_now};

    const FEW: usize = 2;

    type Waiting = Pin<Box<dyn Future<Output = Read>>>;

    fn waiting(precedence: &Precedence, workspace: u8) -> Waiting {
        let precedence = precedence.clone();
        let workspace = Workspace::Account(AccountId::new(workspace.to_string()));
        Box::pin(async move { precedence.read(&workspace, pending()).await })
    }

    /// The read, if it has begun.
    fn poll(waiting: &mut Waiting) -> Option<Read> {
        match waiting
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(read) => Some(read),
            Poll::Pending => None,
        }
    }

    #[test]
    fn any_number_reads_where_nobody_reports() {
        let precedence = Precedence::new(FEW, false);
        let reads: Vec<Option<Read>> = (0..9).map(|_| poll(&mut waiting(&precedence, 0))).collect();
        assert!(reads.iter().all(Option::is_some));
    }

    #[test]
    fn few_read_where_a_report_has_just_been_answered() {
        let precedence = Precedence::new(1, false);
        let first = poll(&mut waiting(&precedence, 0));
        drop(precedence.report());
        let mut second = waiting(&precedence, 0);
        assert!(first.is_some() && poll(&mut second).is_none());
        drop(first);
        assert!(poll(&mut second).is_some());
    }

    #[test]
    fn who_has_made_way_for_long_begins() {
        let precedence = Precedence::new(1, false);
        let _first = poll(&mut waiting(&precedence, 0));
        let _reporting = precedence.report();
        let second = block_on(precedence.read(&Workspace::Shared, ready(())));
        assert_eq!(precedence.0.lock().at_work, 2);
        drop(second);
        assert_eq!(precedence.0.lock().at_work, 1);
    }

    /// The rests, in µs, of a read that takes `count` steps of `step` µs each, and waits 300 µs after each. At each
    /// step, `beside` is told how many there have been.
    fn rests(
        precedence: &Precedence,
        after: RestAfter,
        (count, step): (usize, i64),
        beside: impl Fn(usize),
    ) -> Vec<u128> {
        let read = poll(&mut waiting(precedence, 0)).unwrap();
        let (now, steps) = (Cell::new(Timestamp::UNIX_EPOCH), Cell::new(0));
        let rests = RefCell::new(Vec::new());
        let work = poll_fn(|context| {
            steps.set(steps.get() + 1);
            beside(steps.get());
            now.set(now.get() + TimeDelta::microseconds(step));
            context.waker().wake_by_ref();
            match steps.get() {
                done if done == count => Poll::Ready("done"),
                _ => Poll::Pending,
            }
        });
        let rest = |length: Duration| {
            rests.borrow_mut().push(length.as_micros());
            yield_now()
        };
        let mut reading = pin!(read.with_rests(work, after, || now.get(), rest));
        let done = poll_fn(|context| {
            let done = reading.as_mut().poll(context);
            now.set(now.get() + TimeDelta::microseconds(300));
            done
        });
        assert_eq!(block_on(done), "done");
        rests.take()
    }

    #[test]
    fn a_read_rests_while_reports_are_under_way() {
        let precedence = Precedence::new(1, false);
        let reporting = Cell::new(None);
        let rests = |after, step, reports: Range<usize>| {
            rests(&precedence, after, (10, step), |step| {
                if step == reports.start {
                    reporting.set(Some(precedence.report()));
                }
                if step == reports.end {
                    reporting.set(None);
                }
            })
        };
        assert_eq!(rests(RestAfter::Work, 400, 0..0), []);
        assert_eq!(rests(RestAfter::Work, 400, 1..10), [7_200; 3]);
        assert_eq!(rests(RestAfter::Time, 400, 1..10), [6_600; 4]);
        assert_eq!(rests(RestAfter::Work, 400, 5..10), [7_200; 2]);
        // Once, since its client may send another.
        assert_eq!(rests(RestAfter::Work, 400, 1..2), [7_200]);
        assert_eq!(rests(RestAfter::Work, 2_000, 1..4), [12_000; 3]);
        assert_eq!(rests(RestAfter::Work, 30_000, 1..3), [30_000; 2]);
        assert_eq!(rests(RestAfter::Work, -1, 1..10), []);
    }

    #[test]
    fn a_read_rests_for_a_second_in_all() {
        let rests = |has_siblings| {
            let precedence = Precedence::new(1, has_siblings);
            let _reporting = precedence.report();
            rests(&precedence, RestAfter::Time, (50, 10_000), |_| ())
        };
        let alone = rests(false);
        assert_eq!(
            (&alone[..33], &alone[33..]),
            (&[30_000; 33][..], &[10_000][..])
        );
        let among_siblings = rests(true);
        let (most, last) = among_siblings.split_at(16);
        assert_eq!((most, last), (&[60_000; 16][..], &[40_000][..]));
    }

    #[test]
    fn what_changes_in_storage_shows_that_siblings_report() {
        let precedence = Precedence::new(1, false);
        let at = |millis| Timestamp::UNIX_EPOCH + TimeDelta::milliseconds(millis);
        for (millis, revision, is_quiet) in [
            // There is nothing to compare it with.
            (0, 7, true),
            (50, 7, true),
            (100, 8, false),
            (1_099, 9, false),
            // Too long ago.
            (2_099, 10, true),
            (2_149, 11, false),
            (2_199, 11, true),
            // The clock was set back.
            (199, 12, true),
            (249, 13, false),
            (299, 13, true),
        ] {
            assert!(precedence.is_to_look(at(millis)));
            assert!(!precedence.is_to_look(at(millis)), "another does");
            precedence.look(revision, at(millis));
            assert_eq!(precedence.0.is_quiet(), is_quiet, "{millis}");
            assert!(!precedence.is_to_look(at(millis + 49)));
        }
        let reporting = precedence.report();
        assert!(!precedence.is_to_look(at(349)), "its own are known");
        drop(reporting);
        let read = poll(&mut waiting(&precedence, 0));
        assert!(precedence.is_to_look(at(349)));
        precedence.look(14, at(349));
        assert!(precedence.0.is_quiet(), "it was its own");
        drop(read);
    }

    #[test]
    fn who_waits_for_siblings_begins_when_they_are_quiet() {
        let precedence = Precedence::new(1, false);
        precedence.look(1, Timestamp::UNIX_EPOCH);
        precedence.look(2, Timestamp::UNIX_EPOCH);
        let first = poll(&mut waiting(&precedence, 0));
        let mut second = waiting(&precedence, 0);
        assert!(first.is_some() && poll(&mut second).is_none());
        precedence.look(2, Timestamp::UNIX_EPOCH);
        assert!(poll(&mut second).is_some());
    }

    #[test]
    fn a_read_rests_while_siblings_report() {
        let precedence = Precedence::new(1, false);
        precedence.look(1, Timestamp::UNIX_EPOCH);
        precedence.look(2, Timestamp::UNIX_EPOCH);
        let rests = rests(&precedence, RestAfter::Work, (10, 400), |_| ());
        assert_eq!(rests, [7_200; 3]);
    }

    /// Moves those that may begin to those at work.
    fn begin(waits: &mut Vec<Waiting>, at_work: &mut Vec<Read>) {
        waits.retain_mut(|waiting| match poll(waiting) {
            Some(read) => {
                at_work.push(read);
                false
            }
            None => true,
        });
    }

    #[test]
    fn workspaces_take_turns() {
        let precedence = Precedence::new(1, false);
        let _reporting = precedence.report();
        let mut read = poll(&mut waiting(&precedence, 0));
        let mut crowd: Vec<Waiting> = (0..3).map(|_| waiting(&precedence, 1)).collect();
        assert!(crowd.iter_mut().all(|one| poll(one).is_none()));
        let mut other = waiting(&precedence, 2);
        assert!(poll(&mut other).is_none());
        drop(read.take());
        read = poll(&mut crowd[0]);
        assert!(read.is_some() && poll(&mut other).is_none());
        drop(read);
        assert!(poll(&mut other).is_some());
    }

    #[derive(Debug, Clone)]
    enum Step {
        ReportComes,
        ReportIsAnswered,
        ReadComes(u8),
        ReadEnds(usize),
        ReaderGoes(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::ReportComes),
            Just(Step::ReportIsAnswered),
            (0..3u8).prop_map(Step::ReadComes),
            any::<usize>().prop_map(Step::ReadEnds),
            any::<usize>().prop_map(Step::ReaderGoes),
        ]
    }

    proptest! {
        #[test]
        fn few_begin_beside_reports_and_all_have_their_turn(
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let precedence = Precedence::new(FEW, false);
            let mut reports = VecDeque::new();
            let mut at_work: Vec<Read> = Vec::new();
            let mut waits: Vec<Waiting> = Vec::new();
            for step in steps {
                match step {
                    Step::ReportComes => reports.push_back(precedence.report()),
                    Step::ReportIsAnswered => drop(reports.pop_front()),
                    Step::ReadComes(of) => waits.push(waiting(&precedence, of)),
                    Step::ReadEnds(number) if !at_work.is_empty() => {
                        drop(at_work.swap_remove(number % at_work.len()));
                    }
                    Step::ReaderGoes(number) if !waits.is_empty() => {
                        drop(waits.remove(number % waits.len()));
                    }
                    Step::ReadEnds(_) | Step::ReaderGoes(_) => {}
                }
                let before = at_work.len();
                begin(&mut waits, &mut at_work);
                if !reports.is_empty() && at_work.len() > before {
                    prop_assert!(at_work.len() <= FEW, "too many beside reports");
                }
                prop_assert!(waits.is_empty() || at_work.len() >= FEW, "a place is left free");
            }
            while !waits.is_empty() {
                prop_assert!(!at_work.is_empty(), "they wait for nobody");
                at_work.pop();
                begin(&mut waits, &mut at_work);
            }
            at_work.clear();
            prop_assert_eq!(precedence.0.lock().at_work, 0);
        }
    }
}
