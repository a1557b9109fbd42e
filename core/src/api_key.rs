//! API keys: long-lived credentials of an account, limited by scopes.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use chrono::TimeDelta;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use crate::ports::{Entropy, random, random_uuid};
use crate::store::ApiKeyCreation;
use crate::validation::storable;
use crate::{
    AccountId, InvalidField, Rule, Store, StoreError, Timestamp, WorkspaceChoice, sha256_hex,
};

/// The longest that a key may work, in days, unless it works for ever.
pub(crate) const MAX_EXPIRY_DAYS: i64 = 36_500;

/// The most valid keys of one account.
const MAX_VALID_KEYS: usize = 100;

pub(crate) const MAX_NAME_CHARACTERS: usize = 100;

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

/// An API key about to be made.
#[derive(Debug, Clone)]
pub(crate) struct NewApiKey {
    name: String,
    /// How long it works; `None`: for ever.
    expires_in: Option<TimeDelta>,
    scopes: Scopes,
    /// Where it works.
    pub(crate) workspace: WorkspaceChoice,
}

/// Why no API key was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unmade {
    #[error("there is no such account")]
    NoAccount,
    #[error("an account may have at most {MAX_VALID_KEYS} valid API keys: revoke one first")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NewApiKey {
    /// Checks the fields in the order of the contract's table. `expires_in`: in days.
    pub(crate) fn check(
        name: String,
        expires_in: Option<i64>,
        scopes: Option<&[String]>,
        workspace: Option<&str>,
    ) -> Result<Self, InvalidField> {
        if name.trim().is_empty() {
            return Err(Rule::Required.broken_by("name"));
        }
        if name.chars().count() > MAX_NAME_CHARACTERS {
            return Err(Rule::MaxCharacters(MAX_NAME_CHARACTERS).broken_by("name"));
        }
        storable("name", &name)?;
        let expires_in = match expires_in.unwrap_or(0) {
            0 => None,
            days @ 1..=MAX_EXPIRY_DAYS => Some(TimeDelta::days(days)),
            _ => return Err(Rule::MaxDays(MAX_EXPIRY_DAYS).broken_by("expires_in")),
        };
        let scopes = match scopes {
            None => Scopes::REPORT,
            Some(words) => Scopes::parse(words.iter().map(String::as_str))
                .ok_or(Rule::Scopes.broken_by("scopes"))?,
        };
        let workspace = match workspace {
            None => WorkspaceChoice::Own,
            Some(word) => WorkspaceChoice::parse(word)
                .ok_or(Rule::Words(&WorkspaceChoice::WORDS).broken_by("workspace"))?,
        };
        Ok(Self {
            name,
            expires_in,
            scopes,
            workspace,
        })
    }

    /// Stores the key, and returns it with its text, which nobody can read again.
    pub(crate) async fn make<S: Store>(
        self,
        store: &S,
        entropy: &impl Entropy,
        account_id: AccountId,
        now: Timestamp,
    ) -> Result<(ApiKey, String), Unmade> {
        let text = URL_SAFE.encode(random::<32>(entropy));
        let key = ApiKey {
            id: random_uuid(entropy),
            account_id,
            name: self.name,
            key_hash: sha256_hex(&text),
            key_prefix: text[..8].to_owned(),
            scopes: self.scopes,
            workspace: self.workspace,
            expires_at: self.expires_in.map(|expiry| now + expiry),
            last_used_at: None,
            created_at: now,
            revoked: false,
        };
        match store.create_api_key(&key, MAX_VALID_KEYS).await? {
            ApiKeyCreation::Created => {}
            ApiKeyCreation::NoAccount => return Err(Unmade::NoAccount),
            ApiKeyCreation::TooMany => return Err(Unmade::TooMany),
        }
        // The account may be deleted meanwhile. Either that removes this key, or it is seen here.
        if store.account(&key.account_id).await?.is_none() {
            store.revoke_api_key(&key.account_id, &key.id).await?;
            return Err(Unmade::NoAccount);
        }
        Ok((key, text))
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
