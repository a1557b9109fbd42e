//! API keys, a document each, and a list of an account's.

use std::cmp::Reverse;

use kubeagents_core::store::{ApiKeyCreation, ApiKeyCursor, ApiKeys, Page};
use kubeagents_core::{AccountId, ApiKey, Scopes, StoreError, Timestamp, WorkspaceChoice};
use serde::{Deserialize, Serialize};

use crate::documents::{Change, Document, key};
use crate::roll::Roll;
use crate::{KeyValue, KeyValueStore, micros};

/// An API key as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeyDocument {
    id: String,
    account: String,
    name: String,
    hash: String,
    prefix: String,
    scopes: String,
    /// Empty: its account's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    workspace: String,
    #[serde(with = "micros::option")]
    expires: Option<Timestamp>,
    #[serde(with = "micros::option")]
    used: Option<Timestamp>,
    #[serde(with = "micros")]
    created: Timestamp,
    revoked: bool,
}

impl From<&ApiKey> for KeyDocument {
    fn from(key: &ApiKey) -> Self {
        Self {
            id: key.id.clone(),
            account: key.account_id.as_str().to_owned(),
            name: key.name.clone(),
            hash: key.key_hash.clone(),
            prefix: key.key_prefix.clone(),
            scopes: key.scopes.to_text(),
            workspace: match key.workspace {
                WorkspaceChoice::Own => String::new(),
                WorkspaceChoice::Shared => key.workspace.as_str().to_owned(),
            },
            expires: key.expires_at,
            used: key.last_used_at,
            created: key.created_at,
            revoked: key.revoked,
        }
    }
}

impl TryFrom<KeyDocument> for ApiKey {
    type Error = StoreError;

    fn try_from(document: KeyDocument) -> Result<Self, StoreError> {
        let scopes = Scopes::from_text(&document.scopes)
            .ok_or_else(|| StoreError::unavailable("an API key has unknown scopes"))?;
        let workspace = match document.workspace.as_str() {
            "" => WorkspaceChoice::Own,
            word => WorkspaceChoice::parse(word)
                .ok_or_else(|| StoreError::unavailable("an API key has an unknown workspace"))?,
        };
        Ok(Self {
            id: document.id,
            account_id: AccountId::new(document.account),
            name: document.name,
            key_hash: document.hash,
            key_prefix: document.prefix,
            scopes,
            workspace,
            expires_at: document.expires,
            last_used_at: document.used,
            created_at: document.created,
            revoked: document.revoked,
        })
    }
}

fn api_key_key(key_hash: &str) -> String {
    key("api-key", &[key_hash])
}

fn api_keys_list(id: &AccountId) -> String {
    key("api-keys", &[id.as_str()])
}

impl<K: KeyValue> ApiKeys for KeyValueStore<K> {
    async fn create_api_key(
        &self,
        key: &ApiKey,
        most: usize,
    ) -> Result<ApiKeyCreation, StoreError> {
        if self.find_account(key.account_id.as_str()).await?.is_none() {
            return Ok(ApiKeyCreation::NoAccount);
        }
        let list = api_keys_list(&key.account_id);
        let has_room = async |roll: &Roll| {
            let hashes = roll.names(&self.documents, &list).await?;
            let hashes = hashes.into_iter().filter(|hash| *hash != key.key_hash);
            let keys = self
                .documents
                .read_all::<KeyDocument>(hashes.map(|hash| api_key_key(&hash)));
            // One without a document counts: it may be about to be created.
            let counts = |document: &Option<Document<KeyDocument>>| {
                document.as_ref().is_none_or(|document| {
                    let KeyDocument {
                        revoked, expires, ..
                    } = document.value;
                    !revoked && expires.is_none_or(|end| key.created_at < end)
                })
            };
            Ok(keys.await?.iter().filter(|key| counts(key)).count() < most)
        };
        if !Roll::add_if(&self.documents, &list, &key.key_hash, has_room).await? {
            return Ok(ApiKeyCreation::TooMany);
        }
        self.documents
            .create(&api_key_key(&key.key_hash), &KeyDocument::from(key))
            .await?;
        Ok(ApiKeyCreation::Created)
    }

    async fn api_keys(
        &self,
        id: &AccountId,
        after: Option<&ApiKeyCursor>,
        limit: usize,
    ) -> Result<Page<ApiKey, ApiKeyCursor>, StoreError> {
        let mut keys = self.all_api_keys(id).await?;
        let place = |key: &ApiKey| (Reverse(key.created_at), key.id.clone());
        if let Some(after) = after {
            let after = (Reverse(after.created_at), after.id.clone());
            keys.retain(|key| place(key) > after);
        }
        keys.sort_by_key(place);
        Ok(Page::cut(keys, limit, ApiKeyCursor::after))
    }

    async fn api_key_by_hash(&self, hash: &str) -> Result<Option<ApiKey>, StoreError> {
        let found: Option<Document<KeyDocument>> = self.documents.read(&api_key_key(hash)).await?;
        if let Some(found) = &found {
            self.keys.remember(hash.to_owned(), found.clone());
        }
        found.map(|document| document.value.try_into()).transpose()
    }

    async fn revoke_api_key(
        &self,
        id: &AccountId,
        key_id: &str,
    ) -> Result<Option<ApiKey>, StoreError> {
        let keys = self.all_api_keys(id).await?;
        let Some(key) = keys.into_iter().find(|key| key.id == key_id) else {
            return Ok(None);
        };
        self.change_api_key(&key.key_hash, |key| {
            !std::mem::replace(&mut key.revoked, true)
        })
        .await?;
        Ok(Some(ApiKey {
            revoked: true,
            ..key
        }))
    }

    async fn touch_api_key(&self, key: &ApiKey, now: Timestamp) -> Result<(), StoreError> {
        self.change_api_key(&key.key_hash, |key| {
            let later = key.used.is_none_or(|used| used < now);
            if later {
                key.used = Some(now);
            }
            later
        })
        .await
    }
}

impl<K: KeyValue> KeyValueStore<K> {
    /// Removes the API keys of an account that has been deleted.
    pub(crate) async fn delete_api_keys(&self, id: &AccountId) -> Result<(), StoreError> {
        let list = api_keys_list(id);
        for hash in Roll::read(&self.documents, &list).await? {
            self.documents.delete(&api_key_key(&hash)).await?;
        }
        Ok(())
    }

    /// Removes the list of these keys.
    pub(crate) async fn delete_api_key_list(&self, id: &AccountId) -> Result<(), StoreError> {
        Roll::delete(&self.documents, &api_keys_list(id)).await
    }

    async fn all_api_keys(&self, id: &AccountId) -> Result<Vec<ApiKey>, StoreError> {
        let hashes = Roll::read(&self.documents, &api_keys_list(id)).await?;
        let keys = hashes.iter().map(|hash| api_key_key(hash));
        let keys = self.documents.read_all::<KeyDocument>(keys).await?;
        let documents = keys.into_iter().flatten();
        documents
            .map(|document| document.value.try_into())
            .collect()
    }

    async fn change_api_key(
        &self,
        hash: &str,
        mut change: impl FnMut(&mut KeyDocument) -> bool,
    ) -> Result<(), StoreError> {
        let document_key = api_key_key(hash);
        let known = match self.keys.recall(hash) {
            Some(document) => Some(document),
            None => self.documents.read(&document_key).await?,
        };
        self.documents
            .update_from(&document_key, known, |key: Option<KeyDocument>| {
                let Some(mut key) = key else {
                    return (Change::Keep, ());
                };
                if change(&mut key) {
                    (Change::Write(key), ())
                } else {
                    (Change::Keep, ())
                }
            })
            .await
    }
}
