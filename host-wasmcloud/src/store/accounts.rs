//! Accounts, their API keys, and the instance's secrets.

use std::cmp::Reverse;

use kubeagents_core::store::{Audience, Registration};
use kubeagents_core::{
    Account, AccountId, ApiKey, NewAccount, Scopes, StoreError, Timestamp, Verification, email_key,
};
use serde::{Deserialize, Serialize};

use super::documents::{Change, Document, key};
use super::roll::Roll;
use super::{KeyValueStore, micros};
use crate::key_value::KeyValue;

/// The accounts that have ever had a notification address.
const NOTIFIED: &str = "notified";

/// An account as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct AccountDocument {
    id: String,
    email: String,
    password_hash: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    url: String,
    verified: bool,
    #[serde(with = "micros")]
    created: Timestamp,
    #[serde(with = "micros")]
    updated: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verification: Option<Awaited>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Awaited {
    token_hash: String,
    #[serde(with = "micros")]
    expires: Timestamp,
}

/// An API key as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KeyDocument {
    id: String,
    account: String,
    name: String,
    hash: String,
    prefix: String,
    scopes: String,
    #[serde(with = "micros::option")]
    expires: Option<Timestamp>,
    #[serde(with = "micros::option")]
    used: Option<Timestamp>,
    #[serde(with = "micros")]
    created: Timestamp,
    revoked: bool,
}

impl From<&NewAccount> for AccountDocument {
    fn from(new: &NewAccount) -> Self {
        Self {
            id: new.id.as_str().to_owned(),
            email: new.email.clone(),
            password_hash: new.password_hash.clone(),
            name: new.name.clone(),
            url: String::new(),
            verified: false,
            created: new.created_at,
            updated: new.created_at,
            verification: Some(Awaited::from(&new.verification)),
        }
    }
}

impl From<AccountDocument> for Account {
    fn from(document: AccountDocument) -> Self {
        Self {
            id: AccountId::new(document.id),
            email: document.email,
            password_hash: document.password_hash,
            name: document.name,
            notification_webhook_url: document.url,
            email_verified: document.verified,
            created_at: document.created,
            updated_at: document.updated,
        }
    }
}

impl From<&Verification> for Awaited {
    fn from(verification: &Verification) -> Self {
        Self {
            token_hash: verification.token_hash.clone(),
            expires: verification.expires_at,
        }
    }
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
        Ok(Self {
            id: document.id,
            account_id: AccountId::new(document.account),
            name: document.name,
            key_hash: document.hash,
            key_prefix: document.prefix,
            scopes,
            expires_at: document.expires,
            last_used_at: document.used,
            created_at: document.created,
            revoked: document.revoked,
        })
    }
}

fn account_key(id: &str) -> String {
    key("account", &[id])
}

/// Where an address, by its key, is claimed. The claim holds the account as it was registered, so
/// that a registration that was cut short is finished by whoever reads it.
fn claim_key(email_key: &str) -> String {
    key("email", &[email_key])
}

fn verification_key(token_hash: &str) -> String {
    key("verification", &[token_hash])
}

fn api_key_key(key_hash: &str) -> String {
    key("api-key", &[key_hash])
}

fn api_keys_list(id: &AccountId) -> String {
    key("api-keys", &[id.as_str()])
}

impl<K: KeyValue> KeyValueStore<K> {
    pub(super) async fn register(&self, new: &NewAccount) -> Result<Registration, StoreError> {
        let awaited = verification_key(&new.verification.token_hash);
        let created = self.documents.create(&awaited, &new.id).await?;
        let account = AccountDocument::from(new);
        let claim = claim_key(&new.email_key);
        if !self.documents.create(&claim, &account).await? {
            if created {
                self.documents.delete(&awaited).await?;
            }
            return Ok(Registration::EmailTaken);
        }
        let key = account_key(new.id.as_str());
        self.documents.create(&key, &account).await?;
        Ok(Registration::Created)
    }

    pub(super) async fn find_account(&self, id: &str) -> Result<Option<Account>, StoreError> {
        let found: Option<Document<AccountDocument>> =
            self.documents.read(&account_key(id)).await?;
        Ok(found.map(|document| document.value.into()))
    }

    pub(super) async fn find_account_by_email(
        &self,
        email: &str,
    ) -> Result<Option<Account>, StoreError> {
        let claim = claim_key(&email_key(email));
        let claim: Option<Document<AccountDocument>> = self.documents.read(&claim).await?;
        let Some(Document { value: claim, .. }) = claim else {
            return Ok(None);
        };
        if let Some(account) = self.find_account(&claim.id).await? {
            return Ok(Some(account));
        }
        self.documents
            .create(&account_key(&claim.id), &claim)
            .await?;
        self.find_account(&claim.id).await
    }

    /// Changes an account and answers what it is then; `None` when there is none.
    async fn change_account(
        &self,
        id: &str,
        mut change: impl FnMut(&mut AccountDocument) -> bool,
    ) -> Result<Option<Account>, StoreError> {
        self.documents
            .update(&account_key(id), |account: Option<AccountDocument>| {
                let Some(mut account) = account else {
                    return (Change::Keep, None);
                };
                if !change(&mut account) {
                    return (Change::Keep, None);
                }
                (Change::Write(account.clone()), Some(account.into()))
            })
            .await
    }

    pub(super) async fn await_verification(
        &self,
        id: &AccountId,
        verification: &Verification,
    ) -> Result<(), StoreError> {
        let key = verification_key(&verification.token_hash);
        self.documents.create(&key, id).await?;
        let mut earlier = None;
        self.change_account(id.as_str(), |account| {
            earlier = account.verification.replace(Awaited::from(verification));
            true
        })
        .await?;
        match earlier {
            Some(earlier) if earlier.token_hash != verification.token_hash => {
                let key = verification_key(&earlier.token_hash);
                self.documents.delete(&key).await
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn verify(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let key = verification_key(token_hash);
        let Some(Document { value: id, .. }) = self.documents.read::<String>(&key).await? else {
            return Ok(None);
        };
        let verified = self
            .change_account(&id, |account| {
                let awaited = account.verification.as_ref().is_some_and(|awaited| {
                    awaited.token_hash == token_hash && now < awaited.expires
                });
                if awaited {
                    account.verification = None;
                    account.verified = true;
                    account.updated = now;
                }
                awaited
            })
            .await?;
        if verified.is_some() {
            self.documents.delete(&key).await?;
        }
        Ok(verified)
    }

    pub(super) async fn set_url(
        &self,
        id: &AccountId,
        url: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        if !url.is_empty() {
            Roll::add(&self.documents, NOTIFIED, id.as_str()).await?;
        }
        self.change_account(id.as_str(), |account| {
            url.clone_into(&mut account.url);
            account.updated = now;
            true
        })
        .await
    }

    pub(super) async fn urls(&self, audience: &Audience) -> Result<Vec<String>, StoreError> {
        let accounts: Vec<String> = match audience {
            Audience::Account(id) => vec![id.as_str().to_owned()],
            Audience::EveryAccount => {
                let ids = Roll::read(&self.documents, NOTIFIED).await?;
                ids.into_iter().collect()
            }
        };
        let keys = accounts.iter().map(|id| account_key(id));
        let accounts = self.documents.read_all::<AccountDocument>(keys).await?;
        let urls = accounts
            .into_iter()
            .flatten()
            .map(|account| account.value.url);
        Ok(urls.filter(|url| !url.is_empty()).collect())
    }

    pub(super) async fn add_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        Roll::add(
            &self.documents,
            &api_keys_list(&key.account_id),
            &key.key_hash,
        )
        .await?;
        self.documents
            .create(&api_key_key(&key.key_hash), &KeyDocument::from(key))
            .await?;
        Ok(())
    }

    pub(super) async fn list_api_keys(&self, id: &AccountId) -> Result<Vec<ApiKey>, StoreError> {
        let hashes = Roll::read(&self.documents, &api_keys_list(id)).await?;
        let keys = hashes.iter().map(|hash| api_key_key(hash));
        let keys = self.documents.read_all::<KeyDocument>(keys).await?;
        let mut keys: Vec<ApiKey> = keys
            .into_iter()
            .flatten()
            .map(|document| document.value.try_into())
            .collect::<Result<_, _>>()?;
        keys.sort_by(|a, b| (Reverse(a.created_at), &a.id).cmp(&(Reverse(b.created_at), &b.id)));
        Ok(keys)
    }

    pub(super) async fn find_api_key(&self, hash: &str) -> Result<Option<ApiKey>, StoreError> {
        let found: Option<Document<KeyDocument>> = self.documents.read(&api_key_key(hash)).await?;
        if let Some(found) = &found {
            self.keys.remember(hash.to_owned(), found.clone());
        }
        found.map(|document| document.value.try_into()).transpose()
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

    pub(super) async fn revoke_key(
        &self,
        id: &AccountId,
        key_id: &str,
    ) -> Result<bool, StoreError> {
        let keys = self.list_api_keys(id).await?;
        let Some(key) = keys.into_iter().find(|key| key.id == key_id) else {
            return Ok(false);
        };
        self.change_api_key(&key.key_hash, |key| {
            !std::mem::replace(&mut key.revoked, true)
        })
        .await?;
        Ok(true)
    }

    pub(super) async fn touch(&self, key: &ApiKey, now: Timestamp) -> Result<(), StoreError> {
        self.change_api_key(&key.key_hash, |key| {
            let later = key.used.is_none_or(|used| used < now);
            if later {
                key.used = Some(now);
            }
            later
        })
        .await
    }

    pub(super) async fn find_secret(
        &self,
        name: &str,
        candidate: &str,
    ) -> Result<String, StoreError> {
        let key = key("secret", &[name]);
        self.documents
            .update(&key, |secret: Option<String>| match secret {
                Some(secret) => (Change::Keep, secret),
                None => (Change::Write(candidate.to_owned()), candidate.to_owned()),
            })
            .await
    }
}
