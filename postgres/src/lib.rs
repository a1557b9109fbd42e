//! kubeagents' store on PostgreSQL 13 and newer: the schema, every statement, and what they mean.
//!
//! The crate opens no connection. A host hands in a [`Query`], which runs one statement with
//! parameters and returns its rows; [`PostgresStore`] makes a [`Store`](kubeagents_core::Store) of
//! it. Every operation is a single statement, so that it is atomic on drivers without transactions
//! (`wasmcloud:postgres`) and on connections that several requests share (`spin:postgres`).
//!
//! Statements must run at READ COMMITTED, PostgreSQL's default: under a stricter level the loser of
//! a race fails instead of seeing what the winner stored.
//!
//! Parameters and results are `text`, `bigint` and `boolean` only, which every driver can carry.
//! Instants are microseconds since 1970; lists are JSON text.
#![forbid(unsafe_code)]

mod accounts;
mod api_keys;
pub mod outbox;
mod queries;
pub mod reports;
pub mod schema;
mod store;
pub mod tokens;
mod value;

pub use store::{ApiKeyCache, PostgresStore};
pub use value::{Cell, Row, UnexpectedResult, Value};

use kubeagents_core::StoreError;

/// Runs statements: a driver with its connections.
pub trait Query {
    /// Runs one statement and returns all its rows. The texts are constants of this crate, so a
    /// driver may keep them prepared by address or by text.
    ///
    /// # Errors
    /// [`StoreError::Contended`] when the server refused the statement for the sake of another
    /// (SQLSTATE 55P03, 40001, 40P01): then nothing was stored. [`StoreError::Unavailable`] for
    /// anything else; whether the statement took effect is then unknown.
    fn query(
        &self,
        sql: &'static str,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>>;
}

impl<Q: Query> Query for &Q {
    fn query(
        &self,
        sql: &'static str,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> {
        (**self).query(sql, params)
    }
}
