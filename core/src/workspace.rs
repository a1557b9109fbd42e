//! What a caller sees and writes: a workspace holds agents, and nothing crosses its border.

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
