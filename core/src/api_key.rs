//! API keys: long-lived credentials of an account, limited by scopes.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use crate::{AccountId, Timestamp, WorkspaceChoice};

/// One thing that a credential may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Report statuses: `POST /webhook/status` and the reporting tools of `/mcp`.
    Report,
    /// Read agents, sessions and histories: `GET /api/agents…` and the reading tools of `/mcp`.
    Read,
}

impl Scope {
    /// The word used on the wire and in storage.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Read => "read",
        }
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes {
    /// True if [`Scope::Report`] is in it.
    pub report: bool,
    /// True if [`Scope::Read`] is in it.
    pub read: bool,
}

impl Scopes {
    /// Every scope: what access tokens and the static key have.
    pub const ALL: Self = Self {
        report: true,
        read: true,
    };
    /// What a key gets when its creator names no scopes, and what adopted keys have.
    pub const REPORT: Self = Self {
        report: true,
        read: false,
    };

    /// Checks whether the set holds `scope`.
    pub const fn contains(self, scope: Scope) -> bool {
        match scope {
            Scope::Report => self.report,
            Scope::Read => self.read,
        }
    }

    /// The scopes in it, `report` first.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        [Scope::Report, Scope::Read]
            .into_iter()
            .filter(move |scope| self.contains(*scope))
    }

    /// The set of these words; `None` if one is no scope or there are none.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut scopes = Self {
            report: false,
            read: false,
        };
        for word in words {
            match word {
                "report" => scopes.report = true,
                "read" => scopes.read = true,
                _ => return None,
            }
        }
        (scopes.report || scopes.read).then_some(scopes)
    }

    /// The form in which stores keep the set: its words with commas between (`report,read`).
    pub fn to_text(self) -> String {
        self.iter().map(Scope::as_str).collect::<Vec<_>>().join(",")
    }

    /// Reads what [`Scopes::to_text`] wrote.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::parse(text.split(','))
    }
}

impl JsonSchema for Scopes {
    fn schema_name() -> Cow<'static, str> {
        "Scopes".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<Scope>::json_schema(generator)
    }
}

impl Serialize for Scopes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// An API key as it is stored and, but for its hash and owner, listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ApiKey {
    /// Its id, a UUID in text form.
    pub id: String,
    /// Whose key it is.
    #[serde(skip)]
    pub account_id: AccountId,
    /// What its owner calls it.
    pub name: String,
    /// SHA-256 of the key.
    #[serde(skip)]
    pub key_hash: String,
    /// The first eight characters of the key, to tell keys apart.
    pub key_prefix: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Where it works.
    pub workspace: WorkspaceChoice,
    /// When it stops working; `None`: never.
    #[serde(serialize_with = "crate::time::serialize_option")]
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to within a minute.
    #[serde(serialize_with = "crate::time::serialize_option")]
    pub last_used_at: Option<Timestamp>,
    /// When it was made.
    #[serde(serialize_with = "crate::time::serialize")]
    pub created_at: Timestamp,
    /// True if its owner has revoked it.
    pub revoked: bool,
}

impl ApiKey {
    /// Checks whether it is a credential at `now`: neither revoked nor expired.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        !self.revoked && self.expires_at.is_none_or(|end| now < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_in_any_order_and_written_in_one() {
        assert_eq!(Scopes::parse(["read", "report", "read"]), Some(Scopes::ALL));
        assert_eq!(Scopes::parse(["report"]), Some(Scopes::REPORT));
        assert_eq!(Scopes::parse(["Report"]), None);
        assert_eq!(Scopes::parse([]), None);
        assert_eq!(Scopes::from_text(&Scopes::ALL.to_text()), Some(Scopes::ALL));
        assert_eq!(Scopes::ALL.to_text(), "report,read");
    }
}
