//! Connections to a file, on threads where they may block.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kubeagents_core::{StoreError, causes};
use kubeagents_store_sqlite::{Connection, PATIENCE, Value};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, OpenFlags, ToSql};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::lock::Lock;
use super::place::Place;
use crate::metrics::Connections;

/// More statements than the store has, so that each is parsed once on a connection.
const PREPARED: usize = 64;

/// A few connections of which each runs one statement at a time. What finds none waits, first come,
/// first served. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool {
    idle: Arc<Mutex<Vec<rusqlite::Connection>>>,
    turns: Arc<Semaphore>,
    size: usize,
    place: Arc<Place>,
    _lock: Option<Arc<Lock>>,
}

/// A result has a value of a type that no statement returns.
#[derive(Debug, thiserror::Error)]
#[error("SQLite returned a value of type {0}")]
struct UnexpectedType(rusqlite::types::Type);

/// A statement found no connection in time.
#[derive(Debug, thiserror::Error)]
#[error("the statements before this one take too long")]
struct NoTurn;

/// All connections are lost.
#[derive(Debug, thiserror::Error)]
#[error("there is no connection to the database any more")]
struct NoConnection;

/// A connection of one's own to a file that exists.
pub(super) fn connect(file: &Path, access: OpenFlags) -> Result<rusqlite::Connection, Failure> {
    // No name is taken for a URI, and no connection is used by two threads at once.
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(file, flags)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    // A group of reports in one statement is kept in memory until it is stored.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

impl Pool {
    /// A pool of these connections to a database in this place.
    pub(super) fn new(connections: Vec<rusqlite::Connection>, place: Arc<Place>) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(connections.len())),
            size: connections.len(),
            idle: Arc::new(Mutex::new(connections)),
            place,
            _lock: None,
        }
    }

    /// The pool, which keeps a lock for as long as there is a connection or a clone.
    pub(super) fn under(self, lock: Lock) -> Self {
        let lock = Some(Arc::new(lock));
        Self {
            _lock: lock,
            ..self
        }
    }

    /// Its connections now.
    pub(super) fn connections(&self) -> Connections {
        let idle = self.turns.available_permits();
        Connections {
            in_use: self.size - idle,
            idle,
            max: self.size,
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<rusqlite::Connection>> {
        // Nothing that holds the lock leaves the list half-changed.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(
        &self,
        statement: &str,
        parameters: &[Value],
        deadline: Instant,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let connection = self.idle().pop();
        let connection = connection.ok_or_else(|| StoreError::unavailable(NoConnection))?;
        let rows = connection
            .busy_timeout(deadline.saturating_duration_since(Instant::now()))
            .and_then(|()| run(&connection, statement, parameters));
        self.idle().push(connection);
        let rows = rows.map_err(store_error)?;
        self.place.check().map_err(StoreError::unavailable)?;
        Ok(rows)
    }
}

impl Connection for Pool {
    /// A statement that has begun goes on when nobody awaits its end any more.
    async fn execute(
        &self,
        statement: &str,
        parameters: Vec<Value>,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        let turn = timeout_at(deadline, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| StoreError::unavailable(NoTurn))?;
        let turn = turn.map_err(StoreError::unavailable)?;
        let (pool, statement) = (self.clone(), statement.to_owned());
        let running = tokio::task::spawn_blocking(move || {
            let rows = pool.run(&statement, &parameters, deadline);
            drop(turn);
            rows
        });
        running.await.map_err(StoreError::unavailable)?
    }
}

/// A parameter, without a copy of its text.
struct Parameter<'a>(&'a Value);

impl ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(value) => ValueRef::Integer(*value),
            Value::Text(value) => ValueRef::Text(value.as_bytes()),
        }))
    }
}

fn run(
    connection: &rusqlite::Connection,
    statement: &str,
    parameters: &[Value],
) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut statement = connection.prepare_cached(statement)?;
    let width = statement.column_count();
    let parameters = parameters.iter().map(Parameter);
    let mut results = statement.query(rusqlite::params_from_iter(parameters))?;
    let mut rows = Vec::new();
    while let Some(row) = results.next()? {
        // To collect results would make room for a few values at a time, in every row.
        let mut values = Vec::with_capacity(width);
        for column in 0..width {
            values.push(value(column, row.get_ref(column)?)?);
        }
        rows.push(values);
    }
    Ok(rows)
}

fn value(column: usize, value: ValueRef<'_>) -> rusqlite::Result<Value> {
    match value {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(value) => Ok(Value::Integer(value)),
        ValueRef::Text(text) => match str::from_utf8(text) {
            Ok(text) => Ok(Value::Text(text.to_owned())),
            Err(error) => Err(rusqlite::Error::Utf8Error(column, error)),
        },
        other => {
            let (kind, cause) = (other.data_type(), UnexpectedType(other.data_type()));
            let cause = Box::new(cause);
            Err(rusqlite::Error::FromSqlConversionFailure(
                column, kind, cause,
            ))
        }
    }
}

/// A failure as SQLite words it. The driver would say most of it twice.
#[derive(Debug, thiserror::Error)]
#[error("{}", text(.0))]
pub(crate) struct Failure(rusqlite::Error);

impl Failure {
    /// The kind of failure, where SQLite itself reports it.
    pub(super) fn code(&self) -> Option<ErrorCode> {
        self.0.sqlite_error_code()
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self(error)
    }
}

fn text(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(failure, Some(message)) => {
            format!("{message} (SQLite code {})", failure.extended_code)
        }
        other => causes(other),
    }
}

/// What a failure means to the core.
fn store_error(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
            StoreError::Refused(Failure(error).into())
        }
        _ => StoreError::unavailable(Failure(error)),
    }
}
