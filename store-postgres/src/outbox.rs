//! The outbox, by the database's clock: hosts that share it need not agree on the time.

use std::time::Duration;

use kubeagents_core::{
    Notification, StoreError, Timestamp,
    store::{LeaseRequest, LeasedNotification, Outbox},
};

use crate::query::Fetch;
use crate::value::saturating;
use crate::{PostgresStore, Query, Row, UnexpectedResult, Value};

/// Walks from receiving host to receiving host by the index, so that a long queue of one costs
/// nothing where another's turn is looked for. A row that another host is leasing right now is
/// passed over. `$1`: lease in microseconds; `$2`: limit; `$3`: busy hosts as a JSON array.
const LEASE: &str = "\
WITH RECURSIVE receivers(host) AS (\
    (SELECT host FROM kubeagents_data.outbox WHERE due_at IS NOT NULL ORDER BY host LIMIT 1) \
    UNION ALL \
    SELECT (SELECT entry.host FROM kubeagents_data.outbox AS entry \
        WHERE entry.due_at IS NOT NULL AND entry.host > receivers.host \
        ORDER BY entry.host LIMIT 1) \
    FROM receivers WHERE receivers.host IS NOT NULL), \
due AS MATERIALIZED (\
    SELECT first.id FROM receivers CROSS JOIN LATERAL (\
        SELECT entry.id, entry.due_at FROM kubeagents_data.outbox AS entry \
        WHERE entry.host = receivers.host AND entry.due_at <= kubeagents_data.now_micros() \
        ORDER BY entry.due_at, entry.id LIMIT 1 FOR UPDATE SKIP LOCKED\
    ) AS first \
    WHERE receivers.host NOT IN (SELECT jsonb_array_elements_text($3::text::jsonb)) \
    ORDER BY first.due_at, first.id LIMIT $2::bigint) \
UPDATE kubeagents_data.outbox AS entry \
SET due_at = kubeagents_data.now_micros() + $1::bigint, rounds = rounds + 1 \
FROM due WHERE entry.id = due.id \
RETURNING entry.id, entry.host, entry.url, entry.body, entry.created_at, entry.rounds";

const DELIVERED: &str = "DELETE FROM kubeagents_data.outbox WHERE id = $1::text";

const FAILED: &str = "\
UPDATE kubeagents_data.outbox SET due_at = kubeagents_data.now_micros() + $2::bigint \
WHERE id = $1::text AND due_at IS NOT NULL";

/// The steps of a statement that take away what was given up a week ago, the oldest first.
macro_rules! purge_abandoned {
    ($limit:literal) => {
        concat!(
            "old AS (\
                SELECT id FROM kubeagents_data.outbox \
                WHERE abandoned_at < \
                    kubeagents_data.now_micros() - 7 * 24 * 3600 * 1000000::bigint \
                ORDER BY abandoned_at LIMIT ",
            $limit,
            " FOR UPDATE SKIP LOCKED), \
            purged AS (\
                DELETE FROM kubeagents_data.outbox AS entry USING old WHERE entry.id = old.id \
                RETURNING 1) "
        )
    };
}

/// Takes at most `$1` entries away that were given up a week ago; returns how many.
pub(crate) const PURGE: &str = concat!(
    "WITH ",
    purge_abandoned!("$1::bigint"),
    "SELECT count(*) FROM purged"
);

/// Takes two old ones away, so that they do not pile up where no native server purges them.
const ABANDONED: &str = concat!(
    "WITH ",
    purge_abandoned!("2"),
    "UPDATE kubeagents_data.outbox SET due_at = NULL, \
        abandoned_at = kubeagents_data.now_micros() \
    WHERE id = $1::text AND due_at IS NOT NULL"
);

fn leased_from(row: &mut Row) -> Result<LeasedNotification, UnexpectedResult> {
    Ok(LeasedNotification {
        notification: Notification {
            id: row.text()?,
            host: row.text()?,
            url: row.text()?,
            body: row.text()?,
            created_at: row.instant()?,
        },
        round: row.int()?,
    })
}

fn micros(duration: Duration) -> Value<'static> {
    saturating(duration.as_micros()).into()
}

impl<Q: Query, C> Outbox for PostgresStore<Q, C> {
    async fn lease_notifications(
        &self,
        request: &LeaseRequest,
    ) -> Result<Vec<LeasedNotification>, StoreError> {
        let busy = serde_json::Value::from(request.busy_hosts.clone()).to_string();
        let params = [
            micros(request.duration),
            saturating(request.limit).into(),
            Value::from(&busy),
        ];
        self.query.all(LEASE, &params, leased_from).await
    }

    async fn notification_delivered(&self, id: &str) -> Result<(), StoreError> {
        self.query.execute(DELIVERED, &[id.into()]).await
    }

    async fn notification_failed(
        &self,
        id: &str,
        _now: Timestamp,
        pause: Duration,
    ) -> Result<(), StoreError> {
        let params = [id.into(), micros(pause)];
        self.query.execute(FAILED, &params).await
    }

    async fn notification_abandoned(&self, id: &str) -> Result<(), StoreError> {
        self.query.execute(ABANDONED, &[id.into()]).await
    }
}
