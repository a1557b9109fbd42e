//! Storage in a SQLite file.

mod backup;
mod lock;
mod open;
mod place;
mod pool;
mod reports;
mod retention;
#[cfg(test)]
mod tests;

pub(crate) use backup::{BackupError, backup};
pub(crate) use open::{OpenError, open, open_beside};
pub(crate) use reports::record_reports;
pub(crate) use retention::purge;

use std::collections::HashMap;

use kubeagents_core::{StoreError, Timestamp, Workspace};
use kubeagents_store_sqlite::SqliteStore;
use pool::Pool;

use crate::events::Changes;
use crate::metrics::{Connected, Connections};

/// State in a SQLite file.
pub(crate) type NativeStore = SqliteStore<Pool>;

impl Connected for NativeStore {
    fn connections(&self) -> Connections {
        let pools = SqliteStore::connections(self).map(Pool::connections);
        let sum = |count: fn(&Connections) -> usize| pools.iter().map(count).sum();
        Connections {
            in_use: sum(|pool| pool.in_use),
            idle: sum(|pool| pool.idle),
            max: sum(|pool| pool.max),
        }
    }
}

impl Changes for NativeStore {
    async fn renamed_since(
        &self,
        workspace: &Workspace,
        since: Timestamp,
        limit: usize,
    ) -> Result<HashMap<String, String>, StoreError> {
        SqliteStore::renamed_since(self, workspace, since, limit).await
    }
}
