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
    /// A failure, since what would say it has not arrived.
    Unknown,
    /// The receiver takes no more for this long.
    Busy(Duration),
}

/// Writes and signs what tells a channel of this; `None` when there is nothing to tell, or the
/// channel's URL, which was checked, is none any more. `dropped`: how much more found no room. `id`: the
/// same for every attempt.
pub(crate) fn render(
    channel: &Channel,
    happenings: &[Happening],
    dropped: u64,
    id: &str,
    now: Timestamp,
    base_url: Option<&str>,
) -> Option<Rendered> {
    let message = Message::of(happenings, channel.detail, base_url)?.counting(dropped);
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

    /// What an answer means beyond its status, by what providers say in the body; `None` where that was
    /// cut off.
    pub(crate) fn verdict(self, status: StatusCode, body: Option<&[u8]>) -> Verdict {
        let says_it_in_the_body = matches!(
            self,
            Self::Feishu | Self::Dingtalk | Self::Wecom | Self::Telegram | Self::Teams
        );
        if body.is_none() && says_it_in_the_body && status.is_success() {
            return Verdict::Unknown;
        }
        let body = body.unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::super::message::tests::waiting;
    use super::*;
    use crate::Workspace;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn channel(format: Format) -> Channel {
        let url = match format {
            Format::Email => "mailto:someone@example.com",
            Format::Telegram => "https://api.telegram.org/bot1:x?chat_id=5&message_thread_id=7",
            Format::Ntfy => "https://example.com/topic?auth=QmVhcmVyIHg",
            _ => "https://user:pass@example.com/topic",
        };
        Channel {
            name: "n".into(),
            url: url.into(),
            format,
            ..Channel::new("c".into(), Workspace::Shared, NOW)
        }
    }

    fn request(format: Format, happenings: &[Happening]) -> (String, Value, usize) {
        let base_url = Some("https://k.example.com");
        match render(&channel(format), happenings, 0, "the id", NOW, base_url) {
            Some(Rendered::Request(request)) => {
                assert_eq!(request.headers()["webhook-id"], "the id");
                let body = serde_json::from_slice(request.body()).unwrap();
                (request.uri().to_string(), body, request.body().len())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn texts_are_cut_at_the_limit_of_each_format() {
        type Text = fn(&Value) -> &Value;
        type Length = fn(&str) -> usize;
        let longest = Happening {
            title: "<é*🦀&".repeat(40),
            message: "\u{1}<@🦀&".repeat(200),
            session_topic: "\u{1}🦀".repeat(250),
            ..waiting()
        };
        let several = vec![longest.clone(); 250];
        let table: [(Format, usize, Text, Length); 8] = [
            (
                Format::Slack,
                3000,
                |body| &body["blocks"][0]["text"]["text"],
                |text| text.chars().count(),
            ),
            (
                Format::Discord,
                256,
                |body| &body["embeds"][0]["title"],
                |text| text.encode_utf16().count(),
            ),
            (
                Format::Discord,
                4096,
                |body| &body["embeds"][0]["description"],
                |text| text.encode_utf16().count(),
            ),
            (
                Format::Feishu,
                8000,
                |body| &body["content"]["text"],
                str::len,
            ),
            (
                Format::Dingtalk,
                8000,
                |body| &body["text"]["content"],
                str::len,
            ),
            (
                Format::Wecom,
                2048,
                |body| &body["text"]["content"],
                str::len,
            ),
            (
                Format::Telegram,
                4096,
                |body| &body["text"],
                |text| text.encode_utf16().count(),
            ),
            (Format::Ntfy, 4096, |body| &body["message"], str::len),
        ];
        for happenings in [std::slice::from_ref(&longest), &several] {
            for (format, limit, text, measure) in table {
                let (_, body, _) = request(format, happenings);
                let text = text(&body).as_str().unwrap();
                assert!(
                    !text.is_empty() && measure(text) <= limit,
                    "{format:?} {text}"
                );
            }
            for format in Format::ALL
                .into_iter()
                .filter(|format| *format != Format::Email)
            {
                let (_, _, bytes) = request(format, happenings);
                assert!(bytes <= 28_000, "{format:?}: {bytes}");
            }
            let (_, _, bytes) = request(Format::Webhook, happenings);
            assert!(bytes < 20_000, "{bytes}");
        }
    }

    #[test]
    fn nobody_is_mentioned() {
        let shouting = Happening {
            title: "@everyone @here <!channel> <@U1> @all <at user_id=\"all\">".into(),
            ..waiting()
        };
        for format in [
            Format::Slack,
            Format::Discord,
            Format::Teams,
            Format::Feishu,
            Format::Dingtalk,
            Format::Wecom,
            Format::Telegram,
        ] {
            let (_, body, _) = request(format, std::slice::from_ref(&shouting));
            let body = body.to_string();
            for mention in ["@everyone", "@here", "<!channel>", "<@U1>", "@all"] {
                assert!(!body.contains(mention), "{format:?}: {body}");
            }
            assert!(format != Format::Feishu || !body.contains("<at "), "{body}");
        }
    }

    #[test]
    fn a_request_goes_where_its_format_takes_it() {
        for (format, url) in [
            (Format::Webhook, "https://example.com/topic"),
            (
                Format::Telegram,
                "https://api.telegram.org/bot1:x/sendMessage",
            ),
            (Format::Ntfy, "https://example.com/?auth=QmVhcmVyIHg"),
        ] {
            assert_eq!(request(format, &[waiting()]).0, url);
        }
        let (_, body, _) = request(Format::Ntfy, &[waiting()]);
        assert_eq!(body["topic"], "topic");
        let (_, telegram, _) = request(Format::Telegram, &[waiting()]);
        assert_eq!(
            (&telegram["chat_id"], &telegram["message_thread_id"]),
            (&"5".into(), &7.into())
        );
        assert_eq!(
            body["title"],
            "fix the login page waits for your permission"
        );

        let mail = render(&channel(Format::Email), &[waiting()], 0, "id", NOW, None);
        let Some(Rendered::Mail(mail)) = mail else {
            panic!("{mail:?}");
        };
        assert_eq!(mail.to, "someone@example.com");
        assert_eq!(
            mail.subject,
            "⏳ fix the login page waits for your permission"
        );
    }

    #[test]
    fn a_webhook_is_signed_with_its_id_and_time() {
        // As the test vectors of Standard Webhooks' libraries have it.
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let mut request = Request::post("https://example.com/")
            .body(Bytes::from(r#"{"test": 2432232314}"#))
            .unwrap();
        let now = Timestamp::from_timestamp(1_614_265_330, 0).unwrap();
        webhook::sign(&mut request, "msg_p5jXN8AQM9LWM0D4loKWxJek", secret, now);
        assert_eq!(request.headers()["webhook-timestamp"], "1614265330");
        assert_eq!(
            request.headers()["webhook-signature"],
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn what_providers_say_in_the_body_counts() {
        let minute = Verdict::Busy(Duration::from_secs(60));
        for (format, status, body, verdict) in [
            (Format::Feishu, 200, r#"{"code":0}"#, Verdict::Status),
            (
                Format::Feishu,
                200,
                r#"{"StatusCode":0,"StatusMessage":"success"}"#,
                Verdict::Status,
            ),
            (Format::Feishu, 200, r#"{"code":19021}"#, Verdict::Refused),
            (Format::Feishu, 200, r#"{"code":11232}"#, minute),
            (
                Format::Dingtalk,
                200,
                r#"{"errcode":0,"errmsg":"ok"}"#,
                Verdict::Status,
            ),
            (
                Format::Dingtalk,
                200,
                r#"{"errcode":310000}"#,
                Verdict::Refused,
            ),
            (
                Format::Dingtalk,
                200,
                r#"{"errcode":130101}"#,
                Verdict::Busy(Duration::from_secs(600)),
            ),
            (Format::Wecom, 200, r#"{"errcode":93000}"#, Verdict::Refused),
            (Format::Wecom, 200, r#"{"errcode":45009}"#, minute),
            (
                Format::Telegram,
                429,
                r#"{"ok":false,"parameters":{"retry_after":60}}"#,
                minute,
            ),
            (Format::Telegram, 400, r#"{"ok":false}"#, Verdict::Status),
            (Format::Discord, 429, r#"{"retry_after":60.0}"#, minute),
            (Format::Discord, 429, "no JSON", Verdict::Status),
            (Format::Slack, 200, "ok", Verdict::Status),
            (
                Format::Webhook,
                200,
                r#"{"code":1,"errcode":1,"ok":false}"#,
                Verdict::Status,
            ),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let found = format.verdict(status, Some(body.as_bytes()));
            assert_eq!(found, verdict, "{format:?} {body}");
        }
        let cut_off = |format: Format, status: StatusCode| format.verdict(status, None);
        assert_eq!(cut_off(Format::Wecom, StatusCode::OK), Verdict::Unknown);
        assert_eq!(cut_off(Format::Slack, StatusCode::OK), Verdict::Status);
        let failed = StatusCode::BAD_GATEWAY;
        assert_eq!(cut_off(Format::Wecom, failed), Verdict::Status);
    }
}
