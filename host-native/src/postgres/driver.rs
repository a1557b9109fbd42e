//! Statements over a pool of connections.

use std::error::Error;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use kubeagents_core::StoreError;
use kubeagents_store_postgres::{Cell, Query, READ_ONLY, Row, UnexpectedResult, Value, refusal};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgPool, PgRow};
use sqlx::{Arguments, Column, Decode, Postgres, Row as _, Transaction, TypeInfo, ValueRef};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long an operation may take in all, waiting for a connection included. The server's own
/// limits end a statement sooner; this one is for a server that no longer answers.
const DEADLINE: Duration = Duration::from_secs(15);

/// Statements over a pool.
#[derive(Debug, Clone)]
pub(crate) struct Driver {
    pool: PgPool,
    /// The part of the pool that lists may take. The rest is for what takes a moment: reports,
    /// credentials, `/ready`.
    lists: Arc<Semaphore>,
}

/// An operation took longer than [`DEADLINE`].
#[derive(Debug, thiserror::Error)]
#[error("the database did not answer in time")]
struct NoAnswer;

/// A list found no connection in time.
#[derive(Debug, thiserror::Error)]
#[error("other lists take up the connections that lists may have, half of DB_MAX_OPEN_CONNS")]
struct NoTurn;

impl Driver {
    pub(crate) fn new(pool: PgPool) -> Self {
        let lists = (pool.options().get_max_connections() / 2).max(1);
        Self {
            pool,
            lists: Arc::new(Semaphore::new(lists as usize)),
        }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }
}

impl Query for Driver {
    async fn query(&self, sql: &'static str, params: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        // Connections that only read may have been kept since the database was read-only. What one of
        // them refuses is not stored, and goes to the next.
        let mut others = self.pool.size();
        loop {
            match Lent::of(&self.pool).await?.query(sql, params).await {
                Err(StoreError::Unavailable(cause)) if others > 0 && is_read_only(&*cause) => {
                    others -= 1;
                }
                result => return result,
            }
        }
    }

    async fn list(&self, sql: &'static str, params: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let turn = Arc::clone(&self.lists).acquire_owned();
        let turn = timeout(self.pool.options().get_acquire_timeout(), turn).await;
        let turn = turn.map_err(|_| StoreError::unavailable(NoTurn))?;
        let mut connection = Lent::of(&self.pool).await?;
        connection.turn = turn.ok();
        connection.query(sql, params).await
    }
}

/// A connection lent by the pool. The pool would wait without a limit for the database to answer
/// when it takes a connection back, and count the connection meanwhile.
pub(crate) struct Lent {
    connection: Option<PoolConnection<Postgres>>,
    /// Held until the pool has the connection back: a statement goes on when nobody awaits its end.
    turn: Option<OwnedSemaphorePermit>,
}

impl Lent {
    /// Waits for a connection that is free.
    pub(crate) async fn of(pool: &PgPool) -> Result<Self, StoreError> {
        let connection = within_deadline(pool.acquire()).await?;
        Ok(Self {
            connection: Some(connection),
            turn: None,
        })
    }

    async fn query(
        &mut self,
        sql: &'static str,
        params: &[Value<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let result = run(self, DEADLINE, sql, params).await;
        if matches!(&result, Err(StoreError::Unavailable(cause)) if is_lost(cause.as_ref())) {
            // Closes the connection without a word to the database.
            drop(self.connection.take().map(PoolConnection::detach));
        }
        result
    }
}

/// Checks whether a connection is of no use after this failure: the database does not answer on it,
/// or has become a standby, and a new connection may lead to the one that took its place.
fn is_lost(cause: &(dyn Error + 'static)) -> bool {
    cause.is::<NoAnswer>() || is_read_only(cause)
}

fn is_read_only(cause: &(dyn Error + 'static)) -> bool {
    let refusal = cause.downcast_ref::<ServerError>();
    refusal.is_some_and(|error| error.code == READ_ONLY)
}

impl Deref for Lent {
    type Target = PgConnection;

    #[expect(
        clippy::expect_used,
        reason = "nothing takes the connection but its end"
    )]
    fn deref(&self) -> &PgConnection {
        self.connection
            .as_ref()
            .expect("the connection is there until the end")
    }
}

impl DerefMut for Lent {
    #[expect(
        clippy::expect_used,
        reason = "nothing takes the connection but its end"
    )]
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection
            .as_mut()
            .expect("the connection is there until the end")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            let turn = self.turn.take();
            tokio::spawn(async move {
                // When the time is up, the future is dropped, and the connection with it.
                let _ = timeout(DEADLINE, connection.return_to_pool()).await;
                drop(turn);
            });
        }
    }
}

/// Statements on one connection or in one transaction.
pub(crate) struct Pinned<C> {
    connection: Mutex<C>,
    deadline: Duration,
}

impl<C: DerefMut<Target = PgConnection>> Pinned<C> {
    /// Statements of which each must end in time.
    pub(crate) fn new(connection: C) -> Self {
        Self {
            connection: Mutex::new(connection),
            deadline: DEADLINE,
        }
    }

    /// Statements that may take as long as they do.
    pub(crate) fn patient(connection: C) -> Self {
        Self {
            connection: Mutex::new(connection),
            deadline: Duration::MAX,
        }
    }
}

impl Pinned<Transaction<'_, Postgres>> {
    /// Ends the transaction: nothing was stored until now.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        within(self.deadline, self.connection.into_inner().commit()).await
    }
}

impl<C: DerefMut<Target = PgConnection>> Query for Pinned<C> {
    async fn query(&self, sql: &'static str, params: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let mut connection = self.connection.lock().await;
        run(&mut connection, self.deadline, sql, params).await
    }
}

async fn run(
    connection: &mut PgConnection,
    deadline: Duration,
    sql: &'static str,
    params: &[Value<'_>],
) -> Result<Vec<Row>, StoreError> {
    let mut arguments = PgArguments::default();
    for param in params {
        match *param {
            Value::Text(text) => arguments.add(text),
            Value::Int(number) => arguments.add(number),
            Value::Bool(truth) => arguments.add(truth),
            Value::Texts(texts) => arguments.add(texts),
            Value::Ints(numbers) => arguments.add(numbers),
        }
        .map_err(StoreError::unavailable)?;
    }
    let rows = sqlx::query_with(sql, arguments).fetch(connection);
    let rows = rows.and_then(async |row| decode(&row)).try_collect();
    within(deadline, rows).await
}

/// Waits for an operation on the database, but not for ever.
pub(crate) async fn within_deadline<T>(
    operation: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    within(DEADLINE, operation).await
}

async fn within<T>(
    deadline: Duration,
    operation: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match timeout(deadline, operation).await {
        Ok(result) => result.map_err(store_error),
        Err(_) => Err(StoreError::unavailable(NoAnswer)),
    }
}

/// An error as the server words it. The driver would add a line number, which is that of
/// PostgreSQL's own source.
#[derive(Debug, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
pub(crate) struct ServerError {
    code: String,
    message: String,
}

impl ServerError {
    /// The server's error, if the failure is one.
    pub(crate) fn of(error: &sqlx::Error) -> Option<Self> {
        let error = error.as_database_error()?;
        Some(Self {
            code: error.code().unwrap_or_default().into_owned(),
            message: error.message().to_owned(),
        })
    }
}

/// What a failure means to the core.
pub(crate) fn store_error(error: sqlx::Error) -> StoreError {
    match ServerError::of(&error) {
        Some(error) => refusal(&error.code.clone(), error),
        None => StoreError::unavailable(error),
    }
}

/// Reads a row of the three types that the statements return.
fn decode(row: &PgRow) -> Result<Row, sqlx::Error> {
    let columns = row.columns();
    // To collect results would make room for a few cells at a time, in every row.
    let mut cells = Vec::with_capacity(columns.len());
    for column in columns {
        let value = row.try_get_raw(column.ordinal())?;
        let cell = match column.type_info().name() {
            _ if value.is_null() => Ok(Cell::Null),
            "TEXT" => <String as Decode<Postgres>>::decode(value).map(Cell::Text),
            "INT8" => <i64 as Decode<Postgres>>::decode(value).map(Cell::Int),
            "BOOL" => <bool as Decode<Postgres>>::decode(value).map(Cell::Bool),
            _ => Err(UnexpectedResult("a column of another type").into()),
        };
        cells.push(cell.map_err(sqlx::Error::Decode)?);
    }
    Ok(Row::new(cells))
}
