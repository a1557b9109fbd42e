//! What deleted accounts leave in their workspaces goes in small statements.

use kubeagents_core::store::LATE_REPORTS;
use kubeagents_core::{StoreError, Timestamp};
use kubeagents_store_sql::Row;

use crate::{Connection, SqliteStore};

/// Number of rows that one statement deletes.
const BATCH: usize = 500;

/// Accounts that are looked at by one call.
const OLDEST: &str = "
    SELECT id, deleted_at FROM deleted_accounts ORDER BY deleted_at, id LIMIT 16";

/// Deletes at most ?2 rows of a table, whose key these columns are, from the workspace ?1.
macro_rules! delete_some {
    ($table:literal, $key:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE workspace = ?1 AND (",
            $key,
            ") IN (SELECT ",
            $key,
            " FROM ",
            $table,
            " WHERE workspace = ?1 LIMIT ?2) RETURNING TRUE"
        )
    };
}

const CONTENTS: [&str; 8] = [
    delete_some!("audit", "id"),
    delete_some!("channels", "id"),
    delete_some!("deliveries", "id"),
    delete_some!("outbox", "id"),
    delete_some!("overflows", "channel"),
    delete_some!("statuses", "agent_id, topic, seq"),
    delete_some!("sessions", "agent_id, topic"),
    delete_some!("agents", "agent_id"),
];

const FORGET: &str = "DELETE FROM deleted_accounts WHERE id = ?1";

/// Deletes a batch; returns false when nothing is left to delete now.
pub(crate) async fn purge<C: Connection>(
    store: &SqliteStore<C>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let read = |row: &mut Row| Ok((row.text()?, row.instant()?));
    for (id, deleted_at) in store.lookups.all(OLDEST, [], read).await? {
        for statement in CONTENTS {
            let parameters = [(&id).into(), BATCH.into()];
            if !store.writer.run(statement, parameters).await?.is_empty() {
                return Ok(true);
            }
        }
        if now - deleted_at >= LATE_REPORTS {
            store.writer.run(FORGET, [(&id).into()]).await?;
        }
    }
    Ok(false)
}
