//! Refresh tokens and their families.

use super::StoreError;
use crate::{AccountId, RefreshToken, Timestamp};

/// Refresh tokens.
pub trait RefreshTokens {
    /// Stores the first refresh token of a new family, unless its account is gone.
    fn insert_refresh_token(
        &self,
        token: &RefreshToken,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// The refresh token with this hash, revoked if its family is.
    fn refresh_token(
        &self,
        token_hash: &str,
    ) -> impl Future<Output = Result<Option<RefreshToken>, StoreError>>;

    /// Marks a token spent and stores its successor in the same family, in one step. `false`, and
    /// nothing is stored, when the token is already spent or its family revoked: of concurrent
    /// calls one succeeds, and a revocation is never outrun.
    fn rotate_refresh_token(
        &self,
        token_hash: &str,
        spent_at: Timestamp,
        successor: &RefreshToken,
    ) -> impl Future<Output = Result<bool, StoreError>>;

    /// Revokes every token of a family, those stored later included.
    fn revoke_token_family(&self, family_id: &str) -> impl Future<Output = Result<(), StoreError>>;

    /// Revokes every refresh token that the account has now.
    fn revoke_refresh_tokens(&self, id: &AccountId)
    -> impl Future<Output = Result<(), StoreError>>;
}
