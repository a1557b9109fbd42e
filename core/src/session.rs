//! Sessions: one task of one agent, alive as long as reports renew it.

use std::borrow::Cow;

use chrono::TimeDelta;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use crate::{Context, MAX_TTL_MINUTES, SessionHead, StatusKind, Timestamp, Workspace};

/// What names a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// The workspace it is in.
    pub workspace: Workspace,
    /// The agent, exactly as reported.
    pub agent_id: String,
    /// The task, exactly as reported.
    pub session_topic: String,
}

/// A session as it is stored. Whether it is expired is worked out when it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The agent whose task it is.
    pub agent_id: String,
    /// The task.
    pub session_topic: String,
    /// What people call it; empty when no report has said.
    pub title: String,
    /// When its first report was stored.
    pub created: Timestamp,
    /// When its newest report was stored; never goes back.
    pub last_updated: Timestamp,
    /// How long it lives without a report, in minutes, 1 to 1440.
    pub ttl_minutes: u32,
    /// The newest status.
    pub current_status: StatusKind,
    /// When the present pair of status and reason began.
    pub status_since: Timestamp,
    /// Why the status is what it is; may be empty.
    pub reason: String,
    /// The message of the newest report; may be empty.
    pub message: String,
    /// Where it runs.
    pub context: Context,
}

/// A session with its agent's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSession {
    /// The name; empty when the agent has none.
    pub agent_name: String,
    /// The session.
    pub session: Session,
}

impl NamedSession {
    /// The session as clients see it at `now`.
    pub(crate) fn view(&self, now: Timestamp) -> SessionView<'_> {
        SessionView {
            agent_name: &self.agent_name,
            ..self.session.view(now)
        }
    }
}

/// The reason of a success after which the conversation goes on.
pub const TURN: &str = "turn";

/// The instant at which a session expires if nothing renews it.
pub(crate) fn expires_at(last_updated: Timestamp, ttl_minutes: u32) -> Timestamp {
    last_updated + TimeDelta::minutes(ttl_minutes.into())
}

/// How far ahead the expiry of an unexpired session may be: the longest TTL, and as much again, since the
/// clocks of hosts differ.
const LONGEST_LIFE: TimeDelta = TimeDelta::minutes(2 * MAX_TTL_MINUTES as i64);

/// The latest instant at which a session that is unexpired at `now` expires. What expires later has been
/// stored by a clock that was wrong, and would else be active until that clock's time has come.
pub fn latest_expiry(now: Timestamp) -> Timestamp {
    now + LONGEST_LIFE
}

/// Checks whether a session is expired at `now`: exactly when `now >= expires_at`, unless a clock was
/// [wrong](latest_expiry).
pub fn is_expired(expires_at: Timestamp, now: Timestamp) -> bool {
    now >= expires_at || expires_at > latest_expiry(now)
}

/// The instant at which a session has ended or expired, unless it is reported on.
pub(crate) fn is_over_at(head: &SessionHead) -> Timestamp {
    let is_turn = head.status == StatusKind::Success && head.reason == TURN;
    match head.status.is_final() && !is_turn {
        true => head.last_updated,
        false => head.expires_at(),
    }
}

impl Session {
    /// The session of this name with what is stored of it.
    pub fn new(agent_id: String, session_topic: String, head: SessionHead) -> Self {
        Self {
            agent_id,
            session_topic,
            title: head.title,
            created: head.created,
            last_updated: head.last_updated,
            ttl_minutes: head.ttl_minutes,
            current_status: head.status,
            status_since: head.status_since,
            reason: head.reason,
            message: head.message,
            context: head.context,
        }
    }

    /// The instant at which it expires if nothing renews it.
    pub fn expires_at(&self) -> Timestamp {
        expires_at(self.last_updated, self.ttl_minutes)
    }

    /// Checks whether it is [expired](is_expired) at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        is_expired(self.expires_at(), now)
    }

    /// The session as clients see it at `now`.
    pub(crate) fn view(&self, now: Timestamp) -> SessionView<'_> {
        let expired = self.is_expired(now);
        let expires_at = self.expires_at();
        SessionView {
            agent_id: &self.agent_id,
            agent_name: "",
            session_topic: &self.session_topic,
            title: &self.title,
            created: self.created,
            last_updated: self.last_updated,
            expires_at,
            expired,
            expired_at: expired.then_some(expires_at),
            ttl_minutes: self.ttl_minutes,
            state: self.state(now),
            current_status: self.current_status,
            status_since: self.status_since,
            reason: &self.reason,
            message: &self.message,
            context: &self.context,
        }
    }

    /// Its state at `now`.
    pub fn state(&self, now: Timestamp) -> SessionState {
        SessionState::of(self.current_status, &self.reason, self.is_expired(now))
    }
}

/// The state of a session in one word. Finished work does not turn `expired`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// Work goes on, or waits.
    Active,
    /// A turn is over, and the conversation may go on.
    Idle,
    /// The task is over.
    Ended,
    /// It expired before its task was over.
    Expired,
}

impl SessionState {
    /// The state of a session whose newest report has this status and reason.
    pub(crate) fn of(status: StatusKind, reason: &str, is_expired: bool) -> Self {
        let is_turn = status == StatusKind::Success && reason == TURN;
        match (status.is_final(), is_expired) {
            (true, false) if is_turn => Self::Idle,
            (true, _) => Self::Ended,
            (false, true) => Self::Expired,
            (false, false) => Self::Active,
        }
    }
}

impl JsonSchema for SessionState {
    fn schema_name() -> Cow<'static, str> {
        "SessionState".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": Self::ALL})
    }
}

impl SessionState {
    const ALL: [Self; 4] = [Self::Active, Self::Idle, Self::Ended, Self::Expired];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Ended => "ended",
            Self::Expired => "expired",
        }
    }

    /// The state of exactly this word; `None` for any other.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Checks whether only an unexpired session can be in it.
    pub(crate) const fn is_unexpired(self) -> bool {
        matches!(self, Self::Active | Self::Idle)
    }
}

/// A session in the form of the contract.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Session")]
pub(crate) struct SessionView<'a> {
    agent_id: &'a str,
    /// The agent's name, in lists of several agents' sessions.
    #[serde(skip_serializing_if = "str::is_empty")]
    agent_name: &'a str,
    session_topic: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    title: &'a str,
    #[serde(serialize_with = "crate::time::serialize")]
    created: Timestamp,
    #[serde(serialize_with = "crate::time::serialize")]
    last_updated: Timestamp,
    #[serde(serialize_with = "crate::time::serialize")]
    expires_at: Timestamp,
    expired: bool,
    #[serde(
        serialize_with = "crate::time::serialize_option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Timestamp")]
    expired_at: Option<Timestamp>,
    ttl_minutes: u32,
    state: SessionState,
    current_status: StatusKind,
    #[serde(serialize_with = "crate::time::serialize")]
    status_since: Timestamp,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "Context::is_empty")]
    context: &'a Context,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(status: StatusKind) -> Session {
        Session {
            agent_id: "a".into(),
            session_topic: "t".into(),
            created: Timestamp::UNIX_EPOCH,
            last_updated: Timestamp::UNIX_EPOCH,
            ttl_minutes: 1,
            current_status: status,
            title: String::new(),
            status_since: Timestamp::UNIX_EPOCH,
            reason: String::new(),
            message: String::new(),
            context: Context::new(),
        }
    }

    #[test]
    fn a_session_expires_exactly_at_its_instant() {
        let session = session(StatusKind::Running);
        let edge = session.expires_at();
        assert_eq!(edge, Timestamp::UNIX_EPOCH + TimeDelta::seconds(60));
        assert!(!session.is_expired(edge - TimeDelta::microseconds(1)));
        assert!(session.is_expired(edge));
    }

    #[test]
    fn state_is_ended_before_it_is_expired() {
        let now = Timestamp::UNIX_EPOCH;
        let later = now + TimeDelta::days(1);
        for (status, fresh, old) in [
            (
                StatusKind::Running,
                SessionState::Active,
                SessionState::Expired,
            ),
            (
                StatusKind::Pending,
                SessionState::Active,
                SessionState::Expired,
            ),
            (
                StatusKind::Success,
                SessionState::Ended,
                SessionState::Ended,
            ),
            (StatusKind::Failed, SessionState::Ended, SessionState::Ended),
        ] {
            let session = session(status);
            assert_eq!(session.view(now).state, fresh);
            assert_eq!(session.view(later).state, old);
            assert_eq!(session.view(now).expired_at, None);
            assert_eq!(session.view(later).expired_at, Some(session.expires_at()));
        }
    }

    #[test]
    fn a_session_whose_turn_is_over_is_idle_until_it_expires() {
        let now = Timestamp::UNIX_EPOCH;
        let later = now + TimeDelta::minutes(1);
        for (status, reason, fresh, old) in [
            (
                StatusKind::Success,
                "turn",
                SessionState::Idle,
                SessionState::Ended,
            ),
            (
                StatusKind::Success,
                "closed",
                SessionState::Ended,
                SessionState::Ended,
            ),
            (
                StatusKind::Failed,
                "turn",
                SessionState::Ended,
                SessionState::Ended,
            ),
            (
                StatusKind::Running,
                "turn",
                SessionState::Active,
                SessionState::Expired,
            ),
        ] {
            let session = Session {
                reason: reason.to_owned(),
                ..session(status)
            };
            assert_eq!((session.state(now), session.state(later)), (fresh, old));
        }
    }
}
