//! The instance's configuration, as far as the core acts on it.

use chrono::TimeDelta;
use url::Host;

/// Who may use the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// Anyone, in the one shared workspace.
    Open,
    /// Whoever has credentials, each account in its own workspace.
    Required,
}

/// The configuration. Hosts read it from their environment; this is what it means.
#[derive(Clone)]
pub struct Settings {
    /// Who may use the instance.
    pub mode: AuthMode,
    /// Whether the instance is reachable through loopback only: then, in open mode, requests whose
    /// `Host` is no loopback name are refused, against DNS rebinding.
    pub loopback_only: bool,
    /// The static key of the shared workspace.
    pub static_key: Option<String>,
    /// What signs tokens.
    pub jwt_secret: String,
    /// How long an access token works.
    pub access_token_expiry: TimeDelta,
    /// How long a refresh token works.
    pub refresh_token_expiry: TimeDelta,
    /// Which web pages may use the instance; `None`: the default of the mode.
    pub cors: Option<CorsPolicy>,
    /// Whether new accounts may register.
    pub registration_enabled: bool,
    /// The TTL of a session whose first report names none, 1 to 1440 minutes.
    pub default_ttl_minutes: u32,
    /// Where the dashboard is: verification links begin with it.
    pub app_base_url: String,
    /// Who is told of transitions in the shared workspace.
    pub notification_webhook_url: Option<String>,
}

impl Settings {
    /// Which web pages may use the instance, by what is configured or by the mode.
    pub fn cors_policy(&self) -> CorsPolicy {
        self.cors
            .clone()
            .unwrap_or_else(|| CorsPolicy::default_for(self.mode))
    }
}

/// Why the text of a setting is refused: what would be right. Completes a sentence that begins with
/// the setting's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSetting(pub &'static str);

impl AuthMode {
    /// Reads `open` or `required`.
    ///
    /// # Errors
    /// [`InvalidSetting`] for any other word.
    pub fn parse(text: &str) -> Result<Self, InvalidSetting> {
        match text {
            "open" => Ok(Self::Open),
            "required" => Ok(Self::Required),
            _ => Err(InvalidSetting("must be open or required")),
        }
    }
}

/// Reads the default TTL, in minutes.
///
/// # Errors
/// [`InvalidSetting`] for anything but 1 to 1440.
pub fn parse_ttl_minutes(text: &str) -> Result<u32, InvalidSetting> {
    text.parse()
        .ok()
        .filter(|minutes| (1..=crate::report::MAX_TTL_MINUTES).contains(minutes))
        .ok_or(InvalidSetting("must be a number of minutes from 1 to 1440"))
}

/// Reads the timeout of one attempt at a notification, in seconds.
///
/// # Errors
/// [`InvalidSetting`] for anything but 1 to 60.
pub fn parse_timeout_seconds(text: &str) -> Result<std::time::Duration, InvalidSetting> {
    text.parse()
        .ok()
        .filter(|seconds| (1..=60).contains(seconds))
        .map(std::time::Duration::from_secs)
        .ok_or(InvalidSetting("must be a number of seconds from 1 to 60"))
}

/// Reads a switch.
///
/// # Errors
/// [`InvalidSetting`] for anything but `true`, `false`, `1` or `0`.
pub fn parse_switch(text: &str) -> Result<bool, InvalidSetting> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(InvalidSetting("must be true or false")),
    }
}

/// Reads how long tokens work, in Go's notation, to whole seconds.
///
/// # Errors
/// [`InvalidSetting`] for anything but a duration from one second to ten years.
pub fn parse_expiry(text: &str) -> Result<TimeDelta, InvalidSetting> {
    crate::parse_go_duration(text)
        .filter(|expiry| (1..=3650 * 86_400).contains(&expiry.num_seconds()))
        .ok_or(InvalidSetting(
            "must be a duration of at least a second such as 90s, 15m or 1h30m",
        ))
}

/// Reads the static key.
///
/// # Errors
/// [`InvalidSetting`] for fewer than 16 characters, and for characters that no header can carry.
pub fn parse_static_key(text: &str) -> Result<String, InvalidSetting> {
    if text.chars().count() < 16 {
        return Err(InvalidSetting("must be at least 16 characters"));
    }
    if !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err(InvalidSetting("must be printable ASCII without spaces"));
    }
    Ok(text.to_owned())
}

/// Reads the address of a webhook.
///
/// # Errors
/// [`InvalidSetting`] for anything but an absolute HTTP URL.
pub fn parse_webhook_url(text: &str) -> Result<String, InvalidSetting> {
    crate::notification::check_webhook_url(text)
        .map(|()| text.to_owned())
        .map_err(|_| InvalidSetting("must be a URL that starts with http:// or https://"))
}

/// Reads the dashboard's address; a slash at its end is dropped.
///
/// # Errors
/// [`InvalidSetting`] for anything but an absolute HTTP URL.
pub fn parse_base_url(text: &str) -> Result<String, InvalidSetting> {
    parse_webhook_url(text).map(|url| url.trim_end_matches('/').to_owned())
}

/// The length under which a signing secret deserves a warning, in bytes: HS256's own.
pub const MIN_JWT_SECRET_BYTES: usize = 32;

/// The name under which stores keep the signing secret.
pub const JWT_SECRET_NAME: &str = "jwt_secret";

/// A signing secret of these random bytes, in text form.
pub fn generate_jwt_secret(bytes: [u8; 32]) -> String {
    crate::sha256_hex(bytes)
}

/// Which web pages may use the instance from a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsPolicy {
    /// Any, without credentials.
    Any,
    /// Those served from this machine, at any port.
    Loopback,
    /// Those served from an origin that one of these patterns matches.
    Origins(Vec<OriginPattern>),
}

/// An origin, or a set of them by one `*` in the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPattern {
    prefix: String,
    /// What follows the `*`; `None` without one.
    suffix: Option<String>,
}

impl CorsPolicy {
    /// Reads a comma-separated list of `*`, exact origins (`https://app.example.com`) and origins
    /// with one wildcard (`https://*.example.com`).
    ///
    /// # Errors
    /// [`InvalidSetting`] for an entry that is none of these, and for an empty list.
    pub fn parse(text: &str) -> Result<Self, InvalidSetting> {
        let entries: Vec<&str> = text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .collect();
        if entries.contains(&"*") {
            return Ok(Self::Any);
        }
        entries
            .iter()
            .map(|entry| OriginPattern::parse(entry))
            .collect::<Option<Vec<_>>>()
            .filter(|patterns| !patterns.is_empty())
            .map(Self::Origins)
            .ok_or(InvalidSetting(
                "must be *, or origins such as https://app.example.com or https://*.example.com, \
                 with commas between them",
            ))
    }

    /// What holds where nothing is configured: any page where credentials are needed anyway; in
    /// open mode, where any page that a browser visits could read everything, only local ones.
    pub fn default_for(mode: AuthMode) -> Self {
        match mode {
            AuthMode::Open => Self::Loopback,
            AuthMode::Required => Self::Any,
        }
    }

    /// Whether pages of this origin may use the instance.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Loopback => origin.split_once("://").is_some_and(|(scheme, host)| {
                matches!(scheme, "http" | "https") && is_loopback_authority(host)
            }),
            Self::Origins(patterns) => {
                let origin = origin.to_ascii_lowercase();
                patterns.iter().any(|pattern| pattern.matches(&origin))
            }
        }
    }
}

impl OriginPattern {
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        // Browsers leave the default port out of an origin.
        let default_port = if text.starts_with("https:") {
            ":443"
        } else {
            ":80"
        };
        let text = text.strip_suffix(default_port).unwrap_or(&text);
        let sample = text.replacen('*', "wildcard", 1);
        let url = url::Url::parse(&sample).ok()?;
        let is_bare = url.path() == "/"
            && url.username().is_empty()
            && !sample.ends_with('/')
            && !sample.contains(['?', '#', '*']);
        if !is_bare || !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        Some(match text.split_once('*') {
            None => Self {
                prefix: url.origin().ascii_serialization(),
                suffix: None,
            },
            Some((prefix, suffix)) => Self {
                prefix: prefix.to_owned(),
                suffix: Some(suffix.to_owned()),
            },
        })
    }

    fn matches(&self, origin: &str) -> bool {
        match &self.suffix {
            None => origin == self.prefix,
            Some(suffix) => origin
                .strip_prefix(&self.prefix)
                .and_then(|rest| rest.strip_suffix(suffix.as_str()))
                .is_some_and(|label| {
                    !label.is_empty()
                        && label
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
                }),
        }
    }
}

/// Whether `host[:port]` names this machine itself: `localhost`, a name under it, or a loopback
/// address.
pub(crate) fn is_loopback_authority(authority: &str) -> bool {
    // A user part would put the host elsewhere; nothing that asks here has one.
    if authority.contains(['/', '@', '?', '#', '\\']) {
        return false;
    }
    let Ok(url) = url::Url::parse(&format!("http://{authority}/")) else {
        return false;
    };
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
        }
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_recognised_by_name_and_address() {
        for authority in [
            "localhost",
            "localhost:8080",
            "LOCALHOST",
            "app.localhost:1",
            "localhost.",
            "127.0.0.1",
            "127.9.8.7:80",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback_authority(authority), "{authority}");
        }
        for authority in [
            "",
            "example.com",
            "localhost.example.com",
            "notlocalhost",
            "10.0.0.1",
            "[::2]",
            "127.0.0.1.example.com",
            "localhost@example.com",
            "example.com#localhost",
            ":80",
        ] {
            assert!(!is_loopback_authority(authority), "{authority}");
        }
    }

    #[test]
    fn cors_patterns_match_whole_origins() {
        let policy = CorsPolicy::parse(
            " https://app.example.com, https://*.example.org,http://localhost:5173,https://a.b:443,https://*.a.c:443",
        )
        .unwrap();
        for (origin, allowed) in [
            ("https://app.example.com", true),
            ("https://App.Example.com", true),
            ("http://app.example.com", false),
            ("https://app.example.com:444", false),
            ("https://x.example.org", true),
            ("https://x.y.example.org", true),
            ("https://example.org", false),
            ("https://evil.com/.example.org", false),
            ("https://x.example.org.evil.com", false),
            ("http://localhost:5173", true),
            ("http://localhost:5174", false),
            ("https://a.b", true),
            ("https://x.a.c", true),
            ("https://x.a.c:80", false),
            ("null", false),
        ] {
            assert_eq!(policy.allows(origin), allowed, "{origin}");
        }
    }

    #[test]
    fn cors_settings_that_are_no_origins_are_refused() {
        for text in [
            "",
            " , ",
            "example.com",
            "https://a.com/path",
            "https://a.com/",
            "ftp://a.com",
            "https://*.*.com",
        ] {
            assert!(CorsPolicy::parse(text).is_err(), "{text}");
        }
        assert_eq!(CorsPolicy::parse("https://a.com,*"), Ok(CorsPolicy::Any));
    }

    #[test]
    fn settings_are_read_or_say_what_would_be_right() {
        assert_eq!(parse_ttl_minutes("1440"), Ok(1440));
        for text in ["0", "1441", "-1", "1.5", "x", ""] {
            assert!(parse_ttl_minutes(text).is_err(), "{text}");
        }
        assert_eq!(parse_expiry("168h"), Ok(TimeDelta::days(7)));
        assert!(parse_expiry("500ms").is_err());
        assert!(parse_static_key("fifteen-charact").is_err());
        assert!(parse_static_key("sixteen-characte").is_ok());
        assert!(parse_static_key("sixteen characte").is_err());
        assert_eq!(parse_base_url("http://x/app/"), Ok("http://x/app".into()));
        assert!(parse_switch("yes").is_err());
        assert!(AuthMode::parse("Open").is_err());
    }
}
