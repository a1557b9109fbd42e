//! The configuration, read from named texts: Spin's variables, wasmCloud's environment.

use chrono::TimeDelta;
use kubeagents_core::bucket::{Draw, Drawn, Rate};
use kubeagents_core::ports::Clock;
use kubeagents_core::settings::{Host, SETTINGS, SettingError, Texts, Values};
use kubeagents_core::store::Buckets;
use kubeagents_core::{AuthMode, StoreError, Timestamp};

use crate::StartError;
use crate::ports::WallClock;

/// How often the log names what has no effect.
const DAILY: Rate = Rate {
    times: 1,
    per: TimeDelta::days(1),
};

/// The configuration of a component.
pub struct Config {
    /// Values of the settings.
    pub values: Values,
    /// Host on which the component runs.
    pub(crate) host: Host,
    /// Authentication mode: who may use the component.
    pub(crate) mode: AuthMode,
    /// Variables that are set and that only other hosts have.
    ignored: Vec<&'static str>,
}

/// Failure to read a usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A setting has a value that it cannot have.
    #[error(transparent)]
    Invalid(#[from] SettingError),
    /// The platform did not give out a setting.
    #[error("{name} cannot be read: {cause}")]
    Unreadable {
        /// The setting.
        name: String,
        /// Platform's error message.
        cause: String,
    },
}

impl Config {
    /// Reads every setting of a host through `lookup`, which is asked for the names it has there. An
    /// empty text counts as absent.
    ///
    /// # Errors
    /// [`ConfigError`] for the first setting that is wrong or cannot be read.
    pub async fn read(
        host: Host,
        mut lookup: impl AsyncFnMut(&str) -> Result<Option<String>, String>,
    ) -> Result<Self, ConfigError> {
        let mut texts = Texts::new();
        for setting in SETTINGS.iter().filter(|setting| setting.is_on(host)) {
            let name = setting.name(host);
            match lookup(&name).await {
                // What only Spin has stands in its manifest too, where an empty text is no default.
                Ok(Some(text)) if text.is_empty() && setting.hosts == [Host::Spin] => {
                    Err(SettingError::new(name, "must not be empty", None))?;
                }
                Ok(Some(text)) => drop(texts.insert(setting.variable, text)),
                Ok(None) => {}
                Err(cause) => {
                    let name = name.into_owned();
                    return Err(ConfigError::Unreadable { name, cause });
                }
            }
        }
        let mut ignored = Vec::new();
        // Spin gives out only what its manifest declares.
        let elsewhere = SETTINGS
            .iter()
            .filter(|setting| host == Host::Wasmcloud && !setting.is_on(host));
        for setting in elsewhere {
            if let Ok(Some(text)) = lookup(setting.variable).await
                && !text.is_empty()
            {
                ignored.push(setting.variable);
            }
        }
        let values = Values::read(host, texts)?;
        // A component cannot know who reaches it.
        let mode = values.mode(false);
        values.check_places(host, mode)?;
        Ok(Self {
            values,
            host,
            mode,
            ignored,
        })
    }

    /// Warns of what is set and has no effect: once a day, however many instances come and go on this
    /// storage. One may live for a single request.
    pub async fn warn(&self, store: &impl Buckets) {
        if self.may_warn(store, WallClock.now()).await {
            for variable in &self.ignored {
                tracing::warn!("{variable} has no effect on this host");
            }
        }
    }

    async fn may_warn(&self, store: &impl Buckets, now: Timestamp) -> bool {
        if self.ignored.is_empty() {
            return false;
        }
        let names = [&["warning"], &*self.ignored].concat();
        let Some(draw) = Draw::new(&names, DAILY) else {
            return true;
        };
        // What storage cannot count is said once too often rather than never.
        !matches!(store.draw(&draw, now).await, Ok(Drawn::Refused(_)))
    }

    /// Returns the error to answer requests with while storage does not answer.
    pub fn without_storage(&self, cause: StoreError) -> StartError {
        StartError::Store {
            cors: self.values.cors_policy(self.mode),
            dashboard: self.values.dashboard_enabled,
            cause,
        }
    }
}

#[cfg(test)]
mod tests {
    use kubeagents_core::store::MemoryStore;

    use super::*;

    async fn read(host: Host, values: &[(&str, &str)]) -> Result<Config, String> {
        let lookup = async |name: &str| {
            let found = values.iter().find(|(key, _)| *key == name);
            Ok(found.map(|(_, value)| (*value).to_owned()))
        };
        Config::read(host, lookup)
            .await
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn without_settings_credentials_are_required() {
        for host in [Host::Spin, Host::Wasmcloud] {
            let config = read(host, &[]).await.ok().unwrap();
            assert_eq!(config.mode, AuthMode::Required);
        }
    }

    #[tokio::test]
    async fn settings_are_asked_for_by_their_names_on_the_host() {
        for (host, name) in [
            (Host::Spin, "api_key"),
            (Host::Wasmcloud, "KUBEAGENTS_API_KEY"),
        ] {
            let config = read(host, &[(name, "sixteen-characters")]).await;
            let key = config.ok().unwrap().values.kubeagents_api_key;
            assert_eq!(key.as_deref(), Some("sixteen-characters"), "{name}");
        }
    }

    #[tokio::test]
    async fn a_bad_setting_is_named_with_what_would_be_right() {
        for (host, name, value, message) in [
            (
                Host::Spin,
                "auth_mode",
                "maybe",
                "auth_mode must be open or required, not \"maybe\"",
            ),
            (
                Host::Spin,
                "api_key",
                "short",
                "api_key must be at least 16 characters",
            ),
            (
                Host::Spin,
                "notification_host",
                "foo",
                "notification_host must be a place such as http://chat.internal:8080, without a \
                 path, not \"foo\"",
            ),
            (
                Host::Spin,
                "database_host",
                "",
                "database_host must not be empty",
            ),
            (
                Host::Spin,
                "notification_webhook_url",
                "http://chat.internal:8080/hook",
                "notification_webhook_url must start with https unless it is the place that \
                 notification_host names",
            ),
            (
                Host::Spin,
                "database_url",
                "postgres://u:p@elsewhere/name",
                "database_host must be elsewhere:5432, where database_url is",
            ),
            (
                Host::Spin,
                "database_url",
                "postgres://u:half@secret@elsewhere/name",
                "database_host must be elsewhere:5432, where database_url is",
            ),
            (
                Host::Wasmcloud,
                "STORAGE",
                "redis",
                "STORAGE must be keyvalue or postgres, not \"redis\"",
            ),
        ] {
            let refused = read(host, &[(name, value)]).await;
            assert_eq!(refused.err().as_deref(), Some(message));
        }
    }

    #[tokio::test]
    async fn what_only_other_hosts_have_is_noticed_and_has_no_effect() {
        let values = [
            ("SMTP_HOST", "mail.example.com"),
            ("AUTH_MODE", "open"),
            ("PORT", ""),
            ("DATABASE_URL", "mysql://elsewhere"),
        ];
        let config = read(Host::Wasmcloud, &values).await.ok().unwrap();
        assert_eq!(config.ignored, ["DATABASE_URL", "SMTP_HOST"]);
        assert_eq!(config.values.smtp_host, None);
        let config = read(Host::Spin, &values).await.ok().unwrap();
        assert!(config.ignored.is_empty());
    }

    #[tokio::test]
    async fn what_has_no_effect_is_named_once_a_day() {
        let store = MemoryStore::default();
        let now = WallClock.now();
        for (variables, hours, expected) in [
            (&["SMTP_HOST"][..], 0, true),
            (&["SMTP_HOST"], 23, false),
            (&["SMTP_HOST", "TLS_CERT_FILE"], 23, true),
            (&["SMTP_HOST"], 25, true),
            (&["SMTP_HOST"], 26, false),
            (&["AUTH_MODE"], 26, false),
        ] {
            let values: Vec<_> = variables.iter().map(|name| (*name, "open")).collect();
            let config = read(Host::Wasmcloud, &values).await.ok().unwrap();
            let warns = config.may_warn(&store, now + TimeDelta::hours(hours)).await;
            assert_eq!(warns, expected, "{variables:?} after {hours} h");
        }
    }

    #[tokio::test]
    async fn a_setting_that_cannot_be_read_is_named() {
        let broken = async |_: &str| Err("gone".to_owned());
        let refused = Config::read(Host::Spin, broken).await;
        let message = refused.err().map(|error| error.to_string());
        assert_eq!(message.as_deref(), Some("auth_mode cannot be read: gone"));
    }
}
