//! Places in lists. Clients get them as opaque text and hand them back unchanged.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::DateTime;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::audit::AuditEntry;
use crate::{Agent, ApiKey, NamedSession, Session, Status, Timestamp};

/// A place in a list of agents: after this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCursor {
    /// The agent's `last_seen` as the page showed it.
    pub last_seen: Timestamp,
    /// Its id.
    pub agent_id: String,
}

impl AgentCursor {
    /// The place after this agent.
    pub fn after(agent: &Agent) -> Self {
        Self {
            last_seen: agent.last_seen,
            agent_id: agent.agent_id.clone(),
        }
    }
}

/// A place in a list of sessions: after this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCursor {
    /// The session's `last_updated` as the page showed it.
    pub last_updated: Timestamp,
    /// Its topic.
    pub session_topic: String,
}

impl SessionCursor {
    /// The place after this session.
    pub fn after(session: &Session) -> Self {
        Self {
            last_updated: session.last_updated,
            session_topic: session.session_topic.clone(),
        }
    }
}

/// A place in a list of a workspace's sessions: after this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceCursor {
    /// The session's `last_updated` as the page showed it.
    pub last_updated: Timestamp,
    /// Its agent.
    pub agent_id: String,
    /// Its topic.
    pub session_topic: String,
}

impl WorkspaceCursor {
    /// The place after this session.
    pub fn after(named: &NamedSession) -> Self {
        let session = &named.session;
        Self {
            last_updated: session.last_updated,
            agent_id: session.agent_id.clone(),
            session_topic: session.session_topic.clone(),
        }
    }
}

/// A place in an agent's history: after this status, toward older ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryCursor {
    /// The status's time.
    pub timestamp: Timestamp,
    /// Its session.
    pub session_topic: String,
    /// Its place in the session's history.
    pub seq: u64,
}

impl HistoryCursor {
    /// The place after this status.
    pub fn after(status: &Status) -> Self {
        Self {
            timestamp: status.entry.timestamp,
            session_topic: status.session_topic.to_string(),
            seq: status.seq,
        }
    }
}

/// A place in a list of API keys: after this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyCursor {
    /// When the key was made.
    pub created_at: Timestamp,
    /// Its id.
    pub id: String,
}

impl ApiKeyCursor {
    /// The place after this key.
    pub fn after(key: &ApiKey) -> Self {
        Self {
            created_at: key.created_at,
            id: key.id.clone(),
        }
    }
}

/// A place in an audit: after this entry, toward older ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditCursor {
    /// When it happened.
    pub at: Timestamp,
    /// Its id.
    pub id: String,
}

impl AuditCursor {
    /// The place after this entry.
    pub fn after(entry: &AuditEntry) -> Self {
        Self {
            at: entry.at,
            id: entry.id.clone(),
        }
    }
}

/// A place that can be handed to a client. The tag keeps cursors of different lists apart.
pub(crate) trait Cursor: Sized {
    const TAG: char;
    type Wire: Serialize + DeserializeOwned;
    fn to_wire(&self) -> Self::Wire;
    fn from_wire(wire: Self::Wire) -> Option<Self>;

    fn encode(&self) -> String {
        let json = serde_json::to_string(&(Self::TAG, self.to_wire())).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(json)
    }

    fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (tag, wire): (char, Self::Wire) = serde_json::from_slice(&bytes).ok()?;
        (tag == Self::TAG).then(|| Self::from_wire(wire))?
    }
}

/// Microseconds since 1970, the resolution of what is stored.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Micros(i64);

impl Micros {
    fn new(instant: Timestamp) -> Self {
        Self(instant.timestamp_micros())
    }

    fn instant(&self) -> Option<Timestamp> {
        // Years beyond 9999 overflow databases and the contract's format.
        DateTime::from_timestamp_micros(self.0)
            .filter(|instant| (0..253_402_300_800).contains(&instant.timestamp()))
    }
}

impl Cursor for AgentCursor {
    const TAG: char = 'a';
    type Wire = (Micros, String);
    fn to_wire(&self) -> Self::Wire {
        (Micros::new(self.last_seen), self.agent_id.clone())
    }
    fn from_wire((last_seen, agent_id): Self::Wire) -> Option<Self> {
        let last_seen = last_seen.instant()?;
        storable(agent_id).map(|agent_id| Self {
            last_seen,
            agent_id,
        })
    }
}

impl Cursor for SessionCursor {
    const TAG: char = 's';
    type Wire = (Micros, String);
    fn to_wire(&self) -> Self::Wire {
        (Micros::new(self.last_updated), self.session_topic.clone())
    }
    fn from_wire((last_updated, topic): Self::Wire) -> Option<Self> {
        let last_updated = last_updated.instant()?;
        storable(topic).map(|session_topic| Self {
            last_updated,
            session_topic,
        })
    }
}

impl Cursor for WorkspaceCursor {
    const TAG: char = 'w';
    type Wire = (Micros, String, String);
    fn to_wire(&self) -> Self::Wire {
        let last_updated = Micros::new(self.last_updated);
        (
            last_updated,
            self.agent_id.clone(),
            self.session_topic.clone(),
        )
    }
    fn from_wire((last_updated, agent, topic): Self::Wire) -> Option<Self> {
        Some(Self {
            last_updated: last_updated.instant()?,
            agent_id: storable(agent)?,
            session_topic: storable(topic)?,
        })
    }
}

impl Cursor for HistoryCursor {
    const TAG: char = 'h';
    type Wire = (Micros, String, u32);
    fn to_wire(&self) -> Self::Wire {
        let seq = u32::try_from(self.seq).unwrap_or(u32::MAX);
        (Micros::new(self.timestamp), self.session_topic.clone(), seq)
    }
    fn from_wire((timestamp, topic, seq): Self::Wire) -> Option<Self> {
        let timestamp = timestamp.instant()?;
        storable(topic).map(|session_topic| Self {
            timestamp,
            session_topic,
            seq: seq.into(),
        })
    }
}

impl Cursor for ApiKeyCursor {
    const TAG: char = 'k';
    type Wire = (Micros, String);
    fn to_wire(&self) -> Self::Wire {
        (Micros::new(self.created_at), self.id.clone())
    }
    fn from_wire((created_at, id): Self::Wire) -> Option<Self> {
        let created_at = created_at.instant()?;
        storable(id).map(|id| Self { created_at, id })
    }
}

impl Cursor for AuditCursor {
    const TAG: char = 'l';
    type Wire = (Micros, String);
    fn to_wire(&self) -> Self::Wire {
        (Micros::new(self.at), self.id.clone())
    }
    fn from_wire((at, id): Self::Wire) -> Option<Self> {
        let at = at.instant()?;
        storable(id).map(|id| Self { at, id })
    }
}

impl Cursor for u64 {
    const TAG: char = 'q';
    type Wire = u32;
    fn to_wire(&self) -> Self::Wire {
        u32::try_from(*self).unwrap_or(u32::MAX)
    }
    fn from_wire(wire: Self::Wire) -> Option<Self> {
        Some(wire.into())
    }
}

/// A forged cursor may hold what no stored text can.
fn storable(text: String) -> Option<String> {
    (!text.contains('\0')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_given_out() {
        let cursor = HistoryCursor {
            timestamp: Timestamp::from_timestamp_micros(1_767_225_600_123_456).unwrap_or_default(),
            session_topic: "部署 a/b".into(),
            seq: 7,
        };
        assert_eq!(HistoryCursor::decode(&cursor.encode()), Some(cursor));
        assert_eq!(u64::decode(&9u64.encode()), Some(9));
    }

    #[test]
    fn cursors_of_other_lists_and_garbage_are_refused() {
        let agent = AgentCursor {
            last_seen: Timestamp::UNIX_EPOCH,
            agent_id: "a".into(),
        };
        assert_eq!(SessionCursor::decode(&agent.encode()), None);
        for text in ["", "x", "🦀", "WyJhIiw=", "bnVsbA"] {
            assert_eq!(AgentCursor::decode(text), None, "{text}");
        }
        let far = URL_SAFE_NO_PAD.encode(r#"["a",[9223372036854775807,"a"]]"#);
        assert_eq!(AgentCursor::decode(&far), None);
        let nul = URL_SAFE_NO_PAD.encode(r#"["a",[0,"\u0000"]]"#);
        assert_eq!(AgentCursor::decode(&nul), None);
    }
}
