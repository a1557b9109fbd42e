//! Accounts, a document each, and one for each address.

use kubeagents_core::store::{Accounts, Audience, Registration};
use kubeagents_core::{
    Account, AccountId, MailedToken, NewAccount, StoreError, Timestamp, email_key,
};
use serde::{Deserialize, Serialize};

use crate::documents::{Change, Document, key};
use crate::roll::Roll;
use crate::{KeyValue, KeyValueStore, micros};

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

impl From<&MailedToken> for Awaited {
    fn from(verification: &MailedToken) -> Self {
        Self {
            token_hash: verification.token_hash.clone(),
            expires: verification.expires_at,
        }
    }
}

fn account_key(id: &str) -> String {
    key("account", &[id])
}

/// Key of the claim on an address, by the address's key. The claim holds the account as it was
/// registered, so that a registration that was cut short is finished by whoever reads it.
fn claim_key(email_key: &str) -> String {
    key("email", &[email_key])
}

fn verification_key(token_hash: &str) -> String {
    key("verification", &[token_hash])
}

impl<K: KeyValue> Accounts for KeyValueStore<K> {
    async fn create_account(&self, new: &NewAccount) -> Result<Registration, StoreError> {
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

    async fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        self.find_account(id.as_str()).await
    }

    async fn account_by_email(&self, email: &str) -> Result<Option<Account>, StoreError> {
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

    async fn set_verification(
        &self,
        id: &AccountId,
        verification: &MailedToken,
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

    async fn verify_account(
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

    async fn set_notification_url(
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

    async fn notification_urls(&self, audience: &Audience) -> Result<Vec<String>, StoreError> {
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
}

impl<K: KeyValue> KeyValueStore<K> {
    async fn find_account(&self, id: &str) -> Result<Option<Account>, StoreError> {
        let found: Option<Document<AccountDocument>> =
            self.documents.read(&account_key(id)).await?;
        Ok(found.map(|document| document.value.into()))
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
}
