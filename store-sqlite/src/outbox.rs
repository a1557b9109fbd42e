//! Notifications that wait for delivery.

use std::collections::HashSet;
use std::time::Duration;

use kubeagents_core::delivery::MAX_IN_FLIGHT_PER_HOST;
use kubeagents_core::store::{
    Failure, LONGEST_REST, LeaseRequest, LeasedNotification, MAX_DELIVERIES, MAX_WAITING, Outbox,
    PutOff, log_full, newest,
};
use kubeagents_core::{Delivery, Notification, StoreError, Timestamp, Workspace};
use serde_json::json;

use kubeagents_store_sql::{FinishedDelivery, Row};

use crate::{Connection, SqliteStore, Value};

/// Whether anything is ready, and whether anything has rested long enough: until ?1, or until after ?2,
/// which is too long. A read, so that hosts may look often: a statement that writes waits for the one
/// writer.
const ANYTHING_DUE: &str = "
    SELECT EXISTS (SELECT 1 FROM outbox WHERE ready),
        EXISTS (SELECT 1 FROM outbox WHERE NOT ready AND due_at <= ?1)
        OR EXISTS (SELECT 1 FROM outbox WHERE NOT ready AND due_at > ?2)";

const RESUME: &str = "
    UPDATE outbox SET ready = TRUE, leased = FALSE WHERE id IN (
        SELECT id FROM (
            SELECT id FROM outbox WHERE NOT ready AND due_at <= ?1 ORDER BY due_at LIMIT 1000
        ) UNION ALL SELECT id FROM (
            SELECT id FROM outbox WHERE NOT ready AND due_at > ?2 ORDER BY due_at LIMIT 1000
        )
    )";

/// Takes the first workspace that has something to lease, by the index of what is ready, so that what
/// rests costs nothing. A host that all instances together keep busy is passed over: ?6 leases at a
/// time. ?3: between which keys workspaces are, in the order of their turns. The last column says for
/// how many microseconds the receiver is to be left alone.
const LEASE: &str = "
    WITH busy (host) AS MATERIALIZED (
        SELECT value FROM json_each(?4)
        UNION
        SELECT host FROM outbox WHERE leased AND due_at > ?1 GROUP BY host HAVING count(*) >= ?6
    )
    UPDATE outbox SET due_at = ?1 + ?2, round = round + 1, leased = TRUE, ready = FALSE
    WHERE id = (
        SELECT id FROM outbox
        WHERE ready AND host NOT IN busy AND workspace = (
            SELECT o.workspace FROM json_each(?3) t CROSS JOIN outbox o INDEXED BY outbox_ready
            WHERE o.ready AND o.workspace > t.value ->> 0 AND o.workspace < t.value ->> 1
                AND o.host NOT IN busy
            LIMIT 1
        )
        ORDER BY host IN (SELECT value FROM json_each(?5)), due_at, created_at, id LIMIT 1
    )
    RETURNING id, workspace, host, url, body, channel, created_at, round, (
        SELECT max(r.rests_until) - ?1 FROM outbox r
        WHERE r.workspace = outbox.workspace AND r.channel = outbox.channel
            AND r.host = outbox.host AND r.rests_until > ?1
    )";

/// Of the workspaces of these notifications, those in which a receiver's last place was just taken: one
/// of the notifications is there, and there is room for no other.
const FULL: &str = "
    SELECT DISTINCT o.workspace FROM json_each(?1) n JOIN outbox o ON o.id = n.value
    WHERE ?2 = (
        SELECT count(*) FROM (
            SELECT 1 FROM outbox w
            WHERE w.workspace = o.workspace AND w.channel = o.channel LIMIT ?2
        )
    )";

/// What has waited longest comes first, as if it had not been leased.
const RELEASE: &str = "
    UPDATE outbox SET ready = TRUE, leased = FALSE, due_at = created_at WHERE leased";

const DELETE_NOTIFICATION: &str = "DELETE FROM outbox WHERE id = ?1";

/// ?1 entries with the instants at which they are due again, as a JSON array of arrays.
const NOTIFICATIONS_FAILED: &str = "
    UPDATE outbox SET due_at = failed.value ->> 1, leased = FALSE, last_status = ?2, last_error = ?3,
        rests_until = iif(?4, failed.value ->> 1, NULL)
    FROM json_each(?1) failed WHERE outbox.id = failed.value ->> 0";

/// ?1 the channel, ?2 until when, ?3 how many.
const LEASE_OTHERS: &str = "
    UPDATE outbox SET due_at = ?2, round = round + 1, leased = TRUE, ready = FALSE
    WHERE id IN (
        SELECT id FROM outbox WHERE channel = ?1 AND channel <> '' AND ready
        ORDER BY due_at, created_at, id LIMIT ?3
    )
    RETURNING id, workspace, host, url, body, channel, created_at, round";

/// ?1 the leased entry, ?2 until when, ?3, ?4 and ?5 workspace, channel and host of what is put
/// off with it.
const PUT_OFF: &str = "
    UPDATE outbox SET due_at = ?2, round = round - (id = ?1), leased = FALSE, ready = FALSE
    WHERE id = ?1
        OR workspace = ?3 AND channel = ?4 AND host = ?5 AND ready";

/// Triggers remove what is finished from the outbox, and the oldest deliveries. ?1 deliveries as a JSON
/// array.
const FINISH: &str = "
    INSERT OR REPLACE INTO deliveries (
        id, workspace, channel, event, agent_id, session_topic, attempts, status, error, state,
        created_at, finished_at
    ) SELECT value ->> 'id', value ->> 'workspace', value ->> 'channel', value ->> 'event',
            value ->> 'agent_id', value ->> 'session_topic', value ->> 'attempts',
            value ->> 'status', value ->> 'error', value ->> 'state', value ->> 'created_at',
            value ->> 'finished_at'
        FROM json_each(?1)
        WHERE EXISTS (SELECT TRUE FROM channels WHERE channels.id = value ->> 'channel')";

const OVERFLOW: &str = "SELECT dropped FROM overflows WHERE channel = ?1";

/// ?1 the channel, ?2 how many are told.
const OVERFLOW_TOLD: &str =
    "UPDATE overflows SET dropped = max(dropped - ?2, 0) WHERE channel = ?1";

/// ?1 workspace, ?2 channel, ?3 how many.
const PENDING: &str = "
    SELECT id, workspace, host, url, body, channel, created_at, round, last_status, last_error
    FROM outbox WHERE channel = ?2 AND channel <> '' AND workspace = ?1
    ORDER BY created_at DESC, id LIMIT ?3";

/// ?1 workspace, ?2 channel, ?3 how many.
const FINISHED: &str = "
    SELECT id, workspace, channel, event, agent_id, session_topic, attempts, status, error, state,
        created_at, finished_at
    FROM deliveries WHERE channel = ?2 AND workspace = ?1
    ORDER BY created_at DESC, id LIMIT ?3";

fn after(now: Timestamp, pause: Duration) -> Value {
    Value::Integer(instant_after(now, pause))
}

fn instant_after(now: Timestamp, pause: Duration) -> i64 {
    now.timestamp_micros().saturating_add(micros(pause))
}

fn micros(duration: Duration) -> i64 {
    duration.as_micros().try_into().unwrap_or(i64::MAX)
}

impl<C: Connection> SqliteStore<C> {
    /// Ends all leases of notifications, which then are due. For the only host of a file, when it
    /// starts: those who had them are dead.
    ///
    /// # Errors
    /// Those of the connections.
    pub async fn release_notifications(&self) -> Result<(), StoreError> {
        self.writer.run(RELEASE, []).await.map(drop)
    }

    /// Logs the workspaces that these notifications, which have just been queued, have filled.
    pub(crate) async fn log_full<'a>(&self, notifications: impl Iterator<Item = &'a Notification>) {
        let ids: Vec<&str> = notifications.map(|queued| queued.id.as_str()).collect();
        if ids.is_empty() {
            return;
        }
        let parameters = [(&json!(ids).to_string()).into(), MAX_WAITING.into()];
        // What is stored is stored, whether or not the log can be told.
        let full = self.lookups.all(FULL, parameters, Row::text).await;
        let full = full.unwrap_or_default().into_iter();
        full.map(Workspace::from_key)
            .for_each(|workspace| log_full(&workspace));
    }
}

impl<C: Connection> Outbox for SqliteStore<C> {
    async fn lease_notification(
        &self,
        request: &LeaseRequest,
    ) -> Result<Option<LeasedNotification>, StoreError> {
        let now: Value = request.now.into();
        let read = |row: &mut Row| Ok((row.bool()?, row.bool()?));
        let rests = || [now.clone(), after(request.now, LONGEST_REST)];
        let due = self.lookups.first(ANYTHING_DUE, rests(), read);
        let (ready, rested) = due.await?.unwrap_or_default();
        if rested {
            self.writer.run(RESUME, rests()).await?;
        }
        if !ready && !rested {
            return Ok(None);
        }
        let names = |names: &HashSet<String>| (&json!(names).to_string()).into();
        let parameters = [
            now,
            Value::Integer(micros(request.duration)),
            (&json!(request.turns()).to_string()).into(),
            names(&request.busy_hosts),
            names(&request.used_hosts),
            MAX_IN_FLIGHT_PER_HOST.into(),
        ];
        let read = |row: &mut Row| {
            let Some(leased) = row.optional_lease()? else {
                return Ok(None);
            };
            let rest = Duration::from_micros(row.optional_int()?.unwrap_or_default());
            Ok(Some(LeasedNotification { rest, ..leased }))
        };
        let leased = self.writer.first(LEASE, parameters, read);
        Ok(leased.await?.flatten())
    }

    async fn notification_delivered(&self, id: &str) -> Result<(), StoreError> {
        self.writer
            .run(DELETE_NOTIFICATION, [id.into()])
            .await
            .map(drop)
    }

    async fn notifications_failed(
        &self,
        failed: &[(&str, Duration)],
        now: Timestamp,
        failure: &Failure,
    ) -> Result<(), StoreError> {
        let due = |(id, pause): &(&str, Duration)| json!([id, instant_after(now, *pause)]);
        let failed: serde_json::Value = failed.iter().map(due).collect();
        let parameters = [
            (&failed.to_string()).into(),
            failure.status.map(u32::from).into(),
            (&failure.error).into(),
            Value::Integer(failure.rests.into()),
        ];
        self.writer
            .run(NOTIFICATIONS_FAILED, parameters)
            .await
            .map(drop)
    }

    async fn notification_abandoned(&self, id: &str) -> Result<(), StoreError> {
        self.writer
            .run(DELETE_NOTIFICATION, [id.into()])
            .await
            .map(drop)
    }

    async fn lease_others(
        &self,
        leased: &Notification,
        now: Timestamp,
        duration: Duration,
        limit: usize,
    ) -> Result<Vec<LeasedNotification>, StoreError> {
        let parameters = [(&leased.channel).into(), after(now, duration), limit.into()];
        let others = self
            .writer
            .all(LEASE_OTHERS, parameters, Row::optional_lease);
        let mut others: Vec<_> = others.await?.into_iter().flatten().collect();
        // What a statement returns of its changes has no order.
        others.sort_by_key(|other| (other.notification.created_at, other.notification.id.clone()));
        Ok(others)
    }

    async fn put_off(
        &self,
        leased: &Notification,
        what: PutOff,
        now: Timestamp,
        pause: Duration,
    ) -> Result<(), StoreError> {
        let [workspace, channel, host] = match what {
            PutOff::Leased => [Value::Null, Value::Null, Value::Null],
            PutOff::WhatIsDue => [
                (&leased.workspace).into(),
                (&leased.channel).into(),
                (&leased.host).into(),
            ],
        };
        let parameters = [
            (&leased.id).into(),
            after(now, pause),
            workspace,
            channel,
            host,
        ];
        self.writer.run(PUT_OFF, parameters).await.map(drop)
    }

    async fn finish_deliveries(&self, deliveries: &[Delivery]) -> Result<(), StoreError> {
        let finished: Vec<_> = deliveries.iter().map(FinishedDelivery::from).collect();
        let parameters = [(&json!(finished).to_string()).into()];
        self.writer.run(FINISH, parameters).await.map(drop)
    }

    async fn overflow(&self, _: &Workspace, channel: &str) -> Result<u64, StoreError> {
        let dropped = self.lookups.first(OVERFLOW, [channel.into()], Row::int);
        Ok(dropped.await?.unwrap_or_default())
    }

    async fn overflow_told(
        &self,
        _: &Workspace,
        channel: &str,
        told: u64,
    ) -> Result<(), StoreError> {
        let parameters = [channel.into(), told.into()];
        self.writer.run(OVERFLOW_TOLD, parameters).await.map(drop)
    }

    async fn deliveries(
        &self,
        workspace: &Workspace,
        channel: &str,
    ) -> Result<Vec<Delivery>, StoreError> {
        let parameters = || [workspace.into(), channel.into(), MAX_DELIVERIES.into()];
        // First what waits: what is finished meanwhile is in both.
        let pending = self
            .lookups
            .all(PENDING, parameters(), Row::pending_delivery);
        let pending = pending.await?.into_iter().flatten().collect();
        let finished = self.lookups.all(FINISHED, parameters(), Row::delivery);
        Ok(newest(pending, finished.await?))
    }
}
