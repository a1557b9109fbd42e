//! Refresh tokens and their families.

use kubeagents_core::store::RefreshTokens;
use kubeagents_core::{AccountId, RefreshToken, StoreError, Timestamp};

use kubeagents_store_sql::Row;

use crate::{Connection, SqliteStore};

const INSERT_REFRESH_TOKEN: &str = "
    INSERT INTO refresh_tokens SELECT ?1, ?2, ?3, ?4, ?5, ?6
    WHERE EXISTS (SELECT TRUE FROM accounts WHERE id = ?3)";

const REFRESH_TOKEN: &str = "
    SELECT t.token_hash, t.account_id, t.family_id, t.created_at, t.expires_at, t.spent_at,
        f.revoked
    FROM refresh_tokens t JOIN token_families f USING (family_id) WHERE t.token_hash = ?1";

const ROTATE_REFRESH_TOKEN: &str = "INSERT INTO rotations VALUES (?, ?, ?, ?, ?) RETURNING TRUE";

const REVOKE_TOKEN_FAMILY: &str = "UPDATE token_families SET revoked = TRUE WHERE family_id = ?1";

const REVOKE_REFRESH_TOKENS: &str =
    "UPDATE token_families SET revoked = TRUE WHERE account_id = ?1";

impl<C: Connection> RefreshTokens for SqliteStore<C> {
    async fn insert_refresh_token(&self, token: &RefreshToken) -> Result<(), StoreError> {
        let parameters = [
            (&token.token_hash).into(),
            (&token.family_id).into(),
            (&token.account_id).into(),
            token.created_at.into(),
            token.expires_at.into(),
            token.spent_at.into(),
        ];
        self.writer
            .run(INSERT_REFRESH_TOKEN, parameters)
            .await
            .map(drop)
    }

    async fn refresh_token(&self, token_hash: &str) -> Result<Option<RefreshToken>, StoreError> {
        self.lookups
            .first(REFRESH_TOKEN, [token_hash.into()], Row::refresh_token)
            .await
    }

    async fn rotate_refresh_token(
        &self,
        token_hash: &str,
        spent_at: Timestamp,
        successor: &RefreshToken,
    ) -> Result<bool, StoreError> {
        let parameters = [
            token_hash.into(),
            spent_at.into(),
            (&successor.token_hash).into(),
            successor.created_at.into(),
            successor.expires_at.into(),
        ];
        let rotated = self.writer.run(ROTATE_REFRESH_TOKEN, parameters).await?;
        Ok(!rotated.is_empty())
    }

    async fn revoke_token_family(&self, family_id: &str) -> Result<(), StoreError> {
        self.writer
            .run(REVOKE_TOKEN_FAMILY, [family_id.into()])
            .await
            .map(drop)
    }

    async fn revoke_refresh_tokens(&self, id: &AccountId) -> Result<(), StoreError> {
        self.writer
            .run(REVOKE_REFRESH_TOKENS, [id.into()])
            .await
            .map(drop)
    }
}
