//! The outbox, by the database's clock: hosts that share it need not agree on the time.

use std::borrow::Cow;
use std::time::Duration;

use kubeagents_core::{
    Delivery, Notification, StoreError, Timestamp, Workspace,
    store::{Failure, LeaseRequest, LeasedNotification, MAX_DELIVERIES, Outbox, PutOff, newest},
};
use kubeagents_store_sql::FinishedDelivery;

use crate::query::Fetch;
use crate::value::saturating;
use crate::{PostgresStore, Query, Row, Value};

/// Takes the first workspace that has something to lease, by the index of what is ready, so that what
/// rests costs nothing. No other index has the whole order that is asked for, so the planner takes
/// none that holds more. A row that another host is leasing right now is passed over.
///
/// The commit is not waited for: a lease that a crash of the database undoes is taken again.
///
/// What has rested long enough becomes ready beside this, for the next lease; the first column says
/// how much, the last one for how many microseconds the receiver is to be left alone. `$1`: lease in microseconds; `$2`, `$3`: between which keys workspaces are, in the order
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
    RETURNING entry.id, entry.workspace, entry.host, entry.url, entry.body, entry.channel, \
        entry.created_at, entry.rounds) \
SELECT resumed.count, leased.*, (\
    SELECT max(rests_until) - kubeagents_data.now_micros() FROM kubeagents_data.outbox AS resting \
    WHERE resting.workspace = leased.workspace AND resting.channel = leased.channel \
    AND resting.host = leased.host AND resting.rests_until > kubeagents_data.now_micros()), \
    set_config('synchronous_commit', 'off', true) \
FROM (SELECT count(*) FROM resumed) AS resumed(count) LEFT JOIN leased ON true";

const DELETE: &str = "DELETE FROM kubeagents_data.outbox WHERE id = $1::text";

/// `$1`, `$2`: entries with their pauses in microseconds.
const FAILED: &str = "\
UPDATE kubeagents_data.outbox AS entry SET due_at = kubeagents_data.now_micros() + failed.pause, \
    last_status = $3::bigint, last_error = $4::text, \
    rests_until = CASE WHEN $5::boolean THEN kubeagents_data.now_micros() + failed.pause END \
FROM unnest($1::text[], $2::bigint[]) AS failed(id, pause) WHERE entry.id = failed.id";

/// `$1`: the channel; `$2`: lease in microseconds; `$3`: how many.
const LEASE_OTHERS: &str = "\
WITH due AS MATERIALIZED (\
    SELECT id FROM kubeagents_data.outbox \
    WHERE channel = $1::text AND channel <> '' AND ready \
    AND due_at <= kubeagents_data.now_micros() \
    ORDER BY due_at, created_at, id LIMIT $3::bigint FOR UPDATE SKIP LOCKED), \
leased AS (\
    UPDATE kubeagents_data.outbox AS entry \
    SET ready = false, due_at = kubeagents_data.now_micros() + $2::bigint, rounds = rounds + 1 \
    FROM due WHERE entry.id = due.id \
    RETURNING entry.id, entry.workspace, entry.host, entry.url, entry.body, entry.channel, \
        entry.created_at, entry.rounds) \
SELECT * FROM leased ORDER BY created_at, id";

/// `$1`: the leased entry; `$2`: the pause in microseconds; `$3`, `$4`, `$5`: workspace, channel and
/// host of what is put off with it.
const PUT_OFF: &str = "\
UPDATE kubeagents_data.outbox SET due_at = kubeagents_data.now_micros() + $2::bigint, \
    ready = false, rounds = rounds - CASE id WHEN $1::text THEN 1 ELSE 0 END \
WHERE id = $1::text OR workspace = $3::text AND channel = $4::text AND host = $5::text AND ready \
    AND due_at <= kubeagents_data.now_micros()";

/// `$1`: deliveries in JSON; `$2`: their channel; `$3`: how many of it stay beside them.
const FINISH: &str = "\
WITH finished AS MATERIALIZED (\
    SELECT * FROM jsonb_to_recordset($1::text::jsonb) AS delivery(\
        id text, workspace text, channel text, event text, agent_id text, session_topic text, \
        attempts bigint, status bigint, error text, state text, created_at bigint, \
        finished_at bigint)), \
ended AS (\
    DELETE FROM kubeagents_data.outbox AS entry USING finished WHERE entry.id = finished.id), \
old AS (\
    DELETE FROM kubeagents_data.deliveries WHERE id IN (\
        SELECT id FROM kubeagents_data.deliveries WHERE id IN (\
            SELECT id FROM kubeagents_data.deliveries \
            WHERE channel = $2::text AND id NOT IN (SELECT id FROM finished) \
            ORDER BY created_at DESC, id OFFSET $3::bigint) \
        FOR UPDATE SKIP LOCKED)) \
INSERT INTO kubeagents_data.deliveries AS stored (id, workspace, channel, event, agent_id, \
    session_topic, attempts, status, error, state, created_at, finished_at) \
SELECT id, workspace, channel, event, agent_id, session_topic, attempts, status, error, state, \
    created_at, finished_at \
FROM finished \
WHERE EXISTS (SELECT FROM kubeagents_data.channels AS known WHERE known.id = finished.channel) \
ON CONFLICT (id) DO UPDATE SET attempts = excluded.attempts, \
    status = excluded.status, error = excluded.error, state = excluded.state, \
    created_at = excluded.created_at, finished_at = excluded.finished_at";

const OVERFLOW: &str = "\
SELECT coalesce(sum(dropped), 0)::bigint FROM kubeagents_data.overflows WHERE channel = $1::text";

/// What is counted meanwhile stays. `$1`: channel; `$2`: workspace; `$3`: how many are told.
const OVERFLOW_TOLD: &str = "\
WITH counted AS (\
    DELETE FROM kubeagents_data.overflows WHERE channel = $1::text RETURNING dropped) \
INSERT INTO kubeagents_data.overflows (workspace, channel, dropped) \
SELECT $2::text, $1::text, sum(dropped)::bigint - $3::bigint FROM counted \
HAVING sum(dropped) > $3::bigint";

/// `$1`: workspace; `$2`: channel; `$3`: how many.
const PENDING: &str = "\
SELECT id, workspace, host, url, body, channel, created_at, rounds, last_status, last_error \
FROM kubeagents_data.outbox \
WHERE channel = $2::text AND channel <> '' AND workspace = $1::text \
ORDER BY created_at DESC, id LIMIT $3::bigint";

/// `$1`: workspace; `$2`: channel; `$3`: how many.
const FINISHED: &str = "\
SELECT id, workspace, channel, event, agent_id, session_topic, attempts, status, error, state, \
    created_at, finished_at \
FROM kubeagents_data.deliveries WHERE channel = $2::text AND workspace = $1::text \
ORDER BY created_at DESC, id LIMIT $3::bigint";

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
        let read = |row: &mut Row| {
            let (resumed, leased) = (row.int::<u64>()?, row.optional_lease()?);
            let Some(leased) = leased else {
                return Ok((resumed, None));
            };
            let rest = Duration::from_micros(row.optional_int()?.unwrap_or_default());
            Ok((resumed, Some(LeasedNotification { rest, ..leased })))
        };
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

    async fn notifications_failed(
        &self,
        failed: &[(&str, Duration)],
        _now: Timestamp,
        failure: &Failure,
    ) -> Result<(), StoreError> {
        let ids: Vec<_> = failed.iter().map(|(id, _)| Cow::Borrowed(*id)).collect();
        let pause = |(_, pause): &(&str, Duration)| saturating(pause.as_micros());
        let pauses: Vec<i64> = failed.iter().map(pause).collect();
        let params = [
            Value::Texts(&ids),
            Value::Ints(&pauses),
            Value::Int(failure.status.map(i64::from)),
            Value::from(&failure.error),
            Value::Bool(failure.rests),
        ];
        self.query.execute(FAILED, &params).await
    }

    async fn notification_abandoned(&self, id: &str) -> Result<(), StoreError> {
        self.query.execute(DELETE, &[id.into()]).await
    }

    async fn lease_others(
        &self,
        leased: &Notification,
        _now: Timestamp,
        duration: Duration,
        limit: usize,
    ) -> Result<Vec<LeasedNotification>, StoreError> {
        let params = [
            Value::from(&leased.channel),
            micros(duration),
            saturating(limit).into(),
        ];
        let others = self.query.all(LEASE_OTHERS, &params, Row::optional_lease);
        Ok(others.await?.into_iter().flatten().collect())
    }

    async fn put_off(
        &self,
        leased: &Notification,
        what: PutOff,
        _now: Timestamp,
        pause: Duration,
    ) -> Result<(), StoreError> {
        let receiver = match what {
            PutOff::Leased => [Value::Text(None); 3],
            PutOff::WhatIsDue => {
                let Notification {
                    workspace,
                    channel,
                    host,
                    ..
                } = leased;
                [workspace.key().into(), channel.into(), host.into()]
            }
        };
        let [workspace, channel, host] = receiver;
        let params = [
            Value::from(&leased.id),
            micros(pause),
            workspace,
            channel,
            host,
        ];
        self.query.execute(PUT_OFF, &params).await
    }

    async fn finish_deliveries(&self, deliveries: &[Delivery]) -> Result<(), StoreError> {
        let Some(first) = deliveries.first() else {
            return Ok(());
        };
        let finished: Vec<_> = deliveries.iter().map(FinishedDelivery::from).collect();
        let finished = serde_json::json!(finished).to_string();
        let params = [
            Value::from(&finished),
            Value::from(&first.channel),
            saturating(MAX_DELIVERIES.saturating_sub(deliveries.len())).into(),
        ];
        self.query.execute(FINISH, &params).await
    }

    async fn overflow(&self, _: &Workspace, channel: &str) -> Result<u64, StoreError> {
        self.query.one(OVERFLOW, &[channel.into()], Row::int).await
    }

    async fn overflow_told(
        &self,
        workspace: &Workspace,
        channel: &str,
        told: u64,
    ) -> Result<(), StoreError> {
        let params = [channel.into(), workspace.key().into(), told.into()];
        self.query.execute(OVERFLOW_TOLD, &params).await
    }

    async fn deliveries(
        &self,
        workspace: &Workspace,
        channel: &str,
    ) -> Result<Vec<Delivery>, StoreError> {
        let limit = saturating(MAX_DELIVERIES).into();
        let params = [workspace.key().into(), channel.into(), limit];
        // First what waits: what is finished meanwhile is in both.
        let pending = self.query.all(PENDING, &params, Row::pending_delivery);
        let pending = pending.await?.into_iter().flatten().collect();
        let finished = self.query.all(FINISHED, &params, Row::delivery).await?;
        Ok(newest(pending, finished))
    }
}
