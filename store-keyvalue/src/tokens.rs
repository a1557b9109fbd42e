//! Refresh tokens. A family is one document: rotation and revocation are swaps of it. A token's own
//! document says which family it belongs to, and means something only if the family knows it.

use kubeagents_core::store::RefreshTokens;
use kubeagents_core::{AccountId, RefreshToken, StoreError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::documents::{Change, Document, key};
use crate::{KeyValue, KeyValueStore, micros};

/// The most spent tokens that a family remembers, each with 100 bytes. A token older than these is
/// unknown, and refused as such.
const SPENT_TOKENS: usize = 4000;

/// Limit on the documents of forgotten tokens that one rotation removes.
const REMOVED_AT_ONCE: usize = 2;

/// A token as it was issued.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct TokenDocument {
    account: String,
    family: String,
    #[serde(with = "micros")]
    created: Timestamp,
    #[serde(with = "micros")]
    expires: Timestamp,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Family {
    /// Number of times that all of the account's families had been ended when this one began.
    logouts: u64,
    revoked: bool,
    /// The hash of the one token that is not spent.
    current: String,
    /// The others, oldest first.
    spent: Vec<Spent>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Spent {
    hash: String,
    #[serde(with = "micros")]
    at: Timestamp,
    #[serde(with = "micros")]
    expires: Timestamp,
}

fn token_key(hash: &str) -> String {
    key("refresh-token", &[hash])
}

fn family_key(id: &str) -> String {
    key("family", &[id])
}

fn logouts_key(account: &str) -> String {
    key("logouts", &[account])
}

impl From<&RefreshToken> for TokenDocument {
    fn from(token: &RefreshToken) -> Self {
        Self {
            account: token.account_id.as_str().to_owned(),
            family: token.family_id.clone(),
            created: token.created_at,
            expires: token.expires_at,
        }
    }
}

impl<K: KeyValue> RefreshTokens for KeyValueStore<K> {
    async fn insert_refresh_token(&self, token: &RefreshToken) -> Result<(), StoreError> {
        let Some(logouts) = self.logouts(token.account_id.as_str()).await? else {
            return Ok(());
        };
        self.documents
            .create(&token_key(&token.token_hash), &TokenDocument::from(token))
            .await?;
        self.documents
            .update(&family_key(&token.family_id), |family: Option<Family>| {
                // A family may have been revoked before its first token is stored.
                let family = family.unwrap_or_default();
                let begun = Family {
                    logouts,
                    current: token.token_hash.clone(),
                    ..family
                };
                (Change::Write(begun), ())
            })
            .await
    }

    async fn refresh_token(&self, hash: &str) -> Result<Option<RefreshToken>, StoreError> {
        let token: Option<Document<TokenDocument>> = self.documents.read(&token_key(hash)).await?;
        let Some(Document { value: token, .. }) = token else {
            return Ok(None);
        };
        let family: Option<Document<Family>> =
            self.documents.read(&family_key(&token.family)).await?;
        let Some(Document { value: family, .. }) = family else {
            return Ok(None);
        };
        let spent = family.spent.iter().find(|spent| spent.hash == hash);
        if spent.is_none() && family.current != hash {
            return Ok(None);
        }
        let Some(logouts) = self.logouts(&token.account).await? else {
            return Ok(None);
        };
        Ok(Some(RefreshToken {
            token_hash: hash.to_owned(),
            account_id: AccountId::new(token.account),
            family_id: token.family,
            created_at: token.created,
            expires_at: token.expires,
            spent_at: spent.map(|spent| spent.at),
            revoked: family.revoked || family.logouts < logouts,
        }))
    }

    async fn rotate_refresh_token(
        &self,
        hash: &str,
        spent_at: Timestamp,
        successor: &RefreshToken,
    ) -> Result<bool, StoreError> {
        let Some(token) = self.refresh_token(hash).await? else {
            return Ok(false);
        };
        if token.revoked || token.spent_at.is_some() {
            return Ok(false);
        }
        let successor_key = token_key(&successor.token_hash);
        self.documents
            .create(&successor_key, &TokenDocument::from(successor))
            .await?;
        let forgotten = self
            .documents
            .update(&family_key(&token.family_id), |family: Option<Family>| {
                let Some(mut family) =
                    family.filter(|family| !family.revoked && family.current == hash)
                else {
                    return (Change::Keep, None);
                };
                family.current.clone_from(&successor.token_hash);
                family.spent.push(Spent {
                    hash: hash.to_owned(),
                    at: spent_at,
                    expires: token.expires_at,
                });
                let expired = |spent: &&Spent| spent.expires <= spent_at;
                let expired = family
                    .spent
                    .iter()
                    .take(REMOVED_AT_ONCE)
                    .take_while(expired);
                let excess = family.spent.len().saturating_sub(SPENT_TOKENS);
                let forgotten = expired.count().max(excess);
                let forgotten: Vec<Spent> = family.spent.drain(..forgotten).collect();
                (Change::Write(family), Some(forgotten))
            })
            .await?;
        let Some(forgotten) = forgotten else {
            self.documents.delete(&successor_key).await?;
            return Ok(false);
        };
        for token in forgotten {
            self.documents.delete(&token_key(&token.hash)).await?;
        }
        Ok(true)
    }

    async fn revoke_token_family(&self, id: &str) -> Result<(), StoreError> {
        self.documents
            .update(&family_key(id), |family: Option<Family>| {
                let family = family.unwrap_or_default();
                (
                    Change::Write(Family {
                        revoked: true,
                        ..family
                    }),
                    (),
                )
            })
            .await
    }

    async fn revoke_refresh_tokens(&self, id: &AccountId) -> Result<(), StoreError> {
        self.documents
            .update(&logouts_key(id.as_str()), |logouts: Option<u64>| {
                (Change::Write(logouts.unwrap_or(0) + 1), ())
            })
            .await
    }
}

impl<K: KeyValue> KeyValueStore<K> {
    /// Number of times that all of an account's families were ended; `None` when the account has been
    /// deleted.
    async fn logouts(&self, account: &str) -> Result<Option<u64>, StoreError> {
        let Some(changes) = self.password_changes(account).await? else {
            return Ok(None);
        };
        let found = self.documents.read::<u64>(&logouts_key(account)).await?;
        Ok(Some(changes + found.map_or(0, |document| document.value)))
    }
}
