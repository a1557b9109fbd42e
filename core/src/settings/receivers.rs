//! What is known of the places that an instance may connect to before it does.

use url::Url;

use super::{AuthMode, DatabaseUrl, Host, InvalidSetting, SettingError, Values};
use crate::delivery::{Reach, reach_by_name};

/// A place that Spin lets the component connect to, as its manifest writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost {
    /// `None`: any.
    scheme: Option<String>,
    /// A name or an address; a `*` at its beginning stands for any text.
    host: String,
    /// `None`: any.
    port: Option<u16>,
}

impl AllowedHost {
    /// Reads a place of receivers, `http://chat.internal:8080`.
    pub(super) fn receiver(text: &str) -> Result<Self, InvalidSetting> {
        let rule = "must be a place such as http://chat.internal:8080, without a path";
        Self::parse(text, &["http", "https"]).ok_or_else(|| rule.into())
    }

    /// Reads the place of a database, `localhost:5432`.
    pub(super) fn database(text: &str) -> Result<Self, InvalidSetting> {
        let rule = "must be a host and a port such as localhost:5432";
        Self::parse(&format!("postgres://{text}"), &["postgres"]).ok_or_else(|| rule.into())
    }

    fn parse(text: &str, schemes: &[&str]) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = match port {
            Some("*") => None,
            Some(port) => Some(port.parse().ok()?),
            None => Some(default_port(scheme)?),
        };
        let sample = host.replacen('*', "any", 1);
        let is_pattern = host == "*" || host.starts_with("*.") || !host.contains('*');
        let is_host = is_pattern && url::Host::parse(&sample).is_ok();
        let known = scheme == "*" || schemes.contains(&scheme);
        (known && is_host).then(|| Self {
            scheme: (scheme != "*").then(|| scheme.to_owned()),
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    fn allows(&self, url: &Url) -> bool {
        let port = url.port().or_else(|| default_port(url.scheme()));
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let is_host = match self.host.strip_prefix('*') {
            Some(end) => host.ends_with(end),
            None => host == self.host,
        };
        let is_scheme = self.scheme.as_deref().is_none_or(|scheme| {
            let postgres = url.scheme() == "postgresql" && scheme == "postgres";
            postgres || scheme == url.scheme()
        });
        is_scheme && is_host && (self.port.is_none() || self.port == port)
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        "postgres" | "postgresql" => Some(5432),
        _ => None,
    }
}

impl Values {
    /// Checks that settings about other places fit together, as far as can be known before anything
    /// is connected to.
    ///
    /// # Errors
    /// [`SettingError`] for a receiver that would be sent nothing, and for a database that Spin would
    /// keep from the component.
    pub fn check_places(&self, host: Host, mode: AuthMode) -> Result<(), SettingError> {
        let refuse = |variable: &str, rule: String| {
            let setting = super::SETTINGS.iter().find(|row| row.variable == variable);
            let name = setting.map_or(variable.into(), |row| row.name(host));
            Err(SettingError::new(name, rule, None))
        };
        if let (Host::Spin, Some(DatabaseUrl::Postgres(url))) = (host, &self.database_url)
            && let Ok(url) = Url::parse(url)
            && let Some(name) = url.host_str()
            && !self.database_host.allows(&url)
        {
            let port = url.port().unwrap_or(5432);
            let rule = format!("must be {name}:{port}, where database_url is");
            return refuse("DATABASE_HOST", rule);
        }
        if let Some(url) = &self.notification_webhook_url {
            let checked = match crate::channel::is_mail(url) {
                true => self.check_mail(host),
                false => self.check_receiver(host, mode, url),
            };
            if let Err(rule) = checked {
                return refuse("NOTIFICATION_WEBHOOK_URL", rule.to_owned());
            }
        }
        match self.shared_channel() {
            Ok(_) => Ok(()),
            Err((variable, rule)) => refuse(variable, rule.0.into_owned()),
        }
    }

    /// Checks that this instance sends mail. What would be right completes a sentence that begins with
    /// the name of the field.
    pub(crate) fn check_mail(&self, host: Host) -> Result<(), &'static str> {
        match (host, &self.smtp_host) {
            (Host::Native, Some(_)) => Ok(()),
            (Host::Native, None) => Err("must not be mailto: while SMTP_HOST is not set"),
            _ => Err("must not be mailto: on this host, which sends no mail"),
        }
    }

    /// Checks a receiver's URL by all that is known without asking anyone. What would be right
    /// completes a sentence that begins with the name of the field or setting.
    pub(crate) fn check_receiver(
        &self,
        host: Host,
        mode: AuthMode,
        url: &str,
    ) -> Result<(), &'static str> {
        let Ok(url) = Url::parse(url) else {
            return Ok(());
        };
        let reach = url
            .as_str()
            .parse()
            .map_or(Reach::Public, |uri| reach_by_name(&uri));
        match (host, reach) {
            (_, Reach::Forbidden) => Err("must not be a link-local or metadata address"),
            (Host::Native, Reach::Private) if !self.allows_private_receivers(mode) => {
                Err("must not be a private or loopback address unless \
                 NOTIFICATION_ALLOW_PRIVATE_ADDRESSES is true")
            }
            (Host::Spin, _) if url.scheme() != "https" && !self.notification_host.allows(&url) => {
                Err("must start with https unless it is the place that notification_host names")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_spin_reads_them() {
        for (text, url, allowed) in [
            (
                "http://chat.internal:8080",
                "http://chat.internal:8080/x",
                true,
            ),
            (
                "http://chat.internal:8080",
                "http://Chat.Internal:8080",
                true,
            ),
            ("http://chat.internal:8080", "http://chat.internal/", false),
            (
                "http://chat.internal:8080",
                "https://chat.internal:8080/",
                false,
            ),
            ("http://chat.internal", "http://chat.internal/", true),
            ("http://*.internal:*", "http://a.internal:1/", true),
            ("http://*.internal:*", "http://internal:1/", false),
            ("http://*:*", "http://anything/", true),
            ("*://a:1", "http://a:1", true),
            ("http://127.0.0.1:*", "http://127.0.0.1:5/", true),
            ("http://[::1]:80", "http://[::1]/", true),
        ] {
            let place = AllowedHost::receiver(text).unwrap();
            assert_eq!(
                place.allows(&Url::parse(url).unwrap()),
                allowed,
                "{text} {url}"
            );
        }
        for text in [
            "foo",
            "foo:80",
            "http://",
            "http://a/b",
            "ftp://a:1",
            "http://a:x",
            "http://a*:1",
        ] {
            assert!(AllowedHost::receiver(text).is_err(), "{text}");
        }
        for text in ["", ":5432", "a:b", "postgres://a"] {
            assert!(AllowedHost::database(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_about_places_fit_together_or_one_of_them_is_named() {
        let check = |host, settings: &[(&'static str, &str)]| {
            let texts = settings
                .iter()
                .map(|(name, text)| (*name, (*text).to_owned()));
            let values = Values::read(host, texts.collect()).unwrap();
            let checked = values.check_places(host, values.mode(false));
            checked.map_or_else(|error| error.to_string(), |()| String::new())
        };
        let database = |at| {
            [
                ("DATABASE_URL", "postgres://u:p@db/name"),
                ("DATABASE_HOST", at),
            ]
        };
        assert_eq!(check(Host::Spin, &database("db:5432")), "");
        assert_eq!(check(Host::Spin, &database("*:*")), "");
        let elsewhere = "database_host must be db:5432, where database_url is";
        assert_eq!(check(Host::Spin, &database("other:5432")), elsewhere);
        assert_eq!(check(Host::Spin, &database("db:5433")), elsewhere);

        let receiver = |url| {
            [
                ("NOTIFICATION_WEBHOOK_URL", url),
                ("NOTIFICATION_HOST", "http://a:1"),
            ]
        };
        for url in ["https://example.com/x", "http://a:1/x"] {
            assert_eq!(check(Host::Spin, &receiver(url)), "", "{url}");
        }
        assert_eq!(
            check(Host::Spin, &receiver("http://b:1/x")),
            "notification_webhook_url must start with https unless it is the place that \
             notification_host names"
        );
        let local = [("NOTIFICATION_WEBHOOK_URL", "http://127.1:9/x")];
        assert_eq!(check(Host::Wasmcloud, &local), "");
        assert_eq!(
            check(Host::Native, &local),
            "NOTIFICATION_WEBHOOK_URL must not be a private or loopback address unless \
             NOTIFICATION_ALLOW_PRIVATE_ADDRESSES is true"
        );
        let allowed = [local[0], ("NOTIFICATION_ALLOW_PRIVATE_ADDRESSES", "true")];
        assert_eq!(check(Host::Native, &allowed), "");
        let open = [local[0], ("AUTH_MODE", "open")];
        assert_eq!(check(Host::Native, &open), "");
        let shared = |url: &'static str, more: (&'static str, &'static str)| {
            check(Host::Native, &[("NOTIFICATION_WEBHOOK_URL", url), more])
        };
        let slack = "https://hooks.slack.com/services/x";
        let events = ("NOTIFICATION_EVENTS", "silent");
        assert_eq!(shared(slack, events), "");
        let needs_format = "NOTIFICATION_EVENTS needs NOTIFICATION_WEBHOOK_FORMAT beside it";
        assert_eq!(shared("https://example.com/x", events), needs_format);
        let needs_url = "NOTIFICATION_EVENTS needs NOTIFICATION_WEBHOOK_URL beside it";
        assert_eq!(check(Host::Native, &[events]), needs_url);
        assert_eq!(
            shared("https://ntfy.sh", ("NOTIFICATION_WEBHOOK_FORMAT", "ntfy")),
            "NOTIFICATION_WEBHOOK_URL must end with the topic: https://ntfy.sh/topic"
        );
        let pagerduty = ("NOTIFICATION_WEBHOOK_FORMAT", "pagerduty");
        assert_eq!(
            shared("https://example.com/x", pagerduty),
            "NOTIFICATION_WEBHOOK_SECRET must be the routing key of the PagerDuty service"
        );
        let mail = ("NOTIFICATION_WEBHOOK_URL", "MAILTO:us@example.com");
        let no_mail = "NOTIFICATION_WEBHOOK_URL must not be mailto: while SMTP_HOST is not set";
        assert_eq!(check(Host::Native, &[mail]), no_mail);
        assert_eq!(check(Host::Native, &[mail, ("SMTP_HOST", "mail")]), "");
        let elsewhere = check(Host::Spin, &[mail]);
        assert!(
            elsewhere.ends_with("on this host, which sends no mail"),
            "{elsewhere}"
        );
        for host in [Host::Native, Host::Spin, Host::Wasmcloud] {
            let metadata = [("NOTIFICATION_WEBHOOK_URL", "http://169.254.169.254/latest")];
            let message = check(host, &metadata);
            assert!(
                message.ends_with("must not be a link-local or metadata address"),
                "{message}"
            );
        }
    }
}
