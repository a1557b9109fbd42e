use std::collections::{HashMap, HashSet};
use std::mem::size_of;

use super::{MemoryStore, heap};
use crate::store::{RefreshTokens, StoreError};
use crate::{AccountId, RefreshToken, Timestamp};

#[derive(Debug, Default)]
pub(super) struct TokenTable {
    /// By hash.
    tokens: HashMap<String, RefreshToken>,
    revoked_families: HashSet<String>,
    /// The number of tokens at which expired ones are dropped.
    purge_at: usize,
}

impl TokenTable {
    /// What they take up.
    pub(super) fn bytes(&self) -> usize {
        // A hash twice, and two ids.
        const TOKEN: usize = heap::table_place(size_of::<RefreshToken>() + size_of::<String>())
            + 2 * heap::block(64)
            + 2 * heap::block(36);
        const FAMILY: usize = heap::table_place(size_of::<String>()) + heap::block(36);
        self.tokens.len() * TOKEN + self.revoked_families.len() * FAMILY
    }

    fn get(&self, token_hash: &str) -> Option<RefreshToken> {
        let token = self.tokens.get(token_hash)?;
        Some(RefreshToken {
            revoked: self.revoked_families.contains(&token.family_id),
            ..token.clone()
        })
    }

    fn insert(&mut self, token: &RefreshToken) {
        if self.tokens.len() >= self.purge_at {
            let now = token.created_at;
            self.tokens.retain(|_, token| now < token.expires_at);
            let tokens = self.tokens.values();
            let families: HashSet<&str> = tokens.map(|token| token.family_id.as_str()).collect();
            self.revoked_families
                .retain(|family| families.contains(family.as_str()));
            self.purge_at = 2 * self.tokens.len() + 1000;
        }
        self.tokens.insert(token.token_hash.clone(), token.clone());
    }
}

impl TokenTable {
    /// Revokes every token that an account has now.
    pub(super) fn revoke_all(&mut self, id: &AccountId) {
        let tokens = self.tokens.values();
        let own = tokens.filter(|token| token.account_id == *id);
        let families: Vec<String> = own.map(|token| token.family_id.clone()).collect();
        self.revoked_families.extend(families);
    }

    /// Removes every token of an account.
    pub(super) fn remove_all(&mut self, id: &AccountId) {
        self.tokens.retain(|_, token| token.account_id != *id);
    }
}

impl RefreshTokens for MemoryStore {
    async fn insert_refresh_token(&self, token: &RefreshToken) -> Result<(), StoreError> {
        let state = &mut *self.lock();
        if state.accounts.contains(&token.account_id) {
            state.tokens.insert(token);
        }
        Ok(())
    }

    async fn refresh_token(&self, token_hash: &str) -> Result<Option<RefreshToken>, StoreError> {
        Ok(self.lock().tokens.get(token_hash))
    }

    async fn rotate_refresh_token(
        &self,
        token_hash: &str,
        spent_at: Timestamp,
        successor: &RefreshToken,
    ) -> Result<bool, StoreError> {
        let table = &mut self.lock().tokens;
        let live = table
            .get(token_hash)
            .is_some_and(|token| token.spent_at.is_none() && !token.revoked);
        if live {
            if let Some(token) = table.tokens.get_mut(token_hash) {
                token.spent_at = Some(spent_at);
            }
            table.insert(successor);
        }
        Ok(live)
    }

    async fn revoke_token_family(&self, family_id: &str) -> Result<(), StoreError> {
        self.lock()
            .tokens
            .revoked_families
            .insert(family_id.to_owned());
        Ok(())
    }

    async fn revoke_refresh_tokens(&self, id: &AccountId) -> Result<(), StoreError> {
        self.lock().tokens.revoke_all(id);
        Ok(())
    }
}
