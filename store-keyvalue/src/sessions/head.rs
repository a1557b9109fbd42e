//! An agent's head, and the documents that its older parts move to.

use std::cmp::Reverse;

use kubeagents_core::{
    Commit, Session, SessionHead, Status, StatusKind, Timestamp, Workspace, sha256_hex,
};
use serde::{Deserialize, Serialize};

use crate::documents::{json_size, key};
use crate::log::{Item, Log};
use crate::micros;
use crate::outbox::Outgoing;

/// An agent's head: all that a report changes, in one document, so that one swap is one commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) agent_id: String,
    pub(crate) name: String,
    pub(crate) source: String,
    #[serde(with = "micros")]
    pub(crate) registered: Timestamp,
    #[serde(with = "micros")]
    pub(crate) last_seen: Timestamp,
    /// Number of commits so far: the place of the next entry in the history.
    pub(crate) commits: u64,
    pub(crate) session_count: u64,
    /// The sessions updated last.
    pub(crate) hot: Vec<Row>,
    /// The sessions that have moved to documents of their own, in the order of moving. One that
    /// has come back since, or has moved again, is here with an old `seq`.
    pub(crate) cold: Log<Moved>,
    pub(crate) history: Log<HistoryEntry>,
}

/// A session as its agent's head, or later a document of its own, holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) topic: String,
    pub(crate) seq: u64,
    #[serde(with = "micros")]
    pub(crate) created: Timestamp,
    #[serde(with = "micros")]
    pub(crate) updated: Timestamp,
    pub(crate) ttl: u32,
    pub(crate) status: StatusKind,
    #[serde(
        with = "micros::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) run: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    /// The page of the history with its newest entry.
    pub(crate) page: u64,
    /// The version of its own document, once it has one. Never in that document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stored: Option<String>,
}

/// A session's place in the list of sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    #[serde(with = "micros")]
    pub(crate) updated: Timestamp,
    pub(crate) topic: String,
    pub(crate) seq: u64,
    #[serde(with = "micros")]
    pub(crate) expires: Timestamp,
}

/// An entry of an agent's history over all its sessions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HistoryEntry {
    #[serde(with = "micros")]
    pub(crate) at: Timestamp,
    pub(crate) topic: String,
    pub(crate) seq: u64,
    pub(crate) status: StatusKind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) content: String,
    /// The page with the session's entry before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<u64>,
    /// Notifications that its report put in the outbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) outgoing: Vec<Outgoing>,
}

impl Moved {
    pub(crate) fn order(&self) -> (Timestamp, Reverse<&str>, u64) {
        (self.updated, Reverse(&self.topic), self.seq)
    }
}

impl Ord for Moved {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Moved {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Item for Moved {
    fn instant(&self) -> Timestamp {
        self.updated
    }

    fn size(&self) -> usize {
        json_size(&self.topic) + 80
    }
}

impl HistoryEntry {
    pub(crate) fn order(&self) -> (Timestamp, Reverse<&str>, u64) {
        (self.at, Reverse(&self.topic), self.seq)
    }

    pub(crate) fn status(self, agent_id: &str) -> Status {
        Status {
            agent_id: agent_id.to_owned(),
            session_topic: self.topic,
            status: self.status,
            timestamp: self.at,
            message: self.message,
            content: self.content,
            seq: self.seq,
        }
    }
}

impl Ord for HistoryEntry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for HistoryEntry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for HistoryEntry {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for HistoryEntry {}

impl Item for HistoryEntry {
    fn instant(&self) -> Timestamp {
        self.at
    }

    fn size(&self) -> usize {
        let texts = [&self.topic, &self.message, &self.content];
        let texts: usize = texts.into_iter().map(|text| json_size(text)).sum();
        texts + self.outgoing.iter().map(Outgoing::size).sum::<usize>() + 120
    }
}

impl Row {
    pub(crate) fn head(&self) -> SessionHead {
        SessionHead {
            seq: self.seq,
            created: self.created,
            last_updated: self.updated,
            ttl_minutes: self.ttl,
            status: self.status,
            run_started: self.run,
        }
    }

    pub(crate) fn session(self, agent_id: &str) -> Session {
        Session {
            agent_id: agent_id.to_owned(),
            session_topic: self.topic,
            created: self.created,
            last_updated: self.updated,
            ttl_minutes: self.ttl,
            current_status: self.status,
        }
    }

    pub(crate) fn moved(&self) -> Moved {
        Moved {
            updated: self.updated,
            topic: self.topic.clone(),
            seq: self.seq,
            expires: self.head().expires_at(),
        }
    }

    pub(crate) fn size(&self) -> usize {
        json_size(&self.topic) + json_size(&self.message) + 200
    }
}

impl Head {
    pub(crate) fn new(commit: &Commit) -> Self {
        Self {
            agent_id: commit.key.agent_id.clone(),
            name: String::new(),
            source: String::new(),
            registered: commit.agent.last_seen,
            last_seen: commit.agent.last_seen,
            commits: 0,
            session_count: 0,
            hot: Vec::new(),
            cold: Log::default(),
            history: Log::default(),
        }
    }

    /// Applies a commit; `cold` is its session's row where it was outside the head.
    pub(crate) fn apply(&mut self, commit: &Commit, cold: Option<Row>, outgoing: Vec<Outgoing>) {
        let topic = &commit.key.session_topic;
        let place = self.hot.iter().position(|row| row.topic == *topic);
        let row = place.map(|place| self.hot.swap_remove(place)).or(cold);
        let patch = &commit.agent;
        self.last_seen = self.last_seen.max(patch.last_seen);
        if let Some(name) = &patch.name {
            self.name.clone_from(name);
        }
        if let Some(source) = &patch.source {
            self.source.clone_from(source);
        }
        self.commits += 1;
        self.session_count += u64::from(row.is_none());
        let (session, status) = (&commit.session, &commit.status);
        self.history.push(HistoryEntry {
            at: status.timestamp,
            topic: topic.clone(),
            seq: session.seq,
            status: status.status,
            message: status.message.clone(),
            content: status.content.clone(),
            previous: row.as_ref().map(|row| row.page),
            outgoing,
        });
        self.hot.push(Row {
            topic: topic.clone(),
            seq: session.seq,
            created: session.created,
            updated: session.last_updated,
            ttl: session.ttl_minutes,
            status: session.status,
            run: session.run_started,
            message: status.message.clone(),
            page: self.history.pages,
            stored: row.and_then(|row| row.stored),
        });
    }

    pub(crate) fn hot(&self, topic: &str) -> Option<&Row> {
        self.hot.iter().find(|row| row.topic == topic)
    }

    /// Returns true if there are sessions outside the head.
    pub(crate) fn has_cold(&self) -> bool {
        self.session_count > self.hot.len() as u64
    }

    pub(crate) fn hot_size(&self) -> usize {
        self.hot.iter().map(Row::size).sum()
    }

    pub(crate) fn size(&self) -> usize {
        self.hot_size() + self.cold.size() + self.history.size()
    }
}

pub(crate) fn head_key(agent: &str) -> String {
    format!("agent/{agent}")
}

pub(crate) fn history_list(agent: &str) -> String {
    format!("history/{agent}")
}

pub(crate) fn cold_list(agent: &str) -> String {
    format!("sessions/{agent}")
}

pub(crate) fn row_key(workspace: &Workspace, agent_id: &str, topic: &str) -> String {
    key("session", &[workspace.key(), agent_id, topic])
}

pub(crate) fn agents_list(workspace: &Workspace) -> String {
    key("agents", &[workspace.key()])
}

/// Hash that stands for an agent in keys.
pub(crate) fn agent_hash(workspace: &Workspace, agent_id: &str) -> String {
    sha256_hex([workspace.key(), agent_id].join("\0"))
}
