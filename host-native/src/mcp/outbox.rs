//! Reports on their way to the server: in order within a session, tried again while the server is
//! away, and repeated before a session expires.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kubeagents_core::ports::{CallerTrace, Clock, random_u32};
use kubeagents_core::{Report, StatusKind, Timestamp};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::ports::{SystemClock, SystemEntropy};

/// The most reports that wait at once, in all sessions together.
const CAPACITY: usize = 1000;

/// How long a tool waits for the server before it answers that the report is queued.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause after a first failure, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long the last reports may take once the client is gone: clients end a process that takes
/// much longer.
const CLOSING: Duration = Duration::from_secs(3);

/// The TTL that sessions are given when they are kept alive and the agent names none, in minutes:
/// the server's own default cannot be known by a key that may only report.
pub(super) const KEPT_ALIVE_TTL: u32 = 60;

/// What is said last of a session that its client leaves open.
const DISCONNECTED: &str = "agent disconnected";

/// What became of one attempt to send a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It is stored.
    Accepted,
    /// It is not stored and never will be: the server's message.
    Refused(String),
    /// It may be stored another time: why not now.
    Unavailable(String),
}

/// When a report was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) at: Timestamp,
    /// The report's place among all of this process, greater than that of every report before it:
    /// `at` in microseconds where the clock allows. The same in every attempt, so that the server
    /// can tell a repetition.
    pub(super) sequence: i64,
}

/// A report, and what the client says of the trace that it belongs to.
#[derive(Debug, Clone)]
pub(super) struct Reported {
    pub(super) report: Report,
    pub(super) caller: Option<CallerTrace>,
}

impl From<Report> for Reported {
    fn from(report: Report) -> Self {
        Self {
            report,
            caller: None,
        }
    }
}

/// Sends reports, each once.
pub(super) trait Sender: Send + Sync + 'static {
    /// Sends a report that was made then.
    fn send(&self, reported: &Reported, made: Made) -> impl Future<Output = Attempt> + Send;
}

/// What to tell the agent of its report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server has stored it.
    Delivered,
    /// The server does not want it: its message.
    Refused(String),
    /// It waits, for this reason, and will be sent.
    Queued(String),
    /// Too many reports wait already; it is dropped.
    Full,
}

/// Takes reports and sees to it that they arrive. Clones are one outbox.
pub(super) struct Outbox<S>(Arc<Shared<S>>);

struct Shared<S> {
    sender: S,
    /// True if sessions are kept alive, and end as failed when their client is gone.
    keep_alive: bool,
    state: Mutex<State>,
    /// When a session is to be repeated has changed.
    rescheduled: Notify,
    /// How many reports wait.
    waiting: watch::Sender<usize>,
    /// Whether the client is gone.
    closing: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<Name, Session>,
    last_sequence: i64,
}

/// Agent and topic.
type Name = (String, String);

#[derive(Default)]
struct Session {
    queue: VecDeque<Waiting>,
    /// Why the last attempt failed.
    trouble: Option<String>,
    ttl_minutes: Option<u32>,
    /// What the server has stored last, while that is not final and the session is kept alive.
    open: Option<Open>,
}

struct Waiting {
    reported: Reported,
    made: Made,
    reply: Option<oneshot::Sender<Outcome>>,
}

struct Open {
    status: StatusKind,
    reason: String,
    message: String,
    /// When to repeat it.
    due: Instant,
}

impl<S> Clone for Outbox<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Sender> Outbox<S> {
    /// An outbox. `keep_alive`: whether to repeat the last status of open sessions before they
    /// expire, and to report them failed in [`Outbox::close`].
    pub(super) fn new(sender: S, keep_alive: bool) -> Self {
        let shared = Arc::new(Shared {
            sender,
            keep_alive,
            state: Mutex::default(),
            rescheduled: Notify::new(),
            waiting: watch::Sender::new(0),
            closing: watch::Sender::new(false),
        });
        if keep_alive {
            tokio::spawn(shared.clone().repeat());
        }
        Self(shared)
    }

    /// Puts a report behind those on its session that came before, at once, and sends it in its
    /// turn. The future is what became of it as soon as that is known, or that it has to wait.
    pub(super) fn report<R: Into<Reported>>(
        &self,
        reported: R,
    ) -> impl Future<Output = Outcome> + Send + use<S, R> {
        let (reply, answer) = oneshot::channel();
        let reported = reported.into();
        let is_taken = self.0.enqueue(&mut self.0.lock(), reported, Some(reply));
        async move {
            if !is_taken {
                return Outcome::Full;
            }
            match timeout(PATIENCE, answer).await {
                Ok(Ok(outcome)) => outcome,
                _ => Outcome::Queued("the server has not answered yet".into()),
            }
        }
    }

    /// Sends what waits once the client is gone; what open sessions end with, too, where they are
    /// kept alive. Gives up after some seconds.
    pub(super) async fn close(self) {
        let shared = self.0;
        shared.part();
        shared.closing.send_replace(true);
        let mut waiting = shared.waiting.subscribe();
        let sent = timeout(CLOSING, waiting.wait_for(|waiting| *waiting == 0)).await;
        if sent.is_err() {
            let lost = *shared.waiting.borrow();
            tracing::warn!(lost, "the server is not reached; reports are lost");
        }
    }
}

impl<S: Sender> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a report at the end of its session's queue; `false` when it is full.
    fn enqueue(
        self: &Arc<Self>,
        state: &mut State,
        mut reported: Reported,
        mut reply: Option<oneshot::Sender<Outcome>>,
    ) -> bool {
        if *self.waiting.borrow() >= CAPACITY {
            return false;
        }
        let report = &mut reported.report;
        let name = (report.agent_id.clone(), report.session_topic.clone());
        let made = state.next();
        let session = state.sessions.entry(name.clone()).or_default();
        if self.keep_alive && session.ttl_minutes.is_none() {
            report.ttl_minutes.get_or_insert(KEPT_ALIVE_TTL);
        }
        session.ttl_minutes = report.ttl_minutes.or(session.ttl_minutes);
        if let Some(trouble) = &session.trouble {
            answer(&mut reply, Outcome::Queued(trouble.clone()));
        }
        let is_sending = !session.queue.is_empty();
        session.queue.push_back(Waiting {
            reported,
            made,
            reply,
        });
        self.waiting.send_modify(|waiting| *waiting += 1);
        if !is_sending {
            tokio::spawn(self.clone().send_queue(name));
        }
        true
    }

    /// Sends what waits on a session until nothing does.
    async fn send_queue(self: Arc<Self>, name: Name) {
        let mut closing = self.closing.subscribe();
        let mut pause = FIRST_PAUSE;
        while let Some((reported, made)) = self.first(&name) {
            match self.sender.send(&reported, made).await {
                Attempt::Accepted => self.settle(&name, Outcome::Delivered),
                Attempt::Refused(message) => {
                    tracing::warn!(message, "the server refuses a report");
                    self.settle(&name, Outcome::Refused(message));
                }
                Attempt::Unavailable(reason) => {
                    tracing::warn!(reason, "a report waits for the server");
                    self.stall(&name, &reason);
                    let is_closing = *closing.borrow_and_update();
                    // Out of step with other sessions and other agents.
                    let jittered =
                        pause.mul_f64(0.5 + f64::from(random_u32(&SystemEntropy) % 1000) / 1000.0);
                    tokio::select! {
                        () = sleep(jittered) => pause = (pause * 2).min(LONGEST_PAUSE),
                        _ = closing.changed(), if !is_closing => pause = FIRST_PAUSE,
                    }
                    continue;
                }
            }
            pause = FIRST_PAUSE;
        }
    }

    fn first(&self, name: &Name) -> Option<(Reported, Made)> {
        let sessions = &mut self.lock().sessions;
        let session = sessions.get(name)?;
        let first = session.queue.front();
        let first = first.map(|waiting| (waiting.reported.clone(), waiting.made));
        if first.is_none() && session.open.is_none() {
            sessions.remove(name);
        }
        first
    }

    /// Tells whoever waits on a session that it will take longer.
    fn stall(&self, name: &Name, reason: &str) {
        let mut state = self.lock();
        let Some(session) = state.sessions.get_mut(name) else {
            return;
        };
        session.trouble = Some(reason.to_owned());
        for waiting in &mut session.queue {
            answer(&mut waiting.reply, Outcome::Queued(reason.to_owned()));
        }
    }

    /// Takes the first report of a session off its queue.
    fn settle(&self, name: &Name, outcome: Outcome) {
        let mut state = self.lock();
        let Some(session) = state.sessions.get_mut(name) else {
            return;
        };
        session.trouble = None;
        let Some(Waiting {
            reported: Reported { report, .. },
            mut reply,
            ..
        }) = session.queue.pop_front()
        else {
            return;
        };
        if self.keep_alive && outcome == Outcome::Delivered {
            let ttl = session.ttl_minutes.unwrap_or(KEPT_ALIVE_TTL);
            session.open = (!report.status.is_final()).then(|| Open {
                status: report.status,
                reason: report.reason,
                message: report.message,
                due: Instant::now() + repetition(ttl),
            });
            self.rescheduled.notify_one();
        }
        answer(&mut reply, outcome);
        self.waiting.send_modify(|waiting| *waiting -= 1);
    }

    /// Repeats what sessions reported last, each before it expires.
    async fn repeat(self: Arc<Self>) {
        let mut closing = self.closing.subscribe();
        loop {
            let next = self.next_due();
            tokio::select! {
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    self.repeat_due(Instant::now());
                }
                () = self.rescheduled.notified() => {}
                _ = closing.wait_for(|closing| *closing) => return,
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let state = self.lock();
        let quiet = state.sessions.values().filter(|s| s.queue.is_empty());
        quiet.filter_map(|s| Some(s.open.as_ref()?.due)).min()
    }

    /// Repeats what is due, except where something is on its way, which renews the session anyway.
    fn repeat_due(self: &Arc<Self>, now: Instant) {
        let mut state = self.lock();
        let quiet = state.sessions.iter().filter(|(_, s)| s.queue.is_empty());
        let due: Vec<_> = quiet
            .filter_map(|(name, session)| {
                let open = session.open.as_ref().filter(|open| open.due <= now)?;
                let mut report = report(name, open.status, &open.message);
                report.reason.clone_from(&open.reason);
                Some(report)
            })
            .collect();
        // Under the same lock: what the agent says meanwhile must not come before its repetition.
        for report in due {
            self.enqueue(&mut state, report.into(), None);
        }
    }

    /// Ends the sessions that are left open, where they are kept alive.
    fn part(self: &Arc<Self>) {
        if !self.keep_alive {
            return;
        }
        let mut state = self.lock();
        let is_open = |session: &Session| match session.queue.back() {
            Some(waiting) => !waiting.reported.report.status.is_final(),
            None => session.open.is_some(),
        };
        let open = state
            .sessions
            .iter()
            .filter(|(_, session)| is_open(session));
        let farewells: Vec<_> = open
            .map(|(name, _)| report(name, StatusKind::Failed, DISCONNECTED))
            .collect();
        for report in farewells {
            self.enqueue(&mut state, report.into(), None);
        }
    }
}

impl State {
    /// The instant of a report that is made now.
    fn next(&mut self) -> Made {
        let at = SystemClock.now();
        self.last_sequence = at.timestamp_micros().max(self.last_sequence + 1);
        Made {
            at,
            sequence: self.last_sequence,
        }
    }
}

/// How long after a report to repeat it: that leaves as much time again to reach the server.
fn repetition(ttl_minutes: u32) -> Duration {
    Duration::from_secs(u64::from(ttl_minutes) * 60 / 2)
}

fn report((agent_id, session_topic): &Name, status: StatusKind, message: &str) -> Report {
    Report {
        message: message.to_owned(),
        ..Report::new(agent_id.clone(), session_topic.clone(), status)
    }
}

fn answer(reply: &mut Option<oneshot::Sender<Outcome>>, outcome: Outcome) {
    if let Some(reply) = reply.take() {
        // Whoever asked may have stopped waiting.
        let _ = reply.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers as it is told, and keeps what it has stored.
    #[derive(Clone, Default)]
    struct Server(Arc<Mutex<Told>>);

    #[derive(Default)]
    struct Told {
        away: bool,
        refusal: Option<&'static str>,
        stored: Vec<(Instant, Report)>,
        /// The sequence of every attempt.
        attempts: Vec<i64>,
    }

    impl Sender for Server {
        async fn send(&self, reported: &Reported, made: Made) -> Attempt {
            let mut told = self.0.lock().unwrap();
            told.attempts.push(made.sequence);
            if told.away {
                return Attempt::Unavailable("away".into());
            }
            if let Some(refusal) = told.refusal {
                return Attempt::Refused(refusal.into());
            }
            told.stored.push((Instant::now(), reported.report.clone()));
            Attempt::Accepted
        }
    }

    impl Server {
        fn set_away(&self, away: bool) {
            self.0.lock().unwrap().away = away;
        }

        /// Status and message of what is stored on a topic.
        fn stored(&self, topic: &str) -> Vec<(StatusKind, String)> {
            let told = self.0.lock().unwrap();
            let stored = told.stored.iter();
            stored
                .filter(|(_, report)| report.session_topic == topic)
                .map(|(_, report)| (report.status, report.message.clone()))
                .collect()
        }

        fn last(&self) -> (Instant, Report) {
            self.0.lock().unwrap().stored.last().unwrap().clone()
        }
    }

    fn reported(topic: &str, status: StatusKind, message: &str) -> Report {
        report(&("a".into(), topic.into()), status, message)
    }

    fn running(topic: &str) -> Report {
        reported(topic, StatusKind::Running, "at work")
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_server_says_is_what_the_agent_is_told() {
        let server = Server::default();
        let outbox = Outbox::new(server.clone(), false);
        assert_eq!(outbox.report(running("t")).await, Outcome::Delivered);
        server.0.lock().unwrap().refusal = Some("no");
        let refused = Outcome::Refused("no".into());
        assert_eq!(outbox.report(running("t")).await, refused);
        assert_eq!(server.stored("t").len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn reports_wait_for_the_server_and_arrive_in_order() {
        let server = Server::default();
        server.set_away(true);
        let outbox = Outbox::new(server.clone(), false);
        let queued = Outcome::Queued("away".into());
        for number in 0..5 {
            let report = reported("t", StatusKind::Running, &number.to_string());
            assert_eq!(outbox.report(report).await, queued);
        }
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(server.stored("t"), []);
        server.set_away(false);
        let mut waiting = outbox.0.waiting.subscribe();
        waiting.wait_for(|waiting| *waiting == 0).await.unwrap();
        let messages: Vec<_> = server.stored("t").into_iter().map(|(_, m)| m).collect();
        assert_eq!(messages, ["0", "1", "2", "3", "4"]);
        assert_eq!(outbox.report(running("t")).await, Outcome::Delivered);
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_has_its_place_when_it_is_taken_whoever_is_asked_first() {
        let server = Server::default();
        let outbox = Outbox::new(server.clone(), false);
        let taken: Vec<_> = (0..5)
            .map(|number| outbox.report(reported("t", StatusKind::Running, &number.to_string())))
            .collect();
        for outcome in taken.into_iter().rev() {
            assert_eq!(outcome.await, Outcome::Delivered);
        }
        let messages: Vec<_> = server.stored("t").into_iter().map(|(_, m)| m).collect();
        assert_eq!(messages, ["0", "1", "2", "3", "4"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_keeps_its_sequence_in_every_attempt_and_no_other_has_it() {
        let server = Server::default();
        server.set_away(true);
        let before = SystemClock.now().timestamp_micros();
        let outbox = Outbox::new(server.clone(), false);
        outbox.report(running("t")).await;
        sleep(Duration::from_secs(60)).await;
        server.set_away(false);
        outbox.report(running("t")).await;
        outbox.report(running("u")).await;
        let mut waiting = outbox.0.waiting.subscribe();
        waiting.wait_for(|waiting| *waiting == 0).await.unwrap();
        let mut attempts = server.0.lock().unwrap().attempts.clone();
        assert!(attempts.len() > 4, "{attempts:?}");
        attempts.sort_unstable();
        attempts.dedup();
        assert_eq!(attempts.len(), 3);
        let after = SystemClock.now().timestamp_micros() + 3;
        assert!(before <= attempts[0] && attempts[2] <= after);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded() {
        let server = Server::default();
        server.set_away(true);
        let outbox = Outbox::new(server.clone(), false);
        for number in 0..CAPACITY {
            let topic = (number % 3).to_string();
            assert!(matches!(
                outbox.report(running(&topic)).await,
                Outcome::Queued(_)
            ));
        }
        assert_eq!(outbox.report(running("t")).await, Outcome::Full);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_session_is_repeated_before_it_expires_until_it_ends() {
        let server = Server::default();
        let outbox = Outbox::new(server.clone(), true);
        let begin = Instant::now();
        let with_ttl = Report {
            ttl_minutes: Some(10),
            ..reported("t", StatusKind::Pending, "waiting for review")
        };
        outbox.report(with_ttl).await;
        sleep(Duration::from_secs(299)).await;
        assert_eq!(server.stored("t").len(), 1);
        sleep(Duration::from_secs(2)).await;
        let (at, repeated) = server.last();
        assert_eq!(at - begin, Duration::from_secs(300));
        assert_eq!(
            repeated,
            reported("t", StatusKind::Pending, "waiting for review")
        );
        sleep(Duration::from_secs(300)).await;
        assert_eq!(server.stored("t").len(), 3);

        outbox
            .report(reported("t", StatusKind::Success, "done"))
            .await;
        sleep(Duration::from_secs(86_400)).await;
        assert_eq!(server.stored("t").len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_in_between_puts_the_repetition_off() {
        let server = Server::default();
        let outbox = Outbox::new(server.clone(), true);
        outbox.report(running("t")).await;
        sleep(Duration::from_secs(29 * 60)).await;
        outbox.report(running("t")).await;
        sleep(Duration::from_secs(29 * 60)).await;
        assert_eq!(server.stored("t").len(), 2);
        sleep(Duration::from_secs(2 * 60)).await;
        assert_eq!(server.stored("t").len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_is_kept_alive_has_a_ttl_that_is_known() {
        let server = Server::default();
        let outbox = Outbox::new(server.clone(), true);
        outbox.report(running("t")).await;
        assert_eq!(server.last().1.ttl_minutes, Some(60));
        outbox.report(running("t")).await;
        assert_eq!(server.last().1.ttl_minutes, None);

        let plain = Outbox::new(server.clone(), false);
        plain.report(running("u")).await;
        assert_eq!(server.last().1.ttl_minutes, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_repetition_waits_for_the_server_like_any_report() {
        let server = Server::default();
        let outbox = Outbox::new(server.clone(), true);
        outbox.report(running("t")).await;
        server.set_away(true);
        sleep(Duration::from_secs(40 * 60)).await;
        assert_eq!(*outbox.0.waiting.borrow(), 1);
        server.set_away(false);
        sleep(LONGEST_PAUSE * 2).await;
        assert_eq!(server.stored("t").len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_away_leaves_its_open_sessions_failed() {
        let server = Server::default();
        let outbox = Outbox::new(server.clone(), true);
        outbox.report(running("open")).await;
        outbox.report(running("ended")).await;
        outbox
            .report(reported("ended", StatusKind::Success, "done"))
            .await;
        outbox.close().await;
        let failed = (StatusKind::Failed, DISCONNECTED.to_owned());
        assert_eq!(server.stored("open").last(), Some(&failed));
        assert_eq!(
            server.stored("ended").last(),
            Some(&(StatusKind::Success, "done".to_owned()))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_decides_whether_a_session_was_left_open() {
        let server = Server::default();
        let outbox = Outbox::new(server.clone(), true);
        outbox.report(running("ended")).await;
        server.set_away(true);
        let done = reported("ended", StatusKind::Success, "done");
        outbox.report(done).await;
        outbox.report(running("open")).await;
        server.set_away(false);
        outbox.close().await;
        let last = |topic| server.stored(topic).last().cloned();
        assert_eq!(last("ended"), Some((StatusKind::Success, "done".into())));
        assert_eq!(
            last("open"),
            Some((StatusKind::Failed, DISCONNECTED.into()))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_when_the_client_goes_away_is_tried_once_more() {
        let server = Server::default();
        server.set_away(true);
        let outbox = Outbox::new(server.clone(), false);
        outbox.report(running("t")).await;
        sleep(Duration::from_secs(600)).await;
        server.set_away(false);
        let begin = Instant::now();
        outbox.close().await;
        assert!(begin.elapsed() < CLOSING);
        assert_eq!(server.stored("t").len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stays_away_does_not_hold_the_process() {
        let server = Server::default();
        server.set_away(true);
        let outbox = Outbox::new(server.clone(), true);
        outbox.report(running("t")).await;
        let begin = Instant::now();
        outbox.close().await;
        assert_eq!(begin.elapsed(), CLOSING);
    }
}
