//! API keys.

use kubeagents_core::store::ApiKeys;
use kubeagents_core::{AccountId, ApiKey, StoreError, Timestamp};

use kubeagents_store_sql::Row;

use crate::{Connection, SqliteStore};

const INSERT_API_KEY: &str = "INSERT INTO api_keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

macro_rules! select_api_keys {
    ($rest:literal) => {
        concat!(
            "SELECT id, account_id, name, key_hash, key_prefix, scopes, expires_at, last_used_at,
                created_at, revoked
            FROM api_keys ",
            $rest
        )
    };
}

const API_KEYS: &str = select_api_keys!("WHERE account_id = ?1 ORDER BY created_at DESC, id");

const API_KEY_BY_HASH: &str = select_api_keys!("WHERE key_hash = ?1");

const REVOKE_API_KEY: &str = "
    UPDATE api_keys SET revoked = TRUE WHERE id = ?1 AND account_id = ?2 RETURNING TRUE";

const TOUCH_API_KEY: &str = "
    UPDATE api_keys SET last_used_at = max(coalesce(last_used_at, ?2), ?2) WHERE id = ?1";

impl<C: Connection> ApiKeys for SqliteStore<C> {
    async fn insert_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        let parameters = [
            (&key.id).into(),
            (&key.account_id).into(),
            (&key.name).into(),
            (&key.key_hash).into(),
            (&key.key_prefix).into(),
            (&key.scopes.to_text()).into(),
            key.expires_at.into(),
            key.last_used_at.into(),
            key.created_at.into(),
            u32::from(key.revoked).into(),
        ];
        self.writer.run(INSERT_API_KEY, parameters).await.map(drop)
    }

    async fn api_keys(&self, id: &AccountId) -> Result<Vec<ApiKey>, StoreError> {
        self.lists.all(API_KEYS, [id.into()], Row::api_key).await
    }

    async fn api_key_by_hash(&self, key_hash: &str) -> Result<Option<ApiKey>, StoreError> {
        self.lookups
            .first(API_KEY_BY_HASH, [key_hash.into()], Row::api_key)
            .await
    }

    async fn revoke_api_key(&self, id: &AccountId, key_id: &str) -> Result<bool, StoreError> {
        let revoked = self
            .writer
            .run(REVOKE_API_KEY, [key_id.into(), id.into()])
            .await?;
        Ok(!revoked.is_empty())
    }

    async fn touch_api_key(&self, key: &ApiKey, now: Timestamp) -> Result<(), StoreError> {
        self.writer
            .run(TOUCH_API_KEY, [(&key.id).into(), now.into()])
            .await
            .map(drop)
    }
}
