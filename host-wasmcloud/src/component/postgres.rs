//! PostgreSQL through the platform, which pools connections.

use kubeagents_core::StoreError;
use kubeagents_store_postgres::schema::{self, SchemaError};
use kubeagents_store_postgres::{Cell, PostgresStore, Query, Row, Value, refusal};

use super::bindings::wasmcloud::postgres::query;
use super::bindings::wasmcloud::postgres::types::{self, PgValue};

/// The platform's database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Postgres;

/// PostgreSQL refused a statement, or could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("PostgreSQL failed: {0:?}")]
struct PostgresError(types::Error);

/// A statement returned a type that no statement of ours returns.
#[derive(Debug, thiserror::Error)]
#[error("PostgreSQL returned an unexpected value: {0:?}")]
struct UnexpectedValue(PgValue);

impl Postgres {
    /// The store, its schema up to date.
    pub(super) async fn open() -> Result<PostgresStore<Self>, StoreError> {
        match schema::migrate(&Self).await {
            Ok(()) => Ok(PostgresStore::new(Self)),
            Err(SchemaError::Store(error)) => Err(error),
            Err(error) => Err(StoreError::unavailable(error)),
        }
    }
}

fn failure(error: types::Error) -> StoreError {
    match &error {
        types::Error::QueryFailed(refused) => refusal(&refused.code.clone(), PostgresError(error)),
        _ => StoreError::unavailable(PostgresError(error)),
    }
}

fn cell(value: PgValue) -> Result<Cell, StoreError> {
    Ok(match value {
        PgValue::Null => Cell::Null,
        PgValue::Text(text) => Cell::Text(text),
        PgValue::BigInt(number) | PgValue::Int8(number) => Cell::Int(number),
        PgValue::Bool(truth) | PgValue::Boolean(truth) => Cell::Bool(truth),
        other => return Err(StoreError::unavailable(UnexpectedValue(other))),
    })
}

impl Query for Postgres {
    async fn query(&self, sql: &'static str, params: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let params = params.iter().map(|value| match value {
            Value::Text(Some(text)) => PgValue::Text((*text).to_owned()),
            Value::Int(Some(number)) => PgValue::BigInt(*number),
            Value::Bool(truth) => PgValue::Bool(*truth),
            Value::Text(None) | Value::Int(None) => PgValue::Null,
            Value::Texts(texts) => {
                PgValue::TextArray(texts.iter().map(ToString::to_string).collect())
            }
            Value::Ints(numbers) => PgValue::Int8Array(numbers.to_vec()),
        });
        let (_, rows, end) = query::query(sql.to_owned(), params.collect())
            .await
            .map_err(failure)?;
        let rows = rows.collect().await;
        end.await.map_err(failure)?;
        let row = |row: Vec<PgValue>| {
            row.into_iter()
                .map(cell)
                .collect::<Result<_, _>>()
                .map(Row::new)
        };
        rows.into_iter().map(row).collect()
    }
}
