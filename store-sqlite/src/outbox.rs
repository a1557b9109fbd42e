//! Notifications that wait for delivery.

use std::collections::HashSet;
use std::time::Duration;

use kubeagents_core::delivery::MAX_IN_FLIGHT_PER_HOST;
use kubeagents_core::store::{LeaseRequest, LeasedNotification, MAX_WAITING, Outbox, log_full};
use kubeagents_core::{Notification, StoreError, Timestamp, Workspace};
use serde_json::json;

use kubeagents_store_sql::Row;

use crate::{Connection, SqliteStore, Value};

/// Whether anything is ready, and whether anything has rested long enough. A read, so that hosts may
/// look often: a statement that writes waits for the one writer.
const ANYTHING_DUE: &str = "
    SELECT EXISTS (SELECT 1 FROM outbox WHERE ready),
        EXISTS (SELECT 1 FROM outbox WHERE NOT ready AND due_at <= ?1)";

const RESUME: &str = "
    UPDATE outbox SET ready = TRUE, leased = FALSE WHERE id IN (
        SELECT id FROM outbox WHERE NOT ready AND due_at <= ?1 ORDER BY due_at LIMIT 1000
    )";

/// Takes the first workspace that has something to lease, by the index of what is ready, so that what
/// rests costs nothing. A host that all instances together keep busy is passed over: ?6 leases at a
/// time. ?3: between which keys workspaces are, in the order of their turns.
const LEASE: &str = "
    WITH busy (host) AS MATERIALIZED (
        SELECT value FROM json_each(?4)
        UNION
        SELECT host FROM outbox WHERE leased AND due_at > ?1 GROUP BY host HAVING count(*) >= ?6
    )
    UPDATE outbox SET due_at = ?1 + ?2, round = round + 1, leased = TRUE, ready = FALSE
    WHERE id = (
        SELECT id FROM outbox
        WHERE ready AND due_at <= ?1 AND host NOT IN busy AND workspace = (
            SELECT o.workspace FROM json_each(?3) t CROSS JOIN outbox o INDEXED BY outbox_ready
            WHERE o.ready AND o.workspace > t.value ->> 0 AND o.workspace < t.value ->> 1
                AND o.due_at <= ?1 AND o.host NOT IN busy
            LIMIT 1
        )
        ORDER BY host IN (SELECT value FROM json_each(?5)), due_at, created_at, id LIMIT 1
    )
    RETURNING id, workspace, host, url, body, created_at, round";

/// Of the workspaces of these notifications, those that the last of their places was just taken in:
/// one of the notifications is there, and there is room for no other.
const FULL: &str = "
    SELECT DISTINCT o.workspace FROM json_each(?1) n JOIN outbox o ON o.id = n.value
    WHERE ?2 = (
        SELECT count(*) FROM (SELECT 1 FROM outbox w WHERE w.workspace = o.workspace LIMIT ?2)
    )";

const DELETE_NOTIFICATION: &str = "DELETE FROM outbox WHERE id = ?1";

const NOTIFICATION_FAILED: &str = "
    UPDATE outbox SET due_at = ?2, leased = FALSE WHERE id = ?1";

fn micros(duration: Duration) -> i64 {
    duration.as_micros().try_into().unwrap_or(i64::MAX)
}

impl<C: Connection> SqliteStore<C> {
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
        let due = self.lookups.first(ANYTHING_DUE, [now.clone()], read);
        let (ready, rested) = due.await?.unwrap_or_default();
        if rested {
            self.writer.run(RESUME, [now.clone()]).await?;
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
        let leased = self.writer.first(LEASE, parameters, Row::optional_lease);
        Ok(leased.await?.flatten())
    }

    async fn notification_delivered(&self, id: &str) -> Result<(), StoreError> {
        self.writer
            .run(DELETE_NOTIFICATION, [id.into()])
            .await
            .map(drop)
    }

    async fn notification_failed(
        &self,
        id: &str,
        now: Timestamp,
        pause: Duration,
    ) -> Result<(), StoreError> {
        let due_at = now.timestamp_micros().saturating_add(micros(pause));
        self.writer
            .run(NOTIFICATION_FAILED, [id.into(), Value::Integer(due_at)])
            .await
            .map(drop)
    }

    async fn notification_abandoned(&self, id: &str) -> Result<(), StoreError> {
        self.writer
            .run(DELETE_NOTIFICATION, [id.into()])
            .await
            .map(drop)
    }
}
