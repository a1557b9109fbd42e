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

/// State in a SQLite file.
pub(crate) type NativeStore = SqliteStore<Pool>;

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
