//! The ports of the core, on what every component has.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use kubeagents_core::ports::{
    Clock, Entropy, Mail, Mailer, Notifier, PasswordFailure, Passwords, Ports,
};
use kubeagents_core::{Store, Timestamp, password, yield_now};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::Platform;
use crate::reports::GroupedReports;

/// Everything that the core needs of its host.
pub struct WasmPorts<S, P> {
    pub(crate) reports: GroupedReports<S, P>,
    pub(crate) waker: Waker,
    pub(crate) passwords: InlinePasswords,
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

/// Limit on passwords that wait for their turn: some ten seconds' worth, and who waits longer has
/// given up.
const MAX_WAITING: usize = 32;

/// Hashes on the instance's one thread: one password at a time, in the order in which they come, and
/// less than a millisecond at a time, so that other requests get on.
#[derive(Debug)]
pub struct InlinePasswords {
    turn: Semaphore,
    waiting: Cell<usize>,
}

impl Default for InlinePasswords {
    fn default() -> Self {
        Self {
            turn: Semaphore::new(1),
            waiting: Cell::default(),
        }
    }
}

impl InlinePasswords {
    async fn turn(&self) -> Result<SemaphorePermit<'_>, PasswordFailure> {
        if let Ok(turn) = self.turn.try_acquire() {
            return Ok(turn);
        }
        let _place = Place::take(&self.waiting)
            .ok_or_else(|| PasswordFailure("too many passwords are waiting".into()))?;
        let turn = self.turn.acquire().await;
        turn.map_err(|error| PasswordFailure(error.to_string()))
    }
}

/// A place among those who wait, free again when they wait no more.
struct Place<'a>(&'a Cell<usize>);

impl<'a> Place<'a> {
    fn take(waiting: &'a Cell<usize>) -> Option<Self> {
        let taken = waiting.get();
        (taken < MAX_WAITING).then(|| {
            waiting.set(taken + 1);
            Self(waiting)
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Passwords for InlinePasswords {
    async fn hash(&self, password: String, salt: [u8; 16]) -> Result<String, PasswordFailure> {
        let _turn = self.turn().await?;
        password::hash_with_rests(&password, salt, yield_now).await
    }

    async fn verify(&self, password: String, hash: String) -> Result<bool, PasswordFailure> {
        let _turn = self.turn().await?;
        Ok(password::verify_with_rests(&password, &hash, yield_now).await)
    }
}

/// Writes links to the log: components cannot send mail.
#[derive(Debug, Clone, Copy)]
pub struct LogMailer;

impl Mailer for LogMailer {
    fn send(&self, mail: Mail) {
        tracing::warn!(
            email = %mail.to, link = %mail.link,
            "components send no mail: {}", mail.kind.effect(),
        );
    }
}

/// Remembers that something has joined the outbox. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Waker(Rc<Cell<bool>>);

impl Waker {
    /// Returns true if something has joined the outbox since the last call.
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

impl<S: Store + 'static, P: Platform> Ports for WasmPorts<S, P> {
    type Store = S;
    type Clock = WallClock;
    type Entropy = SystemEntropy;
    type Passwords = InlinePasswords;
    type Mailer = LogMailer;
    type Notifier = Waker;
    type Reports = GroupedReports<S, P>;

    fn store(&self) -> &S {
        self.reports.store()
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

    fn reports(&self) -> &GroupedReports<S, P> {
        &self.reports
    }

    async fn pause(&self, duration: Duration) {
        self.reports.platform().sleep(duration).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::pin::pin;

    use futures_util::future::{Either, join, join_all, select};

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
        assert!(first.1 > 1000, "{} turns during the first", first.1);
        assert!(
            second.1 > 2 * first.1 - 10,
            "{first:?} and {second:?} ran at once"
        );
    }

    #[tokio::test]
    async fn passwords_wait_in_order_up_to_a_bound() {
        let passwords = InlinePasswords::default();
        let cheap = "$2b$04$abcdefghijklmnopqrstuuSGJC5wqeoDaQZH3wNsTOxIlHnKfqF9m";
        let ended = RefCell::new(Vec::new());
        let verify = async |n: usize| {
            let outcome = passwords.verify(n.to_string(), cheap.to_owned()).await;
            ended.borrow_mut().push((n, outcome.is_ok()));
        };
        join_all((0..MAX_WAITING + 3).map(verify)).await;
        let mut ended = ended.into_inner();
        let refused: Vec<_> = ended.extract_if(.., |(_, done)| !*done).collect();
        assert_eq!(refused, [(33, false), (34, false)]);
        let in_order: Vec<_> = (0..=MAX_WAITING).map(|n| (n, true)).collect();
        assert_eq!(ended, in_order);
        assert!(
            passwords
                .verify("again".into(), cheap.to_owned())
                .await
                .is_ok()
        );
    }
}
