//! The outbox, by the database's clock: hosts that share it need not agree on the time.

use std::borrow::Cow;
use std::time::Duration;

use kubeagents_core::{
    StoreError, Timestamp,
    store::{LeaseRequest, LeasedNotification, Outbox},
};

use crate::query::Fetch;
use crate::value::saturating;
use crate::{PostgresStore, Query, Row, Value};

/// Takes the first workspace that has something to lease, by the index of what is ready, so that what
/// rests costs nothing. No other index has the whole order that is asked for, so the planner takes
/// none that holds more. A row that another host is leasing right now is passed over.
///
/// What has rested long enough becomes ready beside this, for the next lease; the first column says
/// how much. `$1`: lease in microseconds; `$2`, `$3`: between which keys workspaces are, in the order
/// of their turns; `$4`, `$5`: busy and used hosts.
const LEASE: &str = "\
WITH resumed AS (\
    UPDATE kubeagents_data.outbox AS entry SET ready = true FROM (\
        SELECT id FROM kubeagents_data.outbox \
        WHERE NOT ready AND due_at <= kubeagents_data.now_micros() \
        ORDER BY due_at LIMIT 1000 FOR UPDATE SKIP LOCKED\
    ) AS rested WHERE entry.id = rested.id RETURNING 1), \
turn AS MATERIALIZED (\
    SELECT due.workspace FROM unnest($2::text[], $3::text[]) AS keys(low, high) \
    CROSS JOIN LATERAL (\
        SELECT entry.workspace FROM kubeagents_data.outbox AS entry \
        WHERE entry.ready AND entry.workspace > keys.low AND entry.workspace < keys.high \
        AND entry.due_at <= kubeagents_data.now_micros() \
        AND entry.host NOT IN (SELECT unnest($4::text[])) \
        ORDER BY entry.workspace, entry.due_at, entry.created_at, entry.id LIMIT 1\
    ) AS due LIMIT 1), \
next AS MATERIALIZED (\
    SELECT entry.id FROM kubeagents_data.outbox AS entry \
    WHERE entry.workspace = (SELECT workspace FROM turn) AND entry.ready \
    AND entry.due_at <= kubeagents_data.now_micros() \
    AND entry.host NOT IN (SELECT unnest($4::text[])) \
    ORDER BY entry.host IN (SELECT unnest($5::text[])), \
        entry.due_at, entry.created_at, entry.id \
    LIMIT 1 FOR UPDATE SKIP LOCKED), \
leased AS (\
    UPDATE kubeagents_data.outbox AS entry \
    SET ready = false, due_at = kubeagents_data.now_micros() + $1::bigint, rounds = rounds + 1 \
    FROM next WHERE entry.id = next.id \
    RETURNING entry.id, entry.workspace, entry.host, entry.url, entry.body, entry.created_at, \
        entry.rounds) \
SELECT resumed.count, leased.* \
FROM (SELECT count(*) FROM resumed) AS resumed(count) LEFT JOIN leased ON true";

const DELETE: &str = "DELETE FROM kubeagents_data.outbox WHERE id = $1::text";

const FAILED: &str = "\
UPDATE kubeagents_data.outbox SET due_at = kubeagents_data.now_micros() + $2::bigint \
WHERE id = $1::text";

fn micros(duration: Duration) -> Value<'static> {
    saturating(duration.as_micros()).into()
}

impl<Q: Query, C> Outbox for PostgresStore<Q, C> {
    async fn lease_notification(
        &self,
        request: &LeaseRequest,
    ) -> Result<Option<LeasedNotification>, StoreError> {
        let (low, high): (Vec<_>, Vec<_>) = request
            .turns()
            .into_iter()
            .map(|[low, high]| (Cow::from(low), Cow::from(high)))
            .unzip();
        let [busy, used] = [&request.busy_hosts, &request.used_hosts]
            .map(|hosts| hosts.iter().map(Cow::from).collect::<Vec<_>>());
        let params = [
            micros(request.duration),
            Value::Texts(&low),
            Value::Texts(&high),
            Value::Texts(&busy),
            Value::Texts(&used),
        ];
        let read = |row: &mut Row| Ok((row.int::<u64>()?, row.optional_lease()?));
        loop {
            let (resumed, leased) = self.query.one(LEASE, &params, read).await?;
            if leased.is_some() || resumed == 0 {
                return Ok(leased);
            }
        }
    }

    async fn notification_delivered(&self, id: &str) -> Result<(), StoreError> {
        self.query.execute(DELETE, &[id.into()]).await
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
        self.query.execute(DELETE, &[id.into()]).await
    }
}
