//! Counting what the database holds.

use kubeagents_core::store::{Census, Counts};
use kubeagents_core::{StoreError, TURN, Timestamp, latest_expiry};
use kubeagents_store_sql::{Row, Tally, UnexpectedResult};

use crate::{Connection, SqliteStore};

/// The indexes have all that it takes.
const SESSIONS: &str = "
    SELECT status, reason = ?3, expires_at <= ?1 OR expires_at > ?2, count(*)
    FROM sessions INDEXED BY sessions_ended
    WHERE status IN ('success', 'failed') GROUP BY 1, 2, 3
    UNION ALL
    SELECT NULL, FALSE, expires_at <= ?1 OR expires_at > ?2, count(*)
    FROM sessions INDEXED BY sessions_by_expiry GROUP BY 3";

const OUTBOX: &str = "
    SELECT count(*), min(created_at), (SELECT coalesce(sum(dropped), 0) FROM overflows) FROM outbox";

impl<C: Connection> Census for SqliteStore<C> {
    async fn census(&self, now: Timestamp) -> Result<Counts, StoreError> {
        let mut tally = Tally::default();
        let add = |row: &mut Row| tally.add(row);
        let parameters = [now.into(), latest_expiry(now).into(), TURN.into()];
        self.lists.all(SESSIONS, parameters, add).await?;
        let mut counts = tally.counts();
        let read = |row: &mut Row| Ok((row.int()?, row.optional_instant()?, row.int()?));
        let outbox = self.lists.first(OUTBOX, [], read).await?;
        (counts.waiting, counts.oldest, counts.without_room) =
            outbox.ok_or(UnexpectedResult("no row"))?;
        Ok(counts)
    }
}
