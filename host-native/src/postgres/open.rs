//! Getting from a configuration to a database that is ready.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use kubeagents_core::StoreError;
use kubeagents_store_postgres::schema::{self, SchemaError};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection};

use super::adopt::{self, AdoptError};
use super::driver::InTransaction;
use super::options::Database;
use crate::config::ConfigError;

/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

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
    Connect(#[source] sqlx::Error),
    /// Its schema is not ours to use.
    #[error("the database's schema cannot be brought up to date")]
    Schema(#[from] SchemaError),
    /// It holds the Go server's data, which cannot be taken over as it is.
    #[error("the Go server's database cannot be converted")]
    Adopt(#[from] AdoptError),
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Schema(SchemaError::Store(StoreError::unavailable(error)))
    }
}

/// Connects, converts the Go server's tables if there are any, brings the schema up to date, and
/// returns a pool of connections.
pub(crate) async fn open(
    database: &Database,
    default_ttl_minutes: u32,
) -> Result<PgPool, OpenError> {
    let (mut connection, connect) = connect(database).await?;
    prepare(&mut connection, default_ttl_minutes).await?;
    // The pool opens its own; whether this one ends in good order changes nothing.
    let _ = connection.close().await;
    Ok(PgPoolOptions::new()
        .max_connections(database.max_connections)
        .min_connections(database.idle_connections)
        .idle_timeout(IDLE_TIMEOUT)
        .max_lifetime(database.max_lifetime)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(connect))
}

/// Connects once, waiting for a database that is still starting.
pub(crate) async fn connect(
    database: &Database,
) -> Result<(PgConnection, PgConnectOptions), OpenError> {
    let deadline = Instant::now() + database.connect_timeout;
    let mut pause = Duration::from_millis(100);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let attempt = tokio::time::timeout(left, try_connect(&database.connect));
        let error = match attempt.await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::PoolTimedOut,
        };
        if let Some(variable) = at_fault(&error, database) {
            let cause = crate::causes(&error);
            return Err(ConfigError(format!("{variable}: PostgreSQL refuses: {cause}")).into());
        }
        if Instant::now() + pause >= deadline {
            return Err(OpenError::Connect(error));
        }
        tracing::warn!(
            host = database.connect.get_host(),
            port = database.connect.get_port(),
            error = crate::causes(&error),
            "PostgreSQL does not answer yet"
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

async fn try_connect(
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
    Some(if database.from_url {
        "DATABASE_URL"
    } else {
        variable
    })
}

/// Whether the server is reached by a socket in the file system.
fn is_local(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some() || options.get_host().starts_with('/')
}

/// Whether the handshake failed, as it does for a certificate that is not trusted.
fn is_tls(error: &std::io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|error| error.is::<rustls::Error>())
}

/// Converts and migrates, in one transaction under a lock that all hosts share.
async fn prepare(connection: &mut PgConnection, default_ttl_minutes: u32) -> Result<(), OpenError> {
    let mut transaction = connection.begin().await?;
    // Converting a large database takes longer than any request.
    sqlx::raw_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        .execute(&mut *transaction)
        .await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(schema::LOCK)
        .execute(&mut *transaction)
        .await?;
    let adopting = adopt::set_aside(&mut transaction).await?;
    let migrating = InTransaction::new(transaction);
    schema::migrate(&migrating).await?;
    let mut transaction = migrating.into_inner();
    if adopting {
        adopt::convert(&mut transaction, default_ttl_minutes).await?;
    }
    transaction.commit().await?;
    Ok(())
}
