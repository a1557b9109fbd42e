//! What a host hands to the core: everything that touches the world outside.
//!
//! Futures of these traits need not be `Send`: WebAssembly's are not. A native host's are, and the
//! compiler checks it where it spawns them, since auto traits of a concrete type are seen through.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use tracing::Span;

use crate::delivery::Poster;
use crate::{AccountId, Incoming, Recorded, Store, StoreError, Timestamp, Workspace};

/// The host's clock, the only authority for what is stored.
pub trait Clock {
    /// The current instant.
    fn now(&self) -> Timestamp;
}

/// The host's source of randomness, fit for secrets.
pub trait Entropy {
    /// Fills the buffer with random bytes.
    fn fill(&self, buffer: &mut [u8]);
}

/// The random bytes of one value.
pub(crate) fn random<const N: usize>(entropy: &impl Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}

/// A random number where nothing depends on its being a secret, as for jitter.
pub fn random_u32(entropy: &impl Entropy) -> u32 {
    u32::from_ne_bytes(random(entropy))
}

/// A random UUID in text form.
pub(crate) fn random_uuid(entropy: &impl Entropy) -> String {
    uuid::Builder::from_random_bytes(random(entropy))
        .into_uuid()
        .to_string()
}

/// Hashing passwords takes a processor for a quarter of a second: where and how many at a time is
/// the host's decision. [`password`](crate::password) does the work.
pub trait Passwords {
    /// Checks whether a password of this client would be hashed, or there are too many others of its
    /// own before it.
    fn admits(&self, client: Option<IpAddr>) -> bool;

    /// The bcrypt hash of a password. Clients take turns; those whose address is unknown are one.
    fn hash(
        &self,
        client: Option<IpAddr>,
        password: String,
        salt: [u8; 16],
    ) -> impl Future<Output = Result<String, PasswordFailure>>;

    /// Checks whether a password is the one that was hashed. `false` also for a hash that is none.
    fn verify(
        &self,
        client: Option<IpAddr>,
        password: String,
        hash: String,
    ) -> impl Future<Output = Result<bool, PasswordFailure>>;
}

/// Why a password was not hashed.
#[derive(Debug, thiserror::Error)]
pub enum PasswordFailure {
    /// Too many others come first.
    #[error("too many passwords are waiting")]
    Crowded,
    /// Hashing refuses.
    #[error("password hashing failed: {0}")]
    Failed(String),
}

/// What a mail is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailKind {
    /// Asks its reader to prove that the address is theirs.
    Verification,
    /// Lets its reader set a new password.
    Reset,
}

impl MailKind {
    /// The page of the dashboard that its link leads to.
    pub(crate) const fn page(self) -> &'static str {
        match self {
            Self::Verification => "verify",
            Self::Reset => "reset",
        }
    }

    /// How long its link works.
    pub(crate) const fn expiry(self) -> TimeDelta {
        match self {
            Self::Verification => TimeDelta::hours(24),
            Self::Reset => TimeDelta::hours(1),
        }
    }

    /// What following its link does, for the log of a host that sends no mail.
    pub const fn effect(self) -> &'static str {
        match self {
            Self::Verification => "the account is verified by following this link",
            Self::Reset => "a new password is set by following this link",
        }
    }
}

/// A mail with a link for the owner of an address.
#[derive(Debug, Clone)]
pub struct Mail {
    /// What it is for.
    pub kind: MailKind,
    /// Whose address it is.
    pub account_id: AccountId,
    /// The address.
    pub to: String,
    /// The link to follow. A secret: whoever has it is taken for the owner.
    pub link: String,
}

impl Mail {
    /// A mail whose link, which holds this token, leads to the dashboard at `base_url`.
    pub fn new(
        kind: MailKind,
        account_id: AccountId,
        to: String,
        base_url: &str,
        token: &str,
    ) -> Self {
        Self {
            kind,
            account_id,
            to,
            link: format!("{base_url}/{}?token={token}", kind.page()),
        }
    }
}

/// Sends mail, or logs the link where no mail can be sent.
pub trait Mailer {
    /// Queues a mail. Returns at once.
    fn send(&self, mail: Mail);

    /// Checks whether the mails of registrations are taken from storage
    /// ([`RegistrationMails`](crate::store::RegistrationMails)): then they are not queued here.
    fn takes_registrations(&self) -> bool {
        false
    }

    /// A mail of a registration has been stored. Returns at once.
    fn wake(&self) {}
}

/// Delivers what is in the outbox.
pub trait Notifier {
    /// Something has joined the outbox. Returns at once.
    fn wake(&self);
}

/// Records reports: how several at a time get along on one session is the host's decision.
/// [`Recorder`](crate::Recorder) does the work.
pub trait Reports {
    /// Stores a report, unless nothing is to be stored of it. Answered `Ok`, it is done.
    fn record(
        &self,
        workspace: &Workspace,
        incoming: impl Into<Incoming>,
    ) -> impl Future<Output = Result<Recorded, StoreError>>;
}

/// Live events, on hosts that can stream.
pub trait Events {
    /// What a reader gets.
    type Feed: Feed;

    /// Whether the host can stream at all. Where it cannot, nobody is asked to subscribe.
    const SUPPORTED: bool;

    /// Follows the changes of a workspace: everything that is stored from now on, and what was stored
    /// since the event with the id `since`.
    fn subscribe(
        &self,
        workspace: &Workspace,
        since: Option<&str>,
    ) -> impl Future<Output = Result<Self::Feed, SubscribeError>>;

    /// Credentials have been revoked: every [`Feed`] says so. Returns at once.
    fn recheck(&self) {}
}

/// Why there is no feed.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// There are as many readers as there may be.
    #[error("there are too many streams of events")]
    Crowded,
    /// The host is about to stop.
    #[error("the host is stopping")]
    Stopping,
    /// Storage did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The changes of a workspace, for one reader.
pub trait Feed {
    /// Waits for what comes next. A future that is dropped takes nothing away.
    fn next(&mut self) -> impl Future<Output = Fed>;
}

/// What comes out of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fed {
    /// Events, as they are sent.
    Events(Bytes),
    /// Credentials have been revoked, perhaps the reader's.
    Recheck,
    /// Nothing comes any more.
    End,
}

/// Live events where the host cannot stream.
#[derive(Debug, Clone, Copy)]
pub struct NoEvents;

impl Events for NoEvents {
    type Feed = Infallible;

    const SUPPORTED: bool = false;

    async fn subscribe(
        &self,
        _: &Workspace,
        _: Option<&str>,
    ) -> Result<Infallible, SubscribeError> {
        Err(SubscribeError::Crowded)
    }
}

impl Feed for Infallible {
    async fn next(&mut self) -> Fed {
        match *self {}
    }
}

/// What a caller says of the trace that its request belongs to, in the form of W3C Trace Context. Nobody
/// has checked it.
#[derive(Debug, Clone)]
pub struct CallerTrace {
    /// The trace and the caller's span: `traceparent`.
    pub parent: String,
    /// What else there is to pass on: `tracestate`.
    pub state: Option<String>,
}

/// The host has no thread for it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("no thread can be started")]
pub struct NoThread;

/// What a list rests after while reports are under way, so that it leaves most of a core to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestAfter {
    /// The time that it computes. What it waits for takes nothing from reports.
    Work,
    /// All its time. The host hands over row by row on the same cores, which is work too.
    Time,
}

/// Everything that the core needs of its host.
pub trait Ports {
    /// Where state lives.
    type Store: Store;
    /// The clock.
    type Clock: Clock;
    /// The source of randomness.
    type Entropy: Entropy;
    /// The password hasher.
    type Passwords: Passwords;
    /// The mailer.
    type Mailer: Mailer;
    /// The deliverer of notifications.
    type Notifier: Notifier;
    /// The recorder of reports.
    type Reports: Reports;
    /// The live events.
    type Events: Events;
    /// What posts to receivers.
    type Poster: Poster;

    /// Where state lives.
    fn store(&self) -> &Self::Store;
    /// The clock.
    fn clock(&self) -> &Self::Clock;
    /// The source of randomness.
    fn entropy(&self) -> &Self::Entropy;
    /// The password hasher.
    fn passwords(&self) -> &Self::Passwords;
    /// The mailer.
    fn mailer(&self) -> &Self::Mailer;
    /// The deliverer of notifications.
    fn notifier(&self) -> &Self::Notifier;
    /// The recorder of reports.
    fn reports(&self) -> &Self::Reports;
    /// The live events.
    fn events(&self) -> &Self::Events;
    /// What posts to receivers.
    fn poster(&self) -> &Self::Poster;

    /// Makes a span a part of its caller's trace, on hosts that export spans. What is no trace is ignored.
    fn adopt(&self, _span: &Span, _caller: &CallerTrace) {}

    /// Waits.
    fn pause(&self, duration: Duration) -> impl Future<Output = ()>;

    /// The most lists that are read at once while reports are under way.
    fn reads_beside_reports(&self) -> usize {
        usize::MAX
    }

    /// What a list rests after while reports are under way.
    fn reads_rest_after(&self) -> RestAfter {
        RestAfter::Work
    }

    /// Whether lists also make way for what other instances of the host report to the same storage, and rest
    /// longer, since those read as well. An instance must last for several requests to see that.
    fn has_siblings(&self) -> bool {
        false
    }

    /// Does what takes the processor for long and may wait for what is more urgent: writing a long list
    /// as JSON. Workspaces take turns.
    fn at_leisure<T: Send + 'static>(
        &self,
        _workspace: &Workspace,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, NoThread>> {
        async move { Ok(work()) }
    }
}
