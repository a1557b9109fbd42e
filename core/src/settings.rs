//! The configuration: one table of settings, which every host reads.
//!
//! A row of [`table`] is all there is to a setting: its name, its default, how its text is read, one
//! line of help, the hosts that have it, and whether it is a secret. A host finds the texts
//! (environment, flags, a platform's variables) and [`Values`] says what they mean.

use chrono::TimeDelta;

mod client;
mod cors;
mod database;
mod host_names;
mod members;
mod networks;
mod parse;
mod receivers;
mod secret;
mod setting;
mod shared_channel;
mod table;

pub use client::{CLIENT_SETTINGS, ClientValues};
pub use cors::{CorsPolicy, OriginPattern};
pub use database::DatabaseUrl;
pub use host_names::HostNames;
pub(crate) use host_names::{is_ip_authority, is_loopback_authority, is_origin_of, is_same_origin};
pub use members::Members;
pub use networks::Networks;
pub use receivers::AllowedHost;
pub use secret::JWT_SECRET_NAME;
pub use setting::{Host, InvalidSetting, Setting, SettingError, Texts, Unset};
pub(crate) use shared_channel::SHARED_CHANNEL;
pub use table::{LogFormat, SETTINGS, Storage, Values};

/// Who may use the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// Anyone, in the one shared workspace.
    Open,
    /// Whoever has credentials, each account in its own workspace.
    Required,
}

impl AuthMode {
    /// The mode's name, as `AUTH_MODE` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Required => "required",
        }
    }
}

/// The configuration as the core acts on it: what is set, and what follows from it on this instance.
#[derive(Clone)]
pub struct Settings {
    /// What is set.
    pub values: Values,
    /// What serves it.
    pub host: Host,
    /// Who may use the instance.
    pub mode: AuthMode,
    /// True if the instance is reachable through loopback only, or cannot know how it is reached:
    /// then, in open mode, requests whose `Host` is neither a loopback name nor among
    /// [`Values::allowed_hosts`] are refused, against DNS rebinding.
    pub loopback_only: bool,
    /// The address of the instance's own page, `http://host:port`, where the instance knows it.
    pub own_url: Option<String>,
    /// What signs tokens.
    pub jwt_secret: String,
}

impl Settings {
    /// Where the dashboard is, where that is configured.
    pub(crate) fn dashboard(&self) -> Option<&str> {
        self.values.app_base_url.as_deref()
    }

    /// Which web pages may use the instance, by what is configured or by the mode.
    pub fn cors_policy(&self) -> CorsPolicy {
        self.values.cors_policy(self.mode)
    }
}

impl Values {
    /// Who may use the instance. `local`: whether only this machine reaches it, and its storage is
    /// one machine's.
    pub fn mode(&self, local: bool) -> AuthMode {
        self.auth_mode.unwrap_or(match local {
            true => AuthMode::Open,
            false => AuthMode::Required,
        })
    }

    /// Which web pages may use an instance in this mode.
    pub fn cors_policy(&self, mode: AuthMode) -> CorsPolicy {
        let configured = self.cors_allowed_origins.clone();
        configured.unwrap_or_else(|| CorsPolicy::default_for(mode))
    }

    /// How long entries of the audit are kept.
    pub fn audit_retention(&self) -> TimeDelta {
        TimeDelta::days(self.audit_retention_days.into())
    }

    /// Checks whether notifications may go to private and loopback addresses in this mode.
    pub fn allows_private_receivers(&self, mode: AuthMode) -> bool {
        self.notification_allow_private_addresses
            .unwrap_or(mode == AuthMode::Open)
    }
}
