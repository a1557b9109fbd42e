//! Which web pages may use an instance.

use super::{AuthMode, InvalidSetting, is_loopback_authority};

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
    /// What follows the `*` in the host; `None` without one.
    suffix: Option<String>,
    /// Whether the port may be any.
    any_port: bool,
}

/// What stands for the `*` of a pattern while it is read as an origin.
const WILDCARD: &str = "q7wildcard7q";

/// Checks whether an origin names a port.
fn has_port(origin: &str) -> bool {
    let end = origin.rsplit_once(':').map(|(_, end)| end);
    end.is_some_and(|end| end.bytes().all(|byte| byte.is_ascii_digit()))
}

impl CorsPolicy {
    /// Reads a comma-separated list of `*`, exact origins (`https://app.example.com`) and origins
    /// with one wildcard for a part of the host (`https://*.example.com`), for all of it, at any port
    /// (`http://*`), or for the port (`http://localhost:*`). A slash at the end is ignored.
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
            .ok_or_else(|| {
                "must be *, or origins such as https://app.example.com or https://*.example.com, \
                 with commas between them"
                    .into()
            })
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
        let text = text.strip_suffix('/').unwrap_or(text);
        let (text, any_port) = match text.strip_suffix(":*") {
            Some(text) if has_port(text) => return None,
            Some(text) => (text, true),
            None => (text, text.ends_with("://*")),
        };
        // A label of its own where the `*` is one.
        let sample = text.replacen('*', WILDCARD, 1);
        let url = url::Url::parse(&sample).ok()?;
        let is_bare = url.path() == "/"
            && url.username().is_empty()
            && url.password().is_none()
            && !sample.ends_with('/')
            && !sample.contains(['?', '#', '*', '@']);
        if !is_bare || !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        // As browsers write it: the host in ASCII, without a default port.
        let origin = url.origin().ascii_serialization();
        if !text.contains('*') {
            return Some(Self {
                prefix: origin,
                suffix: None,
                any_port,
            });
        }
        let (prefix, suffix) = origin.split_once(WILDCARD)?;
        // A wildcard in a label that is written in ASCII stands for a part of nothing.
        let label = prefix.rsplit(['.', '/']).next()?;
        (!label.starts_with("xn--") && !suffix.contains(WILDCARD)).then(|| Self {
            prefix: prefix.to_owned(),
            suffix: Some(suffix.to_owned()),
            any_port,
        })
    }

    fn matches(&self, origin: &str) -> bool {
        let origin = match origin.rsplit_once(':') {
            Some((host, port)) if self.any_port && port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => origin,
        };
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn cors_patterns_may_leave_the_port_open_and_end_in_a_slash() {
        for (pattern, origin, allowed) in [
            ("http://*", "http://example.com", true),
            ("http://*", "http://example.com:8080", true),
            ("http://*", "https://example.com", false),
            ("http://*", "http://", false),
            ("http://localhost:*", "http://localhost", true),
            ("http://localhost:*", "http://localhost:5173", true),
            ("http://localhost:*", "http://localhost.example.com", false),
            ("http://localhost:*", "http://localhost:1@evil.com", false),
            ("http://localhost:*", "https://localhost:5173", false),
            ("https://a.com/", "https://a.com", true),
            ("https://a.com:443/", "https://a.com", true),
            ("HTTPS://*.A.com:443", "https://x.a.com", true),
            (
                "https://*.bücher.example",
                "https://x.xn--bcher-kva.example",
                true,
            ),
            (
                "https://*.bücher.example:8443",
                "https://x.xn--bcher-kva.example:8443",
                true,
            ),
            (
                "https://bücher.example",
                "https://xn--bcher-kva.example",
                true,
            ),
            ("https://bücher.*", "https://xn--bcher-kva.example", true),
            ("https://app-*.a.com", "https://app-1.a.com", true),
            ("http://*:8080", "http://a.com:8080", true),
            ("http://*:8080", "http://a.com", false),
            ("http://[::1]:*", "http://[::1]:8080", true),
        ] {
            let policy = CorsPolicy::parse(pattern).unwrap();
            assert_eq!(policy.allows(origin), allowed, "{pattern} {origin}");
        }
    }

    #[test]
    fn cors_settings_that_are_no_origins_are_refused() {
        for text in [
            "",
            " , ",
            "example.com",
            "https://a.com/path",
            "https://a.com//",
            "ftp://a.com",
            "https://*.*.com",
            "https://a.com:80:443",
            "https://a.com:443:443",
            "http://a.com:80:*",
            "http://a.com:8080:*",
            "https://bü*.example",
            "https://user@a.com",
            "https://:password@a.com",
        ] {
            assert!(CorsPolicy::parse(text).is_err(), "{text}");
        }
        assert_eq!(CorsPolicy::parse("https://a.com,*"), Ok(CorsPolicy::Any));
    }
}
