//! Where state lives. A store executes and never decides: it does not know what a status means.
//!
//! Every implementation passes the shared suite (feature `store-suite`).

use std::error::Error;
use std::time::Duration;

use crate::{
    Account, AccountId, Agent, ApiKey, Commit, NewAccount, Notification, RefreshToken, Session,
    SessionKey, Snapshot, Status, StatusKind, Timestamp, Verification, Workspace,
};

pub use crate::paging::{AgentCursor, HistoryCursor, SessionCursor};

mod memory;
#[cfg(feature = "store-suite")]
pub mod suite;

pub use memory::MemoryStore;

/// Why storage did not do what it was asked. Clients see 503 for either.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Storage did not answer, or answered with a failure. Whether a commit took effect may be
    /// unknown.
    #[error("storage is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// Others were at the same rows for too long; nothing was stored.
    #[error("storage is too contended")]
    Contended,
}

impl StoreError {
    /// Wraps the failure of a driver.
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a conflict means that nothing was stored"]
pub enum CommitOutcome {
    /// All of it is stored, durably where the store is durable.
    Committed,
    /// The session's version had moved; nothing is stored. Load and decide again.
    Conflict,
}

/// What became of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the address may have been taken"]
pub enum Registration {
    /// The account is stored.
    Created,
    /// Another account has this address, possibly in another case; nothing is stored.
    EmailTaken,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, C> {
    /// The rows, in the list's order. May be fewer than the limit even where more follow.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<C>,
}

/// A session with a part of its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionHistory {
    /// The session.
    pub session: Session,
    /// Statuses, newest first; the next page begins before the given [`Status::seq`].
    pub history: Page<Status, u64>,
}

/// Which agents to list: last seen first, then by id in code point order.
#[derive(Debug, Clone, Default)]
pub struct AgentQuery {
    /// A [`search_key`](crate::search_key): only agents whose id's or name's key contains it.
    pub search: Option<String>,
    /// Only agents whose latest status among unexpired sessions is this.
    pub status: Option<StatusKind>,
    /// Only what comes after this place.
    pub after: Option<AgentCursor>,
    /// At most this many.
    pub limit: usize,
}

/// Which sessions of an agent to list, by expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expiry {
    /// All.
    #[default]
    Any,
    /// Only those that `now` finds unexpired.
    Unexpired,
    /// Only those that `now` finds expired.
    Expired,
}

/// Which sessions to list: last updated first, then by topic in code point order.
#[derive(Debug, Clone, Default)]
pub struct SessionQuery {
    /// Filter by expiry.
    pub expiry: Expiry,
    /// Only what comes after this place.
    pub after: Option<SessionCursor>,
    /// At most this many.
    pub limit: usize,
}

/// Whose notification addresses are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// One account's.
    Account(AccountId),
    /// Every account's that has one.
    EveryAccount,
}

/// Which notifications a delivering host takes on.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// The host's clock. Stores shared by several machines use their own clock instead.
    pub now: Timestamp,
    /// How long the others keep off what is leased.
    pub duration: Duration,
    /// At most this many, at most one to any receiving host, so that hosts take turns.
    pub limit: usize,
    /// Receiving hosts (`host:port`) that have all they can take for now.
    pub busy_hosts: Vec<String>,
}

/// A notification that this host has on lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedNotification {
    /// What to deliver.
    pub notification: Notification,
    /// Which round of attempts this is, counted from 1.
    pub round: u32,
}

/// Durable (or, in memory, living) state. Each operation is atomic; a successful answer means that
/// it is stored. Futures that are dropped midway leave an operation done or not done, never half.
///
/// `now` is the caller's clock wherever expiry is a question; nothing expires by itself.
pub trait Store {
    /// Whether what is queued in the outbox survives the process, so that delivery can be tried
    /// for longer than a moment.
    const DURABLE: bool;

    /// Whether storage answers at all.
    fn ping(&self) -> impl Future<Output = Result<(), StoreError>>;

    /// What a report on this session is decided on. Costs the same however long the history.
    fn load(&self, key: &SessionKey) -> impl Future<Output = Result<Snapshot, StoreError>>;

    /// Applies a commit, all of it or, when the session's version has moved, nothing. Patches of
    /// one agent by several sessions never conflict and never undo each other.
    fn commit(&self, commit: &Commit) -> impl Future<Output = Result<CommitOutcome, StoreError>>;

    /// A page of a workspace's agents.
    fn agents(
        &self,
        workspace: &Workspace,
        query: &AgentQuery,
        now: Timestamp,
    ) -> impl Future<Output = Result<Page<Agent, AgentCursor>, StoreError>>;

    /// One agent.
    fn agent(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Agent>, StoreError>>;

    /// A page of an agent's sessions; empty when the agent is unknown.
    fn sessions(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        query: &SessionQuery,
        now: Timestamp,
    ) -> impl Future<Output = Result<Page<Session, SessionCursor>, StoreError>>;

    /// One session with a page of its history, newest first, from before the place `before`
    /// (a [`Status::seq`]); `None` when there is no such session.
    fn session(
        &self,
        key: &SessionKey,
        before: Option<u64>,
        limit: usize,
    ) -> impl Future<Output = Result<Option<SessionHistory>, StoreError>>;

    /// A page of an agent's history over all its sessions: newest first, then by topic in code
    /// point order, then by place. Empty when the agent is unknown.
    fn history(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        before: Option<&HistoryCursor>,
        limit: usize,
    ) -> impl Future<Output = Result<Page<Status, HistoryCursor>, StoreError>>;

    /// Stores a new account, unless its address (compared by key) is taken.
    fn create_account(
        &self,
        account: &NewAccount,
    ) -> impl Future<Output = Result<Registration, StoreError>>;

    /// The account with this id.
    fn account(&self, id: &AccountId) -> impl Future<Output = Result<Option<Account>, StoreError>>;

    /// The account with exactly this address, else the one that owns the address by its
    /// [`email_key`](crate::email_key).
    fn account_by_email(
        &self,
        email: &str,
    ) -> impl Future<Output = Result<Option<Account>, StoreError>>;

    /// Awaits this verification instead of any earlier one.
    fn set_verification(
        &self,
        id: &AccountId,
        verification: &Verification,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Spends the verification with this token hash, if it is awaited and unexpired at `now`: the
    /// account is verified, and is returned.
    fn verify_account(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Account>, StoreError>>;

    /// Sets (or, with an empty text, clears) an account's notification address and returns the
    /// account; `None` when there is no such account.
    fn set_notification_url(
        &self,
        id: &AccountId,
        url: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Account>, StoreError>>;

    /// The notification addresses of an audience, each as often as it was set.
    fn notification_urls(
        &self,
        audience: &Audience,
    ) -> impl Future<Output = Result<Vec<String>, StoreError>>;

    /// Stores the first refresh token of a new family.
    fn insert_refresh_token(
        &self,
        token: &RefreshToken,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// The refresh token with this hash, revoked if its family is.
    fn refresh_token(
        &self,
        token_hash: &str,
    ) -> impl Future<Output = Result<Option<RefreshToken>, StoreError>>;

    /// Marks a token spent and stores its successor in the same family, in one step. `false`, and
    /// nothing is stored, when the token is already spent or its family revoked: of concurrent
    /// calls one succeeds, and a revocation is never outrun.
    fn rotate_refresh_token(
        &self,
        token_hash: &str,
        spent_at: Timestamp,
        successor: &RefreshToken,
    ) -> impl Future<Output = Result<bool, StoreError>>;

    /// Revokes every token of a family, those stored later included.
    fn revoke_token_family(&self, family_id: &str) -> impl Future<Output = Result<(), StoreError>>;

    /// Revokes every refresh token that the account has now.
    fn revoke_refresh_tokens(&self, id: &AccountId)
    -> impl Future<Output = Result<(), StoreError>>;

    /// Stores a new API key.
    fn insert_api_key(&self, key: &ApiKey) -> impl Future<Output = Result<(), StoreError>>;

    /// The account's API keys, newest first, then by id.
    fn api_keys(&self, id: &AccountId) -> impl Future<Output = Result<Vec<ApiKey>, StoreError>>;

    /// The API key with this hash, revoked or not. A store that serves it from a cache does so for
    /// five seconds at most and never after this instance has revoked it.
    fn api_key_by_hash(
        &self,
        key_hash: &str,
    ) -> impl Future<Output = Result<Option<ApiKey>, StoreError>>;

    /// Revokes a key of this account; `false` when the account has no such key.
    fn revoke_api_key(
        &self,
        id: &AccountId,
        key_id: &str,
    ) -> impl Future<Output = Result<bool, StoreError>>;

    /// Notes the use of a key.
    fn touch_api_key(
        &self,
        key: &ApiKey,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// The instance's secret of this name: `candidate` becomes it if there is none yet. Every host
    /// on one storage gets the same.
    fn secret(
        &self,
        name: &str,
        candidate: &str,
    ) -> impl Future<Output = Result<String, StoreError>>;

    /// Leases due notifications: those never tried or whose pause is over, and those whose lease
    /// ran out (their host died), longest due first, one to a receiving host.
    fn lease_notifications(
        &self,
        request: &LeaseRequest,
    ) -> impl Future<Output = Result<Vec<LeasedNotification>, StoreError>>;

    /// Ends a lease: delivered.
    fn notification_delivered(&self, id: &str) -> impl Future<Output = Result<(), StoreError>>;

    /// Ends a lease: not delivered, due again after `pause`.
    fn notification_failed(
        &self,
        id: &str,
        now: Timestamp,
        pause: Duration,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Ends a lease: not delivered, and given up.
    fn notification_abandoned(&self, id: &str) -> impl Future<Output = Result<(), StoreError>>;
}
