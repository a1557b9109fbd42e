//! Connections to Spin's databases.

use std::cell::RefCell;
use std::rc::Rc;

use kubeagents_core::StoreError;
use kubeagents_store_postgres::{Cell, Query, Row, Value as PgValue, refusal};
use kubeagents_store_sqlite::{Connection, Connections, SqliteStore, Value, schema};
use spin_sdk::pg::{self, DbValue, ParameterValue, PgError, QueryError};
use spin_sdk::sqlite;

/// A connection to the default SQLite database. Clones share it.
#[derive(Clone)]
pub(super) struct SqliteConnection(Rc<sqlite::Connection>);

/// SQLite refused a statement, or returned what no statement of ours returns.
#[derive(Debug, thiserror::Error)]
#[error("SQLite failed: {0}")]
struct SqliteError(String);

/// SQLite's message when another connection has held the database for too long.
const LOCKED: &str = "database is locked";

fn sqlite_failed(error: sqlite::Error) -> StoreError {
    match error {
        sqlite::Error::Io(text) if text.contains(LOCKED) => StoreError::Contended,
        sqlite::Error::Io(text) => StoreError::unavailable(SqliteError(text)),
        other => StoreError::unavailable(SqliteError(format!("{other:?}"))),
    }
}

impl SqliteConnection {
    pub(super) async fn open() -> Result<Self, StoreError> {
        let connection = sqlite::Connection::open_default().await;
        Ok(Self(Rc::new(connection.map_err(sqlite_failed)?)))
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
        let parameters = parameters.into_iter().map(|value| match value {
            Value::Null => sqlite::Value::Null,
            Value::Integer(value) => sqlite::Value::Integer(value),
            Value::Text(value) => sqlite::Value::Text(value),
        });
        let result = self.0.execute(statement, parameters).await;
        let rows = result.map_err(sqlite_failed)?.collect().await;
        let row = |row: sqlite::RowResult| row.values.into_iter().map(value).collect();
        rows.map_err(sqlite_failed)?.into_iter().map(row).collect()
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

/// A PostgreSQL database, on one connection at a time. Clones share it.
#[derive(Clone)]
pub(super) struct PostgresConnection {
    url: Rc<str>,
    open: Rc<RefCell<Option<Rc<pg::Connection>>>>,
}

/// The isolation level that the statements are made for, and limits to how long one may hold up
/// its request. One statement, since each costs a round trip.
const SET_UP: &str = "SELECT set_config('default_transaction_isolation', 'read committed', false),
    set_config('lock_timeout', '5s', false), set_config('statement_timeout', '20s', false)";

impl PostgresConnection {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.into(),
            open: Rc::default(),
        }
    }

    /// The connection, opened if there is none or the last one broke.
    async fn get(&self) -> Result<Rc<pg::Connection>, pg::Error> {
        if let Some(connection) = &*self.open.borrow() {
            return Ok(Rc::clone(connection));
        }
        let connection = Rc::new(pg::Connection::open(&*self.url).await?);
        connection.query(SET_UP, []).await?.collect().await?;
        self.open.replace(Some(Rc::clone(&connection)));
        Ok(connection)
    }

    async fn run(
        &self,
        statement: &str,
        parameters: Vec<ParameterValue>,
    ) -> Result<Vec<Row>, pg::Error> {
        let connection = self.get().await?;
        let run = async {
            let mut result = connection.query(statement, parameters).await?;
            let mut rows = Vec::new();
            while let Some(row) = result.rows().next().await {
                rows.push(Row::new(
                    row.into_iter().map(cell).collect::<Result<_, _>>()?,
                ));
            }
            result.result().await?;
            Ok(rows)
        };
        let outcome = run.await;
        if outcome.as_ref().is_err_and(may_be_broken) {
            self.open.replace(None);
        }
        outcome
    }
}

/// Checks whether an error may mean a lost connection: it is none that the server returned.
fn may_be_broken(error: &pg::Error) -> bool {
    !matches!(
        error,
        pg::Error::PgError(PgError::QueryFailed(QueryError::DbError(_)))
    )
}

fn cell(value: DbValue) -> Result<Cell, pg::Error> {
    match value {
        DbValue::DbNull => Ok(Cell::Null),
        DbValue::Str(value) => Ok(Cell::Text(value)),
        DbValue::Int64(value) => Ok(Cell::Int(value)),
        DbValue::Boolean(value) => Ok(Cell::Bool(value)),
        other => Err(pg::Error::Decode(format!("unexpected value {other:?}"))),
    }
}

impl Query for PostgresConnection {
    async fn query(
        &self,
        sql: &'static str,
        params: &[PgValue<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let parameters = params.iter().map(|value| match value {
            PgValue::Text(Some(text)) => ParameterValue::Str((*text).to_owned()),
            PgValue::Int(Some(number)) => ParameterValue::Int64(*number),
            PgValue::Bool(truth) => ParameterValue::Boolean(*truth),
            PgValue::Text(None) | PgValue::Int(None) => ParameterValue::DbNull,
            PgValue::Texts(texts) => {
                ParameterValue::ArrayStr(texts.iter().map(|text| Some(text.to_string())).collect())
            }
            PgValue::Ints(numbers) => {
                ParameterValue::ArrayInt64(numbers.iter().copied().map(Some).collect())
            }
        });
        self.run(sql, parameters.collect()).await.map_err(failure)
    }
}

fn failure(error: pg::Error) -> StoreError {
    match &error {
        pg::Error::PgError(PgError::QueryFailed(QueryError::DbError(refused))) => {
            refusal(&refused.code.clone(), PostgresError(error))
        }
        _ => StoreError::unavailable(PostgresError(error)),
    }
}

/// PostgreSQL refused a statement, or could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("PostgreSQL failed: {0:?}")]
struct PostgresError(pg::Error);
