//! The audit: for each workspace a document of the entries that have a count, and one of the others.

use kubeagents_core::audit::{Actor, AuditEntry, AuditEvent};
use kubeagents_core::store::{Audit, AuditBounds, AuditCursor, Page};
use kubeagents_core::{StoreError, Timestamp, Workspace};
use serde::{Deserialize, Serialize};

use crate::documents::{Change, is_zero, key};
use crate::{KeyValue, KeyValueStore, micros};

/// An entry as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct EntryDocument {
    id: String,
    #[serde(with = "micros")]
    at: Timestamp,
    event: String,
    actor: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    client: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    agent: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    target: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    target_id: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    count: u32,
}

impl From<&AuditEntry> for EntryDocument {
    fn from(entry: &AuditEntry) -> Self {
        Self {
            id: entry.id.clone(),
            at: entry.at,
            event: entry.event.as_str().to_owned(),
            actor: entry.actor.as_str().to_owned(),
            user: entry.user.clone(),
            client: entry.client_address.clone(),
            agent: entry.user_agent.clone(),
            target: entry.target.clone(),
            target_id: entry.target_id.clone(),
            count: entry.count,
        }
    }
}

impl EntryDocument {
    fn entry(self, workspace: &Workspace) -> Result<AuditEntry, StoreError> {
        let unknown = |what| StoreError::unavailable(format!("the audit has an unknown {what}"));
        Ok(AuditEntry {
            event: AuditEvent::parse(&self.event).ok_or_else(|| unknown("event"))?,
            actor: Actor::parse(&self.actor).ok_or_else(|| unknown("actor"))?,
            id: self.id,
            workspace: workspace.clone(),
            at: self.at,
            user: self.user,
            client_address: self.client,
            user_agent: self.agent,
            target: self.target,
            target_id: self.target_id,
            count: self.count,
        })
    }
}

/// Key of the document of a workspace's entries that have a count, or of those that have none.
fn audit_key(workspace: &Workspace, is_counted: bool) -> String {
    let kind = match is_counted {
        true => "audit-counted",
        false => "audit",
    };
    key(kind, &[workspace.key()])
}

impl<K: KeyValue> KeyValueStore<K> {
    /// Removes the audit of a workspace.
    pub(crate) async fn delete_audit(&self, workspace: &Workspace) -> Result<(), StoreError> {
        for is_counted in [false, true] {
            let key = audit_key(workspace, is_counted);
            self.documents.delete(&key).await?;
        }
        Ok(())
    }
}

impl<K: KeyValue> Audit for KeyValueStore<K> {
    async fn append_audit(
        &self,
        entry: &AuditEntry,
        bounds: &AuditBounds,
    ) -> Result<(), StoreError> {
        let key = audit_key(&entry.workspace, entry.count > 0);
        let append = |entries: Option<Vec<EntryDocument>>| {
            let mut entries = entries.unwrap_or_default();
            if let Some(known) = entries.iter_mut().find(|known| known.id == entry.id) {
                if entry.count == 0 {
                    return (Change::Keep, ());
                }
                known.count = known.count.saturating_add(entry.count);
                return (Change::Write(entries), ());
            }
            entries.retain(|known| known.at >= bounds.since);
            let end = entries.partition_point(|known| known.at <= entry.at);
            entries.insert(end, entry.into());
            let excess = entries.len().saturating_sub(bounds.most);
            entries.drain(..excess);
            (Change::Write(entries), ())
        };
        self.documents.update(&key, append).await
    }

    async fn audit(
        &self,
        workspace: &Workspace,
        since: Timestamp,
        after: Option<&AuditCursor>,
        limit: usize,
    ) -> Result<Page<AuditEntry, AuditCursor>, StoreError> {
        let keys = [false, true].map(|is_counted| audit_key(workspace, is_counted));
        let documents = self.documents.read_all::<Vec<EntryDocument>>(keys).await?;
        let stored = documents.into_iter().flatten();
        let stored = stored.flat_map(|document| document.value);
        let mut entries = stored
            .filter(|entry| entry.at >= since)
            .filter(|entry| {
                after.is_none_or(|after| {
                    entry.at < after.at || (entry.at == after.at && entry.id > after.id)
                })
            })
            .map(|entry| entry.entry(workspace))
            .collect::<Result<Vec<_>, _>>()?;
        entries.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.id.cmp(&b.id)));
        Ok(Page::cut(entries, limit, AuditCursor::after))
    }
}
