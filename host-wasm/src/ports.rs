//! The ports of the core, on what every component has.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use futures_util::lock::Mutex;
use kubeagents_core::ports::{
    Clock, Entropy, Mailer, Notifier, PasswordFailure, Passwords, Ports, VerificationMail,
};
use kubeagents_core::{Store, Timestamp, password};

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

    use super::*;
    use futures_util::future::{Either, join, select};

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
}
