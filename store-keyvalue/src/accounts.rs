//! Accounts, a document each, and one for each address.

use kubeagents_core::store::{Accounts, Audience, Registration};
use kubeagents_core::{
    Account, AccountId, MailedToken, NewAccount, Receiver, StoreError, Timestamp, Workspace,
    email_key,
};
use serde::{Deserialize, Serialize};

use crate::documents::{Change, Document, Rounds, is_zero, key};
use crate::registrations::Registered;
use crate::roll::Roll;
use crate::{KeyValue, KeyValueStore, micros};

/// The accounts that have ever had a notification address.
const NOTIFIED: &str = "notified";

/// An account as it is stored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct AccountDocument {
    id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    email: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reset: Option<Awaited>,
    /// Number of changes of the password: each ends the families of tokens before it.
    #[serde(default, skip_serializing_if = "is_zero")]
    changes: u64,
    /// Set for an account that is no more. Its document stays, so that nothing brings it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Awaited {
    token_hash: String,
    #[serde(with = "micros")]
    expires: Timestamp,
}

impl Awaited {
    fn is(&self, token_hash: &str, now: Timestamp) -> bool {
        self.token_hash == token_hash && now < self.expires
    }
}

/// A token that is mailed out, and where the account holds it.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Verification,
    Reset,
}

impl Kind {
    /// Key of the document that says whose token it is.
    fn key(self, token_hash: &str) -> String {
        match self {
            Self::Verification => key("verification", &[token_hash]),
            Self::Reset => key("reset", &[token_hash]),
        }
    }

    fn of(self, account: &mut AccountDocument) -> &mut Option<Awaited> {
        match self {
            Self::Verification => &mut account.verification,
            Self::Reset => &mut account.reset,
        }
    }
}

impl AccountDocument {
    /// What stays of an account.
    fn deleted(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            deleted: true,
            ..Self::default()
        }
    }
}

impl From<&NewAccount> for AccountDocument {
    fn from(new: &NewAccount) -> Self {
        Self {
            id: new.id.as_str().to_owned(),
            email: new.email.clone(),
            password_hash: new.password_hash.clone(),
            name: new.name.clone(),
            created: new.created_at,
            updated: new.created_at,
            verification: Some(Awaited::from(&new.verification)),
            ..Self::default()
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
    fn from(token: &MailedToken) -> Self {
        Self {
            token_hash: token.token_hash.clone(),
            expires: token.expires_at,
        }
    }
}

fn account_key(id: &str) -> String {
    key("account", &[id])
}

/// Key of the claim on an address, by the address's key.
fn claim_key(email_key: &str) -> String {
    key("email", &[email_key])
}

/// A claim on an address: the account as it was first registered, so that a registration that was
/// cut short is finished by whoever reads it; `None` once the address is free again.
type Claim = Option<AccountDocument>;

impl<K: KeyValue> Accounts for KeyValueStore<K> {
    async fn create_account(&self, new: &NewAccount) -> Result<Registration, StoreError> {
        let account = AccountDocument::from(new);
        let claim_key = claim_key(&new.email_key);
        self.purge_registrations(new.created_at).await?;
        let awaited = Kind::Verification.key(&new.verification.token_hash);
        let mut rounds = Rounds::default();
        loop {
            let claim: Option<Document<Claim>> = self.documents.read(&claim_key).await?;
            let (owner, version) = match claim {
                Some(Document { value, version }) => (value, Some(version)),
                None => (None, None),
            };
            let Some(owner) = owner else {
                self.queue_registration(&Registered::of(new, &claim_key))
                    .await?;
                self.documents.put(&awaited, &account.id).await?;
                let claim = Some(account.clone());
                let claimed = match version {
                    Some(version) => {
                        let swap = self.documents.swap(&claim_key, &claim, &version);
                        swap.await?.is_none()
                    }
                    None => self.documents.create(&claim_key, &claim).await?,
                };
                if claimed {
                    let key = account_key(&account.id);
                    self.documents.create(&key, &account).await?;
                    return Ok(Registration::Created(new.id.clone()));
                }
                rounds.lost()?;
                continue;
            };
            self.documents.put(&awaited, &owner.id).await?;
            match self.replace(&owner, &account).await? {
                Replaced::Done(earlier) => {
                    self.drop_token(Kind::Verification, earlier, &new.verification)
                        .await?;
                    return Ok(Registration::Created(AccountId::new(owner.id)));
                }
                Replaced::Verified => {
                    self.documents.delete(&awaited).await?;
                    return Ok(Registration::EmailTaken);
                }
                Replaced::Deleted => self.free_address(&claim_key, &owner.id).await?,
            }
            rounds.lost()?;
        }
    }

    async fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        self.find_account(id.as_str()).await
    }

    async fn account_by_email(&self, email: &str) -> Result<Option<Account>, StoreError> {
        let claim = claim_key(&email_key(email));
        let claim: Option<Document<Claim>> = self.documents.read(&claim).await?;
        let Some(owner) = claim.and_then(|claim| claim.value) else {
            return Ok(None);
        };
        let key = account_key(&owner.id);
        let found: Option<Document<AccountDocument>> = self.documents.read(&key).await?;
        if let Some(found) = found {
            return Ok(existing(found.value));
        }
        self.documents.create(&key, &owner).await?;
        self.find_account(&owner.id).await
    }

    async fn set_verification(
        &self,
        id: &AccountId,
        verification: &MailedToken,
    ) -> Result<(), StoreError> {
        self.await_token(Kind::Verification, id, verification).await
    }

    async fn verify_account(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let verify = |account: &mut AccountDocument| account.verified = true;
        self.spend_token(Kind::Verification, token_hash, now, verify)
            .await
    }

    async fn set_reset(&self, id: &AccountId, reset: &MailedToken) -> Result<(), StoreError> {
        self.await_token(Kind::Reset, id, reset).await
    }

    async fn account_by_reset(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let key = Kind::Reset.key(token_hash);
        let Some(Document { value: id, .. }) = self.documents.read::<String>(&key).await? else {
            return Ok(None);
        };
        let found: Option<Document<AccountDocument>> =
            self.documents.read(&account_key(&id)).await?;
        let account = found.map(|document| document.value).filter(|account| {
            let reset = account.reset.as_ref();
            reset.is_some_and(|reset| reset.is(token_hash, now))
        });
        Ok(account.and_then(existing))
    }

    async fn reset_password(
        &self,
        token_hash: &str,
        password_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let set = |account: &mut AccountDocument| {
            account.verified = true;
            account.verification = None;
            password_hash.clone_into(&mut account.password_hash);
            account.changes += 1;
        };
        self.spend_token(Kind::Reset, token_hash, now, set).await
    }

    async fn change_password(
        &self,
        account: &Account,
        password_hash: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let changed = self.change_account(account.id.as_str(), |current| {
            if current.password_hash != account.password_hash {
                return false;
            }
            password_hash.clone_into(&mut current.password_hash);
            current.changes += 1;
            current.reset = None;
            current.updated = now;
            true
        });
        Ok(changed.await?.is_some())
    }

    async fn delete_account(&self, account: &Account, now: Timestamp) -> Result<bool, StoreError> {
        let id = account.id.as_str();
        let claim = claim_key(&email_key(&account.email));
        // Before the account is gone, so that what it leaves is found whatever happens.
        self.note_deletion(id, &claim, now).await?;
        let mut tokens = Vec::new();
        let deleted = self.change_account(id, |current| {
            if current.password_hash != account.password_hash {
                return false;
            }
            for kind in [Kind::Verification, Kind::Reset] {
                let token = kind.of(current).take();
                tokens.extend(token.map(|token| kind.key(&token.token_hash)));
            }
            *current = AccountDocument::deleted(id);
            true
        });
        if deleted.await?.is_none() {
            return Ok(false);
        }
        self.delete_api_keys(&account.id).await?;
        self.free_address(&claim, id).await?;
        for token in tokens {
            self.documents.delete(&token).await?;
        }
        Ok(true)
    }

    async fn purge_deleted(&self, now: Timestamp) -> Result<bool, StoreError> {
        self.purge(now).await
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

    async fn receivers(&self, audience: &Audience) -> Result<Vec<Receiver>, StoreError> {
        let accounts: Vec<String> = match audience {
            Audience::Account(id) => vec![id.as_str().to_owned()],
            Audience::EveryAccount => {
                let ids = Roll::read(&self.documents, NOTIFIED).await?;
                ids.into_iter().collect()
            }
        };
        let keys = accounts.iter().map(|id| account_key(id));
        let documents = self.documents.read_all::<AccountDocument>(keys).await?;
        let receivers = accounts.into_iter().zip(documents);
        let receivers = receivers.filter_map(|(id, account)| {
            let url = account?.value.url;
            let workspace = Workspace::Account(AccountId::new(id));
            (!url.is_empty()).then_some(Receiver { workspace, url })
        });
        Ok(receivers.collect())
    }
}

/// What became of a registration whose link may have run out.
enum Forgotten {
    /// It is verified, or has been deleted.
    No,
    /// Its link is a later one.
    Later(Timestamp),
    /// It is, and what it awaited is void.
    Yes(Option<Awaited>),
}

/// What became of a registration by the next one of its address.
enum Replaced {
    /// It is replaced; what it awaited is void.
    Done(Option<Awaited>),
    /// It had been verified.
    Verified,
    /// Its account had been deleted.
    Deleted,
}

/// The account, unless it has been deleted.
fn existing(document: AccountDocument) -> Option<Account> {
    (!document.deleted).then(|| document.into())
}

impl<K: KeyValue> KeyValueStore<K> {
    pub(crate) async fn find_account(&self, id: &str) -> Result<Option<Account>, StoreError> {
        let found: Option<Document<AccountDocument>> =
            self.documents.read(&account_key(id)).await?;
        Ok(found.and_then(|document| existing(document.value)))
    }

    /// Number of changes of an account's password; `None` when the account has been deleted.
    pub(crate) async fn password_changes(&self, id: &str) -> Result<Option<u64>, StoreError> {
        let found: Option<Document<AccountDocument>> =
            self.documents.read(&account_key(id)).await?;
        let account = found.map(|document| document.value).unwrap_or_default();
        Ok((!account.deleted).then_some(account.changes))
    }

    /// Puts a registration in the place of an unverified one, under the id of the latter.
    async fn replace(
        &self,
        owner: &AccountDocument,
        new: &AccountDocument,
    ) -> Result<Replaced, StoreError> {
        let replacement = AccountDocument {
            id: owner.id.clone(),
            ..new.clone()
        };
        self.documents
            .update(
                &account_key(&owner.id),
                |current: Option<AccountDocument>| {
                    match current {
                        Some(current) if current.deleted => (Change::Keep, Replaced::Deleted),
                        Some(current) if current.verified => (Change::Keep, Replaced::Verified),
                        // One that was cut short before the account was written.
                        None => {
                            let earlier = owner.verification.clone();
                            (Change::Write(replacement.clone()), Replaced::Done(earlier))
                        }
                        Some(current) => {
                            let earlier = current.verification;
                            (Change::Write(replacement.clone()), Replaced::Done(earlier))
                        }
                    }
                },
            )
            .await
    }

    /// Takes a registration away that nobody has verified and whose link has run out; when the link runs
    /// out, where a later one has been mailed.
    pub(crate) async fn forget_registration(
        &self,
        registered: &Registered,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let Registered { id, claim, .. } = registered;
        let forget = |account: Option<AccountDocument>| {
            let link = match account {
                Some(account) if account.verified || account.deleted => {
                    return (Change::Keep, Forgotten::No);
                }
                Some(account) => account.verification,
                None => None,
            };
            match link {
                Some(link) if link.expires >= now => (Change::Keep, Forgotten::Later(link.expires)),
                link => (
                    Change::Write(AccountDocument::deleted(id)),
                    Forgotten::Yes(link),
                ),
            }
        };
        let forgotten = self.documents.update(&account_key(id), forget).await?;
        match forgotten {
            Forgotten::No => Ok(None),
            Forgotten::Later(expires) => Ok(Some(expires)),
            Forgotten::Yes(link) => {
                self.free_address(claim, id).await?;
                if let Some(link) = link {
                    let key = Kind::Verification.key(&link.token_hash);
                    self.documents.delete(&key).await?;
                }
                Ok(None)
            }
        }
    }

    /// Gives up a deleted account's claim on its address.
    pub(crate) async fn free_address(&self, claim: &str, id: &str) -> Result<(), StoreError> {
        self.documents
            .update(claim, |claim: Option<Claim>| match claim.flatten() {
                Some(owner) if owner.id == id => (Change::Write(None), ()),
                _ => (Change::Keep, ()),
            })
            .await
    }

    /// Awaits a token instead of an earlier one.
    async fn await_token(
        &self,
        kind: Kind,
        id: &AccountId,
        token: &MailedToken,
    ) -> Result<(), StoreError> {
        let key = kind.key(&token.token_hash);
        self.documents.put(&key, &id.as_str().to_owned()).await?;
        let mut earlier = None;
        let changed = self.change_account(id.as_str(), |account| {
            if account.verified && matches!(kind, Kind::Verification) {
                return false;
            }
            earlier = kind.of(account).replace(Awaited::from(token));
            true
        });
        if changed.await?.is_none() {
            return self.documents.delete(&key).await;
        }
        self.drop_token(kind, earlier, token).await
    }

    /// Removes the document of a token that another has taken the place of.
    async fn drop_token(
        &self,
        kind: Kind,
        earlier: Option<Awaited>,
        token: &MailedToken,
    ) -> Result<(), StoreError> {
        match earlier {
            Some(earlier) if earlier.token_hash != token.token_hash => {
                self.documents.delete(&kind.key(&earlier.token_hash)).await
            }
            _ => Ok(()),
        }
    }

    /// Spends an awaited token with a change of its account.
    async fn spend_token(
        &self,
        kind: Kind,
        token_hash: &str,
        now: Timestamp,
        change: impl Fn(&mut AccountDocument),
    ) -> Result<Option<Account>, StoreError> {
        let key = kind.key(token_hash);
        let Some(Document { value: id, .. }) = self.documents.read::<String>(&key).await? else {
            return Ok(None);
        };
        let changed = self.change_account(&id, |account| {
            let awaited = kind.of(account);
            let is_awaited = awaited.as_ref().is_some_and(|it| it.is(token_hash, now));
            if is_awaited {
                *awaited = None;
                account.updated = now;
                change(account);
            }
            is_awaited
        });
        let changed = changed.await?;
        if changed.is_some() {
            self.documents.delete(&key).await?;
        }
        Ok(changed)
    }

    /// Changes an account and answers what it is then; `None` when there is none.
    async fn change_account(
        &self,
        id: &str,
        mut change: impl FnMut(&mut AccountDocument) -> bool,
    ) -> Result<Option<Account>, StoreError> {
        self.documents
            .update(&account_key(id), |account: Option<AccountDocument>| {
                let Some(mut account) = account.filter(|account| !account.deleted) else {
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
