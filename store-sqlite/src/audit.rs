//! The audit.

use kubeagents_core::audit::AuditEntry;
use kubeagents_core::store::{Audit, AuditBounds, AuditCursor, Gathering, Page};
use kubeagents_core::{StoreError, Timestamp, Workspace};
use kubeagents_store_sql::Row;

use crate::{Connection, SqliteStore, Value};

const APPEND: &str = "INSERT INTO audit_appends VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// ?3, ?4 after this entry.
const OF_WORKSPACE: &str = "
    SELECT id, workspace, happened_at, event, actor, user_name, client_address, user_agent, target,
        target_id, times
    FROM audit WHERE workspace = ?1 AND happened_at >= ?2 AND happened_at <= ?3
        AND (happened_at < ?3 OR id > ?4)
    ORDER BY happened_at DESC, id LIMIT ?5";

impl<C: Connection> Audit for SqliteStore<C> {
    async fn append_audit(
        &self,
        entry: &AuditEntry,
        bounds: &AuditBounds,
    ) -> Result<(), StoreError> {
        let parameters = [
            (&entry.id).into(),
            (&entry.workspace).into(),
            entry.at.into(),
            entry.event.as_str().into(),
            entry.actor.as_str().into(),
            (&entry.user).into(),
            (&entry.client_address).into(),
            (&entry.user_agent).into(),
            (&entry.target).into(),
            (&entry.target_id).into(),
            entry.count.into(),
            bounds.since.into(),
            bounds.most.into(),
        ];
        self.writer.run(APPEND, parameters).await.map(drop)
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
            let (at, id) = match &after {
                Some(place) => (place.at.into(), (&place.id).into()),
                None => (Value::Integer(i64::MAX), "".into()),
            };
            let parameters = [
                workspace.into(),
                since.into(),
                at,
                id,
                entries.wanted().into(),
            ];
            let batch = self.lists.all(OF_WORKSPACE, parameters, Row::audit_entry);
            match entries.extend(batch.await?) {
                Some(last) => after = Some(AuditCursor::after(last)),
                None => return Ok(entries.page(AuditCursor::after)),
            }
        }
    }
}
