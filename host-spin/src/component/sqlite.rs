//! Connections to Spin's SQLite.

use std::rc::Rc;
use std::time::{Duration, Instant};

use kubeagents_core::StoreError;
use kubeagents_store_sqlite::{Connection, Connections, PATIENCE, SqliteStore, Value, schema};
use spin_sdk::{sqlite, time};

/// A connection to the default SQLite database. Clones share it.
#[derive(Clone)]
pub(super) struct SqliteConnection(Rc<sqlite::Connection>);

/// SQLite refused a statement, or returned what no statement of ours returns.
#[derive(Debug, thiserror::Error)]
#[error("SQLite failed: {0}")]
struct SqliteError(String);

/// How long SQLite itself waits in a statement for the lock of the database, by its own growing pauses.
/// The instance's other statements on the connection wait behind that one, so it is not long.
const LET_SQLITE_WAIT: &str = "PRAGMA busy_timeout = 100";

/// Pause between attempts at a statement that was not given the lock, for those others.
const PAUSE: Duration = Duration::from_millis(10);

/// Checks whether another connection has the lock of the database.
fn is_locked(error: &sqlite::Error) -> bool {
    matches!(error, sqlite::Error::Io(text) if text.contains("database is locked"))
}

fn sqlite_failed(error: sqlite::Error) -> StoreError {
    StoreError::unavailable(match error {
        sqlite::Error::Io(text) => SqliteError(text),
        other => SqliteError(format!("{other:?}")),
    })
}

impl SqliteConnection {
    pub(super) async fn open() -> Result<Self, StoreError> {
        let connection = sqlite::Connection::open_default().await;
        let connection = Self(Rc::new(connection.map_err(sqlite_failed)?));
        connection.execute(LET_SQLITE_WAIT, Vec::new()).await?;
        Ok(connection)
    }

    /// Tries a statement once.
    async fn attempt(
        &self,
        statement: &str,
        parameters: Vec<sqlite::Value>,
    ) -> Result<Vec<sqlite::RowResult>, sqlite::Error> {
        self.0.execute(statement, parameters).await?.collect().await
    }
}

/// The default SQLite database, with its schema up to date. Lists have a connection of their own:
/// Spin keeps a connection until the last row of a result has been taken.
pub(super) async fn open_sqlite() -> Result<SqliteStore<SqliteConnection>, StoreError> {
    let writer = SqliteConnection::open().await?;
    schema::prepare(&writer).await?;
    Ok(SqliteStore::new(Connections {
        lookups: writer.clone(),
        writer,
        lists: SqliteConnection::open().await?,
    }))
}

impl Connection for SqliteConnection {
    async fn execute(
        &self,
        statement: &str,
        parameters: Vec<Value>,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let begun = Instant::now();
        let parameters = parameters.into_iter().map(|value| match value {
            Value::Null => sqlite::Value::Null,
            Value::Integer(value) => sqlite::Value::Integer(value),
            Value::Text(value) => sqlite::Value::Text(value),
        });
        let parameters: Vec<_> = parameters.collect();
        let rows = loop {
            match self.attempt(statement, parameters.clone()).await {
                Err(error) if is_locked(&error) && begun.elapsed() < PATIENCE => {
                    time::sleep(PAUSE).await;
                }
                attempt => break attempt.map_err(sqlite_failed)?,
            }
        };
        let row = |row: sqlite::RowResult| row.values.into_iter().map(value).collect();
        rows.into_iter().map(row).collect()
    }
}

fn value(value: sqlite::Value) -> Result<Value, StoreError> {
    match value {
        sqlite::Value::Null => Ok(Value::Null),
        sqlite::Value::Integer(value) => Ok(Value::Integer(value)),
        sqlite::Value::Text(value) => Ok(Value::Text(value)),
        other => {
            let unexpected = format!("unexpected value {other:?}");
            Err(StoreError::unavailable(SqliteError(unexpected)))
        }
    }
}
