//! An agent as queries show it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{AccountId, StatusKind, Timestamp};

/// An agent with what its sessions amount to at the time of the query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Agent {
    /// The id under which the agent reports, unique in its workspace.
    pub agent_id: String,
    /// The account whose workspace this is; absent in the shared one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AccountId")]
    pub user_id: Option<AccountId>,
    /// The name last reported; empty when none was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The tool that reports, as last reported; empty when none was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// When its first report was stored.
    #[serde(serialize_with = "crate::time::serialize")]
    pub registered: Timestamp,
    /// When its newest report was stored.
    #[serde(serialize_with = "crate::time::serialize")]
    pub last_seen: Timestamp,
    /// How many sessions it has, expired ones included.
    pub session_count: u64,
    /// How many of them are unexpired, ended or not.
    pub active_session_count: u64,
    /// The status of the unexpired session updated last (ties: smallest topic).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "StatusKind")]
    pub latest_status: Option<StatusKind>,
    /// The message of that status; empty when it had none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub latest_message: String,
}

/// The form of a text that searches compare: lowercased code point by code point, so that a
/// substring of the text stays a substring of its key.
///
/// Databases disagree about case, so the key is made here and stored beside the original.
pub fn search_key(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::search_key;

    #[test]
    fn search_keys_fold_case_beyond_ascii_and_keep_substrings() {
        assert_eq!(search_key("MiXeD"), "mixed");
        assert_eq!(search_key("É"), "é");
        assert_eq!(search_key("МОСКВА"), "москва");
        assert_eq!(search_key("ß🦀"), "ß🦀");
        assert!(search_key("ΟΔΟΣ").contains(&search_key("Σ")));
    }
}
