use kubeagents_core::{Store, StoreError};

use crate::query::Fetch;
use crate::{ApiKeyCache, Query, Row};

/// State in PostgreSQL. Any number of them, in any kind of host, may share one database.
#[derive(Debug, Clone)]
pub struct PostgresStore<Q, C = ()> {
    pub(crate) query: Q,
    pub(crate) cache: C,
}

/// Would lock a row, so that it fails where the schema is missing, on a standby, and where the
/// database is read-only; there is no such row.
const PING: &str = "SELECT version FROM kubeagents_data.migrations WHERE version < 0 FOR UPDATE";

/// The update changes nothing: it makes the row visible to a host that lost the race to insert it.
const SECRET: &str = "\
INSERT INTO kubeagents_data.secrets AS secret (name, value) VALUES ($1::text, $2::text) \
ON CONFLICT (name) DO UPDATE SET value = secret.value RETURNING value";

impl<Q: Query> PostgresStore<Q> {
    /// A store on a database whose schema is there already (see [`schema`](crate::schema)).
    pub fn new(query: Q) -> Self {
        Self::with_cache(query, ())
    }
}

impl<Q: Query, C> PostgresStore<Q, C> {
    /// A store that remembers API keys.
    pub fn with_cache(query: Q, cache: C) -> Self {
        Self { query, cache }
    }

    /// Returns the driver, which runs the statements.
    pub fn driver(&self) -> &Q {
        &self.query
    }

    /// Gives back what runs the statements.
    pub fn into_driver(self) -> Q {
        self.query
    }
}

impl<Q: Query, C: ApiKeyCache> Store for PostgresStore<Q, C> {
    const DURABLE: bool = true;

    async fn ping(&self) -> Result<(), StoreError> {
        self.query.execute(PING, &[]).await
    }

    async fn secret(&self, name: &str, candidate: &str) -> Result<String, StoreError> {
        let params = [name.into(), candidate.into()];
        self.query.one(SECRET, &params, Row::text).await
    }
}
