//! The configuration, read from named texts: Spin's variables, wasmCloud's configuration.

use std::time::Duration;

use chrono::TimeDelta;
use kubeagents_core::settings::{
    MIN_JWT_SECRET_BYTES, parse_base_url, parse_expiry, parse_static_key, parse_switch,
    parse_timeout_seconds, parse_ttl_minutes, parse_webhook_url,
};
use kubeagents_core::{AuthMode, CorsPolicy, InvalidSetting, Settings, StoreError};

use crate::StartError;

/// The names of all settings, in the form of Spin's variables.
pub const SETTINGS: [&str; 12] = [
    "auth_mode",
    "api_key",
    "jwt_secret",
    "jwt_access_token_expiry",
    "jwt_refresh_token_expiry",
    "default_ttl_minutes",
    "cors_allowed_origins",
    "app_base_url",
    "notification_webhook_url",
    "notification_timeout_seconds",
    "registration_enabled",
    "database_url",
];

/// The configuration of a component.
pub struct Config {
    /// What the core is told; its `jwt_secret` is empty where none is configured.
    pub(crate) settings: Settings,
    /// How long one attempt at a notification may take.
    pub(crate) notification_timeout: Duration,
    /// The PostgreSQL database to use, if any.
    pub database_url: Option<String>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A setting has a value that it cannot have.
    #[error("{name} {problem}")]
    Invalid {
        /// The setting.
        name: &'static str,
        /// What would be right.
        problem: InvalidSetting,
    },
    /// The platform did not give out a setting.
    #[error("{name} cannot be read: {cause}")]
    Unreadable {
        /// The setting.
        name: &'static str,
        /// What the platform said.
        cause: String,
    },
}

impl Config {
    /// Reads every setting through `lookup`, which is asked for the names in [`SETTINGS`]. An empty
    /// text counts as absent.
    ///
    /// # Errors
    /// [`ConfigError`] for the first setting that is wrong or cannot be read.
    pub async fn read(
        mut lookup: impl AsyncFnMut(&'static str) -> Result<Option<String>, String>,
    ) -> Result<Self, ConfigError> {
        let mut texts: [Option<String>; SETTINGS.len()] = Default::default();
        for (name, text) in SETTINGS.into_iter().zip(&mut texts) {
            let found = lookup(name).await;
            *text = found
                .map_err(|cause| ConfigError::Unreadable { name, cause })?
                .filter(|text| !text.is_empty());
        }
        let [
            auth_mode,
            api_key,
            jwt_secret,
            jwt_access_token_expiry,
            jwt_refresh_token_expiry,
            default_ttl_minutes,
            cors_allowed_origins,
            app_base_url,
            notification_webhook_url,
            notification_timeout_seconds,
            registration_enabled,
            database_url,
        ] = texts;
        let short = |secret: &String| secret.len() < MIN_JWT_SECRET_BYTES;
        if jwt_secret.as_ref().is_some_and(short) {
            tracing::warn!("jwt_secret is shorter than {MIN_JWT_SECRET_BYTES} bytes");
        }
        let app_base_url = app_base_url.unwrap_or_else(|| "http://localhost:5173".to_owned());
        Ok(Self {
            settings: Settings {
                mode: parse("auth_mode", auth_mode, AuthMode::parse)?.unwrap_or(AuthMode::Required),
                loopback_only: false,
                static_key: parse("api_key", api_key, parse_static_key)?,
                jwt_secret: jwt_secret.unwrap_or_default(),
                access_token_expiry: parse(
                    "jwt_access_token_expiry",
                    jwt_access_token_expiry,
                    parse_expiry,
                )?
                .unwrap_or(TimeDelta::minutes(15)),
                refresh_token_expiry: parse(
                    "jwt_refresh_token_expiry",
                    jwt_refresh_token_expiry,
                    parse_expiry,
                )?
                .unwrap_or(TimeDelta::days(7)),
                cors: parse(
                    "cors_allowed_origins",
                    cors_allowed_origins,
                    CorsPolicy::parse,
                )?,
                registration_enabled: parse(
                    "registration_enabled",
                    registration_enabled,
                    parse_switch,
                )?
                .unwrap_or(true),
                default_ttl_minutes: parse(
                    "default_ttl_minutes",
                    default_ttl_minutes,
                    parse_ttl_minutes,
                )?
                .unwrap_or(60),
                app_base_url: parse("app_base_url", Some(app_base_url), parse_base_url)?
                    .unwrap_or_default(),
                notification_webhook_url: parse(
                    "notification_webhook_url",
                    notification_webhook_url,
                    parse_webhook_url,
                )?,
            },
            notification_timeout: parse(
                "notification_timeout_seconds",
                notification_timeout_seconds,
                parse_timeout_seconds,
            )?
            .unwrap_or(Duration::from_secs(5)),
            database_url,
        })
    }

    /// What to answer requests with while storage does not answer.
    pub fn without_storage(&self, cause: StoreError) -> StartError {
        let cors = self.settings.cors_policy();
        StartError::Store { cors, cause }
    }
}

fn parse<T>(
    name: &'static str,
    text: Option<String>,
    read: impl FnOnce(&str) -> Result<T, InvalidSetting>,
) -> Result<Option<T>, ConfigError> {
    text.as_deref()
        .map(read)
        .transpose()
        .map_err(|problem| ConfigError::Invalid { name, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(values: &[(&str, &str)]) -> Result<Config, String> {
        let lookup = async |name: &'static str| {
            let found = values.iter().find(|(key, _)| *key == name);
            Ok(found.map(|(_, value)| (*value).to_owned()))
        };
        Config::read(lookup)
            .await
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn without_settings_credentials_are_required_and_nobody_is_notified() {
        let config = read(&[]).await.unwrap();
        assert_eq!(config.settings.mode, AuthMode::Required);
        assert_eq!(config.settings.default_ttl_minutes, 60);
        assert_eq!(config.settings.notification_webhook_url, None);
        assert!(config.settings.registration_enabled);
        assert_eq!(config.settings.access_token_expiry, TimeDelta::minutes(15));
        assert_eq!(config.settings.refresh_token_expiry, TimeDelta::hours(168));
        assert_eq!(config.notification_timeout, Duration::from_secs(5));
        assert_eq!(config.database_url, None);
    }

    #[tokio::test]
    async fn each_kind_of_token_has_an_expiry_of_its_own() {
        let expiries = [
            ("jwt_access_token_expiry", "90s"),
            ("jwt_refresh_token_expiry", "1h30m"),
        ];
        let settings = read(&expiries).await.unwrap().settings;
        assert_eq!(settings.access_token_expiry, TimeDelta::seconds(90));
        assert_eq!(settings.refresh_token_expiry, TimeDelta::minutes(90));
    }

    #[tokio::test]
    async fn an_empty_setting_counts_as_absent() {
        let empty = SETTINGS.map(|name| (name, ""));
        assert!(read(&empty).await.is_ok());
    }

    #[tokio::test]
    async fn a_bad_setting_is_named_with_what_would_be_right() {
        for (name, value, message) in [
            ("auth_mode", "maybe", "auth_mode must be open or required"),
            ("api_key", "short", "api_key must be at least 16 characters"),
            (
                "registration_enabled",
                "no",
                "registration_enabled must be true or false",
            ),
        ] {
            assert_eq!(read(&[(name, value)]).await.err().as_deref(), Some(message));
        }
    }

    #[tokio::test]
    async fn every_setting_is_asked_for_by_its_name() {
        let mut asked = Vec::new();
        let lookup = async |name| {
            asked.push(name);
            Ok(None)
        };
        assert!(Config::read(lookup).await.is_ok());
        assert_eq!(asked, SETTINGS);
    }
}
