//! The store on Spin's SQLite.
//!
//! Several instances have a connection each to one file, and an instance serves several requests on
//! its one connection, interleaved. So every operation is one statement, which is one transaction
//! whoever else uses the connection; those that must check before they write are triggers on views
//! (see `migrations/sqlite`).

use std::error::Error;

use kubeagents_core::{AccountId, StatusKind, StoreError, Timestamp, Workspace};

mod store;

/// A value that goes into or comes out of a statement. Times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL `NULL`.
    Null,
    /// A number, a truth value or a time.
    Integer(i64),
    /// Text.
    Text(String),
}

/// One connection to a SQLite database (3.38 or later, with JSON), in autocommit mode.
pub trait Connection {
    /// Why a statement failed.
    type Error: Error + Send + Sync + 'static;

    /// Runs one statement to its end and returns its rows.
    ///
    /// # Errors
    /// When SQLite refused it, also when another connection held the database too long.
    fn execute(
        &self,
        statement: &str,
        parameters: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<Vec<Value>>, Self::Error>>;
}

const MIGRATIONS: [&str; 2] = [
    include_str!("../../migrations/sqlite/0001_initial.sql"),
    include_str!("../../migrations/sqlite/0002_token_expiry.sql"),
];

/// The statements of a migration, each to be run on its own.
fn statements(migration: &str) -> impl Iterator<Item = &str> {
    migration.split(";\n\n").map(str::trim)
}

/// A SQLite database with the current schema.
#[derive(Debug, Clone)]
pub struct SqliteStore<C> {
    connection: C,
}

impl<C: Connection> SqliteStore<C> {
    /// Takes a connection that nobody else uses yet, sets it up and brings the schema up to date.
    /// Of several that do so at once, one migrates and the others wait for it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database cannot be read or written, or when its schema
    /// is newer than this code.
    pub async fn open(connection: C) -> Result<Self, StoreError> {
        let store = Self { connection };
        store.run("PRAGMA synchronous = FULL", []).await?;
        if store.schema_version().await? < MIGRATIONS.len() {
            store.run("PRAGMA journal_mode = WAL", []).await?;
            store.migrate().await?;
        }
        Ok(store)
    }

    /// A failure in here drops the connection, which rolls back.
    async fn migrate(&self) -> Result<(), StoreError> {
        self.run("BEGIN IMMEDIATE", []).await?;
        let version = self.schema_version().await?;
        for migration in &MIGRATIONS[version..] {
            for statement in statements(migration) {
                self.run(statement, []).await?;
            }
        }
        let version = MIGRATIONS.len();
        self.run(&format!("PRAGMA user_version = {version}"), [])
            .await?;
        self.run("COMMIT", []).await?;
        Ok(())
    }

    async fn schema_version(&self) -> Result<usize, StoreError> {
        let rows = self.run("PRAGMA user_version", []).await?;
        let version = rows
            .into_iter()
            .next()
            .map_or(Ok(0), |mut row| row.usize())?;
        if version > MIGRATIONS.len() {
            return Err(StoreError::unavailable(SchemaTooNew));
        }
        Ok(version)
    }

    async fn run<const N: usize>(
        &self,
        statement: &str,
        parameters: [Value; N],
    ) -> Result<Vec<Row>, StoreError> {
        self.connection
            .execute(statement, parameters.into())
            .await
            .map(|rows| rows.into_iter().map(|row| Row(row.into_iter())).collect())
            .map_err(StoreError::unavailable)
    }

    /// Runs a statement of which at most one row is wanted.
    async fn first<const N: usize, T>(
        &self,
        statement: &str,
        parameters: [Value; N],
        read: impl FnOnce(&mut Row) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let rows = self.run(statement, parameters).await?;
        rows.into_iter()
            .next()
            .map(|mut row| read(&mut row))
            .transpose()
    }

    async fn all<const N: usize, T>(
        &self,
        statement: &str,
        parameters: [Value; N],
        mut read: impl FnMut(&mut Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.run(statement, parameters).await?;
        rows.into_iter().map(|mut row| read(&mut row)).collect()
    }
}

/// The database has been migrated by a later version of this program.
#[derive(Debug, thiserror::Error)]
#[error("the database's schema is newer than this component")]
struct SchemaTooNew;

/// A row does not have the form that the schema gives it.
#[derive(Debug, thiserror::Error)]
#[error("the database holds a value that the schema does not allow")]
struct UnexpectedValue;

/// A row, read column by column from the left.
struct Row(std::vec::IntoIter<Value>);

impl Row {
    fn optional_integer(&mut self) -> Result<Option<i64>, StoreError> {
        match self.0.next() {
            Some(Value::Integer(value)) => Ok(Some(value)),
            Some(Value::Null) => Ok(None),
            _ => Err(StoreError::unavailable(UnexpectedValue)),
        }
    }

    fn optional_text(&mut self) -> Result<Option<String>, StoreError> {
        match self.0.next() {
            Some(Value::Text(value)) => Ok(Some(value)),
            Some(Value::Null) => Ok(None),
            _ => Err(StoreError::unavailable(UnexpectedValue)),
        }
    }

    fn integer(&mut self) -> Result<i64, StoreError> {
        self.optional_integer().and_then(present)
    }

    fn text(&mut self) -> Result<String, StoreError> {
        self.optional_text().and_then(present)
    }

    fn bool(&mut self) -> Result<bool, StoreError> {
        self.integer().map(|value| value != 0)
    }

    fn usize(&mut self) -> Result<usize, StoreError> {
        self.integer()
            .and_then(|value| present(value.try_into().ok()))
    }

    fn u64(&mut self) -> Result<u64, StoreError> {
        self.integer()
            .and_then(|value| present(value.try_into().ok()))
    }

    fn u32(&mut self) -> Result<u32, StoreError> {
        self.integer()
            .and_then(|value| present(value.try_into().ok()))
    }

    fn optional_time(&mut self) -> Result<Option<Timestamp>, StoreError> {
        self.optional_integer()?
            .map(|value| present(Timestamp::from_timestamp_micros(value)))
            .transpose()
    }

    fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.optional_time().and_then(present)
    }

    fn optional_status(&mut self) -> Result<Option<StatusKind>, StoreError> {
        self.optional_text()?
            .map(|word| present(StatusKind::parse(&word)))
            .transpose()
    }

    fn status(&mut self) -> Result<StatusKind, StoreError> {
        self.optional_status().and_then(present)
    }
}

fn present<T>(value: Option<T>) -> Result<T, StoreError> {
    value.ok_or_else(|| StoreError::unavailable(UnexpectedValue))
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<&AccountId> for Value {
    fn from(value: &AccountId) -> Self {
        value.as_str().into()
    }
}

impl From<&Workspace> for Value {
    fn from(value: &Workspace) -> Self {
        value.key().into()
    }
}

impl From<StatusKind> for Value {
    fn from(value: StatusKind) -> Self {
        value.as_str().into()
    }
}

impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Self::Integer(value.timestamp_micros())
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Integer(value.try_into().unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Integer(value.try_into().unwrap_or(i64::MAX))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
