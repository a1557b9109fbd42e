//! Where the database is and how many connections it gets.

use std::str::FromStr;
use std::time::Duration;

use chrono::TimeDelta;
use clap::Args;
use kubeagents_core::InvalidSetting;
use kubeagents_core::settings::parse_expiry;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::config::ConfigError;

/// Storage is PostgreSQL as soon as one of these is set, and memory otherwise.
#[derive(Args)]
pub(crate) struct DatabaseOptions {
    /// PostgreSQL's address, `postgres://user:password@host:5432/database?sslmode=disable`, instead
    /// of DB_HOST, DB_PORT, DB_USER, DB_PASSWORD, DB_NAME and DB_SSLMODE. Without either, storage is
    /// memory.
    #[arg(long, env, value_parser = parse_url, hide_env_values = true)]
    database_url: Option<PgConnectOptions>,

    /// PostgreSQL's host [default: localhost].
    #[arg(long, env)]
    db_host: Option<String>,

    /// PostgreSQL's port [default: 5432].
    #[arg(long, env, value_parser = parse_port)]
    db_port: Option<u16>,

    /// The user at PostgreSQL.
    #[arg(long, env)]
    db_user: Option<String>,

    /// The password at PostgreSQL.
    #[arg(long, env, hide_env_values = true)]
    db_password: Option<String>,

    /// The database's name; required with any of the DB_ variables.
    #[arg(long, env)]
    db_name: Option<String>,

    /// Whether connections to PostgreSQL are encrypted, and what is verified: `disable`, `allow`,
    /// `prefer`, `require`, `verify-ca` or `verify-full`, as in libpq; PGSSLROOTCERT names the
    /// file of a CA of one's own [default: disable].
    #[arg(long, env, value_parser = parse_ssl_mode)]
    db_sslmode: Option<PgSslMode>,

    /// The most connections to PostgreSQL [default: 25].
    #[arg(long, env, value_parser = parse_count)]
    db_max_open_conns: Option<u32>,

    /// How many of them stay open while nothing is to be done; the others are closed after half a
    /// minute [default: 5].
    #[arg(long, env, value_parser = parse_idle_count)]
    db_max_idle_conns: Option<u32>,

    /// How old a connection gets (`90s`, `5m`, `1h`) [default: 5m].
    #[arg(long, env, value_parser = parse_expiry)]
    db_conn_max_lifetime: Option<TimeDelta>,

    /// How long to wait for PostgreSQL at start, in seconds (1-3600) [default: 30].
    #[arg(long, env, value_parser = parse_connect_timeout)]
    db_connect_timeout_seconds: Option<u32>,
}

/// A database that is configured.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// How to connect.
    pub(crate) connect: PgConnectOptions,
    /// Whether that came as one URL, which then is to blame for whatever is wrong with it.
    pub(crate) from_url: bool,
    pub(crate) max_connections: u32,
    pub(crate) idle_connections: u32,
    pub(crate) max_lifetime: Duration,
    pub(crate) connect_timeout: Duration,
}

fn parse_url(text: &str) -> Result<PgConnectOptions, InvalidSetting> {
    const RULE: InvalidSetting = InvalidSetting(
        "must be an address such as postgres://user:password@host:5432/database, with \
         percent-encoding for special characters in user and password",
    );
    if !(text.starts_with("postgres://") || text.starts_with("postgresql://")) {
        return Err(RULE);
    }
    let options = PgConnectOptions::from_str(text).map_err(|_| RULE)?;
    options.get_database().ok_or(RULE)?;
    Ok(options)
}

fn parse_port(text: &str) -> Result<u16, InvalidSetting> {
    text.parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or(match text.contains("://") {
            true => InvalidSetting(
                "must be a port number (Kubernetes sets this variable for a Service named db: set \
             enableServiceLinks: false in the pod)",
            ),
            false => InvalidSetting("must be a port number from 1 to 65535"),
        })
}

fn parse_ssl_mode(text: &str) -> Result<PgSslMode, InvalidSetting> {
    text.parse().map_err(|_| {
        InvalidSetting("must be disable, allow, prefer, require, verify-ca or verify-full")
    })
}

fn parse_count(text: &str) -> Result<u32, InvalidSetting> {
    text.parse()
        .ok()
        .filter(|count| (1..=10_000).contains(count))
        .ok_or(InvalidSetting("must be a number from 1 to 10000"))
}

fn parse_idle_count(text: &str) -> Result<u32, InvalidSetting> {
    text.parse()
        .ok()
        .filter(|count| *count <= 10_000)
        .ok_or(InvalidSetting("must be a number from 0 to 10000"))
}

fn parse_connect_timeout(text: &str) -> Result<u32, InvalidSetting> {
    text.parse()
        .ok()
        .filter(|seconds| (1..=3600).contains(seconds))
        .ok_or(InvalidSetting("must be a number of seconds from 1 to 3600"))
}

impl DatabaseOptions {
    /// The database, if storage is one.
    ///
    /// # Errors
    /// [`ConfigError`] when it is given twice, or without its name.
    pub(crate) fn database(&self) -> Result<Option<Database>, ConfigError> {
        let parts = self.db_host.is_some()
            || self.db_port.is_some()
            || self.db_user.is_some()
            || self.db_password.is_some()
            || self.db_name.is_some()
            || self.db_sslmode.is_some();
        let limits = self.db_max_open_conns.is_some()
            || self.db_max_idle_conns.is_some()
            || self.db_conn_max_lifetime.is_some()
            || self.db_connect_timeout_seconds.is_some();
        let connect = match &self.database_url {
            Some(_) if parts => {
                return Err(ConfigError(
                    "set DATABASE_URL, or DB_HOST, DB_PORT, DB_USER, DB_PASSWORD, DB_NAME and \
                     DB_SSLMODE, but not both"
                        .into(),
                ));
            }
            Some(url) => url.clone(),
            None if parts || limits => self.connect_by_parts()?,
            None => return Ok(None),
        };
        let max_connections = self.db_max_open_conns.unwrap_or(25);
        let lifetime = self
            .db_conn_max_lifetime
            .and_then(|lifetime| lifetime.to_std().ok());
        let timeout = self.db_connect_timeout_seconds.unwrap_or(30);
        Ok(Some(Database {
            connect: with_session_settings(connect),
            from_url: self.database_url.is_some(),
            max_connections,
            idle_connections: self.db_max_idle_conns.unwrap_or(5).min(max_connections),
            max_lifetime: lifetime.unwrap_or(Duration::from_secs(300)),
            connect_timeout: Duration::from_secs(timeout.into()),
        }))
    }

    fn connect_by_parts(&self) -> Result<PgConnectOptions, ConfigError> {
        let name = self.db_name.as_deref().ok_or_else(|| {
            ConfigError("DB_NAME must be set with any of the DB_ variables".into())
        })?;
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(self.db_host.as_deref().unwrap_or("localhost"))
            .port(self.db_port.unwrap_or(5432))
            .database(name)
            .ssl_mode(self.db_sslmode.unwrap_or(PgSslMode::Disable));
        if let Some(user) = &self.db_user {
            options = options.username(user);
        }
        if let Some(password) = &self.db_password {
            options = options.password(password);
        }
        Ok(options)
    }
}

/// What the statements rely on, whatever the server's or the user's defaults.
pub(super) fn with_session_settings(options: PgConnectOptions) -> PgConnectOptions {
    options
        .application_name("kubeagents")
        .options([
            ("default_transaction_isolation", "read committed"),
            // An answer of 200 is a promise.
            ("synchronous_commit", "on"),
            ("lock_timeout", "2s"),
            ("statement_timeout", "10s"),
            // A plan that is kept is made when a table may be small, and tables grow a thousandfold
            // within its life.
            ("enable_seqscan", "off"),
            ("jit", "off"),
        ])
        .disable_statement_logging()
}
