//! API keys.

use kubeagents_core::store::{ApiKeyCreation, ApiKeyCursor, ApiKeys, Gathering, Page};
use kubeagents_core::{AccountId, ApiKey, StoreError, Timestamp};

use kubeagents_store_sql::Row;

use crate::{Connection, SqliteStore, Value};

/// ?11 the most valid keys of the account.
const CREATE_API_KEY: &str = "
    INSERT INTO api_keys SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?12
    WHERE EXISTS (SELECT TRUE FROM accounts WHERE id = ?2) AND (
        SELECT count(*) FROM api_keys
        WHERE account_id = ?2 AND NOT revoked AND (expires_at IS NULL OR expires_at > ?9)
    ) < ?11
    RETURNING TRUE";

const IS_ACCOUNT: &str = "SELECT TRUE FROM accounts WHERE id = ?1";

/// A column list that [`Row::api_key`] reads.
macro_rules! columns {
    () => {
        "id, account_id, name, key_hash, key_prefix, scopes, expires_at, last_used_at, created_at,
            revoked, workspace"
    };
}

macro_rules! select_api_keys {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM api_keys ", $rest)
    };
}

/// ?2, ?3 after this key.
const API_KEYS: &str = select_api_keys!(
    "WHERE account_id = ?1 AND created_at <= ?2 AND (created_at < ?2 OR id > ?3)
    ORDER BY created_at DESC, id LIMIT ?4"
);

const API_KEY_BY_HASH: &str = select_api_keys!("WHERE key_hash = ?1");

const REVOKE_API_KEY: &str = concat!(
    "UPDATE api_keys SET revoked = TRUE WHERE id = ?1 AND account_id = ?2 RETURNING ",
    columns!()
);

const TOUCH_API_KEY: &str = "
    UPDATE api_keys SET last_used_at = max(coalesce(last_used_at, ?2), ?2) WHERE id = ?1";

impl<C: Connection> ApiKeys for SqliteStore<C> {
    async fn create_api_key(
        &self,
        key: &ApiKey,
        most: usize,
    ) -> Result<ApiKeyCreation, StoreError> {
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
            most.into(),
            key.workspace.as_str().into(),
        ];
        let created = self.writer.run(CREATE_API_KEY, parameters).await?;
        if !created.is_empty() {
            return Ok(ApiKeyCreation::Created);
        }
        let account = [(&key.account_id).into()];
        let account = self.lookups.first(IS_ACCOUNT, account, |_| Ok(())).await?;
        Ok(match account {
            Some(()) => ApiKeyCreation::TooMany,
            None => ApiKeyCreation::NoAccount,
        })
    }

    async fn api_keys(
        &self,
        id: &AccountId,
        after: Option<&ApiKeyCursor>,
        limit: usize,
    ) -> Result<Page<ApiKey, ApiKeyCursor>, StoreError> {
        let mut keys = Gathering::new(limit);
        let mut after = after.cloned();
        loop {
            let (created_at, key_id) = match &after {
                Some(place) => (place.created_at.into(), (&place.id).into()),
                None => (Value::Integer(i64::MAX), "".into()),
            };
            let parameters = [id.into(), created_at, key_id, keys.wanted().into()];
            let batch = self.lists.all(API_KEYS, parameters, Row::api_key).await?;
            match keys.extend(batch) {
                Some(last) => after = Some(ApiKeyCursor::after(last)),
                None => return Ok(keys.page(ApiKeyCursor::after)),
            }
        }
    }

    async fn api_key_by_hash(&self, key_hash: &str) -> Result<Option<ApiKey>, StoreError> {
        self.lookups
            .first(API_KEY_BY_HASH, [key_hash.into()], Row::api_key)
            .await
    }

    async fn revoke_api_key(
        &self,
        id: &AccountId,
        key_id: &str,
    ) -> Result<Option<ApiKey>, StoreError> {
        let parameters = [key_id.into(), id.into()];
        self.writer
            .first(REVOKE_API_KEY, parameters, Row::api_key)
            .await
    }

    async fn touch_api_key(&self, key: &ApiKey, now: Timestamp) -> Result<(), StoreError> {
        self.writer
            .run(TOUCH_API_KEY, [(&key.id).into(), now.into()])
            .await
            .map(drop)
    }
}
