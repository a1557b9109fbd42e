//! The audit: who logged in, and who changed passwords, keys and channels, when and from where.

use std::net::IpAddr;

use chrono::TimeDelta;
use http::HeaderMap;
use http::header::USER_AGENT;
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::network;
use crate::store::{Audit, AuditBounds};
use crate::{Account, AccountId, Timestamp, Workspace, causes, email_key, hash};

/// The most characters of a user agent that are kept.
const MAX_USER_AGENT_CHARACTERS: usize = 200;

/// The most entries of one workspace that are [counted](AuditEvent::is_counted), and the most of the
/// others: whoever fails at a log-in drives out nothing but such failures.
pub const MAX_AUDIT_ENTRIES: usize = 500;

/// The workspaces in which failures at addresses without an account are written, so that they cost
/// what others do. Few, since anybody may think of any number of addresses.
const NOBODIES: usize = 16;

/// Makes an enumeration of words.
macro_rules! named {
    (
        $(#[$attribute:meta])* $name:ident;
        $($(#[$help:meta])* $variant:ident = $word:literal,)*
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
        pub enum $name {
            $($(#[$help])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word used on the wire and in storage.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// Reads the word.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|each| each.as_str() == word)
            }
        }
    };
}

named! {
    /// Something that is written into the audit.
    AuditEvent;

    /// Somebody registered the address.
    AccountRegistered = "account.registered",
    /// The address was verified.
    AccountVerified = "account.verified",
    /// The account was deleted, its entries with it: only the log tells this.
    AccountDeleted = "account.deleted",
    /// A log-in.
    LoginSucceeded = "login.succeeded",
    /// A log-in with a wrong password.
    LoginFailed = "login.failed",
    /// A log-out: every refresh token was revoked.
    LoginEnded = "login.ended",
    /// A spent refresh token was presented again: those of the same log-in were revoked.
    TokenReused = "token.reused",
    /// The password was changed: every refresh token was revoked.
    PasswordChanged = "password.changed",
    /// The present password was given wrongly, for a new one or to delete the account.
    PasswordRefused = "password.refused",
    /// A link to set a new password was asked for.
    PasswordForgotten = "password.forgotten",
    /// A new password was set with such a link: every refresh token was revoked.
    PasswordReset = "password.reset",
    /// An API key was made.
    KeyCreated = "key.created",
    /// An API key was used for the first time.
    KeyUsed = "key.first_used",
    /// An API key was revoked.
    KeyRevoked = "key.revoked",
    /// The account's webhook was set.
    WebhookChanged = "webhook.changed",
    /// The account's webhook was cleared.
    WebhookRemoved = "webhook.removed",
    /// A channel was made.
    ChannelCreated = "channel.created",
    /// A channel was changed.
    ChannelChanged = "channel.changed",
    /// A channel was deleted.
    ChannelRemoved = "channel.removed",
    /// A channel was disabled, since its receiver said that it is gone.
    ChannelDisabled = "channel.disabled",
}

impl AuditEvent {
    /// Checks whether those of one minute and one client are one entry with a count: what can be done
    /// again and again without being let in.
    pub const fn is_counted(self) -> bool {
        matches!(
            self,
            Self::AccountRegistered
                | Self::LoginFailed
                | Self::PasswordRefused
                | Self::PasswordForgotten
        )
    }

    /// Checks whether it happens once to what it is about, also where two notice it.
    const fn is_single(self) -> bool {
        matches!(
            self,
            Self::KeyCreated
                | Self::KeyUsed
                | Self::KeyRevoked
                | Self::ChannelCreated
                | Self::ChannelRemoved
        )
    }
}

named! {
    /// What somebody acted by.
    Actor;

    /// Nothing: nobody asked for credentials.
    Anyone = "anyone",
    /// A password.
    Password = "password",
    /// A link in a mail.
    MailedLink = "mailed_link",
    /// An access token.
    AccessToken = "access_token",
    /// A refresh token.
    RefreshToken = "refresh_token",
    /// An API key.
    ApiKey = "api_key",
    /// The instance's static key.
    StaticKey = "static_key",
    /// The answer of a channel's receiver.
    Receiver = "receiver",
    /// The command line of the server's operator.
    Operator = "operator",
}

/// Where a request came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's address, where it is known.
    pub client: Option<IpAddr>,
    /// What the client calls itself, cut to 200 characters.
    pub user_agent: String,
    /// What tells the request from others.
    pub request: String,
}

impl Origin {
    pub(crate) fn new(client: Option<IpAddr>, headers: &HeaderMap, request: String) -> Self {
        let user_agent = headers.get(USER_AGENT).map(|value| value.as_bytes());
        let user_agent = String::from_utf8_lossy(user_agent.unwrap_or_default());
        let shown = user_agent.trim().chars().filter(|c| !c.is_control());
        Self {
            client,
            user_agent: shown.take(MAX_USER_AGENT_CHARACTERS).collect(),
            request,
        }
    }
}

/// What somebody did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    workspace: Workspace,
    event: AuditEvent,
    actor: Actor,
    user: String,
    origin: Origin,
    target: String,
    target_id: String,
}

impl Act {
    /// An event in a workspace: an account's own, or the shared one.
    pub fn new(workspace: Workspace, event: AuditEvent, actor: Actor) -> Self {
        Self {
            workspace,
            event,
            actor,
            user: String::new(),
            origin: Origin::default(),
            target: String::new(),
            target_id: String::new(),
        }
    }

    /// The same with where it came from.
    pub fn from(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// The same with who did it, where several work.
    pub fn by(self, user: impl Into<String>) -> Self {
        let user = user.into();
        Self { user, ..self }
    }

    /// The same with what it is about: its name, which is no secret, and its id.
    pub fn on(self, target: impl Into<String>, target_id: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            target_id: target_id.into(),
            ..self
        }
    }

    /// The entry of what was done at this instant.
    pub fn entry(self, at: Timestamp) -> AuditEntry {
        let id = self.id(at);
        let client = self.origin.client.map(|address| address.to_string());
        AuditEntry {
            id,
            workspace: self.workspace,
            at,
            event: self.event,
            actor: self.actor,
            user: self.user,
            client_address: client.unwrap_or_default(),
            user_agent: self.origin.user_agent,
            target: self.target,
            target_id: self.target_id,
            count: u32::from(self.event.is_counted()),
        }
    }

    /// The id of its entry. What is one entry has one id.
    fn id(&self, at: Timestamp) -> String {
        let network = self
            .origin
            .client
            .map(|address| network(address).to_string());
        let (instant, distinct) = if self.event.is_counted() {
            let minute = at.timestamp().div_euclid(60);
            (minute.to_string(), network.unwrap_or_default())
        } else if self.event.is_single() {
            (String::new(), String::new())
        } else {
            (
                at.timestamp_micros().to_string(),
                self.origin.request.clone(),
            )
        };
        hash::uuid_of(&[
            self.workspace.key(),
            self.event.as_str(),
            &self.target_id,
            &instant,
            &distinct,
        ])
    }
}

/// An entry of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AuditEntry {
    /// Its id, a UUID in text form.
    pub id: String,
    /// Whose audit it stands in.
    #[serde(skip)]
    pub workspace: Workspace,
    /// When it happened; where several are counted, the first.
    #[serde(serialize_with = "crate::time::serialize")]
    pub at: Timestamp,
    /// What happened.
    pub event: AuditEvent,
    /// What somebody acted by.
    pub actor: Actor,
    /// Who it was, in the shared workspace.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(with = "Option<String>")]
    pub user: String,
    /// The client's address, where the platform gives it.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(with = "Option<String>")]
    pub client_address: String,
    /// What the client calls itself, cut to 200 characters.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(with = "Option<String>")]
    pub user_agent: String,
    /// What it is about: the name of a key or a channel, or where a webhook's receiver is.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(with = "Option<String>")]
    pub target: String,
    /// The id of that key or channel.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(with = "Option<String>")]
    pub target_id: String,
    /// How often it happened within one minute to one client, where such are counted.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(with = "Option<u32>")]
    pub count: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The workspace whose audit takes what is tried at an address: its account's, or where there is none,
/// nobody's.
pub(crate) fn owner(account: Option<&Account>, email: &str) -> Workspace {
    account.map_or_else(|| nobody(&email_key(email)), Account::workspace)
}

/// One of the workspaces for addresses without an account.
fn nobody(email_key: &str) -> Workspace {
    let number = hash::sha256_hex(email_key)
        .bytes()
        .map(usize::from)
        .sum::<usize>()
        % NOBODIES;
    Workspace::Account(AccountId::new(format!("nobody-{number}")))
}

/// Writes an act into the log and into the audit, where entries are kept for `retention`. The act has
/// been done, and stands whether or not its entry can be stored: a lost one is logged as an error.
pub async fn record<S: Audit>(store: &S, act: Act, retention: TimeDelta, now: Timestamp) {
    let is_kept = act.event != AuditEvent::AccountDeleted;
    let entry = act.entry(crate::time::truncate(now));
    let shown = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
    tracing::info!(
        target: "audit",
        workspace = entry.workspace.key(),
        actor = entry.actor.as_str(),
        user = shown(&entry.user),
        client = shown(&entry.client_address),
        user_agent = shown(&entry.user_agent),
        subject = shown(&entry.target),
        subject_id = shown(&entry.target_id),
        "{}",
        entry.event.as_str(),
    );
    if !is_kept {
        return;
    }
    let bounds = AuditBounds {
        since: entry.at - retention,
        most: MAX_AUDIT_ENTRIES,
    };
    if let Err(error) = store.append_audit(&entry, &bounds).await {
        let (event, id) = (entry.event.as_str(), &entry.id);
        tracing::error!(event, %id, causes = %causes(&error), "an entry of the audit is lost");
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use http::HeaderValue;

    use super::*;

    fn at(second: i64) -> Timestamp {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn from(client: &str, request: &str) -> Origin {
        Origin {
            client: client.parse().ok(),
            user_agent: String::new(),
            request: request.into(),
        }
    }

    fn id(event: AuditEvent, origin: Origin, second: i64) -> String {
        let act = Act::new(Workspace::Shared, event, Actor::Password);
        act.from(origin).entry(at(second)).id
    }

    #[test]
    fn failures_of_one_minute_and_client_are_one_entry() {
        let failed =
            |client, request, second| id(AuditEvent::LoginFailed, from(client, request), second);
        let first = failed("2001:db8::1", "a", 0);
        assert_eq!(failed("2001:db8::2", "b", 59), first);
        for other in [
            failed("2001:db8::1", "a", 60),
            failed("2001:db8:0:1::1", "a", 0),
            failed("", "a", 0),
        ] {
            assert_ne!(other, first);
        }
    }

    #[test]
    fn what_succeeds_has_an_entry_each_time_and_what_happens_once_has_one() {
        let succeeded = |request| id(AuditEvent::LoginSucceeded, from("", request), 0);
        assert_ne!(succeeded("a"), succeeded("b"));
        let used = |key: &str, second| {
            let act = Act::new(Workspace::Shared, AuditEvent::KeyUsed, Actor::ApiKey);
            act.on("laptop", key).entry(at(second)).id
        };
        assert_eq!(used("k", 0), used("k", 90));
        assert_ne!(used("k", 0), used("l", 0));
    }

    #[test]
    fn a_user_agent_is_cut_and_has_no_control_characters() {
        let mut headers = HeaderMap::new();
        let origin = |headers: &HeaderMap| Origin::new(None, headers, String::new()).user_agent;
        assert_eq!(origin(&headers), "");
        for (sent, kept) in [
            ("curl/8".to_owned(), "curl/8".to_owned()),
            ("a\tb é".to_owned(), "ab é".to_owned()),
            ("é".repeat(300), "é".repeat(200)),
        ] {
            headers.insert(
                USER_AGENT,
                HeaderValue::from_bytes(sent.as_bytes()).unwrap(),
            );
            assert_eq!(origin(&headers), kept);
        }
        headers.insert(USER_AGENT, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(origin(&headers), "\u{fffd}");
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for event in AuditEvent::ALL {
            assert_eq!(AuditEvent::parse(event.as_str()), Some(*event));
        }
        for actor in Actor::ALL {
            assert_eq!(Actor::parse(actor.as_str()), Some(*actor));
        }
        assert_eq!(AuditEvent::parse("login"), None);
    }
}
