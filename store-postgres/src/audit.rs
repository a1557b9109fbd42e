//! The audit.

use kubeagents_core::audit::AuditEntry;
use kubeagents_core::store::{Audit, AuditBounds, AuditCursor, Gathering, Page};
use kubeagents_core::{StoreError, Timestamp, Workspace};

use crate::query::Fetch;
use crate::value::saturating;
use crate::{PostgresStore, Query, Row, Value};

/// A column list that [`Row::audit_entry`] reads.
macro_rules! columns {
    () => {
        "id, workspace, happened_at, event, actor, user_name, client_address, user_agent, target, \
            target_id, times"
    };
}

/// `$12`: since when entries are kept; `$13`: how many with this one. Rows that others are at stay for
/// the next entry, so that nobody waits for anybody but at one id.
const APPEND: &str = concat!(
    "WITH expired AS (\
        SELECT id FROM kubeagents_data.audit \
        WHERE happened_at < $12::bigint AND id <> $1::text \
        ORDER BY happened_at LIMIT 2 FOR UPDATE SKIP LOCKED), \
    last_kept AS (\
        SELECT happened_at, id FROM kubeagents_data.audit \
        WHERE workspace = $2::text AND (times > 0) = ($11::bigint > 0) AND id <> $1::text \
        ORDER BY happened_at DESC, id OFFSET $13::bigint - 2 LIMIT 1), \
    beyond AS (\
        SELECT entry.id FROM kubeagents_data.audit AS entry, last_kept \
        WHERE entry.workspace = $2::text AND (entry.times > 0) = ($11::bigint > 0) \
        AND entry.id <> $1::text AND (entry.happened_at < last_kept.happened_at \
            OR entry.happened_at = last_kept.happened_at AND entry.id > last_kept.id) \
        FOR UPDATE OF entry SKIP LOCKED), \
    purged AS (\
        DELETE FROM kubeagents_data.audit \
        WHERE id IN (SELECT id FROM expired UNION SELECT id FROM beyond)) \
    INSERT INTO kubeagents_data.audit AS entry (",
    columns!(),
    ") VALUES ($1::text, $2::text, $3::bigint, $4::text, $5::text, $6::text, $7::text, $8::text, \
        $9::text, $10::text, $11::bigint) \
    ON CONFLICT (id) DO UPDATE SET times = entry.times + excluded.times"
);

/// `$3`, `$4`: after this entry.
const OF_WORKSPACE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM kubeagents_data.audit WHERE workspace = $1::text AND happened_at >= $2::bigint \
    AND happened_at <= $3::bigint AND (happened_at < $3::bigint OR id > $4::text) \
    ORDER BY happened_at DESC, id LIMIT $5::bigint"
);

impl<Q: Query, C> Audit for PostgresStore<Q, C> {
    async fn append_audit(
        &self,
        entry: &AuditEntry,
        bounds: &AuditBounds,
    ) -> Result<(), StoreError> {
        let params = [
            Value::from(&entry.id),
            entry.workspace.key().into(),
            entry.at.into(),
            entry.event.as_str().into(),
            entry.actor.as_str().into(),
            Value::from(&entry.user),
            Value::from(&entry.client_address),
            Value::from(&entry.user_agent),
            Value::from(&entry.target),
            Value::from(&entry.target_id),
            entry.count.into(),
            bounds.since.into(),
            saturating(bounds.most).into(),
        ];
        self.query.execute(APPEND, &params).await
    }

    async fn audit(
        &self,
        workspace: &Workspace,
        since: Timestamp,
        after: Option<&AuditCursor>,
        limit: usize,
    ) -> Result<Page<AuditEntry, AuditCursor>, StoreError> {
        let mut entries = Gathering::new(limit);
        let mut after = after.cloned();
        loop {
            let place = after.as_ref();
            let params = [
                workspace.key().into(),
                since.into(),
                place
                    .map_or(i64::MAX, |place| place.at.timestamp_micros())
                    .into(),
                place.map_or("", |place| &place.id).into(),
                saturating(entries.wanted()).into(),
            ];
            let lists = self.query.lists();
            let batch = lists.all(OF_WORKSPACE, &params, Row::audit_entry).await?;
            match entries.extend(batch) {
                Some(last) => after = Some(AuditCursor::after(last)),
                None => return Ok(entries.page(AuditCursor::after)),
            }
        }
    }
}
