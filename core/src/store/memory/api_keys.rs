use std::cmp::Reverse;

use super::MemoryStore;
use crate::store::{ApiKeyCreation, ApiKeyCursor, ApiKeys, Page, StoreError};
use crate::{AccountId, ApiKey, Timestamp};

impl ApiKeys for MemoryStore {
    async fn create_api_key(
        &self,
        key: &ApiKey,
        most: usize,
    ) -> Result<ApiKeyCreation, StoreError> {
        let state = &mut *self.lock();
        if !state.accounts.contains(&key.account_id) {
            return Ok(ApiKeyCreation::NoAccount);
        }
        let keys = &mut state.api_keys;
        let others = keys
            .values()
            .filter(|other| other.account_id == key.account_id && other.is_valid(key.created_at));
        if others.count() >= most {
            return Ok(ApiKeyCreation::TooMany);
        }
        keys.insert(key.key_hash.clone(), key.clone());
        Ok(ApiKeyCreation::Created)
    }

    async fn api_keys(
        &self,
        id: &AccountId,
        after: Option<&ApiKeyCursor>,
        limit: usize,
    ) -> Result<Page<ApiKey, ApiKeyCursor>, StoreError> {
        let state = self.lock();
        let place = |key: &ApiKey| (Reverse(key.created_at), key.id.clone());
        let after = after.map(|after| (Reverse(after.created_at), after.id.clone()));
        let keys = state.api_keys.values().filter(|key| {
            key.account_id == *id && after.as_ref().is_none_or(|after| place(key) > *after)
        });
        let mut keys: Vec<ApiKey> = keys.cloned().collect();
        keys.sort_by_key(place);
        Ok(Page::cut(keys, limit, ApiKeyCursor::after))
    }

    async fn api_key_by_hash(&self, key_hash: &str) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.lock().api_keys.get(key_hash).cloned())
    }

    async fn revoke_api_key(
        &self,
        id: &AccountId,
        key_id: &str,
    ) -> Result<Option<ApiKey>, StoreError> {
        let mut state = self.lock();
        let mut keys = state.api_keys.values_mut();
        let key = keys.find(|key| key.account_id == *id && key.id == key_id);
        Ok(key.map(|key| {
            key.revoked = true;
            key.clone()
        }))
    }

    async fn touch_api_key(&self, key: &ApiKey, now: Timestamp) -> Result<(), StoreError> {
        if let Some(key) = self.lock().api_keys.get_mut(&key.key_hash) {
            key.last_used_at = key.last_used_at.max(Some(now));
        }
        Ok(())
    }
}
