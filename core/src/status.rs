//! What an agent reported, once.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

use crate::Timestamp;

/// The state of a task as its agent reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusKind {
    /// Work is going on.
    Running,
    /// The task is done.
    Success,
    /// The task has failed.
    Failed,
    /// The task waits for something outside.
    Pending,
}

impl JsonSchema for StatusKind {
    fn schema_name() -> Cow<'static, str> {
        "StatusKind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": Self::ALL})
    }
}

impl StatusKind {
    /// Every kind, in the order in which messages list them.
    pub const ALL: [Self; 4] = [Self::Running, Self::Success, Self::Failed, Self::Pending];

    /// The word used on the wire and in storage.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Pending => "pending",
        }
    }

    /// The kind of exactly this word; `None` for any other, also in another case.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Checks whether the task is over: a session whose latest status this is has ended.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failed)
    }
}

/// One entry of a session's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The agent that reported.
    pub agent_id: Arc<str>,
    /// The session it reported on.
    pub session_topic: Arc<str>,
    /// What it reported.
    pub entry: Arc<StatusEntry>,
    /// The place in the session's history, counted from 1, with gaps. Orders history; not shown.
    pub seq: u64,
}

/// What a report adds to a session's history, at the place
/// [`SessionHead::seq`](crate::SessionHead::seq).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusEntry {
    /// What it reported.
    pub status: StatusKind,
    /// The server's clock when the report was decided. It is never before that of the session's previous
    /// entry.
    pub timestamp: Timestamp,
    /// Why the status is what it is; empty when no reason was given.
    pub reason: String,
    /// A line for people; empty when none was given.
    pub message: String,
    /// Longer text; empty when none was given.
    pub content: String,
}

/// One entry of a session's history, as clients read it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Status")]
struct StatusView<'a> {
    /// The agent that reported.
    agent_id: &'a str,
    /// The session it reported on.
    session_topic: &'a str,
    /// What it reported.
    status: StatusKind,
    /// The server's clock when the report was decided.
    #[serde(serialize_with = "crate::time::serialize")]
    timestamp: Timestamp,
    /// Why the status is what it is; empty when no reason was given.
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    /// A line for people; empty when none was given.
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    /// Longer text; empty when none was given.
    #[serde(skip_serializing_if = "str::is_empty")]
    content: &'a str,
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = &*self.entry;
        let view = StatusView {
            agent_id: &self.agent_id,
            session_topic: &self.session_topic,
            status: entry.status,
            timestamp: entry.timestamp,
            reason: &entry.reason,
            message: &entry.message,
            content: &entry.content,
        };
        view.serialize(serializer)
    }
}

impl JsonSchema for Status {
    fn schema_name() -> Cow<'static, str> {
        StatusView::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        StatusView::json_schema(generator)
    }
}
