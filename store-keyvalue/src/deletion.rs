//! What deleted accounts leave behind goes in parts.

use kubeagents_core::store::LATE_REPORTS;
use kubeagents_core::{AccountId, StoreError, Timestamp, Workspace};
use serde::{Deserialize, Serialize};

use crate::documents::{Change, Document, key};
use crate::log::{Page, page_key};
use crate::roll::Roll;
use crate::sessions::{
    Head, Moved, agent_hash, agents_list, cold_list, head_key, history_list, row_key,
};
use crate::{KeyValue, KeyValueStore, micros};

/// Key of the list of accounts that are deleted while something may be left of them.
const DELETED: &str = "deleted";

/// Key of the list of a deleted account's agents whose heads are emptied and not removed yet.
fn emptied_list(workspace: &Workspace) -> String {
    key("emptied", &[workspace.key()])
}

/// Number of pages of a history that one part removes.
const PAGES: u64 = 64;

/// An account that has been deleted, or is about to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Deletion {
    id: String,
    /// Key of the claim on its address.
    claim: String,
    #[serde(with = "micros")]
    since: Timestamp,
}

impl<K: KeyValue> KeyValueStore<K> {
    /// Notes that an account is about to be deleted.
    pub(crate) async fn note_deletion(
        &self,
        id: &str,
        claim: &str,
        since: Timestamp,
    ) -> Result<(), StoreError> {
        self.documents
            .update(DELETED, |deletions: Option<Vec<Deletion>>| {
                let mut deletions = deletions.unwrap_or_default();
                deletions.retain(|deletion| deletion.id != id);
                deletions.push(Deletion {
                    id: id.to_owned(),
                    claim: claim.to_owned(),
                    since,
                });
                (Change::Write(deletions), ())
            })
            .await
    }

    /// Removes a part; returns false when nothing is left to remove now.
    pub(crate) async fn purge(&self, now: Timestamp) -> Result<bool, StoreError> {
        let deletions: Option<Document<Vec<Deletion>>> = self.documents.read(DELETED).await?;
        let deletions = deletions.map(|document| document.value);
        for deletion in deletions.unwrap_or_default() {
            let Deletion { id, claim, since } = deletion;
            let account = AccountId::new(&*id);
            // A deletion that did not come about leaves everything as it is.
            if self.password_changes(&id).await?.is_none() {
                // What whoever deleted it may not have come to.
                self.delete_api_keys(&account).await?;
                self.free_address(&claim, &id).await?;
                let workspace = Workspace::Account(account.clone());
                self.delete_channels(&workspace).await?;
                self.delete_audit(&workspace).await?;
                if self.purge_workspace(&workspace).await? {
                    return Ok(true);
                }
                if now - since < LATE_REPORTS {
                    continue;
                }
                if self.remove_heads(&workspace).await? {
                    return Ok(true);
                }
                for list in [agents_list(&workspace), emptied_list(&workspace)] {
                    Roll::delete(&self.documents, &list).await?;
                }
                self.delete_api_key_list(&account).await?;
            } else if now - since < LATE_REPORTS {
                continue;
            }
            self.forget_deletion(&id, since).await?;
        }
        Ok(false)
    }

    async fn forget_deletion(&self, id: &str, since: Timestamp) -> Result<(), StoreError> {
        self.documents
            .update(DELETED, |deletions: Option<Vec<Deletion>>| {
                let mut deletions = deletions.unwrap_or_default();
                deletions.retain(|deletion| deletion.id != id || deletion.since != since);
                (Change::Write(deletions), ())
            })
            .await
    }

    /// Empties some of a workspace's agents, or a part of one; returns false when there are none.
    async fn purge_workspace(&self, workspace: &Workspace) -> Result<bool, StoreError> {
        self.forget_notifications(|entry| entry.workspace == workspace.key())
            .await?;
        let list = agents_list(workspace);
        let part = Roll::part(&self.documents, &list).await?;
        if part.names.is_empty() {
            return Ok(false);
        }
        for agent_id in &part.names {
            if self.purge_agent(workspace, agent_id).await? {
                return Ok(true);
            }
        }
        for agent_id in &part.names {
            Roll::add(&self.documents, &emptied_list(workspace), agent_id).await?;
        }
        Roll::take_out(&self.documents, &list, &part).await?;
        // A late writer's note goes when its minute comes: there is no agent.
        self.forget_watched(workspace).await?;
        Ok(true)
    }

    /// Removes a part of an agent; returns false when nothing but its emptied head is left.
    async fn purge_agent(&self, workspace: &Workspace, agent_id: &str) -> Result<bool, StoreError> {
        let agent = agent_hash(workspace, agent_id);
        let key = head_key(&agent);
        let head: Option<Document<Head>> = self.documents.read(&key).await?;
        let Some(Document { value, version }) = head else {
            return Ok(false);
        };
        let mut head = match value.is_emptied() {
            true => value,
            false => {
                // While what they point to is still there.
                self.forget_notifications(|entry| entry.agent == agent)
                    .await?;
                // Where a report was faster, the next part sees what it left.
                self.documents
                    .swap(&key, &value.emptied(), &version)
                    .await?;
                return Ok(true);
            }
        };
        let remains = head.remains.get_or_insert_default();
        if remains.history > 0 {
            let list = history_list(&agent);
            let left = remains.history.saturating_sub(PAGES);
            for page in left..remains.history {
                self.documents.delete(&page_key(&list, page)).await?;
            }
            remains.history = left;
        } else if remains.cold > 0 {
            remains.cold -= 1;
            let page = page_key(&cold_list(&agent), remains.cold);
            let moved: Option<Document<Page<Moved>>> = self.documents.read(&page).await?;
            let moved = moved.map(|page| page.value.items).unwrap_or_default();
            let topics = moved.iter().map(|session| &*session.topic);
            self.delete_rows(workspace, agent_id, topics).await?;
            self.documents.delete(&page).await?;
        } else {
            let topics = remains.topics.iter().map(|topic| &**topic);
            self.delete_rows(workspace, agent_id, topics).await?;
            return Ok(false);
        }
        self.documents.swap(&key, &head, &version).await?;
        Ok(true)
    }

    async fn delete_rows(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        topics: impl Iterator<Item = &str>,
    ) -> Result<(), StoreError> {
        for topic in topics {
            let key = row_key(workspace, agent_id, topic);
            self.documents.delete(&key).await?;
        }
        Ok(())
    }

    /// Removes some of a workspace's emptied heads, to which nobody reports any more, with what a report
    /// that came too late has left beside them; returns false when there are none.
    async fn remove_heads(&self, workspace: &Workspace) -> Result<bool, StoreError> {
        let list = emptied_list(workspace);
        let part = Roll::part(&self.documents, &list).await?;
        if part.names.is_empty() {
            return Ok(false);
        }
        for agent_id in &part.names {
            // Again: what is there now stays removed.
            if self.purge_agent(workspace, agent_id).await? {
                return Ok(true);
            }
            let agent = agent_hash(workspace, agent_id);
            let key = head_key(&agent);
            let head: Option<Document<Head>> = self.documents.read(&key).await?;
            let Some(Document { value: head, .. }) = head else {
                continue;
            };
            for page in [
                page_key(&history_list(&agent), head.history.pages),
                page_key(&cold_list(&agent), head.cold.pages),
            ] {
                self.documents.delete(&page).await?;
            }
            self.documents.delete(&key).await?;
        }
        Roll::take_out(&self.documents, &list, &part).await?;
        Ok(true)
    }
}
