//! The ports of the core, on what every component has.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::Request;
use kubeagents_core::delivery::{Answer, PostError, Poster, Reach, reach_by_name};
use kubeagents_core::ports::{
    Clock, Entropy, Mail, Mailer, NoEvents, Notifier, PasswordFailure, Passwords, Ports, RestAfter,
};
use kubeagents_core::{ChannelMail, FairQueue, Store, Timestamp, password, yield_now};
use tokio::sync::oneshot;

use crate::Platform;
use crate::reports::GroupedReports;

/// Everything that the core needs of its host.
pub struct WasmPorts<S, P> {
    pub(crate) reports: GroupedReports<S, P>,
    pub(crate) waker: Waker,
    pub(crate) passwords: InlinePasswords,
    pub(crate) poster: PlatformPoster<P>,
}

/// Posts by the platform, each time within this limit.
pub struct PlatformPoster<P> {
    pub(crate) platform: P,
    pub(crate) timeout: Duration,
}

/// Why no mail is sent.
pub(crate) const NO_MAIL: &str = "this host sends no mail";

impl<P: Platform> Poster for PlatformPoster<P> {
    async fn post(&self, request: Request<Bytes>) -> Result<Answer, PostError> {
        post_within(&self.platform, request, self.timeout).await
    }

    async fn mail(&self, _: ChannelMail) -> Result<Answer, PostError> {
        Err(PostError::Forbidden(NO_MAIL))
    }

    async fn sleep(&self, duration: Duration) {
        self.platform.sleep(duration).await;
    }
}

/// Posts once, to a place that is not known to be forbidden, and gives up after `limit`.
pub(crate) async fn post_within(
    platform: &impl Platform,
    request: Request<Bytes>,
    limit: Duration,
) -> Result<Answer, PostError> {
    // Names are the platform's to judge, by its allowed hosts.
    let reach = reach_by_name(request.uri());
    if reach == Reach::Forbidden {
        return Err(PostError::Forbidden(reach.refusal()));
    }
    let answer = pin!(platform.post(request));
    let timeout = pin!(platform.sleep(limit));
    match select(answer, timeout).await {
        Either::Left((answer, _)) => answer,
        Either::Right(((), _)) => Err(PostError::Timeout),
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

/// Limit on passwords that wait for their turn: some ten seconds' worth, and who waits longer has
/// given up.
const MAX_WAITING: usize = 32;

/// Hashes on the instance's one thread: one password at a time, and less than a millisecond at a time,
/// so that other requests get on. Clients take turns.
#[derive(Debug)]
pub struct InlinePasswords(Rc<RefCell<Turns>>);

#[derive(Debug)]
struct Turns {
    is_taken: bool,
    waiting: FairQueue<Option<IpAddr>, oneshot::Sender<Turn>>,
}

impl Default for InlinePasswords {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(Turns {
            is_taken: false,
            waiting: FairQueue::new(MAX_WAITING),
        })))
    }
}

impl InlinePasswords {
    async fn turn(&self, client: Option<IpAddr>) -> Result<Turn, PasswordFailure> {
        let called = {
            let mut turns = self.0.borrow_mut();
            if !turns.is_taken {
                turns.is_taken = true;
                return Ok(Turn(Rc::clone(&self.0)));
            }
            let (call, called) = oneshot::channel();
            // Whoever has to go for want of room is told by being dropped.
            drop(turns.waiting.push(client, call));
            called
        };
        let turn = called.await;
        turn.map_err(|_| PasswordFailure::Crowded)
    }
}

/// A turn, handed on when dropped.
#[derive(Debug)]
struct Turn(Rc<RefCell<Turns>>);

impl Drop for Turn {
    fn drop(&mut self) {
        let next = self.0.borrow_mut().waiting.pop();
        match next {
            // One who waits no more drops the turn, which hands it on.
            Some(next) => drop(next.send(Self(Rc::clone(&self.0)))),
            None => self.0.borrow_mut().is_taken = false,
        }
    }
}

impl Passwords for InlinePasswords {
    fn admits(&self, client: Option<IpAddr>) -> bool {
        let turns = self.0.borrow();
        !turns.is_taken || turns.waiting.admits(&client)
    }

    async fn hash(
        &self,
        client: Option<IpAddr>,
        password: String,
        salt: [u8; 16],
    ) -> Result<String, PasswordFailure> {
        let _turn = self.turn(client).await?;
        password::hash_with_rests(&password, salt, yield_now).await
    }

    async fn verify(
        &self,
        client: Option<IpAddr>,
        password: String,
        hash: String,
    ) -> Result<bool, PasswordFailure> {
        let _turn = self.turn(client).await?;
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
    type Events = NoEvents;
    type Poster = PlatformPoster<P>;

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

    fn events(&self) -> &NoEvents {
        &NoEvents
    }

    fn poster(&self) -> &PlatformPoster<P> {
        &self.poster
    }

    async fn pause(&self, duration: Duration) {
        self.reports.platform().sleep(duration).await;
    }

    fn reads_beside_reports(&self) -> usize {
        1
    }

    fn reads_rest_after(&self) -> RestAfter {
        P::READS_REST_AFTER
    }

    fn has_siblings(&self) -> bool {
        P::HAS_SIBLINGS
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::pin::pin;
    use std::task::{Context, Waker};

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
            let hash = passwords.hash(None, password.to_owned(), [1; 16]);
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
            let outcome = passwords
                .verify(None, n.to_string(), cheap.to_owned())
                .await;
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
                .verify(None, "again".into(), cheap.to_owned())
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn a_turn_that_nobody_takes_is_handed_on() {
        let passwords = InlinePasswords::default();
        let first = passwords.turn(None).await.ok().unwrap();
        let mut gone = Box::pin(passwords.turn(None));
        let mut told = Box::pin(passwords.turn(None));
        let mut last = Box::pin(passwords.turn(None));
        let mut context = Context::from_waker(Waker::noop());
        for waiting in [&mut gone, &mut told, &mut last] {
            assert!(waiting.as_mut().poll(&mut context).is_pending());
        }
        drop(gone);
        drop(first);
        // It is this one's turn, but it goes before it knows.
        drop(told);
        let last = last.await.ok().unwrap();
        drop(last);
        assert!(passwords.turn(None).await.is_ok());
    }

    #[tokio::test]
    async fn nobody_waits_behind_another_clients_crowd() {
        let passwords = InlinePasswords::default();
        let cheap = "$2b$04$abcdefghijklmnopqrstuuSGJC5wqeoDaQZH3wNsTOxIlHnKfqF9m";
        let ended = RefCell::new(Vec::new());
        let (crowd, other) = (Some([192, 0, 2, 1].into()), Some([192, 0, 2, 2].into()));
        let verify = async |client: Option<IpAddr>, n: usize| {
            let outcome = passwords
                .verify(client, n.to_string(), cheap.to_owned())
                .await;
            ended.borrow_mut().push((n, outcome.is_ok()));
        };
        let crowd = (0..MAX_WAITING + 1).map(|n| verify(crowd, n));
        join(join_all(crowd), verify(other, 1000)).await;
        let ended = ended.into_inner();
        let place = ended.iter().position(|outcome| *outcome == (1000, true));
        assert!(place.is_some_and(|place| place <= 3), "{ended:?}");
        let refused = ended.iter().filter(|(_, done)| !*done);
        assert_eq!(refused.collect::<Vec<_>>(), [&(MAX_WAITING, false)]);
    }
}
