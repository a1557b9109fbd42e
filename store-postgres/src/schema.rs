//! The schema and its versions.
//!
//! A migration runs as one `DO` statement, which is atomic on every driver: it takes a lock that
//! all hosts share, looks whether it is still to be done, and records itself. Any number of hosts
//! may start at once.

use kubeagents_core::StoreError;

use crate::query::Fetch;
use crate::{Query, Row, adoption};

/// The newest version of the schema that this crate knows.
pub const VERSION: i64 = 19;

/// Failure to make a database usable.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A newer kubeagents has been here, and what its schema means is unknown.
    #[error(
        "the database has schema version {found}, but this program knows only up to {VERSION}: \
         run the newer program that made it"
    )]
    TooNew {
        /// The version found.
        found: i64,
    },
    /// A database of the Go server, which only the native server converts.
    #[error(
        "the database holds tables of the Go server in the schema {schema}: start the native \
         server on it once, which converts them"
    )]
    GoTables {
        /// Schema that holds them.
        schema: String,
    },
    /// A database that cannot hold every text.
    #[error("the database has the encoding {found} and must have UTF8")]
    Encoding {
        /// The encoding.
        found: String,
    },
    /// The statement failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The lock that whoever changes the schema holds until the end of their transaction.
macro_rules! lock {
    () => {
        "pg_advisory_xact_lock(7743203321898820974)"
    };
}
pub(crate) use lock;

/// `DO` takes no parameters, so each migration's text is put together at compile time.
///
/// It looks for the table with a query, since `to_regclass` may answer from the session's cache what
/// was so before the lock was waited for.
macro_rules! migration {
    ($version:literal, $file:literal) => {
        concat!(
            "DO $kubeagents_migration$ BEGIN PERFORM ",
            lock!(),
            "; \
            IF NOT EXISTS (SELECT FROM pg_tables \
                WHERE schemaname = 'kubeagents_data' AND tablename = 'migrations') THEN \
                CREATE SCHEMA IF NOT EXISTS kubeagents_data; \
                CREATE TABLE kubeagents_data.migrations (\
                    version bigint PRIMARY KEY, \
                    applied_at timestamptz NOT NULL DEFAULT now()); \
            END IF; \
            IF EXISTS (SELECT FROM kubeagents_data.migrations WHERE version >= ",
            $version,
            ") THEN RETURN; END IF;\n",
            include_str!(concat!("../../migrations/postgres/", $file)),
            "\nINSERT INTO kubeagents_data.migrations (version) VALUES (",
            $version,
            "); END $kubeagents_migration$"
        )
    };
}

/// Every migration in its order, each a complete statement that does nothing where it was run
/// before.
pub const MIGRATIONS: [&str; VERSION as usize] = [
    migration!(1, "0001_initial.sql"),
    migration!(2, "0002_accounts.sql"),
    migration!(3, "0003_session_fields.sql"),
    migration!(4, "0004_limits.sql"),
    migration!(5, "0005_registration_mails.sql"),
    migration!(6, "0006_outbox_turns.sql"),
    migration!(7, "0007_channels.sql"),
    migration!(8, "0008_changes.sql"),
    migration!(9, "0009_key_workspaces.sql"),
    migration!(10, "0010_deliveries.sql"),
    migration!(11, "0011_outbox_room.sql"),
    migration!(12, "0012_silence.sql"),
    migration!(13, "0013_audit.sql"),
    migration!(14, "0014_rests.sql"),
    migration!(15, "0015_overflows.sql"),
    migration!(16, "0016_quotas.sql"),
    migration!(17, "0017_history_limit.sql"),
    migration!(18, "0018_sessions_ended.sql"),
    migration!(19, "0019_sizes.sql"),
];

const TABLE_EXISTS: &str = "SELECT to_regclass('kubeagents_data.migrations') IS NOT NULL";

const CURRENT: &str = "SELECT coalesce(max(version), 0) FROM kubeagents_data.migrations";

const ENCODING: &str = "SELECT current_setting('server_encoding')";

/// The version of the schema in the database; 0 when there is none.
///
/// # Errors
/// Those of the driver.
pub async fn version(query: &impl Query) -> Result<i64, StoreError> {
    match query.one(TABLE_EXISTS, &[], Row::bool).await? {
        true => query.one(CURRENT, &[], Row::int).await,
        false => Ok(0),
    }
}

/// Brings the schema to [`VERSION`].
///
/// # Errors
/// [`SchemaError::TooNew`] when it is beyond that already, [`SchemaError::GoTables`] when there are
/// tables to be [adopted](crate::adoption::prepare), [`SchemaError::Encoding`] when a database that is
/// new to us is not in UTF-8; nothing is changed then.
pub async fn migrate(query: &impl Query) -> Result<(), SchemaError> {
    let found = version(query).await?;
    if found > VERSION {
        return Err(SchemaError::TooNew { found });
    }
    if found == 0 {
        let encoding = query.one(ENCODING, &[], Row::text).await?;
        if encoding != "UTF8" {
            return Err(SchemaError::Encoding { found: encoding });
        }
        if let Some(schema) = adoption::unconverted(query).await? {
            return Err(SchemaError::GoTables { schema });
        }
    }
    for (migration, version) in MIGRATIONS.iter().zip(1..) {
        if version > found {
            query.execute(migration, &[]).await?;
        }
    }
    Ok(())
}
