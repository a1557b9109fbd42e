//! The store on a key-value backend.
//!
//! The README describes the documents. What holds everywhere: a change becomes visible by one
//! compare-and-swap, its commit point. What is written before it means nothing without it, and
//! what is written after it is implied by it.

mod accounts;
mod agents;
mod documents;
mod log;
mod micros;
mod outbox;
mod roll;
mod tokens;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kubeagents_core::batch::Chain;
use kubeagents_core::store::{
    Accounts, AgentCursor, AgentQuery, ApiKeys, Audience, CommitOutcome, HistoryCursor,
    LeaseRequest, LeasedNotification, Outbox, Page, RefreshTokens, Registration, SessionCursor,
    SessionHistory, SessionQuery, Sessions,
};
use kubeagents_core::{
    Account, AccountId, Agent, ApiKey, NewAccount, RefreshToken, Session, SessionKey, Snapshot,
    Status, Store, StoreError, Timestamp, Verification, Workspace,
};

use crate::key_value::KeyValue;
use accounts::KeyDocument;
use agents::Loaded;
use documents::{Document, Documents, Limits};

/// How many reads of a kind are remembered.
const REMEMBERED_READS: usize = 64;

/// A [`Store`] on a bucket that can compare and swap. Clones are the same store.
#[derive(Debug, Clone)]
pub struct KeyValueStore<K> {
    documents: Documents<K>,
    loads: Memory<String, Loaded>,
    keys: Memory<String, Document<KeyDocument>>,
}

/// What was read lately, for the write that follows. Only a shortcut: a swap notices when what was
/// read is not what is there any more.
#[derive(Debug)]
struct Memory<N, T>(Arc<Mutex<HashMap<N, T>>>);

impl<N, T> Clone for Memory<N, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<N: Eq + Hash, T> Memory<N, T> {
    fn remember(&self, name: N, read: T) {
        let mut reads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reads.len() >= REMEMBERED_READS {
            reads.clear();
        }
        reads.insert(name, read);
    }

    /// What was read, once.
    fn recall<Q: Eq + Hash + ?Sized>(&self, name: &Q) -> Option<T>
    where
        N: Borrow<Q>,
    {
        let mut reads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reads.remove(name)
    }
}

impl<K: KeyValue> KeyValueStore<K> {
    /// A store on this bucket.
    pub fn new(bucket: K) -> Self {
        Self::with_limits(bucket, Limits::default())
    }

    fn with_limits(bucket: K, limits: Limits) -> Self {
        Self {
            documents: Documents { bucket, limits },
            loads: Memory(Arc::default()),
            keys: Memory(Arc::default()),
        }
    }
}

impl<K: KeyValue> Sessions for KeyValueStore<K> {
    async fn load_many(&self, keys: &[SessionKey]) -> Result<Vec<Snapshot>, StoreError> {
        self.load_snapshots(keys).await
    }

    async fn commit_many(&self, chains: &[Chain]) -> Result<Vec<CommitOutcome>, StoreError> {
        self.apply(chains).await
    }

    async fn agents(
        &self,
        workspace: &Workspace,
        query: &AgentQuery,
        now: Timestamp,
    ) -> Result<Page<Agent, AgentCursor>, StoreError> {
        self.list_agents(workspace, query, now).await
    }

    async fn agent(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        now: Timestamp,
    ) -> Result<Option<Agent>, StoreError> {
        self.view_agent(workspace, agent_id, now).await
    }

    async fn sessions(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        query: &SessionQuery,
        now: Timestamp,
    ) -> Result<Page<Session, SessionCursor>, StoreError> {
        self.list_sessions(workspace, agent_id, query, now).await
    }

    async fn session(
        &self,
        key: &SessionKey,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Option<SessionHistory>, StoreError> {
        self.view_session(key, before, limit).await
    }

    async fn history(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        before: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Page<Status, HistoryCursor>, StoreError> {
        self.list_history(workspace, agent_id, before, limit).await
    }
}

impl<K: KeyValue> Accounts for KeyValueStore<K> {
    async fn create_account(&self, account: &NewAccount) -> Result<Registration, StoreError> {
        self.register(account).await
    }

    async fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        self.find_account(id.as_str()).await
    }

    async fn account_by_email(&self, email: &str) -> Result<Option<Account>, StoreError> {
        self.find_account_by_email(email).await
    }

    async fn set_verification(
        &self,
        id: &AccountId,
        verification: &Verification,
    ) -> Result<(), StoreError> {
        self.await_verification(id, verification).await
    }

    async fn verify_account(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        self.verify(token_hash, now).await
    }

    async fn set_notification_url(
        &self,
        id: &AccountId,
        url: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        self.set_url(id, url, now).await
    }

    async fn notification_urls(&self, audience: &Audience) -> Result<Vec<String>, StoreError> {
        self.urls(audience).await
    }
}

impl<K: KeyValue> RefreshTokens for KeyValueStore<K> {
    async fn insert_refresh_token(&self, token: &RefreshToken) -> Result<(), StoreError> {
        self.begin_family(token).await
    }

    async fn refresh_token(&self, token_hash: &str) -> Result<Option<RefreshToken>, StoreError> {
        self.find_token(token_hash).await
    }

    async fn rotate_refresh_token(
        &self,
        token_hash: &str,
        spent_at: Timestamp,
        successor: &RefreshToken,
    ) -> Result<bool, StoreError> {
        self.rotate(token_hash, spent_at, successor).await
    }

    async fn revoke_token_family(&self, family_id: &str) -> Result<(), StoreError> {
        self.revoke_family(family_id).await
    }

    async fn revoke_refresh_tokens(&self, id: &AccountId) -> Result<(), StoreError> {
        self.log_out(id).await
    }
}

impl<K: KeyValue> ApiKeys for KeyValueStore<K> {
    async fn insert_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        self.add_api_key(key).await
    }

    async fn api_keys(&self, id: &AccountId) -> Result<Vec<ApiKey>, StoreError> {
        self.list_api_keys(id).await
    }

    async fn api_key_by_hash(&self, key_hash: &str) -> Result<Option<ApiKey>, StoreError> {
        self.find_api_key(key_hash).await
    }

    async fn revoke_api_key(&self, id: &AccountId, key_id: &str) -> Result<bool, StoreError> {
        self.revoke_key(id, key_id).await
    }

    async fn touch_api_key(&self, key: &ApiKey, now: Timestamp) -> Result<(), StoreError> {
        self.touch(key, now).await
    }
}

impl<K: KeyValue> Outbox for KeyValueStore<K> {
    async fn lease_notifications(
        &self,
        request: &LeaseRequest,
    ) -> Result<Vec<LeasedNotification>, StoreError> {
        self.lease(request).await
    }

    async fn notification_delivered(&self, id: &str) -> Result<(), StoreError> {
        self.end(id).await
    }

    async fn notification_failed(
        &self,
        id: &str,
        now: Timestamp,
        pause: Duration,
    ) -> Result<(), StoreError> {
        self.postpone(id, now, pause).await
    }

    async fn notification_abandoned(&self, id: &str) -> Result<(), StoreError> {
        self.end(id).await
    }
}

impl<K: KeyValue> Store for KeyValueStore<K> {
    const DURABLE: bool = true;

    async fn ping(&self) -> Result<(), StoreError> {
        let key = documents::key("secret", &["ping"]);
        self.documents.read::<String>(&key).await.map(drop)
    }

    async fn secret(&self, name: &str, candidate: &str) -> Result<String, StoreError> {
        self.find_secret(name, candidate).await
    }
}
