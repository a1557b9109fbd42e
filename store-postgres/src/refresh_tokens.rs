//! Refresh tokens and their families.

use kubeagents_core::{AccountId, RefreshToken, StoreError, Timestamp, store::RefreshTokens};

use crate::query::Fetch;
use crate::{PostgresStore, Query, Row, Value};

/// The steps of a statement that take expired tokens away, the oldest first. A family goes with its
/// last token. `$now`: a time in microseconds.
macro_rules! purge_expired {
    ($now:literal, $limit:literal) => {
        concat!(
            "expired AS (\
                SELECT token_hash FROM kubeagents_data.refresh_tokens WHERE expires_at < ",
            $now,
            " ORDER BY expires_at LIMIT ",
            $limit,
            " FOR UPDATE SKIP LOCKED), \
            purged AS (\
                DELETE FROM kubeagents_data.refresh_tokens AS token USING expired \
                WHERE token.token_hash = expired.token_hash \
                RETURNING token.token_hash, token.family_id), \
            ended AS (\
                DELETE FROM kubeagents_data.token_families AS family \
                WHERE family.id IN (SELECT family_id FROM purged) AND NOT EXISTS (\
                    SELECT FROM kubeagents_data.refresh_tokens AS token \
                    WHERE token.family_id = family.id \
                    AND token.token_hash NOT IN (SELECT token_hash FROM purged))) "
        )
    };
}

/// Takes at most `$1` expired tokens away; returns how many.
pub(crate) const PURGE: &str = concat!(
    "WITH ",
    purge_expired!("kubeagents_data.now_micros()", "$1::bigint"),
    "SELECT count(*) FROM purged"
);

/// Each new token takes two expired ones away, so that they do not pile up where no native server
/// purges them.
const INSERT: &str = concat!(
    "WITH family AS (\
        INSERT INTO kubeagents_data.token_families (id, account_id, revoked) \
        SELECT $2::text, id, $7::boolean FROM kubeagents_data.accounts \
        WHERE id = $3::text FOR KEY SHARE RETURNING id), ",
    purge_expired!("$4::bigint", "2"),
    "INSERT INTO kubeagents_data.refresh_tokens (token_hash, family_id, created_at, expires_at, \
        spent_at) \
    SELECT $1::text, id, $4::bigint, $5::bigint, $6::bigint FROM family"
);

const BY_HASH: &str = "\
SELECT token.token_hash, family.account_id, token.family_id, token.created_at, token.expires_at, \
    token.spent_at, family.revoked \
FROM kubeagents_data.refresh_tokens AS token \
JOIN kubeagents_data.token_families AS family ON family.id = token.family_id \
WHERE token.token_hash = $1::text";

/// A revocation at the same time is not outrun, whichever is first: the successor is in the family.
const ROTATE: &str = concat!(
    "WITH spent AS (\
        UPDATE kubeagents_data.refresh_tokens AS token SET spent_at = $2::bigint \
        FROM kubeagents_data.token_families AS family \
        WHERE token.token_hash = $1::text AND token.spent_at IS NULL \
        AND family.id = token.family_id AND NOT family.revoked \
        RETURNING token.family_id), ",
    purge_expired!("$4::bigint", "2"),
    "INSERT INTO kubeagents_data.refresh_tokens (token_hash, family_id, created_at, expires_at) \
    SELECT $3::text, family_id, $4::bigint, $5::bigint FROM spent RETURNING token_hash"
);

const REVOKE_FAMILY: &str = "\
UPDATE kubeagents_data.token_families SET revoked = true WHERE id = $1::text AND NOT revoked";

const REVOKE_ACCOUNT: &str = "\
UPDATE kubeagents_data.token_families SET revoked = true \
WHERE account_id = $1::text AND NOT revoked";

impl<Q: Query, C> RefreshTokens for PostgresStore<Q, C> {
    async fn insert_refresh_token(&self, token: &RefreshToken) -> Result<(), StoreError> {
        let params = [
            Value::from(&token.token_hash),
            Value::from(&token.family_id),
            token.account_id.as_str().into(),
            token.created_at.into(),
            token.expires_at.into(),
            token.spent_at.into(),
            token.revoked.into(),
        ];
        self.query.execute(INSERT, &params).await
    }

    async fn refresh_token(&self, token_hash: &str) -> Result<Option<RefreshToken>, StoreError> {
        let params = [token_hash.into()];
        self.query
            .optional(BY_HASH, &params, Row::refresh_token)
            .await
    }

    async fn rotate_refresh_token(
        &self,
        token_hash: &str,
        spent_at: Timestamp,
        successor: &RefreshToken,
    ) -> Result<bool, StoreError> {
        let params = [
            token_hash.into(),
            spent_at.into(),
            Value::from(&successor.token_hash),
            successor.created_at.into(),
            successor.expires_at.into(),
        ];
        self.query.returns_row(ROTATE, &params).await
    }

    async fn revoke_token_family(&self, family_id: &str) -> Result<(), StoreError> {
        self.query.execute(REVOKE_FAMILY, &[family_id.into()]).await
    }

    async fn revoke_refresh_tokens(&self, id: &AccountId) -> Result<(), StoreError> {
        let params = [id.as_str().into()];
        self.query.execute(REVOKE_ACCOUNT, &params).await
    }
}
