//! The configuration: environment variables, or the flags of the same names.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use chrono::TimeDelta;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Args, Command, CommandFactory, FromArgMatches, Parser};
use kubeagents_core::settings::{
    self, parse_base_url, parse_expiry, parse_static_key, parse_switch, parse_timeout_seconds,
    parse_ttl_minutes, parse_webhook_url,
};
use kubeagents_core::{AuthMode, CorsPolicy, InvalidSetting, Settings};
use lettre::message::Mailbox;
use tracing_subscriber::EnvFilter;

use crate::mcp::McpOptions;
use crate::postgres::{Database, DatabaseOptions};

/// Collects what AI agents report about their work, and shows it.
///
/// Without a command, serves. Every flag has an environment variable of the same name; the flag
/// wins, and an empty variable counts as unset.
#[derive(Parser)]
#[command(name = "kubeagents", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) config: Config,
    #[command(subcommand)]
    pub(crate) task: Option<Task>,
}

/// What to do instead of serving.
#[derive(clap::Subcommand)]
pub(crate) enum Task {
    /// Ask the server at HOST and PORT whether it is alive: exit code 0 if it is, else 1.
    Health,
    /// Serve the Model Context Protocol on standard input and output.
    ///
    /// For agents that start a command: what they report is passed on to a kubeagents server. Of the
    /// variables and flags of the server, only those of the log count here.
    Mcp(McpOptions),
    /// Drop the Go server's tables, which are kept in the schema kubeagents_go after its database
    /// has been taken over.
    DropGoTables,
}

#[derive(Args)]
pub(crate) struct Config {
    /// The IP address to listen on, or `localhost`.
    #[arg(long, env, default_value = "127.0.0.1", value_parser = parse_host)]
    pub(crate) host: IpAddr,

    /// The TCP port to listen on; 0: any free one, which the log names.
    #[arg(long, env, default_value = "8080", value_parser = parse_port)]
    pub(crate) port: u16,

    /// `open`: anyone may report and read; `required`: credentials are needed, and each account has
    /// a workspace of its own [default: open when storage is memory and HOST is loopback, else
    /// required].
    #[arg(long, env, value_parser = AuthMode::parse)]
    auth_mode: Option<AuthMode>,

    /// The static key of the shared workspace, at least 16 characters.
    #[arg(long, env, value_parser = parse_static_key, hide_env_values = true)]
    kubeagents_api_key: Option<String>,

    /// Web pages that may use the server: `*`, or origins such as `https://app.example.com` or
    /// `https://*.example.com` with commas between them [default: `*` in required mode, loopback
    /// origins in open mode].
    #[arg(long, env, value_parser = CorsPolicy::parse)]
    cors_allowed_origins: Option<CorsPolicy>,

    /// Whether new accounts may register.
    #[arg(long, env, default_value = "true", value_parser = parse_switch, action = ArgAction::Set)]
    registration_enabled: bool,

    /// How long a session lives without a report when its first report names no TTL, in minutes
    /// (1-1440).
    #[arg(long, env, default_value = "60", value_parser = parse_ttl_minutes)]
    default_ttl_minutes: u32,

    /// How long one attempt at a notification may take, in seconds (1-60).
    #[arg(long, env, default_value = "5", value_parser = parse_timeout_seconds)]
    pub(crate) notification_timeout_seconds: Duration,

    /// Who is told of what happens in the shared workspace, an HTTP URL.
    #[arg(long, env, value_parser = parse_webhook_url, hide_env_values = true)]
    notification_webhook_url: Option<String>,

    /// Whether notifications may go to private and loopback addresses [default: true in open mode,
    /// else false]. Link-local and metadata addresses are refused in any case.
    #[arg(long, env, value_parser = parse_switch, action = ArgAction::Set)]
    notification_allow_private_addresses: Option<bool>,

    /// Where the dashboard is: verification links begin with it.
    #[arg(long, env, default_value = "http://localhost:5173", value_parser = parse_base_url)]
    app_base_url: String,

    /// What signs tokens, at least 32 bytes [default: generated, and kept in storage].
    #[arg(long, env, hide_env_values = true)]
    jwt_secret: Option<String>,

    /// How long an access token works (`90s`, `15m`, `1h30m`).
    #[arg(long, env, default_value = "15m", value_parser = parse_expiry)]
    jwt_access_token_expiry: TimeDelta,

    /// How long a refresh token works.
    #[arg(long, env, default_value = "168h", value_parser = parse_expiry)]
    jwt_refresh_token_expiry: TimeDelta,

    #[command(flatten)]
    database: DatabaseOptions,

    /// How long statuses are kept, in days (1-36500); the newest of each session and the start of
    /// its run stay in any case. Needs PostgreSQL [default: for ever].
    #[arg(long, env, value_parser = parse_days)]
    pub(crate) history_retention_days: Option<u32>,

    #[command(flatten)]
    smtp: SmtpOptions,

    /// How the log is written to standard error: `text` or `json`.
    #[arg(long, env, default_value = "text", value_parser = LogFormat::parse)]
    pub(crate) log_format: LogFormat,

    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or directives such as
    /// `info,kubeagents=debug`; `debug` has a line for each request.
    #[arg(long, env, default_value = "info", value_parser = parse_log_filter)]
    pub(crate) rust_log: String,
}

#[derive(Args)]
struct SmtpOptions {
    /// The mail server that sends verification mails; without one the links are logged.
    #[arg(long, env, value_parser = parse_host_name)]
    smtp_host: Option<String>,

    /// The mail server's port: 465 speaks TLS from the start, on others STARTTLS is required,
    /// except on loopback.
    #[arg(long, env, default_value = "587", value_parser = parse_port)]
    smtp_port: u16,

    /// The user name at the mail server.
    #[arg(long, env)]
    smtp_user: Option<String>,

    /// The password at the mail server.
    #[arg(long, env, hide_env_values = true)]
    smtp_password: Option<String>,

    /// The sender of mails: `kubeagents@example.com` or `Name <kubeagents@example.com>`; required
    /// with SMTP_HOST.
    #[arg(long, env, value_parser = parse_mailbox)]
    smtp_from: Option<Mailbox>,
}

/// A mail server that is configured whole.
pub(crate) struct Smtp {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// User and password.
    pub(crate) credentials: Option<(String, String)>,
    pub(crate) from: Mailbox,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Why the process cannot start with this configuration: one line for a person.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub(crate) String);

impl LogFormat {
    fn parse(text: &str) -> Result<Self, InvalidSetting> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(InvalidSetting("must be text or json")),
        }
    }
}

fn parse_host(text: &str) -> Result<IpAddr, InvalidSetting> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        _ => text.parse().map_err(|_| {
            InvalidSetting("must be localhost or an IP address such as 127.0.0.1, 0.0.0.0 or ::")
        }),
    }
}

fn parse_port(text: &str) -> Result<u16, InvalidSetting> {
    text.parse()
        .map_err(|_| InvalidSetting("must be a port number from 0 to 65535"))
}

fn parse_host_name(text: &str) -> Result<String, InvalidSetting> {
    url::Host::parse(text)
        .map(|_| text.to_owned())
        .map_err(|_| InvalidSetting("must be a host name or an IP address, without a port"))
}

fn parse_mailbox(text: &str) -> Result<Mailbox, InvalidSetting> {
    text.parse().map_err(|_| {
        InvalidSetting("must be an address such as kubeagents@example.com, with or without a name")
    })
}

fn parse_days(text: &str) -> Result<u32, InvalidSetting> {
    text.parse()
        .ok()
        .filter(|days| (1..=36_500).contains(days))
        .ok_or(InvalidSetting("must be a number of days from 1 to 36500"))
}

fn parse_log_filter(text: &str) -> Result<String, InvalidSetting> {
    EnvFilter::builder()
        .parse(text)
        .map(|_| text.to_owned())
        .map_err(|_| {
            InvalidSetting(
                "must be a level such as info, or directives such as info,kubeagents=debug",
            )
        })
}

impl Cli {
    /// Reads the process's arguments and environment. Prints help and version, and exits then.
    ///
    /// # Errors
    /// [`ConfigError`] for a value that breaks its rule, without the value where that is a secret.
    pub(crate) fn read() -> Result<Self, ConfigError> {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        let mut command = Self::command();
        if arguments.get(1).is_some_and(|argument| argument == "mcp") {
            // An agent starts it in whatever environment it runs in: HOST there is not this one.
            command = command.mut_args(|arg| match arg.get_id().as_str() {
                "log_format" | "rust_log" => arg,
                _ => arg.env(None::<&str>),
            });
        }
        for variable in command.get_arguments().filter_map(|arg| arg.get_env()) {
            if std::env::var_os(variable).is_some_and(|value| value.to_str().is_none()) {
                let name = variable.to_string_lossy();
                return Err(ConfigError(format!("{name} must be UTF-8")));
            }
        }
        let unless_empty = |arg: Arg| match arg.get_env() {
            Some(name) if std::env::var_os(name).is_some_and(|value| value.is_empty()) => {
                arg.env(None::<&str>)
            }
            _ => arg,
        };
        let mut without_empty = command
            .clone()
            .mut_args(unless_empty)
            .mut_subcommands(|task| task.mut_args(unless_empty));
        let cli = without_empty
            .try_get_matches_from_mut(arguments.clone())
            .and_then(|matches| Self::from_arg_matches(&matches))
            .map_err(|error| match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    // By the command that still knows the empty variables.
                    command.clone().get_matches_from(arguments);
                    error.exit()
                }
                _ => explain(&error, command.clone()),
            })?;
        cli.config.smtp()?;
        cli.config.database()?;
        Ok(cli)
    }
}

/// One line that names the variable, its value, and what would be right.
fn explain(error: &clap::Error, mut command: Command) -> ConfigError {
    // An argument shows itself as errors do only once its command is built.
    command.build();
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let arg = context(ContextKind::InvalidArg).and_then(|shown| {
        let of_tasks = command.get_subcommands().flat_map(Command::get_arguments);
        let mut known = command.get_arguments().chain(of_tasks);
        known.find(|arg| arg.to_string() == shown)
    });
    let rule = std::error::Error::source(error);
    ConfigError(match (arg, rule) {
        (Some(arg), Some(rule)) => {
            let name = arg.get_env().unwrap_or_default().to_string_lossy();
            match context(ContextKind::InvalidValue) {
                Some(value) if !arg.is_hide_env_values_set() => {
                    format!("{name} {rule}, not {value:?}")
                }
                _ => format!("{name} {rule}"),
            }
        }
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        }
    })
}

impl Config {
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// Who may use the server. `durable`: whether storage is more than this process's memory.
    pub(crate) fn auth_mode(&self, durable: bool) -> AuthMode {
        self.auth_mode
            .unwrap_or(match !durable && self.host.is_loopback() {
                true => AuthMode::Open,
                false => AuthMode::Required,
            })
    }

    /// What the configuration means to the core.
    pub(crate) fn settings(&self, mode: AuthMode, jwt_secret: String) -> Settings {
        Settings {
            mode,
            loopback_only: self.host.is_loopback(),
            static_key: self.kubeagents_api_key.clone(),
            jwt_secret,
            access_token_expiry: self.jwt_access_token_expiry,
            refresh_token_expiry: self.jwt_refresh_token_expiry,
            cors: self.cors_allowed_origins.clone(),
            registration_enabled: self.registration_enabled,
            default_ttl_minutes: self.default_ttl_minutes,
            app_base_url: self.app_base_url.clone(),
            notification_webhook_url: self.notification_webhook_url.clone(),
        }
    }

    /// The secret that was given.
    pub(crate) fn jwt_secret(&self) -> Option<&str> {
        self.jwt_secret.as_deref()
    }

    /// Whether notifications may go to private and loopback addresses.
    pub(crate) fn allows_private_receivers(&self, mode: AuthMode) -> bool {
        self.notification_allow_private_addresses
            .unwrap_or(mode == AuthMode::Open)
    }

    /// The database, if storage is one.
    ///
    /// # Errors
    /// [`ConfigError`] for one that is configured twice or by half.
    pub(crate) fn database(&self) -> Result<Option<Database>, ConfigError> {
        self.database.database()
    }

    /// The TTL of a session whose first report names none, in minutes.
    pub(crate) fn default_ttl_minutes(&self) -> u32 {
        self.default_ttl_minutes
    }

    /// The mail server, if there is one.
    ///
    /// # Errors
    /// [`ConfigError`] for one that is configured by half.
    pub(crate) fn smtp(&self) -> Result<Option<Smtp>, ConfigError> {
        let options = &self.smtp;
        let Some(host) = options.smtp_host.clone() else {
            return Ok(None);
        };
        let credentials = match (options.smtp_user.clone(), options.smtp_password.clone()) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError(
                    "SMTP_PASSWORD must be set with SMTP_USER".into(),
                ));
            }
            (None, Some(_)) => {
                return Err(ConfigError(
                    "SMTP_USER must be set with SMTP_PASSWORD".into(),
                ));
            }
        };
        let from = options
            .smtp_from
            .clone()
            .ok_or_else(|| ConfigError("SMTP_FROM must be set with SMTP_HOST".into()))?;
        let port = options.smtp_port;
        Ok(Some(Smtp {
            host,
            port,
            credentials,
            from,
        }))
    }

    /// Warns of what works but is unwise.
    pub(crate) fn warn(&self, mode: AuthMode) {
        if mode == AuthMode::Open && !self.host.is_loopback() {
            tracing::warn!(
                "AUTH_MODE is open and HOST is not loopback: whoever reaches this server may report and read"
            );
        }
        let shortest = settings::MIN_JWT_SECRET_BYTES;
        if self
            .jwt_secret()
            .is_some_and(|secret| secret.len() < shortest)
        {
            tracing::warn!("JWT_SECRET should have at least {shortest} bytes");
        }
    }
}
