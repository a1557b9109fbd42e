//! kubeagents' store on SQLite 3.38 and newer: the schema, every statement, and what they mean.
//!
//! The crate opens no file. A host hands in each [`Connection`], which runs one statement with
//! parameters and returns its rows; [`SqliteStore`] makes a [`Store`] of them.
//!
//! Several requests use one connection, interleaved, and several processes or instances one file.
//! So every operation is one statement, which is one transaction whoever else uses the connection;
//! those that must check before they write are triggers on views (see `migrations/sqlite`).
#![forbid(unsafe_code)]

mod accounts;
mod api_keys;
mod audit;
mod buckets;
mod census;
mod channels;
mod deletion;
mod outbox;
mod refresh_tokens;
mod registration_mails;
mod retention;
pub mod schema;
mod sessions;
mod value;

pub use value::Value;

use std::time::Duration;

use kubeagents_core::{Store, StoreError};
use kubeagents_store_sql::{Row, UnexpectedResult};

/// How long a statement waits for others, be it for a connection or for the lock of the database, which
/// one connection has at a time. A statement that was not given the lock has done nothing.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A connection to a SQLite database with JSON, in autocommit mode.
pub trait Connection {
    /// Runs one statement to its end and returns its rows. Where another connection has the
    /// database locked, the statement is tried for [`PATIENCE`].
    ///
    /// # Errors
    /// [`StoreError::Refused`] when SQLite did not accept the statement: nothing is stored then.
    /// [`StoreError::Unavailable`] for anything else.
    fn execute(
        &self,
        statement: &str,
        parameters: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<Vec<Value>>, StoreError>>;
}

impl<C: Connection> Connection for &C {
    fn execute(
        &self,
        statement: &str,
        parameters: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<Vec<Value>>, StoreError>> {
        (**self).execute(statement, parameters)
    }
}

/// The connections that a store works on. All may be one, but a connection serves one statement at
/// a time: a statement waits until those before it on the same connection have ended.
#[derive(Debug, Clone)]
pub struct Connections<C> {
    /// Runs what writes, and what a report is decided on. A host needs only one, since SQLite
    /// lets one connection write at a time.
    pub writer: C,
    /// Reads single rows, also on the path of reports.
    pub lookups: C,
    /// Reads lists, which take long enough to hold up reports.
    pub lists: C,
}

/// A store in a SQLite database with the current schema.
#[derive(Debug, Clone)]
pub struct SqliteStore<C> {
    writer: Statements<C>,
    lookups: Statements<C>,
    lists: Statements<C>,
}

impl<C: Connection> SqliteStore<C> {
    /// The store on these connections to a database that [`schema::prepare`] has been called on
    /// by every connection that writes.
    pub fn new(connections: Connections<C>) -> Self {
        Self {
            writer: Statements(connections.writer),
            lookups: Statements(connections.lookups),
            lists: Statements(connections.lists),
        }
    }
}

impl<C: Connection> SqliteStore<C> {
    /// The connections: what writes, what reads single rows, and what reads lists.
    pub fn connections(&self) -> [&C; 3] {
        [&self.writer.0, &self.lookups.0, &self.lists.0]
    }

    /// Moves all that the write-ahead log holds into the database file, so that a copy of that one
    /// file is a copy of everything.
    ///
    /// # Errors
    /// Those of the connection. The log is as good as before then.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        let statement = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.writer.run(statement, []).await.map(drop)
    }
}

/// A connection's statements, with their rows typed.
#[derive(Debug, Clone)]
struct Statements<C>(C);

impl<C: Connection> Statements<C> {
    async fn run<const N: usize>(
        &self,
        statement: &str,
        parameters: [Value; N],
    ) -> Result<Vec<Row>, StoreError> {
        let rows = self.0.execute(statement, parameters.into()).await?;
        let row = |values: Vec<Value>| Row::new(values.into_iter().map(Into::into).collect());
        Ok(rows.into_iter().map(row).collect())
    }

    /// Runs a statement of which at most one row is wanted.
    async fn first<const N: usize, T>(
        &self,
        statement: &str,
        parameters: [Value; N],
        read: impl FnOnce(&mut Row) -> Result<T, UnexpectedResult>,
    ) -> Result<Option<T>, StoreError> {
        let mut rows = self.run(statement, parameters).await?;
        Ok(rows.first_mut().map(read).transpose()?)
    }

    async fn all<const N: usize, T>(
        &self,
        statement: &str,
        parameters: [Value; N],
        read: impl FnMut(&mut Row) -> Result<T, UnexpectedResult>,
    ) -> Result<Vec<T>, StoreError> {
        let mut rows = self.run(statement, parameters).await?;
        Ok(rows.iter_mut().map(read).collect::<Result<_, _>>()?)
    }
}

const SECRET: &str = "SELECT value FROM secrets WHERE name = ?1";

const INSERT_SECRET: &str = "
    INSERT INTO secrets VALUES (?1, ?2)
    ON CONFLICT DO UPDATE SET value = value RETURNING value";

impl<C: Connection> Store for SqliteStore<C> {
    const DURABLE: bool = true;

    async fn ping(&self) -> Result<(), StoreError> {
        let any = "SELECT TRUE FROM secrets LIMIT 1";
        self.lookups.run(any, []).await.map(drop)
    }

    async fn secret(&self, name: &str, candidate: &str) -> Result<String, StoreError> {
        if let Some(secret) = self.lookups.first(SECRET, [name.into()], Row::text).await? {
            return Ok(secret);
        }
        let parameters = [name.into(), candidate.into()];
        let secret = self.writer.first(INSERT_SECRET, parameters, Row::text);
        Ok(secret.await?.ok_or(UnexpectedResult("no row"))?)
    }
}
