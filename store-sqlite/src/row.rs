//! What comes out of a statement.

use kubeagents_core::{StatusKind, StoreError, Timestamp};

use crate::Value;

/// A row does not have the form that the schema gives it.
#[derive(Debug, thiserror::Error)]
#[error("the database holds a value that the schema does not allow")]
struct UnexpectedValue;

/// A row, read column by column from the left.
pub(crate) struct Row(std::vec::IntoIter<Value>);

pub(crate) fn present<T>(value: Option<T>) -> Result<T, StoreError> {
    value.ok_or_else(|| StoreError::unavailable(UnexpectedValue))
}

impl Row {
    pub(crate) fn new(values: Vec<Value>) -> Self {
        Self(values.into_iter())
    }

    fn optional<T>(
        &mut self,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        match present(self.0.next())? {
            Value::Null => Ok(None),
            value => present(read(value)).map(Some),
        }
    }

    pub(crate) fn optional_int<T: TryFrom<i64>>(&mut self) -> Result<Option<T>, StoreError> {
        self.optional(|value| match value {
            Value::Integer(value) => value.try_into().ok(),
            _ => None,
        })
    }

    pub(crate) fn int<T: TryFrom<i64>>(&mut self) -> Result<T, StoreError> {
        self.optional_int().and_then(present)
    }

    pub(crate) fn optional_text(&mut self) -> Result<Option<String>, StoreError> {
        self.optional(|value| match value {
            Value::Text(value) => Some(value),
            _ => None,
        })
    }

    pub(crate) fn text(&mut self) -> Result<String, StoreError> {
        self.optional_text().and_then(present)
    }

    pub(crate) fn bool(&mut self) -> Result<bool, StoreError> {
        self.int::<i64>().map(|value| value != 0)
    }

    pub(crate) fn optional_time(&mut self) -> Result<Option<Timestamp>, StoreError> {
        self.optional_int()?
            .map(|value| present(Timestamp::from_timestamp_micros(value)))
            .transpose()
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.optional_time().and_then(present)
    }

    pub(crate) fn optional_status(&mut self) -> Result<Option<StatusKind>, StoreError> {
        self.optional_text()?
            .map(|word| present(StatusKind::parse(&word)))
            .transpose()
    }

    pub(crate) fn status(&mut self) -> Result<StatusKind, StoreError> {
        self.optional_status().and_then(present)
    }
}
