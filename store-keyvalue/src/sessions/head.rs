//! An agent's head, and the documents that its older parts move to.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::TimeDelta;
use kubeagents_core::{
    Commit, Context, REMOVED_AT_ONCE, Session, SessionHead, Silence, Status, StatusEntry,
    StatusKind, Timestamp, Workspace, sha256_hex,
};
use serde::{Deserialize, Serialize};

use crate::documents::{is_zero, json_size, key};
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
    /// The minute that the agent is noted for, at which the first of its sessions may fall silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) watched: Option<i64>,
    /// Whether entries of some session's history are gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) limited: bool,
    /// Set once the head of a deleted account's agent has been emptied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remains: Option<Remains>,
}

/// What an emptied head stood for. Its documents are removed twice, the second time when nobody can
/// write them any more: a writer whose swap came too late has written some before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remains {
    /// Number of pages of its history that are still to be removed.
    pub(crate) history: u64,
    /// Number of pages of its list of sessions that are still to be removed.
    pub(crate) cold: u64,
    /// The sessions that it named itself.
    pub(crate) topics: BTreeSet<String>,
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
    pub(crate) title: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    /// When the present pair of status and reason began. Rows from before there were reasons lack
    /// it.
    #[serde(
        with = "micros::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) since: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Context::is_empty")]
    pub(crate) context: Context,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sequence: Option<u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) hook: String,
    /// The code of its silence.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) silence: u8,
    /// Notifications that its last silence put in the outbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) told: Vec<Outgoing>,
    /// The page of the history with its newest entry.
    pub(crate) page: u64,
    /// That entry, where the newest commit has left none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) noted: Option<Noted>,
    /// The number of its history entries so far. Rows from before they were counted lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) entries: Option<u64>,
    /// The number of the newest entry that is gone, since a history is limited; 0: none is.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) gone: u64,
    /// The version of its own document, once it has one. Never in that document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stored: Option<String>,
}

/// How long what was told of a session may be tried again.
const TRIED: TimeDelta = TimeDelta::days(4);

/// A session's newest history entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Noted {
    pub(crate) seq: u64,
    #[serde(with = "micros")]
    pub(crate) at: Timestamp,
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
    /// Whether that is watched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) watched: bool,
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
    pub(crate) reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) content: String,
    /// Its number among its session's entries, which has no gaps. Entries from before they were counted
    /// lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) number: Option<u64>,
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
    /// Checks whether a session of this row still has it.
    pub(crate) fn is_kept(&self, gone: u64) -> bool {
        self.number.unwrap_or(self.seq) > gone
    }

    /// Checks whether it must stay where it is stored, also when its session no longer has it: while
    /// notifications that it holds may be tried.
    pub(crate) fn is_needed(&self, gone: u64, now: Timestamp) -> bool {
        let is_tried = |told: &Outgoing| now - told.created < TRIED;
        self.is_kept(gone) || self.outgoing.iter().any(is_tried)
    }

    pub(crate) fn order(&self) -> (Timestamp, Reverse<&str>, u64) {
        (self.at, Reverse(&self.topic), self.seq)
    }

    pub(crate) fn status(self, agent_id: &Arc<str>) -> Status {
        Status {
            agent_id: Arc::clone(agent_id),
            session_topic: self.topic.into(),
            entry: Arc::new(StatusEntry {
                status: self.status,
                timestamp: self.at,
                reason: self.reason,
                message: self.message,
                content: self.content,
            }),
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
            title: self.title.clone(),
            status: self.status,
            reason: self.reason.clone(),
            message: self.message.clone(),
            status_since: self.since.or(self.run).unwrap_or(self.updated),
            run_started: self.run,
            context: self.context.clone(),
            sequence: self.sequence,
            noted_at: self.newest_entry().at,
            hook: self.hook.clone(),
            silence: Silence::from_code(self.silence).unwrap_or_default(),
            entries: self.entries.unwrap_or(self.seq),
        }
    }

    /// The session's newest history entry.
    pub(crate) fn newest_entry(&self) -> Noted {
        self.noted.unwrap_or(Noted {
            seq: self.seq,
            at: self.updated,
        })
    }

    pub(crate) fn session(self, agent_id: &str) -> Session {
        let head = self.head();
        Session::new(agent_id.to_owned(), self.topic, head)
    }

    pub(crate) fn moved(&self) -> Moved {
        Moved {
            updated: self.updated,
            topic: self.topic.clone(),
            seq: self.seq,
            expires: self.updated + TimeDelta::minutes(self.ttl.into()),
            watched: self.silence == Silence::Watched.code(),
        }
    }

    pub(crate) fn size(&self) -> usize {
        let told: usize = self.told.iter().map(Outgoing::size).sum();
        let head = head_size(&self.title, &self.message, &self.context, &self.hook);
        json_size(&self.topic) + head + told
    }
}

/// Estimates what a session takes up in a document besides its topic, in bytes.
pub(crate) fn head_size(title: &str, message: &str, context: &Context, hook: &str) -> usize {
    let pairs = context.iter();
    let pairs = pairs.map(|(key, text)| json_size(key) + json_size(text) + 6);
    json_size(title) + json_size(message) + json_size(hook) + pairs.sum::<usize>() + 300
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
            watched: None,
            limited: false,
            remains: None,
        }
    }

    /// Checks whether the head has been emptied and nothing has been reported since. It stands for no
    /// agent then.
    pub(crate) fn is_emptied(&self) -> bool {
        self.remains.is_some() && self.hot.is_empty()
    }

    /// The emptied head. It goes on counting pages, so that no number is given twice.
    pub(crate) fn emptied(self) -> Self {
        let mut remains = self.remains.unwrap_or_default();
        // The page after the last may be there, too: of a writer that did not come to count it.
        remains.history = self.history.pages + 1;
        remains.cold = self.cold.pages + 1;
        let hot = self.hot.into_iter().map(|row| row.topic);
        let moved = self.cold.tail.into_iter().map(|moved| moved.topic);
        remains.topics.extend(hot.chain(moved));
        Self {
            name: String::new(),
            source: String::new(),
            session_count: 0,
            hot: Vec::new(),
            cold: Log::counting(self.cold.pages),
            history: Log::counting(self.history.pages),
            remains: Some(remains),
            watched: None,
            ..self
        }
    }

    /// Applies a commit; `cold` is its session's row where it was outside the head.
    pub(crate) fn apply(&mut self, commit: &Commit, cold: Option<Row>, outgoing: Vec<Outgoing>) {
        let topic = &commit.key.session_topic;
        let place = self.hot.iter().position(|row| row.topic == *topic);
        let mut row = place.map(|place| self.hot.swap_remove(place)).or(cold);
        let patch = &commit.agent;
        self.last_seen = patch.seen(self.last_seen);
        if let Some(name) = &patch.name {
            self.name.clone_from(name);
        }
        if let Some(source) = &patch.source {
            self.source.clone_from(source);
        }
        self.commits += 1;
        self.session_count += u64::from(row.is_none());
        let session = &commit.session;
        let noted = match &commit.status {
            Some(_) => None,
            None => row.as_ref().map(Row::newest_entry),
        };
        if let Some(status) = &commit.status {
            self.history.push(HistoryEntry {
                at: status.timestamp,
                topic: topic.clone(),
                seq: session.seq,
                status: status.status,
                reason: status.reason.clone(),
                message: status.message.clone(),
                content: status.content.clone(),
                number: Some(session.entries),
                previous: row.as_ref().map(|row| row.page),
                outgoing,
            });
        }
        let page = match (&noted, &row) {
            (Some(_), Some(row)) => row.page,
            _ => self.history.pages,
        };
        let gone_before = row.as_ref().map_or(0, |row| row.gone);
        let gone = match commit.kept_entries {
            Some(_) => (gone_before + REMOVED_AT_ONCE).min(commit.outdated()),
            None => 0,
        };
        let gone = gone.max(gone_before);
        self.limited |= gone > 0;
        let is_tried = |told: &Outgoing| session.last_updated - told.created < TRIED;
        let told = row.as_mut().map(|row| std::mem::take(&mut row.told));
        let told = told.into_iter().flatten().filter(is_tried).collect();
        self.hot.push(Row {
            topic: topic.clone(),
            seq: session.seq,
            created: session.created,
            updated: session.last_updated,
            ttl: session.ttl_minutes,
            title: session.title.clone(),
            status: session.status,
            reason: session.reason.clone(),
            message: session.message.clone(),
            since: Some(session.status_since),
            run: session.run_started,
            context: session.context.clone(),
            sequence: session.sequence,
            hook: session.hook.clone(),
            silence: session.silence.code(),
            told,
            page,
            noted,
            entries: Some(session.entries),
            gone,
            stored: row.and_then(|row| row.stored),
        });
    }

    /// Notes that a session of this row has fallen silent.
    pub(crate) fn fall_silent(&mut self, row: Row, told: Vec<Outgoing>) {
        self.hot.retain(|hot| hot.topic != row.topic);
        self.commits += 1;
        self.hot.push(Row {
            seq: row.seq + 1,
            noted: Some(row.newest_entry()),
            silence: Silence::Told.code(),
            told,
            ..row
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
