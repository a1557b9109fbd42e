//! What a caller sees and writes: a workspace holds agents, and nothing crosses its border.

use schemars::JsonSchema;
use serde::Serialize;

use crate::AccountId;

/// The set of agents that a caller works in. Agent ids are unique within a workspace only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Workspace {
    /// The one workspace of open mode and of the instance's static key.
    Shared,
    /// An account's own workspace, in required mode.
    Account(AccountId),
}

impl Workspace {
    /// The key under which stores keep the workspace: the account's id, or `shared`, which no
    /// account id can be (ids are UUIDs).
    pub fn key(&self) -> &str {
        match self {
            Self::Shared => "shared",
            Self::Account(id) => id.as_str(),
        }
    }

    /// The workspace that stores keep under this key.
    pub fn from_key(key: String) -> Self {
        match key == Self::Shared.key() {
            true => Self::Shared,
            false => Self::Account(AccountId::new(key)),
        }
    }

    /// The owner, shown as `user_id`; the shared workspace has none.
    pub fn account(&self) -> Option<&AccountId> {
        match self {
            Self::Shared => None,
            Self::Account(id) => Some(id),
        }
    }
}

/// One of the two workspaces that an account may work in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkspaceChoice {
    /// The account's own.
    Own,
    /// The shared one, if the account is a member.
    Shared,
}

impl WorkspaceChoice {
    /// The words for them.
    pub(crate) const WORDS: [&str; 2] = ["own", "shared"];

    /// The word used on the wire and in storage.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Shared => "shared",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Own, Self::Shared]
            .into_iter()
            .find(|choice| choice.as_str() == word)
    }
}
