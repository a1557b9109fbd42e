//! Getting from a configuration to a database that is ready.

use std::error::Error;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use kubeagents_core::StoreError;
use kubeagents_store_postgres::adoption::{self, AdoptError, GoTablesError};
use kubeagents_store_postgres::schema::SchemaError;
use kubeagents_store_postgres::{ChangingPooler, is_of_changing_pooler};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgSslMode};
use sqlx::{ConnectOptions, Connection};

use super::driver::{Pinned, ServerError, store_error};
use super::options::{Database, pool_options};
use crate::config::ConfigError;

/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the last attempt to connect at start has: enough to say what is wrong.
const LAST_ATTEMPT: Duration = Duration::from_millis(500);

/// How long a connection beyond DB_MAX_IDLE_CONNS is kept while nothing is to be done.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Waiting would not help: the configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It did not answer within DB_CONNECT_TIMEOUT_SECONDS.
    #[error("PostgreSQL does not answer")]
    Connect(#[source] Box<dyn Error + Send + Sync>),
    /// It did not become writable within DB_CONNECT_TIMEOUT_SECONDS.
    #[error(
        "PostgreSQL is read-only: it is a standby, or default_transaction_read_only is on for the \
         database or its user"
    )]
    ReadOnly,
    /// It cannot be made ready as it is.
    #[error("the database cannot be made ready")]
    Adopt(#[from] AdoptError),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        Self::Adopt(error.into())
    }
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        store_error(error).into()
    }
}

fn causes(error: &sqlx::Error) -> String {
    match ServerError::of(error) {
        Some(error) => crate::causes(&error),
        None => crate::causes(error),
    }
}

/// Connects, converts the Go server's tables if there are any, brings the schema up to date, and
/// returns a pool of connections.
pub(crate) async fn open(
    database: &Database,
    default_ttl_minutes: u32,
) -> Result<PgPool, OpenError> {
    let (mut connection, connect) = connect(database).await?;
    check_encoding(&mut connection, database).await?;
    check_pooler(&mut connection, &connect, database).await?;
    prepare(&mut connection, database, default_ttl_minutes).await?;
    // The pool opens its own; whether this one ends in good order changes nothing.
    let _ = connection.close().await;
    Ok(pool_options()
        .max_connections(database.max_connections)
        .min_connections(database.idle_connections)
        .idle_timeout(IDLE_TIMEOUT)
        .max_lifetime(database.max_lifetime)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(connect))
}

/// Refuses a database that cannot hold every text.
async fn check_encoding(
    connection: &mut PgConnection,
    database: &Database,
) -> Result<(), OpenError> {
    let encoding: String = sqlx::query_scalar("SHOW server_encoding")
        .fetch_one(connection)
        .await?;
    if encoding == "UTF8" {
        return Ok(());
    }
    let variable = variable(database, "DB_NAME");
    let refusal = SchemaError::Encoding { found: encoding };
    Err(ConfigError(format!("{variable}: {refusal}")).into())
}

/// Refuses a [`ChangingPooler`].
async fn check_pooler(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
    database: &Database,
) -> Result<(), OpenError> {
    let checking = async {
        let before = backend(connection).await?;
        let mut other = match options.connect().await {
            Ok(other) => other,
            // There may be a limit on connections.
            Err(_) => return Ok(true),
        };
        let mut transaction = other.begin().await?;
        let others = backend(&mut transaction).await?;
        let after = backend(connection).await?;
        Ok(before == after && others != before)
    };
    let is_pinned = match tokio::time::timeout(database.connect_timeout, checking).await {
        Ok(Err(error)) if is_of_pooler(&error) => false,
        Ok(checked) => checked?,
        // The pooler has no second connection.
        Err(_) => false,
    };
    match is_pinned {
        true => Ok(()),
        false => Err(pooler_refused(database)),
    }
}

async fn backend(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(connection)
        .await
}

fn is_of_pooler(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| is_of_changing_pooler(&code))
}

fn pooler_refused(database: &Database) -> OpenError {
    let variable = variable(database, "DB_HOST");
    ConfigError(format!(
        "{variable}: {ChangingPooler}. Its pool_size must be at least DB_MAX_OPEN_CONNS"
    ))
    .into()
}

/// Connects once, waiting for a database that is still starting or a standby.
pub(crate) async fn connect(
    database: &Database,
) -> Result<(PgConnection, PgConnectOptions), OpenError> {
    let deadline = Instant::now() + database.connect_timeout;
    let mut pause = Duration::from_millis(100);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let attempt = tokio::time::timeout(left, try_connect(&database.connect));
        let failure = match attempt.await {
            Ok(Ok(Some(connected))) => return Ok(connected),
            Ok(Ok(None)) => OpenError::ReadOnly,
            Ok(Err(error)) if is_of_pooler(&error) => return Err(pooler_refused(database)),
            Ok(Err(error)) => {
                if let Some(variable) = at_fault(&error, database) {
                    let cause = causes(&error);
                    let refusal = format!("{variable}: PostgreSQL refuses: {cause}");
                    return Err(ConfigError(refusal).into());
                }
                OpenError::Connect(match ServerError::of(&error) {
                    Some(error) => error.into(),
                    None => error.into(),
                })
            }
            Err(late) => OpenError::Connect(late.into()),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left <= LAST_ATTEMPT {
            return Err(failure);
        }
        tracing::warn!(
            host = database.connect.get_host(),
            port = database.connect.get_port(),
            error = crate::causes(&failure),
            "waiting for PostgreSQL"
        );
        tokio::time::sleep(pause.min(left - LAST_ATTEMPT)).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// Connects to a database that can be written to; `None` if it cannot.
async fn try_connect(
    options: &PgConnectOptions,
) -> Result<Option<(PgConnection, PgConnectOptions)>, sqlx::Error> {
    let (mut connection, options) = try_each_tls(options).await?;
    let read_only: String = sqlx::query_scalar("SHOW transaction_read_only")
        .fetch_one(&mut connection)
        .await?;
    Ok((read_only == "off").then_some((connection, options)))
}

async fn try_each_tls(
    options: &PgConnectOptions,
) -> Result<(PgConnection, PgConnectOptions), sqlx::Error> {
    let refused = match options.connect().await {
        Ok(connection) => return Ok((connection, options.clone())),
        Err(error) => error,
    };
    // The driver takes `allow` for `disable`; libpq tries again with TLS.
    let code = refused.as_database_error().and_then(|error| error.code());
    match (options.get_ssl_mode(), code.as_deref()) {
        (PgSslMode::Allow, Some("28000")) => {
            let encrypted = options.clone().ssl_mode(PgSslMode::Require);
            Ok((encrypted.connect().await?, encrypted))
        }
        _ => Err(refused),
    }
}

/// The variable that has to be changed before a connection can succeed, if one has.
fn at_fault(error: &sqlx::Error, database: &Database) -> Option<&'static str> {
    let variable = match error {
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => "DB_SSLMODE",
        sqlx::Error::Io(error) if is_tls(error) => "DB_SSLMODE",
        // The one file that a connection by TCP reads.
        sqlx::Error::Io(error)
            if error.kind() == ErrorKind::NotFound && !is_local(&database.connect) =>
        {
            return Some("PGSSLROOTCERT");
        }
        sqlx::Error::Database(error) => match error.code().as_deref() {
            Some("28P01") => "DB_PASSWORD",
            Some("28000") => "DB_USER",
            Some("3D000" | "42501") => "DB_NAME",
            _ => return None,
        },
        _ => return None,
    };
    Some(self::variable(database, variable))
}

/// The variable to blame: the one of several, unless all of them came as one URL.
fn variable(database: &Database, one: &'static str) -> &'static str {
    match database.from_url {
        true => "DATABASE_URL",
        false => one,
    }
}

/// Checks whether the server is reached by a socket in the file system.
fn is_local(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some() || options.get_host().starts_with('/')
}

/// Checks whether the handshake failed, as it does for a certificate that is not trusted.
fn is_tls(error: &std::io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|error| error.is::<rustls::Error>())
}

/// Converts and migrates, in one transaction.
async fn prepare(
    connection: &mut PgConnection,
    database: &Database,
    default_ttl_minutes: u32,
) -> Result<(), OpenError> {
    let transaction = Pinned::patient(connection.begin().await?);
    adoption::prepare(
        &transaction,
        default_ttl_minutes,
        database.go_server_stopped,
    )
    .await?;
    Ok(transaction.commit().await?)
}

/// Why the Go server's tables were not dropped or restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GoTablesFailure {
    /// The database could not be reached.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// They were left as they are.
    #[error("the Go server's tables are left as they are")]
    Left(#[from] GoTablesError),
}

/// Drops the tables that a conversion kept. Returns whether there were any.
pub(crate) async fn drop_go_tables(database: &Database) -> Result<bool, GoTablesFailure> {
    let (mut connection, _) = connect(database).await?;
    let transaction = Pinned::patient(connection.begin().await.map_err(OpenError::from)?);
    let dropped = adoption::drop_go_tables(&transaction).await?;
    transaction.commit().await.map_err(OpenError::from)?;
    Ok(dropped)
}

/// Gives the tables that a conversion kept back to the Go server, and drops ours. Returns the schema
/// where they are, if there were any.
pub(crate) async fn restore_go_tables(
    database: &Database,
) -> Result<Option<String>, GoTablesFailure> {
    let (mut connection, _) = connect(database).await?;
    let transaction = Pinned::patient(connection.begin().await.map_err(OpenError::from)?);
    let restored = adoption::restore_go_tables(&transaction).await?;
    transaction.commit().await.map_err(OpenError::from)?;
    Ok(restored)
}
