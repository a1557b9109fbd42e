//! Running a statement and reading its rows.

use kubeagents_core::StoreError;

use crate::{Query, Row, UnexpectedResult, Value};

/// The rows of a statement, read.
pub(crate) trait Fetch: Query {
    /// All rows.
    async fn all<T>(
        &self,
        sql: &'static str,
        params: &[Value<'_>],
        read: impl FnMut(&mut Row) -> Result<T, UnexpectedResult>,
    ) -> Result<Vec<T>, StoreError> {
        let mut rows = self.query(sql, params).await?;
        Ok(rows.iter_mut().map(read).collect::<Result<_, _>>()?)
    }

    /// The first row, if there is one.
    async fn optional<T>(
        &self,
        sql: &'static str,
        params: &[Value<'_>],
        read: impl FnOnce(&mut Row) -> Result<T, UnexpectedResult>,
    ) -> Result<Option<T>, StoreError> {
        let mut rows = self.query(sql, params).await?;
        Ok(rows.first_mut().map(read).transpose()?)
    }

    /// The first row of a statement that always returns one.
    async fn one<T>(
        &self,
        sql: &'static str,
        params: &[Value<'_>],
        read: impl FnOnce(&mut Row) -> Result<T, UnexpectedResult>,
    ) -> Result<T, StoreError> {
        let row = self.optional(sql, params, read).await?;
        Ok(row.ok_or(UnexpectedResult("no row"))?)
    }

    /// Runs a statement and checks whether it returns a row.
    async fn returns_row(
        &self,
        sql: &'static str,
        params: &[Value<'_>],
    ) -> Result<bool, StoreError> {
        Ok(!self.query(sql, params).await?.is_empty())
    }

    /// The same connections, for statements that may read much.
    fn lists(&self) -> Lists<'_, Self>
    where
        Self: Sized,
    {
        Lists(self)
    }

    /// Runs a statement that returns nothing of interest.
    async fn execute(&self, sql: &'static str, params: &[Value<'_>]) -> Result<(), StoreError> {
        self.query(sql, params).await.map(drop)
    }
}

impl<Q: Query> Fetch for Q {}

/// Statements that may read much.
pub(crate) struct Lists<'q, Q>(&'q Q);

impl<Q: Query> Query for Lists<'_, Q> {
    fn query(
        &self,
        sql: &'static str,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> {
        self.0.list(sql, params)
    }
}
