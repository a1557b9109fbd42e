//! Where the database is and how many connections it gets.

use std::str::FromStr;
use std::time::Duration;

use kubeagents_core::settings::{DatabaseUrl, SettingError, Values};
use kubeagents_store_postgres::APPLICATION;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection};
use tokio::time::timeout;

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
    /// Whether the Go server counts as stopped, whatever other sessions the database has.
    pub(crate) go_server_stopped: bool,
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
            connect: connect_options(connect),
            from_url: values.database_url.is_some(),
            max_connections,
            idle_connections: values.db_max_idle_conns.min(max_connections),
            max_lifetime: values
                .db_conn_max_lifetime
                .to_std()
                .unwrap_or(Duration::MAX),
            connect_timeout: values.db_connect_timeout,
            go_server_stopped: values.go_server_stopped,
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

/// What the statements rely on, whatever the server's or the user's defaults. Set on each connection
/// and not asked for when it is made, which poolers refuse.
const SESSION_SETTINGS: &str = concat!(
    "SET default_transaction_isolation = 'read committed'; ",
    // An answer of 200 is a promise.
    "SET synchronous_commit = on; ",
    "SET lock_timeout = '2s'; SET statement_timeout = '10s'; ",
    // What a host held that is gone without a word is free for others within a minute.
    "SET idle_in_transaction_session_timeout = '30s'; SET tcp_user_timeout = '30s'; ",
    "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; ",
    // A plan that is kept is made when a table may be small, and tables grow a thousandfold within
    // its life.
    "SET enable_seqscan = off; SET jit = off; ",
    // No statement gains by a plan for its arguments, and a group's commit takes longer to plan than
    // to run.
    "SET plan_cache_mode = force_generic_plan",
);

/// How long a connection that was idle may take to show that it still leads to the database: a part of
/// the time in which a request must have one, so that another can be made in the rest. The driver lets
/// nobody set the time-outs of its own socket, and the system gives up a line that swallows everything
/// only after minutes.
const PING: Duration = Duration::from_secs(1);

/// Options of a pool whose connections have the settings that the statements rely on.
pub(super) fn pool_options() -> PgPoolOptions {
    PgPoolOptions::new()
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::raw_sql(SESSION_SETTINGS).execute(connection).await?;
                Ok(())
            })
        })
        // The pool's own test may last as long as the request.
        .test_before_acquire(false)
        .before_acquire(|connection, _| {
            Box::pin(async move {
                match timeout(PING, connection.ping()).await {
                    Ok(pinged) => pinged.map(|()| true),
                    Err(late) => Err(sqlx::Error::Io(late.into())),
                }
            })
        })
}

/// The options of a connection, without what they need not have.
pub(super) fn connect_options(options: PgConnectOptions) -> PgConnectOptions {
    options
        .application_name(APPLICATION)
        // No statement returns such a number, and poolers refuse to have it set.
        .extra_float_digits(None)
        .disable_statement_logging()
}
