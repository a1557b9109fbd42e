//! What goes into a statement, and what a refusal of it means.

use std::borrow::Cow;
use std::error::Error;

use kubeagents_core::{StoreError, Timestamp};

/// A parameter of a statement. The type is part of it even where the value is NULL, since drivers
/// bind by type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// `text`.
    Text(Option<&'a str>),
    /// `bigint`.
    Int(Option<i64>),
    /// `boolean`.
    Bool(bool),
    /// `text[]`. Arrays have no NULLs, which `wasmcloud:postgres` could not carry.
    Texts(&'a [Cow<'a, str>]),
    /// `bigint[]`.
    Ints(&'a [i64]),
}

/// The SQLSTATE of what a standby, or a database that is read-only, does not do.
pub const READ_ONLY: &str = "25006";

/// A pooler that gives each transaction another of its connections: what is set on one, and the
/// statements prepared on it, are not there on the next.
#[derive(Debug, thiserror::Error)]
#[error(
    "this is a pooler that changes connections between transactions, or has only one: have it keep a \
     connection for as long as its client does (in PgBouncer, pool_mode = session for this database), \
     or connect to PostgreSQL itself"
)]
pub struct ChangingPooler;

/// A prepared statement was lost behind a pooler.
#[derive(Debug, thiserror::Error)]
#[error("{}", ChangingPooler)]
struct LostStatement(#[source] Box<dyn Error + Send + Sync>);

/// Checks whether this SQLSTATE says that a prepared statement was lost, or is another's: only a
/// [`ChangingPooler`] does that.
pub fn is_of_changing_pooler(sqlstate: &str) -> bool {
    matches!(sqlstate, "26000" | "42P05")
}

/// Interprets the server's refusal of a statement with this SQLSTATE.
pub fn refusal(sqlstate: &str, cause: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    match sqlstate {
        // Lock not available, serialisation failure, deadlock: for the sake of another statement.
        "55P03" | "40001" | "40P01" => StoreError::Contended,
        // The server ends the session, or a proxy has lost it: the commit may have been under way.
        // A database that is read-only refuses everything alike.
        code if code.starts_with("57P") || code.starts_with("08") || code == READ_ONLY => {
            StoreError::unavailable(cause)
        }
        code if is_of_changing_pooler(code) => StoreError::unavailable(LostStatement(cause.into())),
        _ => StoreError::Refused(cause.into()),
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Some(text))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(Some(text))
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Int(Some(number.into()))
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Int(Some(saturating(number)))
    }
}

impl From<Option<u64>> for Value<'_> {
    fn from(number: Option<u64>) -> Self {
        Self::Int(number.map(saturating))
    }
}

impl From<Timestamp> for Value<'_> {
    fn from(instant: Timestamp) -> Self {
        Self::Int(Some(instant.timestamp_micros()))
    }
}

impl From<Option<Timestamp>> for Value<'_> {
    fn from(instant: Option<Timestamp>) -> Self {
        Self::Int(instant.map(|instant| instant.timestamp_micros()))
    }
}

impl From<bool> for Value<'_> {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

/// Numbers beyond `bigint` occur only as bounds, where its largest does as well.
pub(crate) fn saturating(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
