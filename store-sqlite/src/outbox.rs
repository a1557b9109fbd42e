//! Notifications that wait for delivery.

use std::time::Duration;

use kubeagents_core::delivery::MAX_IN_FLIGHT_PER_HOST;
use kubeagents_core::store::{LeaseRequest, LeasedNotification, Outbox};
use kubeagents_core::{Notification, StoreError, Timestamp};
use serde_json::json;

use crate::{Connection, SqliteStore, Value};

/// A read, so that hosts may look often: a statement that writes waits for the one writer.
const ANYTHING_DUE: &str = "SELECT TRUE FROM outbox WHERE due_at <= ?1 LIMIT 1";

/// The receiving hosts are walked by index, not read off the entries, of which one host may have
/// very many. A host that all instances together keep busy is passed over: ?5 leases at a time.
const LEASE_NOTIFICATIONS: &str = "
    WITH RECURSIVE receivers (host) AS (
        SELECT min(host) FROM outbox
        UNION ALL
        SELECT (SELECT min(o.host) FROM outbox o WHERE o.host > r.host) FROM receivers r
        WHERE r.host IS NOT NULL
    )
    UPDATE outbox SET due_at = ?1 + ?2, round = round + 1, leased = TRUE
    WHERE id IN (
        SELECT o.id FROM receivers r JOIN outbox o ON o.id = (
            SELECT f.id FROM outbox f WHERE f.host = r.host AND f.due_at <= ?1
            ORDER BY f.due_at, f.id LIMIT 1
        )
        WHERE r.host NOT IN (SELECT value FROM json_each(?3))
            AND (SELECT count(*) FROM outbox l
                WHERE l.host = r.host AND l.leased AND l.due_at > ?1) < ?5
        ORDER BY o.due_at, o.id LIMIT ?4
    )
    RETURNING id, url, host, body, created_at, round";

const DELETE_NOTIFICATION: &str = "DELETE FROM outbox WHERE id = ?1";

const NOTIFICATION_FAILED: &str = "
    UPDATE outbox SET due_at = ?2, leased = FALSE WHERE id = ?1";

fn micros(duration: Duration) -> i64 {
    duration.as_micros().try_into().unwrap_or(i64::MAX)
}

impl<C: Connection> Outbox for SqliteStore<C> {
    async fn lease_notifications(
        &self,
        request: &LeaseRequest,
    ) -> Result<Vec<LeasedNotification>, StoreError> {
        if self
            .lookups
            .run(ANYTHING_DUE, [request.now.into()])
            .await?
            .is_empty()
        {
            return Ok(Vec::new());
        }
        let parameters = [
            request.now.into(),
            Value::Integer(micros(request.duration)),
            (&json!(request.busy_hosts).to_string()).into(),
            request.limit.into(),
            MAX_IN_FLIGHT_PER_HOST.into(),
        ];
        self.writer
            .all(LEASE_NOTIFICATIONS, parameters, |row| {
                Ok(LeasedNotification {
                    notification: Notification {
                        id: row.text()?,
                        url: row.text()?,
                        host: row.text()?,
                        body: row.text()?,
                        created_at: row.instant()?,
                    },
                    round: row.int()?,
                })
            })
            .await
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
