//! Reading the texts of settings. What is refused is answered with what would be right.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use chrono::TimeDelta;
use http::HeaderValue;
use url::Url;

use super::{AuthMode, InvalidSetting, LogFormat, Storage};
use crate::hook::Detail;
use crate::{Event, Events, Format};

/// One of these words.
fn one_of<T: Copy>(
    text: &str,
    words: &[(&str, T)],
    rule: &'static str,
) -> Result<T, InvalidSetting> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| rule.into())
}

pub(super) fn auth_mode(text: &str) -> Result<AuthMode, InvalidSetting> {
    let words = [("open", AuthMode::Open), ("required", AuthMode::Required)];
    one_of(text, &words, "must be open or required")
}

pub(super) fn switch(text: &str) -> Result<bool, InvalidSetting> {
    let words = [("true", true), ("false", false), ("1", true), ("0", false)];
    one_of(text, &words, "must be true or false")
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, InvalidSetting> {
    let words = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    one_of(text, &words, "must be text or json")
}

pub(super) fn hook_detail(text: &str) -> Result<Detail, InvalidSetting> {
    let words = [Detail::Full, Detail::Title, Detail::None].map(|detail| (detail.as_str(), detail));
    one_of(text, &words, "must be full, title or none")
}

pub(super) fn storage(text: &str) -> Result<Storage, InvalidSetting> {
    let words = [
        ("keyvalue", Storage::KeyValue),
        ("postgres", Storage::Postgres),
    ];
    one_of(text, &words, "must be keyvalue or postgres")
}

/// The name of a machine, which goes into the ids of its agents.
pub(super) fn machine(text: &str) -> Result<String, InvalidSetting> {
    let name = text.trim();
    match (1..=50).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        true => Ok(name.to_owned()),
        false => Err("must be a name of at most 50 characters".into()),
    }
}

/// The one of these words that a word is most like.
fn nearest(word: &str, words: &[&'static str]) -> &'static str {
    let word = word.to_lowercase();
    let likeness = |known: &str| strsim::jaro_winkler(&word, known);
    let nearest = words.iter().copied();
    let nearest = nearest.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.unwrap_or_default()
}

/// The form of notifications.
pub(super) fn format(text: &str) -> Result<Format, InvalidSetting> {
    Format::parse(text).ok_or_else(|| {
        let (all, nearest) = (Format::NAMES.join(", "), nearest(text, &Format::NAMES));
        format!("must be one of {all} (the nearest is {nearest})").into()
    })
}

/// What is told, with commas between.
pub(super) fn events(text: &str) -> Result<Events, InvalidSetting> {
    let words = || {
        text.split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
    };
    let wrong = words().find(|word| Event::parse(word).is_none());
    Events::parse(words()).ok_or_else(|| {
        let all = Event::NAMES.join(", ");
        let hint = wrong.map_or(String::new(), |wrong| {
            format!(
                " (the nearest to {wrong} is {})",
                nearest(wrong, &Event::NAMES)
            )
        });
        format!("must be events of {all}, with commas between them{hint}").into()
    })
}

/// A text that is right as it is, or that only a host can judge.
pub(super) fn text(text: &str) -> Result<String, InvalidSetting> {
    Ok(text.to_owned())
}

/// A number that is written in digits and nothing else.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// A whole number. `what` it is completes "must be a".
pub(super) fn number(
    text: &str,
    what: &str,
    range: RangeInclusive<u32>,
) -> Result<u32, InvalidSetting> {
    let number = digits(text).filter(|number| range.contains(number));
    let (least, most) = (range.start(), range.end());
    number.ok_or_else(|| format!("must be a {what} from {least} to {most}").into())
}

/// How often something may happen; 0: any number of times.
pub(super) fn limit(text: &str) -> Result<u32, InvalidSetting> {
    number(text, "number", 0..=1_000_000)
}

/// How many of something there may be; 0: any number.
pub(super) fn quota(text: &str) -> Result<u32, InvalidSetting> {
    number(text, "number", 0..=1_000_000_000)
}

pub(super) fn seconds(text: &str, range: RangeInclusive<u32>) -> Result<Duration, InvalidSetting> {
    let seconds = number(text, "number of seconds", range)?;
    Ok(Duration::from_secs(seconds.into()))
}

pub(super) fn port(text: &str, least: u16) -> Result<u16, InvalidSetting> {
    let port = digits(text).filter(|port| *port >= least);
    port.ok_or_else(|| match text.contains("://") {
        true => "must be a port number (Kubernetes sets this variable for a Service of that name: \
                 set enableServiceLinks: false in the pod)"
            .into(),
        false => format!("must be a port number from {least} to 65535").into(),
    })
}

pub(super) fn listen_address(text: &str) -> Result<IpAddr, InvalidSetting> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        _ => text.parse().map_err(|_| {
            "must be localhost or an IP address such as 127.0.0.1, 0.0.0.0 or ::".into()
        }),
    }
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, InvalidSetting> {
    let address = text.strip_prefix("localhost:");
    let address = address.map(|port| format!("{}:{port}", Ipv4Addr::LOCALHOST));
    let address = address.as_deref().unwrap_or(text);
    address.parse().map_err(|_| {
        "must be an address and a port such as 127.0.0.1:9464, localhost:9464 or [::]:9464".into()
    })
}

/// How long something is valid, in Go's notation, to whole seconds.
pub(super) fn expiry(text: &str) -> Result<TimeDelta, InvalidSetting> {
    crate::parse_go_duration(text)
        .filter(|expiry| (1..=3650 * 86_400).contains(&expiry.num_seconds()))
        .ok_or_else(|| "must be a duration of at least a second such as 90s, 15m or 1h30m".into())
}

/// At least as long as the hash of HS256.
pub(super) fn jwt_secret(text: &str) -> Result<String, InvalidSetting> {
    match text.len() >= 32 {
        true => Ok(text.to_owned()),
        false => Err("must be at least 32 bytes".into()),
    }
}

pub(super) fn static_key(text: &str) -> Result<String, InvalidSetting> {
    if text.chars().count() < 16 {
        return Err("must be at least 16 characters".into());
    }
    if !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err("must be printable ASCII without spaces".into());
    }
    Ok(text.to_owned())
}

/// What `Authorization` holds for a token.
pub(super) fn bearer(token: &str) -> Result<HeaderValue, InvalidSetting> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "must be characters that a header can carry")?;
    value.set_sensitive(true);
    Ok(value)
}

/// An absolute HTTP URL as programs write it: trimmed, the host in ASCII, spaces encoded.
fn http_url(text: &str) -> Result<Url, InvalidSetting> {
    if Url::parse(text) == Err(url::ParseError::InvalidPort) {
        return Err("must be a URL whose port is a number up to 65535".into());
    }
    crate::notification::check_webhook_url(text)
        .ok()
        .and_then(|()| Url::parse(text).ok())
        .ok_or_else(|| "must be a URL that starts with http:// or https://".into())
}

pub(super) fn webhook_url(text: &str) -> Result<String, InvalidSetting> {
    match crate::channel::is_mail(text) {
        true => Ok(text.to_owned()),
        false => http_url(text).map(String::from),
    }
}

/// An address that paths are put behind: it has no slash at its end.
pub(super) fn base_url(text: &str) -> Result<String, InvalidSetting> {
    let url = http_url(text)?;
    if url.query().is_some() {
        return Err("must be a URL without a query".into());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The address of a server of ours.
pub(super) fn server_url(text: &str) -> Result<String, InvalidSetting> {
    let url = base_url(text)?;
    let parsed = http_url(&url)?;
    if parsed.fragment().is_some() {
        return Err("must be a URL without a fragment".into());
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("must be a URL without user and password".into());
    }
    // What clients of the protocol and of the webhook are given.
    match ["/mcp", "/webhook/status"]
        .iter()
        .find(|path| url.ends_with(*path))
    {
        Some(path) => Err(format!("must be the server's address, without {path}").into()),
        None => Ok(url),
    }
}

pub(super) fn host_name(text: &str) -> Result<String, InvalidSetting> {
    url::Host::parse(text)
        .map(|_| text.to_owned())
        .map_err(|_| "must be a host name or an IP address, without a port".into())
}

pub(super) fn ssl_mode(text: &str) -> Result<String, InvalidSetting> {
    let modes = [
        "disable",
        "allow",
        "prefer",
        "require",
        "verify-ca",
        "verify-full",
    ];
    match modes.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err("must be disable, allow, prefer, require, verify-ca or verify-full".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_or_say_what_would_be_right() {
        let ttl = |text| number(text, "number of minutes", 1..=1440);
        assert_eq!(ttl("1440"), Ok(1440));
        for text in ["0", "1441", "-1", "+5", "1.5", "x", ""] {
            let rule = "must be a number of minutes from 1 to 1440".to_owned();
            assert_eq!(ttl(text), Err(rule.into()), "{text}");
        }
        assert_eq!(expiry("168h"), Ok(TimeDelta::days(7)));
        assert!(expiry("500ms").is_err());
        assert!(static_key("fifteen-charact").is_err());
        assert!(static_key("sixteen-characte").is_ok());
        assert!(static_key("sixteen characte").is_err());
        assert_eq!(base_url("http://x/app/"), Ok("http://x/app".into()));
        for port in ["http://x:99999", "http://x:80a"] {
            let refused = base_url(port).unwrap_err().to_string();
            assert_eq!(
                refused, "must be a URL whose port is a number up to 65535",
                "{port}"
            );
        }
        assert_eq!(format("slack"), Ok(Format::Slack));
        for (text, nearest) in [
            ("Slack", "slack"),
            ("slak", "slack"),
            ("lark", "slack"),
            ("page", "pagerduty"),
        ] {
            let refused = format(text).unwrap_err().to_string();
            assert!(
                refused.ends_with(&format!("(the nearest is {nearest})")),
                "{refused}"
            );
        }
        assert_eq!(
            events("silent, waiting,"),
            Ok(Events::from_text("waiting,silent").unwrap())
        );
        assert_eq!(
            events("waiting, finnished").unwrap_err().to_string(),
            "must be events of started, waiting, failed, finished, silent, recovered, with commas \
             between them (the nearest to finnished is finished)"
        );
        assert!(events(" , ").is_err());
        assert!(switch("yes").is_err());
        assert!(auth_mode("Open").is_err());
    }
}
