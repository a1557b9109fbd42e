//! What deleted accounts leave behind goes in parts.

use kubeagents_core::store::LATE_REPORTS;
use kubeagents_core::{AccountId, StoreError, Timestamp, Workspace};
use serde::{Deserialize, Serialize};

use crate::documents::{Change, Document};
use crate::log::{Page, page_key};
use crate::roll::Roll;
use crate::sessions::{
    Head, Moved, agent_hash, agents_list, cold_list, head_key, history_list, row_key,
};
use crate::{KeyValue, KeyValueStore, micros};

/// Key of the list of accounts that are deleted while something may be left of them.
const DELETED: &str = "deleted";

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
                if self.purge_workspace(&workspace).await? {
                    return Ok(true);
                }
                if now - since < LATE_REPORTS {
                    continue;
                }
                Roll::delete(&self.documents, &agents_list(&workspace)).await?;
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

    /// Removes some of a workspace's agents, or a part of one; returns false when there are none.
    async fn purge_workspace(&self, workspace: &Workspace) -> Result<bool, StoreError> {
        self.forget_notifications(|entry| entry.workspace == workspace.key())
            .await?;
        let list = agents_list(workspace);
        let agents = Roll::last(&self.documents, &list).await?;
        if agents.is_empty() {
            return Ok(false);
        }
        for agent_id in &agents {
            if self.purge_agent(workspace, agent_id).await? {
                return Ok(true);
            }
        }
        Roll::remove_last(&self.documents, &list, &agents).await?;
        Ok(true)
    }

    /// Removes a part of an agent; returns false when it is gone.
    async fn purge_agent(&self, workspace: &Workspace, agent_id: &str) -> Result<bool, StoreError> {
        let agent = agent_hash(workspace, agent_id);
        let key = head_key(&agent);
        let head: Option<Document<Head>> = self.documents.read(&key).await?;
        let Some(Document { value, version }) = head else {
            return Ok(false);
        };
        // While what they point to is still there.
        self.forget_notifications(|entry| entry.agent == agent)
            .await?;
        let mut head = value;
        if head.history.pages > 0 {
            let list = history_list(&agent);
            let left = head.history.pages.saturating_sub(PAGES);
            for page in left..head.history.pages {
                self.documents.delete(&page_key(&list, page)).await?;
            }
            head.history.pages = left;
        } else if head.cold.pages > 0 {
            head.cold.pages -= 1;
            let page = page_key(&cold_list(&agent), head.cold.pages);
            let moved: Option<Document<Page<Moved>>> = self.documents.read(&page).await?;
            let moved = moved.map(|page| page.value.items).unwrap_or_default();
            for session in moved {
                let key = row_key(workspace, agent_id, &session.topic);
                self.documents.delete(&key).await?;
            }
            self.documents.delete(&page).await?;
        } else {
            let hot = head.hot.iter().map(|row| &row.topic);
            for topic in hot.chain(head.cold.tail.iter().map(|moved| &moved.topic)) {
                let key = row_key(workspace, agent_id, topic);
                self.documents.delete(&key).await?;
            }
            self.documents.delete(&key).await?;
            return Ok(false);
        }
        // Where another writer was faster, the next part sees what it left.
        self.documents.swap(&key, &head, &version).await?;
        Ok(true)
    }
}
