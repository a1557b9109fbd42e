//! The ports of the core, on what every component has.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use futures_util::lock::Mutex;
use kubeagents_core::ports::{
    Clock, Entropy, Mailer, Notifier, PasswordFailure, Passwords, Ports, Reports, VerificationMail,
};
use kubeagents_core::{
    Recorded, Recorder, Report, SessionKey, Store, StoreError, Timestamp, Workspace,
    conflict_pause, password,
};

use crate::Platform;

/// How long a report keeps trying while other instances change its session. Waiting for its turn
/// within the instance does not count.
const CONTENTION_DEADLINE: Duration = Duration::from_secs(30);

/// Everything that the core needs of its host.
pub struct WasmPorts<S, P> {
    pub(crate) recorder: Recorder<S, WallClock, SystemEntropy>,
    pub(crate) platform: P,
    pub(crate) waker: Waker,
    pub(crate) passwords: InlinePasswords,
    pub(crate) turns: Turns,
}

/// Lets the reports of one instance on one session take turns, so that conflicts come only from
/// other instances.
#[derive(Debug, Default)]
pub(crate) struct Turns(RefCell<HashMap<SessionKey, Rc<Mutex<()>>>>);

impl Turns {
    async fn take<T>(&self, key: SessionKey, work: impl Future<Output = T>) -> T {
        let turn = Rc::clone(self.0.borrow_mut().entry(key.clone()).or_default());
        let turn = Turn {
            turns: self,
            key,
            turn,
        };
        let _guard = turn.turn.lock().await;
        work.await
    }
}

/// Someone's place in the queue for a session. The last one to leave takes the queue away.
struct Turn<'a> {
    turns: &'a Turns,
    key: SessionKey,
    turn: Rc<Mutex<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if Rc::strong_count(&self.turn) == 2 {
            self.turns.0.borrow_mut().remove(&self.key);
        }
    }
}

/// The platform's clock.
#[derive(Debug, Clone, Copy)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

/// The platform's source of randomness.
#[derive(Debug, Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::expect_used, reason = "`wasi:random` cannot fail")]
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the platform has randomness");
    }
}

/// A random number, for jitter.
pub(crate) fn random_u32() -> u32 {
    let mut bytes = [0; 4];
    SystemEntropy.fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

/// Hashes on the instance's one thread: one password at a time, and a few milliseconds at a time,
/// so that other requests get on.
#[derive(Debug, Default)]
pub struct InlinePasswords(Mutex<()>);

impl Passwords for InlinePasswords {
    async fn hash(&self, password: String, salt: [u8; 16]) -> Result<String, PasswordFailure> {
        let _turn = self.0.lock().await;
        password::hash_with_rests(&password, salt, yield_now).await
    }

    async fn verify(&self, password: String, hash: String) -> Result<bool, PasswordFailure> {
        let _turn = self.0.lock().await;
        Ok(password::verify_with_rests(&password, &hash, yield_now).await)
    }
}

/// Lets the instance's other requests run.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| match std::mem::replace(&mut yielded, true) {
        true => Poll::Ready(()),
        false => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// Writes links to the log: components cannot send mail.
#[derive(Debug, Clone, Copy)]
pub struct LogMailer;

impl Mailer for LogMailer {
    fn send(&self, mail: VerificationMail) {
        tracing::warn!(
            email = %mail.to, link = %mail.link,
            "components send no mail: the account is verified by following this link",
        );
    }
}

/// Remembers that something has joined the outbox. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Waker(Rc<Cell<bool>>);

impl Waker {
    /// Whether something has joined the outbox since this was last asked.
    pub(crate) fn take(&self) -> bool {
        self.0.take()
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.get()
    }
}

impl Notifier for Waker {
    fn wake(&self) {
        self.0.set(true);
    }
}

impl<S: Store, P: Platform> Reports for WasmPorts<S, P> {
    async fn record(&self, workspace: &Workspace, report: Report) -> Result<Recorded, StoreError> {
        let record = async {
            let start = Instant::now();
            let retry = async |conflicts| {
                let in_time = start.elapsed() < CONTENTION_DEADLINE;
                if in_time {
                    self.platform
                        .sleep(conflict_pause(conflicts, random_u32()))
                        .await;
                }
                in_time
            };
            self.recorder.record(workspace, &report, retry).await
        };
        self.turns.take(report.session_key(workspace), record).await
    }
}

impl<S: Store, P: Platform> Ports for WasmPorts<S, P> {
    type Store = S;
    type Clock = WallClock;
    type Entropy = SystemEntropy;
    type Passwords = InlinePasswords;
    type Mailer = LogMailer;
    type Notifier = Waker;
    type Reports = Self;

    fn store(&self) -> &S {
        &self.recorder.store
    }

    fn clock(&self) -> &WallClock {
        &WallClock
    }

    fn entropy(&self) -> &SystemEntropy {
        &SystemEntropy
    }

    fn passwords(&self) -> &InlinePasswords {
        &self.passwords
    }

    fn mailer(&self) -> &LogMailer {
        &LogMailer
    }

    fn notifier(&self) -> &Waker {
        &self.waker
    }

    fn reports(&self) -> &Self {
        self
    }

    async fn pause(&self, duration: Duration) {
        self.platform.sleep(duration).await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::future::{Either, join, select};
    use kubeagents_core::Workspace;

    use super::*;

    #[tokio::test]
    async fn others_get_on_while_passwords_are_hashed_one_at_a_time() {
        let passwords = InlinePasswords::default();
        let turns = Cell::new(0);
        let others = async {
            loop {
                yield_now().await;
                turns.set(turns.get() + 1);
            }
        };
        let ended = |password: &str| {
            let hash = passwords.hash(password.to_owned(), [1; 16]);
            async { (hash.await.is_ok(), turns.get()) }
        };
        let hashes = join(ended("one"), ended("other"));
        let Either::Left(((first, second), _)) = select(pin!(hashes), pin!(others)).await;
        assert!(first.0 && second.0);
        assert!(first.1 > 100, "{} turns during the first", first.1);
        assert!(
            second.1 > 2 * first.1 - 10,
            "{first:?} and {second:?} ran at once"
        );
    }

    fn key(topic: &str) -> SessionKey {
        SessionKey {
            workspace: Workspace::Shared,
            agent_id: "agent".to_owned(),
            session_topic: topic.to_owned(),
        }
    }

    /// Whether two pieces of work on these sessions overlap.
    async fn overlap(one: &str, other: &str) -> bool {
        let turns = Turns::default();
        let under_way = Cell::new(0);
        let work = async || {
            under_way.set(under_way.get() + 1);
            yield_now().await;
            let overlaps = under_way.get() > 1;
            under_way.set(under_way.get() - 1);
            overlaps
        };
        let (one, other) = join(turns.take(key(one), work()), turns.take(key(other), work())).await;
        assert!(turns.0.borrow().is_empty(), "a queue is left behind");
        one || other
    }

    #[tokio::test]
    async fn reports_on_one_session_take_turns_and_others_do_not_wait() {
        assert!(!overlap("same", "same").await);
        assert!(overlap("one", "other").await);
    }
}
