use chrono::DateTime;
use kubeagents_core::{StatusKind, StoreError, Timestamp};

/// One field of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// SQL's NULL, of any type.
    Null,
    /// Text.
    Text(String),
    /// An integer of 64 bits.
    Int(i64),
    /// A truth value, where the database has them.
    Bool(bool),
}

/// One row of a result, read from left to right.
#[derive(Debug, Clone)]
pub struct Row(std::vec::IntoIter<Cell>);

/// A result is not what the statement returns: the driver or the schema is not the one that
/// the statement was written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the database returned an unexpected result: {0}")]
pub struct UnexpectedResult(pub &'static str);

impl From<UnexpectedResult> for StoreError {
    fn from(cause: UnexpectedResult) -> Self {
        Self::unavailable(cause)
    }
}

impl Row {
    /// A row of these fields.
    pub fn new(cells: Vec<Cell>) -> Self {
        Self(cells.into_iter())
    }

    /// Passes over fields.
    pub fn skip(&mut self, fields: usize) {
        self.0.by_ref().take(fields).for_each(drop);
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

    /// The next field: a number that fits, or NULL.
    ///
    /// # Errors
    /// [`UnexpectedResult`] for another type, no field, or a number that does not fit.
    pub fn optional_int<T: TryFrom<i64>>(&mut self) -> Result<Option<T>, UnexpectedResult> {
        match self.0.next() {
            Some(Cell::Int(number)) => match number.try_into() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(UnexpectedResult("a number out of range")),
            },
            Some(Cell::Null) => Ok(None),
            _ => Err(UnexpectedResult("no integer")),
        }
    }

    /// The next field: a number that fits.
    ///
    /// # Errors
    /// [`UnexpectedResult`] for another type, NULL, no field, or a number that does not fit.
    pub fn int<T: TryFrom<i64>>(&mut self) -> Result<T, UnexpectedResult> {
        self.optional_int()?
            .ok_or(UnexpectedResult("NULL for an integer"))
    }

    /// The next field: a truth value.
    ///
    /// # Errors
    /// [`UnexpectedResult`] for another type, NULL, or no field.
    pub fn bool(&mut self) -> Result<bool, UnexpectedResult> {
        match self.0.next() {
            Some(Cell::Bool(truth)) => Ok(truth),
            // SQLite has no booleans.
            Some(Cell::Int(number @ (0 | 1))) => Ok(number == 1),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_order_and_only_as_what_they_are() {
        let mut row = Row::new(vec![
            Cell::Text("a".into()),
            Cell::Int(7),
            Cell::Bool(true),
            Cell::Int(0),
            Cell::Int(1_000_001),
            Cell::Text("failed".into()),
            Cell::Null,
        ]);
        assert_eq!(row.text(), Ok("a".into()));
        assert_eq!(row.int::<u32>(), Ok(7));
        assert_eq!((row.bool(), row.bool()), (Ok(true), Ok(false)));
        assert_eq!(row.instant().unwrap().timestamp_micros(), 1_000_001);
        assert_eq!(row.status(), Ok(StatusKind::Failed));
        assert_eq!(row.optional_text(), Ok(None));
        assert!(row.optional_text().is_err(), "there is no other field");
    }

    #[test]
    fn a_field_of_another_type_is_an_error() {
        type Read = fn(&mut Row) -> bool;
        let table: [(Cell, Read); 8] = [
            (Cell::Int(1), |row| row.text().is_err()),
            (Cell::Null, |row| row.text().is_err()),
            (Cell::Null, |row| row.int::<i64>().is_err()),
            (Cell::Int(-1), |row| row.int::<u64>().is_err()),
            (Cell::Int(2), |row| row.bool().is_err()),
            (Cell::Null, |row| row.instant().is_err()),
            (Cell::Int(i64::MAX), |row| row.instant().is_err()),
            (Cell::Text("done".into()), |row| {
                row.optional_status().is_err()
            }),
        ];
        for (cell, is_error) in table {
            let shown = format!("{cell:?}");
            assert!(is_error(&mut Row::new(vec![cell])), "{shown}");
        }
    }
}
