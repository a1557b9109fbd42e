//! What goes into a statement and comes out of it.

use std::borrow::Cow;
use std::error::Error;

use chrono::DateTime;
use kubeagents_core::{StatusKind, StoreError, Timestamp};

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

/// One field of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// SQL's NULL, of any type.
    Null,
    /// `text`.
    Text(String),
    /// `bigint`.
    Int(i64),
    /// `boolean`.
    Bool(bool),
}

/// One row of a result, read from left to right.
#[derive(Debug, Clone)]
pub struct Row(std::vec::IntoIter<Cell>);

/// A result is not what the statement returns: the driver or the schema is not the one that this
/// crate was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL returned an unexpected result: {0}")]
pub struct UnexpectedResult(pub &'static str);

impl From<UnexpectedResult> for StoreError {
    fn from(cause: UnexpectedResult) -> Self {
        Self::unavailable(cause)
    }
}

/// What it means that the server refused a statement with this SQLSTATE.
pub fn refusal(sqlstate: &str, cause: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    match sqlstate {
        // Lock not available, serialisation failure, deadlock: for the sake of another statement.
        "55P03" | "40001" | "40P01" => StoreError::Contended,
        // The server ends the session, or a proxy has lost it: the commit may have been under way.
        code if code.starts_with("57P") || code.starts_with("08") => StoreError::unavailable(cause),
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

impl Row {
    /// A row of these fields.
    pub fn new(cells: Vec<Cell>) -> Self {
        Self(cells.into_iter())
    }

    /// The next field: text or NULL.
    ///
    /// # Errors
    /// [`UnexpectedResult`] for another type, or no field.
    pub fn optional_text(&mut self) -> Result<Option<String>, UnexpectedResult> {
        match self.0.next() {
            Some(Cell::Text(text)) => Ok(Some(text)),
            Some(Cell::Null) => Ok(None),
            _ => Err(UnexpectedResult("no text")),
        }
    }

    /// The next field: text.
    ///
    /// # Errors
    /// [`UnexpectedResult`] for another type, NULL, or no field.
    pub fn text(&mut self) -> Result<String, UnexpectedResult> {
        self.optional_text()?
            .ok_or(UnexpectedResult("NULL for a text"))
    }

    /// The next field: a number or NULL.
    ///
    /// # Errors
    /// [`UnexpectedResult`] for another type, or no field.
    pub fn optional_int(&mut self) -> Result<Option<i64>, UnexpectedResult> {
        match self.0.next() {
            Some(Cell::Int(number)) => Ok(Some(number)),
            Some(Cell::Null) => Ok(None),
            _ => Err(UnexpectedResult("no bigint")),
        }
    }

    /// The next field: a number that fits.
    ///
    /// # Errors
    /// [`UnexpectedResult`] for another type, NULL, no field, or a number that does not fit.
    pub fn int<T: TryFrom<i64>>(&mut self) -> Result<T, UnexpectedResult> {
        self.optional_int()?
            .ok_or(UnexpectedResult("NULL for a bigint"))?
            .try_into()
            .map_err(|_| UnexpectedResult("a number out of range"))
    }

    /// The next field: a truth value.
    ///
    /// # Errors
    /// [`UnexpectedResult`] for another type, NULL, or no field.
    pub fn bool(&mut self) -> Result<bool, UnexpectedResult> {
        match self.0.next() {
            Some(Cell::Bool(truth)) => Ok(truth),
            _ => Err(UnexpectedResult("no boolean")),
        }
    }

    /// The next field: an instant or NULL.
    ///
    /// # Errors
    /// [`UnexpectedResult`] for another type, no field, or an instant out of range.
    pub fn optional_instant(&mut self) -> Result<Option<Timestamp>, UnexpectedResult> {
        self.optional_int()?
            .map(|micros| {
                DateTime::from_timestamp_micros(micros)
                    .ok_or(UnexpectedResult("an instant out of range"))
            })
            .transpose()
    }

    /// The next field: an instant.
    ///
    /// # Errors
    /// [`UnexpectedResult`] for another type, NULL, no field, or an instant out of range.
    pub fn instant(&mut self) -> Result<Timestamp, UnexpectedResult> {
        self.optional_instant()?
            .ok_or(UnexpectedResult("NULL for an instant"))
    }

    /// The next field: a status or NULL.
    ///
    /// # Errors
    /// [`UnexpectedResult`] for anything else.
    pub fn optional_status(&mut self) -> Result<Option<StatusKind>, UnexpectedResult> {
        self.optional_text()?
            .map(|word| StatusKind::parse(&word).ok_or(UnexpectedResult("an unknown status")))
            .transpose()
    }

    /// The next field: a status.
    ///
    /// # Errors
    /// [`UnexpectedResult`] for anything else.
    pub fn status(&mut self) -> Result<StatusKind, UnexpectedResult> {
        self.optional_status()?
            .ok_or(UnexpectedResult("NULL for a status"))
    }
}
