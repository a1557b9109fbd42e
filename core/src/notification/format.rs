//! From a channel and what has happened to what is sent, and from the answer to what it means.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::Value;
use url::Url;

use super::message::Message;
use super::{
    Happening, dingtalk, discord, feishu, ntfy, pagerduty, slack, teams, telegram, webhook, wecom,
};
use crate::channel::mail_address;
use crate::delivery::post_to;
use crate::{Channel, Format, Timestamp};

/// What is sent to a channel.
#[derive(Debug)]
pub(crate) enum Rendered {
    /// A request.
    Request(Request<Bytes>),
    /// A mail.
    Mail(ChannelMail),
}

/// A mail to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelMail {
    /// The id of what it tells of.
    pub id: String,
    /// Whom it is for.
    pub to: String,
    /// Its subject, one line.
    pub subject: String,
    /// Its text.
    pub text: String,
}

/// What the answer of a receiver means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What its status says.
    Status,
    /// A failure, whatever its status says.
    Refused,
    /// The receiver takes no more for this long.
    Busy(Duration),
}

/// Writes and signs what tells a channel of this; `None` when there is nothing to tell, or the
/// channel's URL, which was checked, is none any more. `id`: the same for every attempt.
pub(crate) fn render(
    channel: &Channel,
    happenings: &[Happening],
    id: &str,
    now: Timestamp,
    base_url: Option<&str>,
) -> Option<Rendered> {
    let message = Message::of(happenings, channel.detail, base_url)?;
    let first = happenings.first()?;
    let mut url = Url::parse(&channel.url).ok()?;
    let body = match channel.format {
        Format::Webhook => webhook::body(first, &message, channel.detail),
        Format::Slack => slack::body(&message),
        Format::Discord => discord::body(&message),
        Format::Teams => teams::body(&message),
        Format::Feishu => feishu::body(&message, &channel.secret, now),
        Format::Dingtalk => {
            if !channel.secret.is_empty() {
                dingtalk::sign(&mut url, &channel.secret, now);
            }
            dingtalk::body(&message)
        }
        Format::Wecom => wecom::body(&message),
        Format::Telegram => {
            let body = telegram::body(&message, &url);
            telegram::method(&mut url);
            body
        }
        Format::Ntfy => {
            let body = ntfy::body(&message, &url);
            ntfy::root(&mut url);
            body
        }
        Format::Pagerduty => pagerduty::body(&message, first, channel),
        Format::Email => {
            return Some(Rendered::Mail(ChannelMail {
                id: id.to_owned(),
                to: mail_address(&url)?.to_owned(),
                subject: message.headline.replace(['\r', '\n'], " "),
                text: message.text(),
            }));
        }
    };
    let mut request = post_to(url, id, body.to_string().into()).ok()?;
    if channel.format == Format::Webhook {
        webhook::sign(&mut request, id, &channel.secret, now);
    }
    Some(Rendered::Request(request))
}

impl Format {
    /// Checks whether one message may stand for several things that have happened: not where programs
    /// read it.
    pub(crate) fn merges(self) -> bool {
        !matches!(self, Self::Webhook | Self::Pagerduty)
    }

    /// How far apart messages to one channel must be to stay within what the provider allows.
    pub(crate) fn interval(self) -> Duration {
        Duration::from_millis(match self {
            Self::Webhook | Self::Pagerduty => 0,
            Self::Teams => 250,
            Self::Feishu => 600,
            Self::Slack | Self::Email => 1000,
            Self::Discord => 2000,
            Self::Dingtalk | Self::Wecom | Self::Telegram => 3000,
            // It takes 60 at once, and then one in 5 seconds.
            Self::Ntfy => 1000,
        })
    }

    /// What an answer means beyond its status, by what providers say in the body.
    pub(crate) fn verdict(self, status: StatusCode, body: &[u8]) -> Verdict {
        let json = || serde_json::from_slice::<Value>(body).unwrap_or_default();
        let code = |field: &str, busy: &[i64], wait| match json()[field].as_i64() {
            Some(code) if busy.contains(&code) => Verdict::Busy(Duration::from_secs(wait)),
            Some(code) if code != 0 => Verdict::Refused,
            _ => Verdict::Status,
        };
        let seconds = |value: &Value| match value.as_f64() {
            Some(seconds @ 0.0..=86_400.0) => Verdict::Busy(Duration::from_secs_f64(seconds)),
            _ => Verdict::Status,
        };
        let limited = status == StatusCode::TOO_MANY_REQUESTS;
        match self {
            Self::Feishu if status.is_success() => code("code", &[11_232], 60),
            // Who sends too much is not heard for ten minutes.
            Self::Dingtalk if status.is_success() => code("errcode", &[130_101, 410_100], 600),
            Self::Wecom if status.is_success() => code("errcode", &[45_009], 60),
            Self::Telegram if limited => seconds(&json()["parameters"]["retry_after"]),
            Self::Telegram if status.is_success() && json()["ok"] == Value::Bool(false) => {
                Verdict::Refused
            }
            Self::Discord if limited => seconds(&json()["retry_after"]),
            // What connectors said in a 200.
            Self::Teams if status.is_success() && is_connector_failure(body) => Verdict::Refused,
            _ => Verdict::Status,
        }
    }
}

fn is_connector_failure(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains("Webhook message delivery failed")
}
