use std::time::Duration;

use crate::{Log, Receiver};

/// Access to a server without credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Everybody, in the one shared workspace.
    Open,
    /// Nobody: every account has a workspace of its own.
    Required,
}

/// A running server, as far as the suite needs to know it.
///
/// The suite guesses nothing: scenarios that need an unset field are reported as ignored.
#[derive(Clone, Debug)]
pub struct Host {
    /// Base URLs without a trailing slash, `http` only. Requests go to them in turn, so several
    /// hosts over one storage can be put to the contract as one.
    pub urls: Vec<String>,
    /// The server's `AUTH_MODE`.
    pub mode: Mode,
    /// The instance's `KUBEAGENTS_API_KEY`.
    pub static_key: Option<String>,
    /// The instance's `JWT_SECRET`, with which the suite signs tokens of its own.
    pub jwt_secret: Option<String>,
    /// Log that holds verification links, each in a line with its address. Without it there are no
    /// accounts.
    pub log: Option<Log>,
    /// Receives what the server sends to its `NOTIFICATION_WEBHOOK_URL`, which must be
    /// [`Receiver::instance_url`].
    pub instance_receiver: Option<Receiver>,
    /// The instance's `JWT_ACCESS_TOKEN_EXPIRY`, 15 minutes by default.
    pub access_token_expiry: Duration,
    /// Set if the instance runs with [`SETTINGS`]. Only the scenarios for those then apply.
    pub has_settings: bool,
    /// Set if the instance runs with [`MEMBERS`].
    pub has_members: bool,
    /// Set if the server knows its clients' addresses, which not every platform tells.
    pub knows_clients: bool,
    /// Set if notifications reach receivers on this machine's loopback addresses.
    pub notifies_loopback: bool,
    /// Set if the answer to a report never waits for its notification. A component whose instance
    /// ends with its answer can only deliver before it, for a moment.
    pub answers_before_delivering: bool,
    /// Set if all instances of the server together count the notifications in flight to one
    /// receiver, rather than each for itself.
    pub counts_deliveries_together: bool,
    /// Longest time for which another host or instance may accept a revoked key, or a token of a
    /// deleted account: zero where there is one, at most 5 seconds by the contract.
    pub revocation_delay: Duration,
    /// Set if the server streams events.
    pub streams: bool,
}

impl Host {
    /// A single host with the default configuration, of which nothing else is known.
    pub fn new(url: impl Into<String>, mode: Mode) -> Self {
        Self {
            urls: vec![url.into()],
            mode,
            static_key: None,
            jwt_secret: None,
            log: None,
            instance_receiver: None,
            access_token_expiry: Duration::from_secs(15 * 60),
            has_settings: false,
            has_members: false,
            knows_clients: true,
            notifies_loopback: true,
            answers_before_delivering: true,
            counts_deliveries_together: true,
            revocation_delay: Duration::ZERO,
            streams: true,
        }
    }

    /// Checks whether every URL leads to this machine alone.
    pub(crate) fn is_on_loopback(&self) -> bool {
        let loopback = ["http://127.", "http://localhost", "http://[::1]"];
        let is_loopback = |url: &String| loopback.iter().any(|start| url.starts_with(start));
        self.urls.iter().all(is_loopback)
    }
}

/// Who works in the shared workspace, as an environment variable.
pub const MEMBERS: (&str, &str) = ("SHARED_WORKSPACE_MEMBERS", "@members.example.com");

/// Settings that differ from the default, as environment variables of a server in required mode.
pub const SETTINGS: [(&str, &str); 9] = [
    ("REGISTRATION_ENABLED", "false"),
    (
        "CORS_ALLOWED_ORIGINS",
        "https://app.example.com, https://*.example.org",
    ),
    ("DEFAULT_TTL_MINUTES", "7"),
    ("LOGIN_ATTEMPTS_PER_MINUTE", "1"),
    ("HOOK_DETAIL", "title"),
    ("DASHBOARD_ENABLED", "false"),
    ("MAX_AGENTS", "3"),
    ("REPORTS_PER_MINUTE", "90"),
    ("MAX_SESSIONS_PER_AGENT", "4"),
];
