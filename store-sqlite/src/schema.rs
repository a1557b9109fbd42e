//! The schema and how a database comes to it.

use kubeagents_core::StoreError;

use kubeagents_store_sql::Row;

use crate::{Connection, Statements};

/// The newest version of the schema, as `PRAGMA user_version` has it.
pub const VERSION: usize = MIGRATIONS.len();

const MIGRATIONS: [&str; 21] = [
    include_str!("../../migrations/sqlite/0001_initial.sql"),
    include_str!("../../migrations/sqlite/0002_token_expiry.sql"),
    include_str!("../../migrations/sqlite/0003_chains.sql"),
    include_str!("../../migrations/sqlite/0004_accounts.sql"),
    include_str!("../../migrations/sqlite/0005_limits.sql"),
    include_str!("../../migrations/sqlite/0006_registration_mails.sql"),
    include_str!("../../migrations/sqlite/0007_outbox_turns.sql"),
    include_str!("../../migrations/sqlite/0008_session_fields.sql"),
    include_str!("../../migrations/sqlite/0009_channels.sql"),
    include_str!("../../migrations/sqlite/0010_key_workspaces.sql"),
    include_str!("../../migrations/sqlite/0011_deliveries.sql"),
    include_str!("../../migrations/sqlite/0012_renamed_agents.sql"),
    include_str!("../../migrations/sqlite/0013_outbox_room.sql"),
    include_str!("../../migrations/sqlite/0014_silence.sql"),
    include_str!("../../migrations/sqlite/0015_audit.sql"),
    include_str!("../../migrations/sqlite/0016_rests.sql"),
    include_str!("../../migrations/sqlite/0017_overflows.sql"),
    include_str!("../../migrations/sqlite/0018_quotas.sql"),
    include_str!("../../migrations/sqlite/0019_history_limit.sql"),
    include_str!("../../migrations/sqlite/0020_sessions_ended.sql"),
    include_str!("../../migrations/sqlite/0021_overflows_of_webhooks.sql"),
];

/// The statements of a migration, each to be run on its own.
fn statements(migration: &str) -> impl Iterator<Item = &str> {
    migration.split(";\n\n").map(str::trim)
}

/// Failure to use a database's schema.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A later version of the program has migrated the database.
    #[error("its schema has version {found}, and this program knows versions up to {known} only")]
    TooNew {
        /// The database's version.
        found: usize,
        /// The newest version that is known.
        known: usize,
    },
    /// The database does not answer, or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<SchemaError> for StoreError {
    fn from(error: SchemaError) -> Self {
        match error {
            SchemaError::Store(error) => error,
            error @ SchemaError::TooNew { .. } => Self::unavailable(error),
        }
    }
}

/// Sets up a connection that will write and that nobody else uses yet, and brings the schema up to
/// date. Of several that do so at once, one migrates and the others wait for it.
///
/// # Errors
/// [`SchemaError`]; the connection is not to be used any more then. Nothing is stored.
pub async fn prepare<C: Connection>(connection: &C) -> Result<(), SchemaError> {
    let connection = Statements(connection);
    connection.run("PRAGMA synchronous = FULL", []).await?;
    // A copy that SQLite has made of a database has lost the mode.
    connection.run("PRAGMA journal_mode = WAL", []).await?;
    if version(&connection).await? < MIGRATIONS.len() {
        migrate(&connection).await?;
    }
    Ok(())
}

/// A failure in here ends with the connection, which rolls back.
async fn migrate<C: Connection>(connection: &Statements<C>) -> Result<(), SchemaError> {
    connection.run("BEGIN IMMEDIATE", []).await?;
    let version = version(connection).await?;
    for migration in &MIGRATIONS[version..] {
        for statement in statements(migration) {
            connection.run(statement, []).await?;
        }
    }
    let version = MIGRATIONS.len();
    let set_version = format!("PRAGMA user_version = {version}");
    connection.run(&set_version, []).await?;
    connection.run("COMMIT", []).await?;
    Ok(())
}

async fn version<C: Connection>(connection: &Statements<C>) -> Result<usize, SchemaError> {
    let version = connection.first("PRAGMA user_version", [], Row::int);
    let found = version.await?.unwrap_or(0);
    let known = MIGRATIONS.len();
    if found > known {
        return Err(SchemaError::TooNew { found, known });
    }
    Ok(found)
}
