use super::MemoryStore;
use crate::store::{ApiKeys, StoreError};
use crate::{AccountId, ApiKey, Timestamp};

impl ApiKeys for MemoryStore {
    async fn insert_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        self.lock()
            .api_keys
            .insert(key.key_hash.clone(), key.clone());
        Ok(())
    }

    async fn api_keys(&self, id: &AccountId) -> Result<Vec<ApiKey>, StoreError> {
        let state = self.lock();
        let keys = state.api_keys.values().filter(|key| key.account_id == *id);
        let mut keys: Vec<ApiKey> = keys.cloned().collect();
        keys.sort_by(|a, b| {
            b.created_at
                .cmp(&a.created_at)
                .then_with(|| a.id.cmp(&b.id))
        });
        Ok(keys)
    }

    async fn api_key_by_hash(&self, key_hash: &str) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.lock().api_keys.get(key_hash).cloned())
    }

    async fn revoke_api_key(&self, id: &AccountId, key_id: &str) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let mut keys = state.api_keys.values_mut();
        let key = keys.find(|key| key.account_id == *id && key.id == key_id);
        Ok(key.map(|key| key.revoked = true).is_some())
    }

    async fn touch_api_key(&self, key: &ApiKey, now: Timestamp) -> Result<(), StoreError> {
        if let Some(key) = self.lock().api_keys.get_mut(&key.key_hash) {
            key.last_used_at = key.last_used_at.max(Some(now));
        }
        Ok(())
    }
}
