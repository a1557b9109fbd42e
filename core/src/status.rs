//! What an agent reported, once.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

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

/// One entry of a session's history, as clients read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Status {
    /// The agent that reported.
    #[serde(serialize_with = "crate::json::shared")]
    pub agent_id: Arc<str>,
    /// The session it reported on.
    #[serde(serialize_with = "crate::json::shared")]
    pub session_topic: Arc<str>,
    /// What it reported.
    #[serde(flatten, serialize_with = "crate::json::shared")]
    pub entry: Arc<StatusEntry>,
    /// The place in the session's history, counted from 1, with gaps. Orders history; not shown.
    #[serde(skip)]
    pub seq: u64,
}

/// What a report adds to a session's history, at the place
/// [`SessionHead::seq`](crate::SessionHead::seq).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StatusEntry {
    /// What it reported.
    pub status: StatusKind,
    /// The server's clock when the report was decided.
    // It is never before that of the session's previous entry.
    #[serde(serialize_with = "crate::time::serialize")]
    pub timestamp: Timestamp,
    /// Why the status is what it is; empty when no reason was given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A line for people; empty when none was given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Longer text; empty when none was given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content: String,
}
