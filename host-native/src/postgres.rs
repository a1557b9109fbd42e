//! Storage in PostgreSQL.

mod cache;
mod driver;
mod open;
mod options;
mod reports;
mod retention;
#[cfg(test)]
mod tests;

pub(crate) use open::{GoTablesFailure, OpenError, drop_go_tables, open, restore_go_tables};
pub(crate) use options::Database;
pub(crate) use reports::record_reports;
pub(crate) use retention::purge;

use cache::Cache;
use driver::Driver;
use kubeagents_core::events::MAX_SESSIONS;
use kubeagents_core::{StoreError, Workspace};
use kubeagents_store_postgres::PostgresStore;
use sqlx::postgres::PgPool;

use crate::events::{Changed, Changes};
use crate::metrics::{Connected, Connections};

/// State in PostgreSQL, with this host's cache of API keys.
pub(crate) type NativeStore = PostgresStore<Driver, Cache>;

/// The store over a pool.
pub(crate) fn store(pool: PgPool) -> NativeStore {
    PostgresStore::with_cache(Driver::new(pool), Cache::default())
}

impl Connected for NativeStore {
    fn connections(&self) -> Connections {
        let pool = self.driver().pool();
        let (open, idle) = (pool.size() as usize, pool.num_idle());
        Connections {
            in_use: open.saturating_sub(idle),
            idle,
            max: pool.options().get_max_connections() as usize,
        }
    }
}

impl Changes for NativeStore {
    const SHARED: bool = true;

    async fn moment(&self) -> Result<Option<String>, StoreError> {
        self.snapshot().await.map(Some)
    }

    async fn changes(
        &self,
        workspaces: &[Workspace],
        since: &str,
    ) -> Result<Option<Changed>, StoreError> {
        let changes = PostgresStore::changes(self, workspaces, since, MAX_SESSIONS + 1).await?;
        Ok(changes.map(|changes| Changed {
            moment: changes.snapshot,
            sessions: changes.sessions,
        }))
    }
}
