//! What deleted accounts leave in their workspaces goes in small statements.

use kubeagents_core::store::LATE_REPORTS;
use kubeagents_core::{StoreError, Timestamp};

use crate::query::Fetch;
use crate::{Query, Row};

/// Number of rows that one statement deletes.
const BATCH: i64 = 1000;

/// Accounts that are looked at by one call.
const OLDEST: &str = "\
SELECT id, deleted_at FROM kubeagents_data.deleted_accounts ORDER BY deleted_at, id LIMIT 16";

/// Deletes at most `$2` rows of a table, whose key these columns are, from the workspace `$1`; returns
/// how many.
macro_rules! delete_some {
    ($table:literal, $key:literal) => {
        concat!(
            "WITH batch AS (SELECT ",
            $key,
            " FROM kubeagents_data.",
            $table,
            " WHERE workspace = $1::text LIMIT $2::bigint), \
            deleted AS (DELETE FROM kubeagents_data.",
            $table,
            " WHERE workspace = $1::text AND (",
            $key,
            ") IN (SELECT ",
            $key,
            " FROM batch) RETURNING 1) \
            SELECT count(*) FROM deleted"
        )
    };
}

const CONTENTS: [&str; 9] = [
    delete_some!("audit", "id"),
    delete_some!("channels", "id"),
    delete_some!("deliveries", "id"),
    delete_some!("outbox", "id"),
    delete_some!("overflows", "id"),
    delete_some!("statuses", "agent_id, session_topic, seq"),
    delete_some!("sessions", "agent_id, session_topic"),
    delete_some!("agents", "agent_id"),
    delete_some!("agent_counts", "workspace"),
];

const FORGET: &str = "DELETE FROM kubeagents_data.deleted_accounts WHERE id = $1::text";

/// Deletes a batch; returns false when nothing is left to delete now.
pub(crate) async fn purge(query: &impl Query, now: Timestamp) -> Result<bool, StoreError> {
    let read = |row: &mut Row| Ok((row.text()?, row.instant()?));
    for (id, deleted_at) in query.all(OLDEST, &[], read).await? {
        for statement in CONTENTS {
            let params = [(&id).into(), BATCH.into()];
            let deleted: i64 = query.one(statement, &params, Row::int).await?;
            if deleted > 0 {
                return Ok(true);
            }
        }
        if now - deleted_at >= LATE_REPORTS {
            query.execute(FORGET, &[(&id).into()]).await?;
        }
    }
    Ok(false)
}
