//! API keys.

use kubeagents_core::store::{ApiKeyCreation, ApiKeyCursor, ApiKeys, Gathering, Page};
use kubeagents_core::{AccountId, ApiKey, StoreError, Timestamp};

use crate::query::Fetch;
use crate::value::saturating;
use crate::{PostgresStore, Query, Row, Value};

/// Memory of API keys for a few seconds, as [`ApiKeys::api_key_by_hash`] allows; `()` remembers none.
pub trait ApiKeyCache {
    /// The key with this hash, if it was remembered within the last five seconds.
    fn get(&self, key_hash: &str) -> Option<ApiKey>;

    /// The number of revocations so far.
    fn revocations(&self) -> u64;

    /// Remembers a key that was read after `revocations` had been asked for; not, if there was
    /// another revocation since: the key may be the one.
    fn remember(&self, key: &ApiKey, revocations: u64);

    /// Notes the use of a remembered key.
    fn touch(&self, key_hash: &str, now: Timestamp);

    /// Forgets a key that has been revoked.
    fn revoke(&self, key_id: &str);

    /// Forgets the keys of an account that has been deleted.
    fn revoke_all(&self, id: &AccountId);
}

impl ApiKeyCache for () {
    fn get(&self, _: &str) -> Option<ApiKey> {
        None
    }
    fn revocations(&self) -> u64 {
        0
    }
    fn remember(&self, _: &ApiKey, _: u64) {}
    fn touch(&self, _: &str, _: Timestamp) {}
    fn revoke(&self, _: &str) {}
    fn revoke_all(&self, _: &AccountId) {}
}

/// A column list that [`Row::api_key`] reads.
macro_rules! columns {
    () => {
        "id, account_id, name, key_hash, key_prefix, scopes, expires_at, last_used_at, \
            created_at, revoked, workspace"
    };
}

/// The version of the account, and the number of its keys that are valid at `$2`.
const VALID: &str = "\
SELECT account.xmin::text, \
    (SELECT count(*) FROM kubeagents_data.api_keys WHERE account_id = $1::text AND NOT revoked \
        AND (expires_at IS NULL OR expires_at > $2::bigint)) \
FROM kubeagents_data.accounts AS account WHERE account.id = $1::text";

/// Whoever creates a key changes the account's version, so that no two count the same keys.
const INSERT: &str = concat!(
    "WITH account AS (\
        UPDATE kubeagents_data.accounts SET updated_at = updated_at \
        WHERE id = $2::text AND xmin::text = $11::text RETURNING id\
    ) INSERT INTO kubeagents_data.api_keys (",
    columns!(),
    ") SELECT $1::text, account.id, $3::text, $4::text, $5::text, $6::text, $7::bigint, \
        $8::bigint, $9::bigint, $10::boolean, $12::text FROM account RETURNING id"
);

/// The most races for an account's keys that one creation loses before it gives up.
const MAX_ROUNDS: usize = 50;

/// `$2`, `$3`: after this key.
const OF_ACCOUNT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM kubeagents_data.api_keys WHERE account_id = $1::text AND created_at <= $2::bigint \
    AND (created_at < $2::bigint OR id > $3::text) ORDER BY created_at DESC, id LIMIT $4::bigint"
);

const BY_HASH: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM kubeagents_data.api_keys WHERE key_hash = $1::text"
);

const REVOKE: &str = concat!(
    "UPDATE kubeagents_data.api_keys SET revoked = true \
    WHERE id = $1::text AND account_id = $2::text RETURNING ",
    columns!()
);

const TOUCH: &str = "\
UPDATE kubeagents_data.api_keys SET last_used_at = greatest(last_used_at, $2::bigint) \
WHERE id = $1::text";

impl<Q: Query, C: ApiKeyCache> ApiKeys for PostgresStore<Q, C> {
    async fn create_api_key(
        &self,
        key: &ApiKey,
        most: usize,
    ) -> Result<ApiKeyCreation, StoreError> {
        let scopes = key.scopes.to_text();
        for _ in 0..MAX_ROUNDS {
            let params = [key.account_id.as_str().into(), key.created_at.into()];
            let read = |row: &mut Row| Ok((row.text()?, row.int::<usize>()?));
            let account = self.query.optional(VALID, &params, read).await?;
            let Some((version, valid)) = account else {
                return Ok(ApiKeyCreation::NoAccount);
            };
            if valid >= most {
                return Ok(ApiKeyCreation::TooMany);
            }
            let params = [
                Value::from(&key.id),
                key.account_id.as_str().into(),
                Value::from(&key.name),
                Value::from(&key.key_hash),
                Value::from(&key.key_prefix),
                Value::from(&scopes),
                key.expires_at.into(),
                key.last_used_at.into(),
                key.created_at.into(),
                key.revoked.into(),
                Value::from(&version),
                key.workspace.as_str().into(),
            ];
            if self.query.returns_row(INSERT, &params).await? {
                return Ok(ApiKeyCreation::Created);
            }
        }
        Err(StoreError::Contended)
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
            let place = after.as_ref();
            let params = [
                id.as_str().into(),
                place
                    .map_or(i64::MAX, |place| place.created_at.timestamp_micros())
                    .into(),
                place.map_or("", |place| &place.id).into(),
                saturating(keys.wanted()).into(),
            ];
            let batch = self
                .query
                .lists()
                .all(OF_ACCOUNT, &params, Row::api_key)
                .await?;
            match keys.extend(batch) {
                Some(last) => after = Some(ApiKeyCursor::after(last)),
                None => return Ok(keys.page(ApiKeyCursor::after)),
            }
        }
    }

    async fn api_key_by_hash(&self, key_hash: &str) -> Result<Option<ApiKey>, StoreError> {
        if let Some(key) = self.cache.get(key_hash) {
            return Ok(Some(key));
        }
        let revocations = self.cache.revocations();
        let params = [key_hash.into()];
        let found = self.query.optional(BY_HASH, &params, Row::api_key).await?;
        if let Some(key) = found.as_ref().filter(|key| !key.revoked) {
            self.cache.remember(key, revocations);
        }
        Ok(found)
    }

    async fn revoke_api_key(
        &self,
        id: &AccountId,
        key_id: &str,
    ) -> Result<Option<ApiKey>, StoreError> {
        let params = [key_id.into(), id.as_str().into()];
        let revoked = self.query.optional(REVOKE, &params, Row::api_key).await;
        // Also after a failure: the statement may have taken effect.
        self.cache.revoke(key_id);
        revoked
    }

    async fn touch_api_key(&self, key: &ApiKey, now: Timestamp) -> Result<(), StoreError> {
        // First, so that requests at the same time do not all note it.
        self.cache.touch(&key.key_hash, now);
        let params = [Value::from(&key.id), now.into()];
        self.query.execute(TOUCH, &params).await
    }
}
