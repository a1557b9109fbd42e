//! A connection to PostgreSQL through Spin.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use kubeagents_core::StoreError;
use kubeagents_store_postgres::{
    Cell, ChangingPooler, Query, Row, Value, is_of_changing_pooler, refusal,
};
use spin_sdk::pg::{self, DbValue, ParameterValue, PgError, QueryError};
use spin_sdk::time;

/// A PostgreSQL database, on one connection and, once there has been a list, on a second for lists: what is
/// asked on a connection waits until all rows of the list before it have been taken. Clones share both.
#[derive(Clone)]
pub(super) struct PostgresConnection {
    url: Rc<str>,
    first: Slot,
    lists: Slot,
}

/// A connection, once it is open.
type Slot = Rc<RefCell<Option<Rc<pg::Connection>>>>;

/// The isolation level that the statements are made for, and limits to how long one may hold up
/// its request; and whether [`MARK`] has arrived. One statement, since each costs a round trip.
const SET_UP: &str = "SELECT set_config('default_transaction_isolation', 'read committed', false),
    set_config('lock_timeout', '5s', false), set_config('statement_timeout', '20s', false),
    coalesce(current_setting('kubeagents.direct', true), '') = 'on' AS direct";

/// What a connection asks for when it is made. Poolers refuse that, or leave it out.
const MARK: &str = "options=-c%20kubeagents.direct%3Don";

const BACKEND: &str = "SELECT pg_backend_pid()::bigint AS backend";

/// How long a pooler may take to show that it changes connections.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a list waits for a connection of its own.
const LISTS_PATIENCE: Duration = Duration::from_millis(500);

/// Failure to find out what an address leads to.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("database_url: {0}")]
    Pooler(#[from] ChangingPooler),
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// Opens a connection, and tells whether it leads to PostgreSQL without a pooler in between.
async fn connect(url: &str) -> Result<(pg::Connection, bool), pg::Error> {
    let connection = pg::Connection::open(url).await?;
    let rows = connection.query(SET_UP, []).await?.collect().await?;
    let is_direct = rows.first().and_then(|row| row.get("direct"));
    Ok((connection, is_direct.unwrap_or(false)))
}

async fn backend(connection: &pg::Connection) -> Result<Option<i64>, pg::Error> {
    let rows = connection.query(BACKEND, []).await?.collect().await?;
    Ok(rows.first().and_then(|row| row.get("backend")))
}

/// Checks whether a pooler keeps this connection to an address for as long as its client does.
async fn is_kept(connection: &pg::Connection, url: &str) -> Result<bool, StoreError> {
    let stays = pin!(stays(connection, url));
    match select(stays, pin!(time::sleep(PATIENCE))).await {
        Either::Left((Err(error), _)) if sqlstate(&error).is_some_and(is_of_changing_pooler) => {
            Ok(false)
        }
        Either::Left((stays, _)) => stays.map_err(failure),
        // The second one waits for a connection that others keep.
        Either::Right(_) => Ok(true),
    }
}

/// Checks whether a connection stays while another is used: if not, the first takes the second's.
async fn stays(connection: &pg::Connection, url: &str) -> Result<bool, pg::Error> {
    let before = backend(connection).await?;
    // There may be a limit on connections.
    let Ok((other, _)) = connect(url).await else {
        return Ok(true);
    };
    other.query("BEGIN", []).await?.collect().await?;
    let others = backend(&other).await?;
    let after = backend(connection).await?;
    other.query("ROLLBACK", []).await?.collect().await?;
    Ok(before == after && others != before)
}

impl PostgresConnection {
    /// The database at this address. Behind a pooler that gives each transaction another of its
    /// connections, a statement could run that another client has prepared.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) async fn open(url: &str) -> Result<Self, OpenError> {
        let opened = |url: &str, connection| Self {
            url: url.into(),
            first: Rc::new(RefCell::new(Some(Rc::new(connection)))),
            lists: Rc::default(),
        };
        // An address has one of these, and one that is there may be what a pooler goes by.
        if !url.contains("options=") {
            let separator = if url.contains('?') { '&' } else { '?' };
            let marked = format!("{url}{separator}{MARK}");
            if let Ok((connection, true)) = connect(&marked).await {
                return Ok(opened(&marked, connection));
            }
        }
        let (connection, _) = connect(url).await.map_err(failure)?;
        match is_kept(&connection, url).await? {
            true => Ok(opened(url, connection)),
            false => Err(ChangingPooler.into()),
        }
    }

    /// A slot's connection, opened if there is none or the last one broke.
    async fn get(&self, slot: &Slot) -> Result<Rc<pg::Connection>, pg::Error> {
        if let Some(connection) = &*slot.borrow() {
            return Ok(Rc::clone(connection));
        }
        let (connection, _) = connect(&self.url).await?;
        let connection = Rc::new(connection);
        slot.replace(Some(Rc::clone(&connection)));
        Ok(connection)
    }

    async fn run(
        &self,
        slot: &Slot,
        statement: &str,
        params: &[Value<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.try_to_run(slot, statement, parameters(params))
            .await
            .map_err(failure)
    }

    async fn try_to_run(
        &self,
        slot: &Slot,
        statement: &str,
        parameters: Vec<ParameterValue>,
    ) -> Result<Vec<Row>, pg::Error> {
        let connection = self.get(slot).await?;
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
        if outcome
            .as_ref()
            .is_err_and(|error| sqlstate(error).is_none())
        {
            slot.replace(None);
        }
        outcome
    }
}

/// The SQLSTATE of an error that the server returned. Any other may mean a lost connection.
fn sqlstate(error: &pg::Error) -> Option<&str> {
    match error {
        pg::Error::PgError(PgError::QueryFailed(QueryError::DbError(refused))) => {
            Some(&refused.code)
        }
        _ => None,
    }
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

fn parameters(params: &[Value<'_>]) -> Vec<ParameterValue> {
    let parameter = |value: &Value<'_>| match value {
        Value::Text(Some(text)) => ParameterValue::Str((*text).to_owned()),
        Value::Int(Some(number)) => ParameterValue::Int64(*number),
        Value::Bool(truth) => ParameterValue::Boolean(*truth),
        Value::Text(None) | Value::Int(None) => ParameterValue::DbNull,
        Value::Texts(texts) => {
            ParameterValue::ArrayStr(texts.iter().map(|text| Some(text.to_string())).collect())
        }
        Value::Ints(numbers) => {
            ParameterValue::ArrayInt64(numbers.iter().copied().map(Some).collect())
        }
    };
    params.iter().map(parameter).collect()
}

impl Query for PostgresConnection {
    async fn query(&self, sql: &'static str, params: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        self.run(&self.first, sql, params).await
    }

    async fn list(&self, sql: &'static str, params: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let opening = pin!(self.get(&self.lists));
        let slot = match select(opening, pin!(time::sleep(LISTS_PATIENCE))).await {
            Either::Left((Ok(_), _)) => &self.lists,
            // There may be a limit on connections, and Spin lets those wait that are beyond its own.
            Either::Left((Err(_), _)) | Either::Right(_) => &self.first,
        };
        self.run(slot, sql, params).await
    }
}

fn failure(error: pg::Error) -> StoreError {
    match sqlstate(&error).map(str::to_owned) {
        Some(sqlstate) => refusal(&sqlstate, PostgresError(error)),
        None => StoreError::unavailable(PostgresError(error)),
    }
}

/// PostgreSQL refused a statement, or could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("PostgreSQL failed: {0:?}")]
struct PostgresError(pg::Error);
