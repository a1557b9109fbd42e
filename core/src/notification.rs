//! What people are told of sessions: by the account's plain webhook when a task stops running, and by
//! channels, each in its own form.

mod delivery;
mod dingtalk;
mod discord;
mod feishu;
mod format;
mod happening;
mod message;
mod ntfy;
mod pagerduty;
mod slack;
mod teams;
mod telegram;
mod text;
mod webhook;
mod wecom;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{SecondsFormat, TimeDelta};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

pub use delivery::{Delivery, DeliveryState};
pub use format::ChannelMail;
pub(crate) use format::{Rendered, Verdict, render};
pub use happening::Happening;

use crate::{Rule, StatusKind, Timestamp, Workspace, format_go_duration};

/// A session has gone from `running` to another status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The agent.
    pub agent_id: String,
    /// Its name after the report; empty when it has none.
    pub agent_name: String,
    /// The session.
    pub session_topic: String,
    /// The status that ended the run.
    pub to: StatusKind,
    /// When it did.
    pub timestamp: Timestamp,
    /// How long the run took, from its first `running`.
    pub duration: TimeDelta,
    /// The message of the report; may be empty.
    pub message: String,
    /// The content of the report; may be empty.
    pub content: String,
}

/// A place that notifications go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// The workspace of whoever set it, which need not be the one where something happened.
    pub workspace: Workspace,
    /// Its address.
    pub url: String,
}

/// One notification to one receiver: an entry of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Its id, a UUID in text form, the same for every attempt (`Webhook-Id`).
    pub id: String,
    /// The receiver's workspace, whose turn and room it takes.
    pub workspace: Workspace,
    /// Where it goes; empty where a channel says that.
    pub url: String,
    /// The receiving host, `host:port`. A workspace's hosts take turns.
    pub host: String,
    /// The body to post, JSON; for a channel a [`Happening`], which is written and signed when it is
    /// delivered.
    pub body: String,
    /// The channel that it is for; empty for the plain webhook of an account or the instance.
    pub channel: String,
    /// When it happened.
    pub created_at: Timestamp,
    /// How long after that it is due. Storage that gives it out need not know any more.
    pub delay: TimeDelta,
}

impl Transition {
    /// The body to post: the format of common chat webhooks, as existing receivers expect it.
    pub fn body(&self) -> String {
        use std::fmt::Write;
        let mut text = format!(
            "🔔 Session Status Change\n\nAgent ID: {}\nAgent Name: {}\nSession: {}\n\
             Status: running → {}\nTimestamp: {}\nDuration: {}",
            self.agent_id,
            self.agent_name,
            self.session_topic,
            self.to.as_str(),
            self.timestamp.to_rfc3339_opts(SecondsFormat::Secs, true),
            format_go_duration(self.duration),
        );
        for (label, value) in [("Message", &self.message), ("Content", &self.content)] {
            if !value.is_empty() {
                let _ = write!(text, "\n{label}: {value}");
            }
        }
        json!({"msg_type": "text", "content": {"text": text}}).to_string()
    }

    /// This transition as an outbox entry for a receiver; `None` when its URL names no host (it was
    /// checked when it was set, so only a changed database can hold such a one).
    pub(crate) fn notification(&self, id: String, receiver: &Receiver) -> Option<Notification> {
        let Receiver { workspace, url } = receiver;
        Some(Notification {
            id,
            workspace: workspace.clone(),
            url: url.clone(),
            host: receiver_host(url)?,
            body: self.body(),
            channel: String::new(),
            created_at: self.timestamp,
            delay: TimeDelta::zero(),
        })
    }
}

/// HMAC-SHA256, in base64.
fn hmac_base64(key: &[u8], text: &[u8]) -> String {
    // A key may have any length.
    let code = Hmac::<Sha256>::new_from_slice(key).map(|mut code| {
        code.update(text);
        code.finalize().into_bytes()
    });
    code.map(|code| STANDARD.encode(code)).unwrap_or_default()
}

/// `host:port` of an HTTP URL.
fn receiver_host(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    Some(format!(
        "{}:{}",
        url.host_str()?,
        url.port_or_known_default()?
    ))
}

/// The longest address of a webhook, in bytes, as given and as sent: every notification carries it,
/// and databases index it.
const MAX_URL_BYTES: usize = 2048;

/// Checks the address of a webhook: an absolute `http` or `https` URL of at most 2048 bytes.
pub(crate) fn check_webhook_url(text: &str) -> Result<(), Rule> {
    let url = url::Url::parse(text).map_err(|_| Rule::Url)?;
    if text.len().max(url.as_str().len()) > MAX_URL_BYTES {
        return Err(Rule::Url);
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Rule::HttpUrl);
    }
    receiver_host(text).map(drop).ok_or(Rule::Url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition(message: &str, content: &str) -> Transition {
        Transition {
            agent_id: "a1".into(),
            agent_name: "Alice \"A\"".into(),
            session_topic: "fix".into(),
            to: StatusKind::Success,
            timestamp: Timestamp::from_timestamp(1_767_225_600, 999_000).unwrap_or_default(),
            duration: TimeDelta::microseconds(1_203_051),
            message: message.into(),
            content: content.into(),
        }
    }

    fn text(transition: &Transition) -> String {
        let body: serde_json::Value = serde_json::from_str(&transition.body()).unwrap();
        assert_eq!(body["msg_type"], "text");
        body["content"]["text"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_text_has_lines_for_message_and_content_only_when_given() {
        let head = "🔔 Session Status Change\n\nAgent ID: a1\nAgent Name: Alice \"A\"\n\
                    Session: fix\nStatus: running → success\nTimestamp: 2026-01-01T00:00:00Z\n\
                    Duration: 1.203051s";
        assert_eq!(text(&transition("", "")), head);
        assert_eq!(text(&transition("m", "")), format!("{head}\nMessage: m"));
        assert_eq!(text(&transition("", "c")), format!("{head}\nContent: c"));
        assert_eq!(
            text(&transition("m", "c")),
            format!("{head}\nMessage: m\nContent: c")
        );
    }

    #[test]
    fn receivers_are_told_apart_by_host_and_port() {
        for (url, host) in [
            ("https://example.com/x?y", Some("example.com:443")),
            ("http://user:pw@Example.com:81", Some("example.com:81")),
            ("http://[::1]:9/x", Some("[::1]:9")),
            ("mailto:someone@example.com", None),
        ] {
            assert_eq!(receiver_host(url).as_deref(), host, "{url}");
        }
    }

    #[test]
    fn webhook_urls_are_absolute_http() {
        assert_eq!(check_webhook_url("https://example.com"), Ok(()));
        assert_eq!(check_webhook_url("ftp://example.com"), Err(Rule::HttpUrl));
        assert_eq!(check_webhook_url("example.com/x"), Err(Rule::Url));
        assert_eq!(check_webhook_url("http://"), Err(Rule::Url));
        let long = |bytes: usize| format!("http://a/{}", "x".repeat(bytes - 9));
        assert_eq!(check_webhook_url(&long(2048)), Ok(()));
        assert_eq!(check_webhook_url(&long(2049)), Err(Rule::Url));
        let grows_when_sent = format!("http://a/{}", "中".repeat(600));
        assert_eq!(check_webhook_url(&grows_when_sent), Err(Rule::Url));
        assert_eq!(check_webhook_url("/path"), Err(Rule::Url));
    }
}
