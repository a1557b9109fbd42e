//! Accounts: people who register, log in, own a workspace and receive notifications.

use schemars::JsonSchema;
use serde::Serialize;

use crate::ports::{Entropy, MailKind, random};
use crate::{Timestamp, Workspace, sha256_hex};

/// The id of an account: a UUID in text form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct AccountId(String);

impl AccountId {
    /// Wraps an id as storage or a signed token holds it.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An account as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// The address as it was registered.
    pub email: String,
    /// The bcrypt hash of its password.
    pub password_hash: String,
    /// What to call its owner; empty when none was given.
    pub name: String,
    /// Where its notifications go; empty when nowhere.
    pub notification_webhook_url: String,
    /// True if the owner has proved to read the address.
    pub email_verified: bool,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// An account about to be registered, not yet verified.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its id.
    pub id: AccountId,
    /// The address as given.
    pub email: String,
    /// The address as compared, see [`email_key`](crate::email_key).
    pub email_key: String,
    /// The bcrypt hash of its password.
    pub password_hash: String,
    /// What to call its owner; may be empty.
    pub name: String,
    /// What its verification link holds.
    pub verification: MailedToken,
    /// When its mail is due, on a host that takes such mails from storage; `None`: it is sent by
    /// other means.
    pub mail_due: Option<Timestamp>,
    /// Now.
    pub created_at: Timestamp,
}

/// A token that is mailed out, as it is stored: whoever presents it reads the address.
#[derive(Debug, Clone)]
pub struct MailedToken {
    /// SHA-256 of the token.
    pub token_hash: String,
    /// When the token stops working.
    pub expires_at: Timestamp,
}

impl MailedToken {
    /// A new token for a mail of this kind, and what is stored of it.
    pub fn new(kind: MailKind, now: Timestamp, entropy: &impl Entropy) -> (String, Self) {
        let token = sha256_hex(random::<32>(entropy));
        let stored = Self {
            token_hash: sha256_hex(&token),
            expires_at: now + kind.expiry(),
        };
        (token, stored)
    }
}

/// An account as its owner sees it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "User")]
pub(crate) struct UserView<'a> {
    id: &'a AccountId,
    email: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    notification_webhook_url: &'a str,
    email_verified: bool,
    /// Present and true if the account may work in the shared workspace, too: with
    /// `X-Workspace: shared`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(default)]
    shared_workspace: bool,
    #[serde(serialize_with = "crate::time::serialize")]
    created_at: Timestamp,
    #[serde(serialize_with = "crate::time::serialize")]
    updated_at: Timestamp,
}

impl Account {
    /// Its own workspace.
    pub fn workspace(&self) -> Workspace {
        Workspace::Account(self.id.clone())
    }

    /// What others know its owner by: the name, else the address.
    pub(crate) fn called(&self) -> &str {
        match self.name.trim() {
            "" => &self.email,
            name => name,
        }
    }

    /// What its owner is shown; `is_member` of the shared workspace or not.
    pub(crate) fn view(&self, is_member: bool) -> UserView<'_> {
        UserView {
            id: &self.id,
            email: &self.email,
            name: &self.name,
            notification_webhook_url: &self.notification_webhook_url,
            email_verified: self.email_verified,
            shared_workspace: is_member,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}
