//! Requests for the same list are coalesced: while two readings of it are under way, those who ask for it wait
//! until they are over, and one reading answers them all. It begins after the last of them has asked, so nobody
//! gets what is older than their question. There is no cache: nothing is kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_channel::oneshot::{Receiver, Sender, channel};

use super::turns::{await_with, drop_gone};
use super::{precedence, turns};
use crate::Workspace;

/// How long a request waits for the readings of others: for as long as one may wait for its turn, make way for
/// reports and rest beside them, and a second more.
pub(super) const PATIENCE: Duration = turns::PATIENCE
    .saturating_add(precedence::COURTESY.saturating_mul(2))
    .saturating_add(Duration::from_secs(1));

/// How many readings of a list begin before others wait until they are over. With one, two clients would only
/// hold each other up: neither has asked when the other's reading begins.
const AT_ONCE: usize = 2;

/// A list that is asked for: its workspace, its path and its query.
pub(super) type Question = (Workspace, String);

/// Lists that are being read. Clones share them.
#[derive(Debug)]
pub(super) struct Coalescing<A>(Arc<Mutex<HashMap<Question, Readings<A>>>>);

#[derive(Debug)]
struct Readings<A> {
    under_way: usize,
    /// Who is answered by the next one.
    waiting: Waiting<A>,
}

/// Those who wait for the same reading, in the order in which they have asked.
type Waiting<A> = VecDeque<Sender<Sent<A>>>;

/// What somebody who waits is sent.
#[derive(Debug)]
enum Sent<A> {
    Answer(A),
    /// They are to read, for themselves and for others.
    Reading(Reading<A>),
}

/// A reading under way. If it is dropped without an answer, the next of those who wait for it reads.
#[derive(Debug)]
struct Reading<A> {
    coalescing: Coalescing<A>,
    question: Question,
    /// Who else is answered by it.
    others: Waiting<A>,
}

impl<A> Default for Coalescing<A> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<A> Clone for Coalescing<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Clone> Coalescing<A> {
    /// What `read` finds, or what another reading does that begins from now on. Whoever has waited until
    /// `patience` ends reads beside the others.
    pub(super) async fn answer(
        &self,
        question: Question,
        patience: impl Future<Output = ()>,
        read: impl Future<Output = A>,
    ) -> A {
        let sent = match self.ask(question) {
            Ok(reading) => Some(Sent::Reading(reading)),
            Err(receiver) => await_with(patience, receiver).await,
        };
        match sent {
            Some(Sent::Answer(answer)) => answer,
            Some(Sent::Reading(mut reading)) => {
                let answer = read.await;
                for other in reading.others.drain(..) {
                    // Whoever has gone needs none.
                    let _ = other.send(Sent::Answer(answer.clone()));
                }
                answer
            }
            None => read.await,
        }
    }
}

impl<A> Coalescing<A> {
    fn lock(&self) -> MutexGuard<'_, HashMap<Question, Readings<A>>> {
        // Nothing that holds the lock leaves the state half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reading now, or a place among those who wait for the next one.
    fn ask(&self, question: Question) -> Result<Reading<A>, Receiver<Sent<A>>> {
        let mut asked = self.lock();
        let readings = asked.entry(question.clone()).or_insert(Readings {
            under_way: 0,
            waiting: VecDeque::new(),
        });
        drop_gone(&mut readings.waiting);
        if readings.waiting.is_empty() && readings.under_way < AT_ONCE {
            readings.under_way += 1;
            return Ok(self.reading(question, VecDeque::new()));
        }
        let (sender, receiver) = channel();
        readings.waiting.push_back(sender);
        Err(receiver)
    }

    fn reading(&self, question: Question, others: Waiting<A>) -> Reading<A> {
        Reading {
            coalescing: self.clone(),
            question,
            others,
        }
    }

    /// Ends a reading. Returns who waits for the next one, if it is to begin.
    fn next(&self, question: &Question) -> Waiting<A> {
        let mut asked = self.lock();
        let Some(readings) = asked.get_mut(question) else {
            return VecDeque::new();
        };
        readings.under_way -= 1;
        if readings.under_way > 0 {
            return VecDeque::new();
        }
        drop_gone(&mut readings.waiting);
        let waiting = std::mem::take(&mut readings.waiting);
        match waiting.is_empty() {
            true => drop(asked.remove(question)),
            false => readings.under_way = 1,
        }
        waiting
    }
}

impl<A> Drop for Reading<A> {
    fn drop(&mut self) {
        drop_gone(&mut self.others);
        let mut others = std::mem::take(&mut self.others);
        if others.is_empty() {
            others = self.coalescing.next(&self.question);
        }
        if let Some(first) = others.pop_front() {
            let question = self.question.clone();
            // Whoever has gone meanwhile drops the reading, and so passes it on.
            let _ = first.send(Sent::Reading(self.coalescing.reading(question, others)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;
    use std::future::{pending, ready};
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;
    use crate::AccountId;

    type Asking<'c> = Pin<Box<dyn Future<Output = u32> + 'c>>;

    fn question(target: &str) -> Question {
        (Workspace::Shared, target.to_owned())
    }

    /// Readings that find how many have begun, and go on until a test ends them.
    #[derive(Default)]
    struct Storage {
        begun: Cell<u32>,
        ends: RefCell<BTreeMap<u32, Sender<()>>>,
    }

    impl Storage {
        async fn read(&self) -> u32 {
            self.begun.set(self.begun.get() + 1);
            let found = self.begun.get();
            let (sender, end) = channel();
            self.ends.borrow_mut().insert(found, sender);
            end.await.unwrap();
            found
        }

        fn end(&self, reading: u32) {
            let end = self.ends.borrow_mut().remove(&reading).unwrap();
            // Who reads may have gone.
            let _ = end.send(());
        }
    }

    /// Somebody who asks, and has no answer yet.
    fn ask<'s>(coalescing: &Coalescing<u32>, storage: &'s Storage, asked: Question) -> Asking<'s> {
        let coalescing = coalescing.clone();
        let mut asking: Asking<'s> = Box::pin(async move {
            let read = storage.read();
            coalescing.answer(asked, pending(), read).await
        });
        assert_eq!(poll(&mut asking), None);
        asking
    }

    fn poll(asking: &mut Asking<'_>) -> Option<u32> {
        let mut context = Context::from_waker(Waker::noop());
        match asking.as_mut().poll(&mut context) {
            Poll::Ready(found) => Some(found),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_asks_while_a_list_is_read_is_answered_by_a_reading_that_begins_later() {
        let (coalescing, storage) = (Coalescing::default(), Storage::default());
        let ask = || ask(&coalescing, &storage, question("a"));
        let (mut first, mut second) = (ask(), ask());
        let (mut third, mut fourth) = (ask(), ask());
        storage.end(1);
        assert_eq!((poll(&mut first), poll(&mut third)), (Some(1), None));
        let mut fifth = ask();
        assert_eq!(storage.begun.get(), 2);
        storage.end(2);
        assert_eq!((poll(&mut second), poll(&mut fourth)), (Some(2), None));
        assert_eq!((poll(&mut third), storage.begun.get()), (None, 3));

        // The third reading has begun: it is too late for the sixth, who reads beside it.
        let mut sixth = ask();
        assert_eq!(storage.begun.get(), 4);
        storage.end(3);
        assert_eq!((poll(&mut fourth), poll(&mut third)), (None, Some(3)));
        assert_eq!((poll(&mut fourth), poll(&mut fifth)), (Some(3), Some(3)));
        storage.end(4);
        assert_eq!(poll(&mut sixth), Some(4));
        assert!(coalescing.lock().is_empty(), "nothing is kept");
    }

    proptest! {
        #[test]
        fn nobody_gets_what_is_older_than_their_question_or_nothing(
            steps in prop::collection::vec((0..4_u8, any::<prop::sample::Index>()), 0..60)
        ) {
            let (coalescing, storage) = (Coalescing::default(), Storage::default());
            // With how many readings had begun when they asked.
            let mut all: Vec<(u32, Asking<'_>)> = Vec::new();
            let look = |all: &mut Vec<(u32, Asking<'_>)>, one: usize| {
                if let Some(found) = poll(&mut all[one].1) {
                    assert!(found > all[one].0, "{found} had begun");
                    drop(all.swap_remove(one));
                }
            };
            for (step, index) in steps {
                let reading = storage.ends.borrow().keys().copied().nth(index.index(3));
                match step {
                    0 => {
                        let begun = storage.begun.get();
                        all.push((begun, ask(&coalescing, &storage, question("a"))));
                    }
                    1 => reading.into_iter().for_each(|reading| storage.end(reading)),
                    2 if !all.is_empty() => drop(all.swap_remove(index.index(all.len()))),
                    3 if !all.is_empty() => {
                        let one = index.index(all.len());
                        look(&mut all, one);
                    }
                    _ => {}
                }
            }
            for _ in 0..120 {
                let under_way: Vec<u32> = storage.ends.borrow().keys().copied().collect();
                under_way.into_iter().for_each(|reading| storage.end(reading));
                (0..all.len()).rev().for_each(|one| look(&mut all, one));
            }
            prop_assert!(all.is_empty(), "{} wait for ever", all.len());
            prop_assert!(coalescing.lock().is_empty(), "nothing is left");
        }
    }

    #[test]
    fn other_lists_and_those_of_other_workspaces_are_read_beside() {
        let (coalescing, storage) = (Coalescing::default(), Storage::default());
        let own = Workspace::Account(AccountId::new("a"));
        let asked = [
            question("a"),
            question("a"),
            question("b"),
            (own, "a".to_owned()),
        ];
        let _all = asked.map(|asked| ask(&coalescing, &storage, asked));
        assert_eq!(storage.begun.get(), 4);
    }

    #[test]
    fn who_goes_leaves_the_reading_to_the_next() {
        let (coalescing, storage) = (Coalescing::default(), Storage::default());
        let mut all: Vec<Asking<'_>> = (0..6)
            .map(|_| ask(&coalescing, &storage, question("a")))
            .collect();
        // The first two read. The third is to read in their place, and then the fourth is.
        drop(all.drain(..2));
        drop(all.remove(0));
        let mut context = Context::from_waker(Waker::noop());
        for asking in &mut all {
            assert!(asking.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(storage.begun.get(), 3);
        storage.end(3);
        let found: Vec<_> = all.iter_mut().map(poll).collect();
        assert_eq!(found, [Some(3); 3]);
        drop(all);
        assert!(coalescing.lock().is_empty(), "nothing is left");
    }

    #[test]
    fn who_has_no_patience_left_reads_beside_the_others() {
        let (coalescing, storage) = (Coalescing::default(), Storage::default());
        let all = [(); 3].map(|()| ask(&coalescing, &storage, question("a")));
        let impatient = coalescing.answer(question("a"), ready(()), ready(7));
        assert_eq!(futures_executor::block_on(impatient), 7);
        drop(all);
        assert!(coalescing.lock().is_empty(), "nothing is left");
    }
}
