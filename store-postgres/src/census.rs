//! Counting what the database holds.

use kubeagents_core::store::{Census, Counts};
use kubeagents_core::{StoreError, TURN, Timestamp, latest_expiry};
use kubeagents_store_sql::Tally;

use crate::query::Fetch;
use crate::{PostgresStore, Query, Row};

/// The indexes `sessions_ended` and `sessions_by_last_updated` have all that it takes.
const SESSIONS: &str = "\
SELECT status, reason = $3::text, expires_at <= $1::bigint OR expires_at > $2::bigint, count(*) \
FROM kubeagents_data.sessions \
WHERE status IN ('success', 'failed') GROUP BY 1, 2, 3 \
UNION ALL \
SELECT NULL::text, false, expires_at <= $1::bigint OR expires_at > $2::bigint, count(*) \
FROM kubeagents_data.sessions GROUP BY 3";

/// `outbox_by_channel` has the times of what is a channel's. What found no room is few
/// rows, and all of them are in the index by channel.
const OUTBOX: &str = "\
SELECT (SELECT count(*) FROM kubeagents_data.outbox), least(\
    (SELECT min(created_at) FROM kubeagents_data.outbox WHERE channel <> ''), \
    (SELECT min(created_at) FROM kubeagents_data.outbox WHERE channel = '')), \
    (SELECT coalesce(sum(dropped), 0)::bigint FROM kubeagents_data.overflows WHERE channel >= '')";

impl<Q: Query, C> Census for PostgresStore<Q, C> {
    async fn census(&self, now: Timestamp) -> Result<Counts, StoreError> {
        let lists = self.query.lists();
        let mut tally = Tally::default();
        let add = |row: &mut Row| tally.add(row);
        let params = [now.into(), latest_expiry(now).into(), TURN.into()];
        lists.all(SESSIONS, &params, add).await?;
        let mut counts = tally.counts();
        let read = |row: &mut Row| Ok((row.int()?, row.optional_instant()?, row.int()?));
        (counts.waiting, counts.oldest, counts.without_room) = lists.one(OUTBOX, &[], read).await?;
        Ok(counts)
    }
}
