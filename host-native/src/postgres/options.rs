//! Where the database is and how many connections it gets.

use std::str::FromStr;
use std::time::Duration;

use kubeagents_core::settings::{DatabaseUrl, SettingError, Values};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::config::ConfigError;

/// A database that is configured.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// How to connect.
    pub(crate) connect: PgConnectOptions,
    /// True if that came as one URL, which then is to blame for whatever is wrong with it.
    pub(crate) from_url: bool,
    pub(crate) max_connections: u32,
    pub(crate) idle_connections: u32,
    pub(crate) max_lifetime: Duration,
    pub(crate) connect_timeout: Duration,
}

/// The settings that say together where the database is, instead of DATABASE_URL.
const PARTS: [&str; 6] = [
    "DB_HOST",
    "DB_PORT",
    "DB_USER",
    "DB_PASSWORD",
    "DB_NAME",
    "DB_SSLMODE",
];

/// The settings of the connections to it.
const LIMITS: [&str; 4] = [
    "DB_MAX_OPEN_CONNS",
    "DB_MAX_IDLE_CONNS",
    "DB_CONN_MAX_LIFETIME",
    "DB_CONNECT_TIMEOUT_SECONDS",
];

impl Database {
    /// The database, if storage is PostgreSQL: as soon as one of its settings is set.
    ///
    /// # Errors
    /// [`ConfigError`] when it is given twice, or without its name.
    pub(crate) fn new(values: &Values) -> Result<Option<Self>, ConfigError> {
        let parts = PARTS.iter().any(|variable| values.is_set(variable));
        let limits = LIMITS.iter().any(|variable| values.is_set(variable));
        let connect = match &values.database_url {
            Some(_) if parts => {
                return Err(ConfigError(
                    "set DATABASE_URL, or DB_HOST, DB_PORT, DB_USER, DB_PASSWORD, DB_NAME and \
                     DB_SSLMODE, but not both"
                        .into(),
                ));
            }
            Some(DatabaseUrl::Postgres(url)) => PgConnectOptions::from_str(url)
                .map_err(|_| SettingError::new("DATABASE_URL", DatabaseUrl::RULE, None))?,
            None if parts || limits => connect_by_parts(values)?,
            Some(DatabaseUrl::Sqlite(_)) | None => return Ok(None),
        };
        let max_connections = values.db_max_open_conns;
        Ok(Some(Self {
            connect: with_session_settings(connect),
            from_url: values.database_url.is_some(),
            max_connections,
            idle_connections: values.db_max_idle_conns.min(max_connections),
            max_lifetime: values
                .db_conn_max_lifetime
                .to_std()
                .unwrap_or(Duration::MAX),
            connect_timeout: values.db_connect_timeout,
        }))
    }
}

fn connect_by_parts(values: &Values) -> Result<PgConnectOptions, ConfigError> {
    let name = values.db_name.as_deref();
    let name = name
        .ok_or_else(|| ConfigError("DB_NAME must be set with any of the DB_ variables".into()))?;
    let ssl_mode = PgSslMode::from_str(&values.db_sslmode);
    let ssl_mode = ssl_mode.map_err(|error| ConfigError(format!("DB_SSLMODE: {error}")))?;
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&values.db_host)
        .port(values.db_port)
        .database(name)
        .ssl_mode(ssl_mode);
    if let Some(user) = &values.db_user {
        options = options.username(user);
    }
    if let Some(password) = &values.db_password {
        options = options.password(password);
    }
    Ok(options)
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
