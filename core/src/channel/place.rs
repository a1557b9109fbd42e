//! Where a channel's messages go: what the address of each format must be.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::Serialize;
use url::Url;

use crate::notification::check_webhook_url;
use crate::validation::{InvalidField, Rule, storable, words};

/// The form of a channel's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ChannelFormat")]
pub enum Format {
    /// JSON for programs, as [Standard Webhooks](https://www.standardwebhooks.com) has it.
    Webhook,
    /// An incoming webhook of Slack.
    Slack,
    /// A webhook of Discord.
    Discord,
    /// A workflow of Microsoft Teams.
    Teams,
    /// A custom bot of Feishu or Lark.
    Feishu,
    /// A custom bot of DingTalk.
    Dingtalk,
    /// A bot of a WeCom group.
    Wecom,
    /// A bot of Telegram.
    Telegram,
    /// A topic of ntfy.
    Ntfy,
    /// A service of PagerDuty, by its Events API v2.
    Pagerduty,
    /// Mail.
    Email,
}

/// Below which domains workflows of Microsoft Teams are.
const TEAMS: [&str; 3] = [
    ".webhook.office.com",
    ".logic.azure.com",
    ".environment.api.powerplatform.com",
];

impl Format {
    /// Every format.
    pub const ALL: [Self; 11] = [
        Self::Webhook,
        Self::Slack,
        Self::Discord,
        Self::Teams,
        Self::Feishu,
        Self::Dingtalk,
        Self::Wecom,
        Self::Telegram,
        Self::Ntfy,
        Self::Pagerduty,
        Self::Email,
    ];

    /// The name of each.
    pub(crate) const NAMES: [&str; Self::ALL.len()] = words!(Self);

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Teams => "teams",
            Self::Feishu => "feishu",
            Self::Dingtalk => "dingtalk",
            Self::Wecom => "wecom",
            Self::Telegram => "telegram",
            Self::Ntfy => "ntfy",
            Self::Pagerduty => "pagerduty",
            Self::Email => "email",
        }
    }

    /// The format of exactly this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// The format that the host of a URL takes; `webhook` where it is nobody's that is known.
    pub fn of(url: &Url) -> Self {
        if url.scheme() == "mailto" {
            return Self::Email;
        }
        let host = url.host_str().unwrap_or_default();
        match host {
            "hooks.slack.com" => Self::Slack,
            "discord.com" | "canary.discord.com" | "ptb.discord.com" | "discordapp.com"
                if url.path().starts_with("/api/webhooks/") =>
            {
                Self::Discord
            }
            "open.feishu.cn" | "open.larksuite.com" => Self::Feishu,
            "oapi.dingtalk.com" => Self::Dingtalk,
            "qyapi.weixin.qq.com" => Self::Wecom,
            "api.telegram.org" => Self::Telegram,
            "ntfy.sh" => Self::Ntfy,
            "events.pagerduty.com" => Self::Pagerduty,
            _ if TEAMS.iter().any(|domain| host.ends_with(domain)) => Self::Teams,
            _ => Self::Webhook,
        }
    }
}

/// Checks an address and a secret, and finds the format where none is given.
pub(crate) fn check_place(
    url: &str,
    format: Option<Format>,
    secret: &str,
) -> Result<Format, InvalidField> {
    storable("url", url)?;
    let is_mail = is_mail(url);
    if !is_mail {
        check_webhook_url(url).map_err(|rule| rule.broken_by("url"))?;
    }
    let parsed = Url::parse(url).map_err(|_| Rule::Url.broken_by("url"))?;
    let format = format.unwrap_or_else(|| Format::of(&parsed));
    let refuse = |rule| Err(Rule::Sentence(rule).broken_by("url"));
    match format {
        Format::Email if mail_address(&parsed).is_none() => {
            return refuse("must be mailto: and an address");
        }
        Format::Email => {}
        _ if is_mail => return refuse("must start with http or https for this format"),
        Format::Telegram if chat_id(&parsed).is_none() => {
            return refuse("must name the chat: ?chat_id=");
        }
        Format::Ntfy if topic(&parsed).is_none() => {
            return refuse("must end with the topic: https://ntfy.sh/topic");
        }
        Format::Pagerduty if secret.is_empty() => {
            let rule = "must be the routing key of the PagerDuty service";
            return Err(Rule::Sentence(rule).broken_by("secret"));
        }
        Format::Webhook if !secret.is_empty() && signing_keys(secret).is_none() => {
            let rule = "must be whsec_ and the base64 of 24 to 64 bytes";
            return Err(Rule::Sentence(rule).broken_by("secret"));
        }
        _ => {}
    }
    Ok(format)
}

/// The keys that secrets of Standard Webhooks stand for, with spaces between: while receivers go over
/// to a new one, both sign.
pub(crate) fn signing_keys(secrets: &str) -> Option<Vec<Vec<u8>>> {
    let key = |secret: &str| {
        let key = STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
        (24..=64).contains(&key.len()).then_some(key)
    };
    secrets.split_whitespace().map(key).collect()
}

/// The chat that a bot of Telegram writes to.
pub(crate) fn chat_id(url: &Url) -> Option<String> {
    let mut pairs = url.query_pairs();
    let (_, chat) = pairs.find(|(name, chat)| name == "chat_id" && !chat.is_empty())?;
    Some(chat.into_owned())
}

/// The topic of ntfy that a URL ends with.
pub(crate) fn topic(url: &Url) -> Option<&str> {
    url.path_segments()?.next_back().filter(|topic| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        !topic.is_empty() && topic.bytes().all(allowed)
    })
}

/// Checks whether this is a `mailto:` URL; schemes may be in capitals.
pub(crate) fn is_mail(url: &str) -> bool {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    scheme.eq_ignore_ascii_case("mailto")
}

/// The address of a `mailto:` URL, where it names one and nothing else.
pub(crate) fn mail_address(url: &Url) -> Option<&str> {
    let address = url.path();
    let (local, domain) = address.split_once('@')?;
    let plain = |text: &str| {
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || b".!#$&'*+-/=?^_`{|}~".contains(&byte);
        !text.is_empty() && text.bytes().all(allowed)
    };
    let alone = url.scheme() == "mailto" && url.query().is_none() && url.fragment().is_none();
    (alone && address.len() <= 254 && plain(local) && plain(domain)).then_some(address)
}

/// What is shown of a URL: its scheme, its host and its last 4 characters.
pub(crate) fn url_hint(url: &str) -> String {
    let Ok(parsed) = Url::parse(url) else {
        return "…".to_owned();
    };
    if parsed.scheme() == "mailto" {
        let domain = parsed.path().split('@').next_back().unwrap_or_default();
        return format!("mailto:…@{domain}");
    }
    let origin = parsed.origin().ascii_serialization();
    let rest = &parsed[url::Position::BeforePath..];
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    let hidden = rest.chars().count().saturating_sub(4);
    let end: String = rest.chars().skip(hidden).collect();
    format!("{origin}/…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_found_from_the_host() {
        for (url, format) in [
            ("https://hooks.slack.com/services/T/B/x", Format::Slack),
            ("https://discord.com/api/webhooks/1/x", Format::Discord),
            ("https://discordapp.com/api/webhooks/1/x", Format::Discord),
            ("https://ptb.discord.com/api/webhooks/1/x", Format::Discord),
            ("https://discord.com/other", Format::Webhook),
            (
                "https://open.feishu.cn/open-apis/bot/v2/hook/x",
                Format::Feishu,
            ),
            (
                "https://open.larksuite.com/open-apis/bot/v2/hook/x",
                Format::Feishu,
            ),
            (
                "https://oapi.dingtalk.com/robot/send?access_token=x",
                Format::Dingtalk,
            ),
            (
                "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=x",
                Format::Wecom,
            ),
            (
                "https://api.telegram.org/botx/sendMessage?chat_id=1",
                Format::Telegram,
            ),
            ("https://ntfy.sh/topic", Format::Ntfy),
            ("https://events.pagerduty.com/v2/enqueue", Format::Pagerduty),
            ("https://a.webhook.office.com/x", Format::Teams),
            (
                "https://prod-1.westeurope.logic.azure.com:443/x",
                Format::Teams,
            ),
            (
                "https://default1.2.environment.api.powerplatform.com:443/x",
                Format::Teams,
            ),
            ("https://webhook.office.com.example.com/x", Format::Webhook),
            ("https://slack.example.com/x", Format::Webhook),
            ("mailto:someone@example.com", Format::Email),
        ] {
            assert_eq!(Format::of(&Url::parse(url).unwrap()), format, "{url}");
        }
    }

    #[test]
    fn each_format_has_rules_for_its_address() {
        let check = |url: &str, format: &str, secret: &str| {
            let checked = check_place(url, Format::parse(format), secret);
            checked
                .map(Format::as_str)
                .map_err(|error| error.to_string())
        };
        let key = format!("whsec_{}", STANDARD.encode([7; 24]));
        let two_keys = format!("{key} whsec_{}", STANDARD.encode([8; 64]));
        let key_and_more = format!("{key} more");
        for (url, format, secret, found) in [
            ("https://example.com/x", "", "", "webhook"),
            ("https://example.com/x", "", key.as_str(), "webhook"),
            ("https://example.com/x", "", two_keys.as_str(), "webhook"),
            ("http://example.com/x", "slack", "any", "slack"),
            (
                "https://api.telegram.org/bot1:x/sendMessage?chat_id=-1",
                "",
                "",
                "telegram",
            ),
            ("https://ntfy.example.com/my-topic_1", "ntfy", "", "ntfy"),
            (
                "https://events.pagerduty.com/v2/enqueue",
                "",
                "key",
                "pagerduty",
            ),
            ("mailto:a.b+c@example.com", "", "", "email"),
            ("MAILTO:a@example.com", "", "", "email"),
            ("MailTo:a@example.com", "email", "", "email"),
        ] {
            assert_eq!(check(url, format, secret).as_deref(), Ok(found), "{url}");
        }
        for (url, format, secret, message) in [
            ("example.com", "", "", "invalid url"),
            (
                "ftp://example.com/x",
                "",
                "",
                "url must start with http or https",
            ),
            (
                "https://example.com/x",
                "",
                "s3cret",
                "secret must be whsec_ and the base64 of 24 to 64 bytes",
            ),
            (
                "https://example.com/x",
                "",
                &key_and_more,
                "secret must be whsec_ and the base64 of 24 to 64 bytes",
            ),
            (
                "https://api.telegram.org/bot1/sendMessage",
                "",
                "",
                "url must name the chat: ?chat_id=",
            ),
            (
                "https://ntfy.sh/",
                "",
                "",
                "url must end with the topic: https://ntfy.sh/topic",
            ),
            (
                "https://events.pagerduty.com/v2/enqueue",
                "",
                "",
                "secret must be the routing key of the PagerDuty service",
            ),
            (
                "mailto:nobody",
                "",
                "",
                "url must be mailto: and an address",
            ),
            (
                "mailto:a@b.c?bcc=d@e.f",
                "",
                "",
                "url must be mailto: and an address",
            ),
            (
                "https://example.com/x",
                "email",
                "",
                "url must be mailto: and an address",
            ),
            (
                "mailto:a@b.c",
                "slack",
                "",
                "url must start with http or https for this format",
            ),
        ] {
            assert_eq!(check(url, format, secret), Err(message.to_owned()), "{url}");
        }
    }

    #[test]
    fn a_hint_shows_where_a_url_leads_and_no_more_than_its_end() {
        for (url, hint) in [
            (
                "https://hooks.slack.com/services/T0/B0/secret1234",
                "https://hooks.slack.com/…1234",
            ),
            (
                "https://user:password@example.com:8443/a?key=geheim",
                "https://example.com:8443/…heim",
            ),
            ("http://[::1]:80/", "http://[::1]/…"),
            ("mailto:someone@example.com", "mailto:…@example.com"),
            ("MAILTO:someone@example.com", "mailto:…@example.com"),
        ] {
            assert_eq!(url_hint(url), hint);
        }
    }
}
