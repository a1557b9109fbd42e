//! API keys.

use super::StoreError;
use crate::{AccountId, ApiKey, Timestamp};

/// API keys.
pub trait ApiKeys {
    /// Stores a new API key.
    fn insert_api_key(&self, key: &ApiKey) -> impl Future<Output = Result<(), StoreError>>;

    /// The account's API keys, newest first, then by id.
    fn api_keys(&self, id: &AccountId) -> impl Future<Output = Result<Vec<ApiKey>, StoreError>>;

    /// The API key with this hash, revoked or not. A store that serves it from a cache does so for
    /// five seconds at most and never after this instance has revoked it.
    fn api_key_by_hash(
        &self,
        key_hash: &str,
    ) -> impl Future<Output = Result<Option<ApiKey>, StoreError>>;

    /// Revokes a key of this account; `false` when the account has no such key.
    fn revoke_api_key(
        &self,
        id: &AccountId,
        key_id: &str,
    ) -> impl Future<Output = Result<bool, StoreError>>;

    /// Notes the use of a key.
    fn touch_api_key(
        &self,
        key: &ApiKey,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>>;
}
