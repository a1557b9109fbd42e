//! Agents, sessions and their history.

use super::{Page, StoreError};
use crate::batch::Chain;
use crate::paging::{AgentCursor, HistoryCursor, SessionCursor, WorkspaceCursor};
use crate::{
    Agent, Commit, NamedSession, Notification, Quota, Session, SessionKey, SessionState, Snapshot,
    Status, StatusKind, Timestamp, Workspace,
};

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "nothing may be stored"]
pub enum CommitOutcome {
    /// All of it is stored, durably where the store is durable.
    Committed,
    /// The session's version had moved; nothing is stored. Load and decide again.
    Conflict,
    /// It would register an agent or open a session beyond a limit of the store; nothing is stored.
    Refused(Quota),
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

/// Which sessions of a workspace to list: last updated first, then by agent, then by topic, both in
/// code point order.
#[derive(Debug, Clone, Default)]
pub struct WorkspaceQuery {
    /// Only those in this state.
    pub state: Option<SessionState>,
    /// Only those whose current status is this.
    pub status: Option<StatusKind>,
    /// A [`search_key`](crate::search_key): only sessions where the key of the topic, the title, or
    /// the agent's id or name contains it.
    pub search: Option<String>,
    /// Only what comes after this place.
    pub after: Option<WorkspaceCursor>,
    /// At most this many.
    pub limit: usize,
}

impl WorkspaceQuery {
    /// Checks whether it leaves out any session.
    pub(crate) fn filters(&self) -> bool {
        self.state.is_some() || self.status.is_some() || self.search.is_some()
    }
}

/// The notice that a session has fallen silent.
#[derive(Debug, Clone)]
pub struct SilenceNote {
    /// The session.
    pub key: SessionKey,
    /// The version that it must still have.
    pub seq: u64,
    /// What joins the outbox.
    pub notifications: Vec<Notification>,
}

/// Agents, sessions and their history.
pub trait Sessions {
    /// Loads the state that a report on each of these sessions is decided on, in the order of
    /// `keys`. The cost does not depend on the length of a history.
    fn load_many(
        &self,
        keys: &[SessionKey],
    ) -> impl Future<Output = Result<Vec<Snapshot>, StoreError>>;

    /// Applies each chain whole or not at all, independently of the others, and answers in their
    /// order. The chains are of different sessions, in the order of their keys. A chain conflicts
    /// when its session's version has moved. It may conflict when another writer holds its rows, or
    /// when it is larger than the store takes in one step; its commits then pass one by one.
    /// Patches of one agent by several sessions never conflict and never undo each other.
    ///
    /// After [`StoreError::Contended`] and [`StoreError::Refused`] nothing is stored; after
    /// [`StoreError::Unavailable`] it is unknown what is.
    fn commit_many(
        &self,
        chains: &[Chain],
    ) -> impl Future<Output = Result<Vec<CommitOutcome>, StoreError>>;

    /// Loads the state that a report on this session is decided on.
    fn load(&self, key: &SessionKey) -> impl Future<Output = Result<Snapshot, StoreError>> {
        async move {
            let snapshots = self.load_many(std::slice::from_ref(key)).await?;
            Ok(snapshots.into_iter().next().unwrap_or_default())
        }
    }

    /// Applies one commit, or nothing when the session's version has moved.
    fn commit(&self, commit: &Commit) -> impl Future<Output = Result<CommitOutcome, StoreError>> {
        async move {
            let outcomes = self.commit_many(&[Chain::from(commit.clone())]).await?;
            Ok(outcomes.first().copied().unwrap_or(CommitOutcome::Conflict))
        }
    }

    /// What time it is for all hosts on this storage: `now`, the clock of this one, unless storage has
    /// a clock.
    fn clock(&self, now: Timestamp) -> impl Future<Output = Result<Timestamp, StoreError>> {
        async move { Ok(now) }
    }

    /// A hint: a number that is mostly another one if anybody, on whatever host, has stored a report since it
    /// was last asked for, and may be another for other reasons. `None` where storage has none.
    fn revision(&self) -> impl Future<Output = Result<Option<i64>, StoreError>> {
        async { Ok(None) }
    }

    /// Sessions of all workspaces whose expiry is [watched](crate::Silence::Watched) and comes after
    /// `after` and not after `until`: those that expire soonest, at most `limit`. The cost does not
    /// depend on how many expire at other times.
    fn silences(
        &self,
        after: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(SessionKey, Snapshot)>, StoreError>>;

    /// Notes of different sessions that their expiry is [told](crate::Silence::Told), each with its
    /// notifications or not at all, which moves its version on and changes nothing else. Answers in
    /// their order: `false` when a session's version had moved, when somebody else has noted it, and
    /// perhaps when somebody else is at its rows.
    fn note_silences(
        &self,
        notes: &[SilenceNote],
    ) -> impl Future<Output = Result<Vec<bool>, StoreError>>;

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

    /// A page of a workspace's sessions, of all agents: what a
    /// [`SessionWalk`](super::SessionWalk) finds.
    fn workspace_sessions(
        &self,
        workspace: &Workspace,
        query: &WorkspaceQuery,
        now: Timestamp,
    ) -> impl Future<Output = Result<Page<NamedSession, WorkspaceCursor>, StoreError>>;

    /// One session with a page of its history, which has gaps, newest first, from before the place `before`
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
}
