use std::cmp::Reverse;

use super::MemoryStore;
use crate::audit::AuditEntry;
use crate::store::{Audit, AuditBounds, AuditCursor, Page, StoreError};
use crate::{Timestamp, Workspace};

impl Audit for MemoryStore {
    async fn append_audit(
        &self,
        entry: &AuditEntry,
        bounds: &AuditBounds,
    ) -> Result<(), StoreError> {
        let entries = &mut self.lock().audit;
        let entries = entries.entry(entry.workspace.clone()).or_default();
        entries.append(entry, bounds);
        Ok(())
    }

    async fn audit(
        &self,
        workspace: &Workspace,
        since: Timestamp,
        after: Option<&AuditCursor>,
        limit: usize,
    ) -> Result<Page<AuditEntry, AuditCursor>, StoreError> {
        let state = self.lock();
        let entries = state.audit.get(workspace).into_iter();
        let entries = entries.flat_map(|entries| entries.0.iter().rev());
        let after = after.map(|after| (Reverse(after.at), after.id.as_str()));
        let follows = |entry: &&AuditEntry| after.is_none_or(|after| place(entry) > after);
        let rows = entries.filter(|entry| entry.at >= since).filter(follows);
        Ok(Page::cut(rows.cloned(), limit, AuditCursor::after))
    }
}

/// The order in which entries are listed.
fn place(entry: &AuditEntry) -> (Reverse<Timestamp>, &str) {
    (Reverse(entry.at), &entry.id)
}

/// The audit of a workspace, as it is listed but the other way round.
#[derive(Debug, Default)]
pub(super) struct Entries(Vec<AuditEntry>);

impl Entries {
    fn append(&mut self, entry: &AuditEntry, bounds: &AuditBounds) {
        let entries = &mut self.0;
        if let Some(known) = entries.iter_mut().find(|known| known.id == entry.id) {
            known.count = known.count.saturating_add(entry.count);
            return;
        }
        entries.retain(|known| known.at >= bounds.since);
        let is_alike = |known: &AuditEntry| (known.count > 0) == (entry.count > 0);
        while entries.iter().filter(|known| is_alike(known)).count() >= bounds.most {
            let Some(oldest) = entries.iter().position(is_alike) else {
                break;
            };
            entries.remove(oldest);
        }
        let end = entries.partition_point(|known| place(known) > place(entry));
        entries.insert(end, entry.clone());
    }
}
