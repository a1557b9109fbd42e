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
//! Parameters are `text`, `bigint`, `boolean`, `text[]` and `bigint[]` only, results the first three,
//! which every driver can carry. Instants are microseconds since 1970.
#![forbid(unsafe_code)]

mod accounts;
pub mod adoption;
mod api_keys;
mod audit;
mod buckets;
mod census;
mod changes;
mod channels;
mod deletion;
mod outbox;
mod query;
mod refresh_tokens;
mod registration_mails;
pub mod retention;
pub mod schema;
mod sessions;
mod store;
mod value;

pub use api_keys::ApiKeyCache;
pub use changes::Changes;
pub use kubeagents_store_sql::{Cell, Row, UnexpectedResult};
pub use store::PostgresStore;
pub use value::{ChangingPooler, READ_ONLY, Value, is_of_changing_pooler, refusal};

use kubeagents_core::StoreError;

/// The name by which the native server's connections go (`application_name`).
pub const APPLICATION: &str = "kubeagents";

/// Runs statements: a driver with its connections.
pub trait Query {
    /// Runs one statement and returns all its rows. The texts are constants of this crate, so a
    /// driver may keep them prepared by address or by text.
    ///
    /// # Errors
    /// As [`refusal`] says when the server refused the statement; [`StoreError::Unavailable`] for
    /// anything else: whether the statement took effect is then unknown.
    fn query(
        &self,
        sql: &'static str,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>>;

    /// Runs a statement that a client asks for and that may read much. A driver with several
    /// connections keeps some of them free of these, for reports.
    ///
    /// # Errors
    /// Those of [`Query::query`].
    fn list(
        &self,
        sql: &'static str,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> {
        self.query(sql, params)
    }
}

impl<Q: Query> Query for &Q {
    fn query(
        &self,
        sql: &'static str,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> {
        (**self).query(sql, params)
    }

    fn list(
        &self,
        sql: &'static str,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> {
        (**self).list(sql, params)
    }
}
