//! API keys.

use super::{ApiKeyCursor, Page, StoreError};
use crate::{AccountId, ApiKey, Timestamp};

/// What became of a new API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the account may have too many, or be gone"]
pub enum ApiKeyCreation {
    /// The key is stored.
    Created,
    /// The account has as many valid keys as it may have; nothing is stored.
    TooMany,
    /// There is no such account; nothing is stored.
    NoAccount,
}

/// API keys.
pub trait ApiKeys {
    /// Stores a new API key, unless its account has `most` keys already that are
    /// [valid](ApiKey::is_valid) when this one is made.
    fn create_api_key(
        &self,
        key: &ApiKey,
        most: usize,
    ) -> impl Future<Output = Result<ApiKeyCreation, StoreError>>;

    /// A page of the account's API keys from after this place: newest first, then by id.
    fn api_keys(
        &self,
        id: &AccountId,
        after: Option<&ApiKeyCursor>,
        limit: usize,
    ) -> impl Future<Output = Result<Page<ApiKey, ApiKeyCursor>, StoreError>>;

    /// The API key with this hash, revoked or not. A store that serves it from a cache does so for
    /// five seconds at most and never after this instance has revoked it.
    fn api_key_by_hash(
        &self,
        key_hash: &str,
    ) -> impl Future<Output = Result<Option<ApiKey>, StoreError>>;

    /// Revokes a key of this account and returns it; `None` when the account has no such key.
    fn revoke_api_key(
        &self,
        id: &AccountId,
        key_id: &str,
    ) -> impl Future<Output = Result<Option<ApiKey>, StoreError>>;

    /// Notes the use of a key.
    fn touch_api_key(
        &self,
        key: &ApiKey,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>>;
}
