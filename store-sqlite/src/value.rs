//! What goes into and comes out of a statement.

use kubeagents_core::{AccountId, StatusKind, Timestamp, Workspace};
use kubeagents_store_sql::Cell;

/// A value that goes into or comes out of a statement. Times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL `NULL`.
    Null,
    /// A number, a truth value or a time.
    Integer(i64),
    /// Text.
    Text(String),
}

impl From<Value> for Cell {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Integer(number) => Self::Int(number),
            Value::Text(text) => Self::Text(text),
        }
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<&AccountId> for Value {
    fn from(value: &AccountId) -> Self {
        value.as_str().into()
    }
}

impl From<&Workspace> for Value {
    fn from(value: &Workspace) -> Self {
        value.key().into()
    }
}

impl From<StatusKind> for Value {
    fn from(value: StatusKind) -> Self {
        value.as_str().into()
    }
}

impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Self::Integer(value.timestamp_micros())
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Integer(value.try_into().unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Integer(value.try_into().unwrap_or(i64::MAX))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
