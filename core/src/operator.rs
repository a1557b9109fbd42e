//! What the operator of an instance does where its storage is: accounts and API keys, by the rules of the
//! HTTP contract and without credentials.

use crate::account::{Account, AccountId, MailedToken, NewAccount};
use crate::api_key::{NewApiKey, Unmade};
use crate::audit::{self, Act, Actor, AuditEvent};
use crate::http::{check_password, check_registration};
use crate::paging::ApiKeyCursor;
use crate::ports::{Clock, Entropy, MailKind, PasswordFailure, random, random_uuid};
use crate::settings::Values;
use crate::store::{AccountList, Registration};
use crate::{
    ApiKey, InvalidField, Store, StoreError, Timestamp, Workspace, WorkspaceChoice, email_key,
    password,
};

/// The account of the keys that an operator makes for the shared workspace. No random id is this one.
const ID: &str = "00000000-0000-0000-0000-000000000000";

/// What that account has instead of an address: nobody can register it, and nobody can log in as it.
pub(crate) const EMAIL: &str = "operator";

/// How many accounts or keys are read at once.
const PAGE: usize = 1000;

/// How often to try again when others change the same account.
const ATTEMPTS: usize = 5;

/// Checks whether an account may work in the shared workspace.
pub(crate) fn is_member(values: &Values, account: &Account) -> bool {
    let members = values.shared_workspace_members.as_ref();
    let is_named = members.is_some_and(|members| members.contains(&account.email));
    account.email_verified && (is_named || is_operators(account))
}

/// What a member is called in the shared workspace; empty for the operator's keys, which are nobody's.
pub(crate) fn called(account: &Account) -> &str {
    match is_operators(account) {
        true => "",
        false => account.called(),
    }
}

fn is_operators(account: &Account) -> bool {
    account.id.as_str() == ID
}

/// The workspace whose audit tells what is done to an account. The operator's keys are the shared
/// workspace's.
pub(crate) fn audited(id: &AccountId) -> Workspace {
    match id.as_str() {
        ID => Workspace::Shared,
        _ => Workspace::Account(id.clone()),
    }
}

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A text breaks its rule.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// No account has this address.
    #[error("no account has the address {0}")]
    NoAccount(String),
    /// An account has the address.
    #[error("an account has the address {0} already")]
    EmailTaken(String),
    /// The account is no member of the shared workspace.
    #[error(
        "{0} is no member of the shared workspace: the setting SHARED_WORKSPACE_MEMBERS names those that are"
    )]
    NoMember(String),
    /// The account has as many valid keys as it may have.
    #[error("{0}")]
    TooManyKeys(String),
    /// The account has no such key.
    #[error("there is no API key {0}")]
    NoKey(String),
    /// Others change the account at the same time.
    #[error("the account is being changed by others: try again")]
    Contended,
    /// The password cannot be hashed.
    #[error(transparent)]
    Password(#[from] PasswordFailure),
    /// Storage does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whose keys are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOwner<'a> {
    /// The operator's, for the shared workspace.
    Operator,
    /// Those of the account with this address.
    Account(&'a str),
}

/// An API key as an operator asks for it.
#[derive(Debug, Clone)]
pub struct KeyRequest<'a> {
    /// Whose it is to be.
    pub owner: KeyOwner<'a>,
    /// What it is called.
    pub name: String,
    /// In days; `None` or 0: for ever.
    pub expires_in: Option<i64>,
    /// Words for what it may do; `None`: report.
    pub scopes: Option<Vec<String>>,
    /// Whether a member's key works in the shared workspace.
    pub is_shared: bool,
}

/// An operator at the storage of an instance.
#[derive(Clone, Copy)]
pub struct Operator<'a, S, C, E> {
    /// The storage.
    pub store: &'a S,
    /// The clock.
    pub clock: &'a C,
    /// The source of randomness.
    pub entropy: &'a E,
    /// The configuration of the instance.
    pub values: &'a Values,
}

impl<S: Store, C: Clock, E: Entropy> Operator<'_, S, C, E> {
    fn now(&self) -> Timestamp {
        crate::time::truncate(self.clock.now())
    }

    /// Makes an API key, and returns it with its text, which nobody can read again.
    ///
    /// # Errors
    /// [`Refusal`]; there is no new key then, or when storage breaks off, one that nobody knows.
    pub async fn make_key(&self, request: KeyRequest<'_>) -> Result<(ApiKey, String), Refusal> {
        let is_shared = request.is_shared || request.owner == KeyOwner::Operator;
        let workspace = match is_shared {
            true => WorkspaceChoice::Shared,
            false => WorkspaceChoice::Own,
        };
        let words = request.scopes.as_deref();
        let new = NewApiKey::check(
            request.name,
            request.expires_in,
            words,
            Some(workspace.as_str()),
        )?;
        let (account, called) = match request.owner {
            KeyOwner::Operator => (self.own_account().await?, "the operator"),
            KeyOwner::Account(email) => (self.account(email).await?, email),
        };
        if is_shared && !is_member(self.values, &account) {
            return Err(Refusal::NoMember(account.email));
        }
        let made = new.make(self.store, self.entropy, account.id, self.now());
        let made = made.await.map_err(|unmade| match unmade {
            Unmade::NoAccount => Refusal::NoAccount(called.to_owned()),
            Unmade::TooMany => Refusal::TooManyKeys(unmade.to_string()),
            Unmade::Store(error) => error.into(),
        })?;
        self.note_key(AuditEvent::KeyCreated, &made.0).await;
        Ok(made)
    }

    /// Writes what was done to an account into its audit.
    async fn note(&self, id: &AccountId, event: AuditEvent) {
        let act = Act::new(audited(id), event, Actor::Operator);
        self.record(act).await;
    }

    async fn note_key(&self, event: AuditEvent, key: &ApiKey) {
        let act = Act::new(audited(&key.account_id), event, Actor::Operator);
        self.record(act.on(&key.name, &key.id)).await;
    }

    async fn record(&self, act: Act) {
        let retention = self.values.audit_retention();
        audit::record(self.store, act, retention, self.now()).await;
    }

    /// The keys of an owner, newest first.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn keys(&self, owner: KeyOwner<'_>) -> Result<Vec<ApiKey>, Refusal> {
        let id = self.owner(owner).await?;
        let mut keys = Vec::new();
        let mut after: Option<ApiKeyCursor> = None;
        loop {
            let page = self.store.api_keys(&id, after.as_ref(), PAGE).await?;
            keys.extend(page.items);
            after = page.next;
            if after.is_none() {
                return Ok(keys);
            }
        }
    }

    /// Revokes the key with this id.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn revoke_key(&self, owner: KeyOwner<'_>, id: &str) -> Result<(), Refusal> {
        let account = self.owner(owner).await?;
        let revoked = self.store.revoke_api_key(&account, id).await?;
        let key = revoked.ok_or_else(|| Refusal::NoKey(id.to_owned()))?;
        self.note_key(AuditEvent::KeyRevoked, &key).await;
        Ok(())
    }

    /// The account of an owner.
    async fn owner(&self, owner: KeyOwner<'_>) -> Result<AccountId, Refusal> {
        match owner {
            KeyOwner::Operator => Ok(AccountId::new(ID)),
            KeyOwner::Account(email) => Ok(self.account(email).await?.id),
        }
    }

    /// Adds an account that counts as verified. A registration that nobody has verified gives way to it.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn add_account(
        &self,
        email: &str,
        name: &str,
        password: &str,
    ) -> Result<Account, Refusal> {
        check_registration(email, password, name)?;
        let taken = || Refusal::EmailTaken(email.to_owned());
        let known = self.store.account_by_email(email).await?;
        if known.is_some_and(|known| known.email_verified) {
            return Err(taken());
        }
        let password_hash = self.hash(password)?;
        let id = AccountId::new(random_uuid(self.entropy));
        let added = self.add(id, email, name, password_hash).await?;
        let account = added.ok_or_else(taken)?;
        for event in [AuditEvent::AccountRegistered, AuditEvent::AccountVerified] {
            self.note(&account.id, event).await;
        }
        Ok(account)
    }

    /// Stores an account as verified; `None` when one has the address that is.
    async fn add(
        &self,
        id: AccountId,
        email: &str,
        name: &str,
        password_hash: String,
    ) -> Result<Option<Account>, Refusal> {
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let (token, verification) = MailedToken::new(MailKind::Verification, now, self.entropy);
            let new = NewAccount {
                id: id.clone(),
                email: email.to_owned(),
                email_key: email_key(email),
                password_hash: password_hash.clone(),
                name: name.to_owned(),
                verification,
                mail_due: None,
                created_at: now,
            };
            if self.store.create_account(&new).await? == Registration::EmailTaken {
                return Ok(None);
            }
            // Somebody may have registered the address meanwhile.
            let token_hash = crate::sha256_hex(&token);
            if let Some(account) = self.store.verify_account(&token_hash, now).await? {
                return Ok(Some(account));
            }
        }
        Err(Refusal::Contended)
    }

    /// The account of the operator's keys, which is made for the first.
    async fn own_account(&self) -> Result<Account, Refusal> {
        let id = AccountId::new(ID);
        if let Some(account) = self.store.account(&id).await?
            && account.email_verified
        {
            return Ok(account);
        }
        let no_password = password::DECOY.to_owned();
        if let Some(account) = self.add(id.clone(), EMAIL, "", no_password).await? {
            return Ok(account);
        }
        let account = self.store.account(&id).await?;
        account.ok_or(Refusal::Contended)
    }

    /// The account of an address.
    async fn account(&self, email: &str) -> Result<Account, Refusal> {
        let unknown = || Refusal::NoAccount(email.to_owned());
        let is_possible = !email.contains('\0') && email_key(email) != EMAIL;
        if email.is_empty() || !is_possible {
            return Err(unknown());
        }
        let account = self.store.account_by_email(email).await?;
        account.ok_or_else(unknown)
    }

    /// Gives an account another password, and revokes its refresh tokens.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn set_password(&self, email: &str, password: &str) -> Result<(), Refusal> {
        check_password("password", password)?;
        let hash = self.hash(password)?;
        for _ in 0..ATTEMPTS {
            let account = self.account(email).await?;
            let changed = self.store.change_password(&account, &hash, self.now());
            if changed.await? {
                // A log-in by the old password may be under way.
                let revoked = self.store.revoke_refresh_tokens(&account.id).await;
                self.note(&account.id, AuditEvent::PasswordChanged).await;
                return Ok(revoked?);
            }
        }
        Err(Refusal::Contended)
    }

    /// Removes an account, its keys, and everything in its workspace.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn remove_account(&self, email: &str) -> Result<(), Refusal> {
        for _ in 0..ATTEMPTS {
            let account = self.account(email).await?;
            if self.store.delete_account(&account, self.now()).await? {
                self.note(&account.id, AuditEvent::AccountDeleted).await;
                while self.store.purge_deleted(self.now()).await? {}
                return Ok(());
            }
        }
        Err(Refusal::Contended)
    }

    fn hash(&self, password: &str) -> Result<String, Refusal> {
        Ok(password::hash(password, random(self.entropy))?)
    }
}

impl<S: Store + AccountList, C: Clock, E: Entropy> Operator<'_, S, C, E> {
    /// Every account that people have, verified or not, by address.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        let mut accounts: Vec<Account> = Vec::new();
        let mut after: Option<AccountId> = None;
        loop {
            let page = self.store.accounts(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else {
                accounts.retain(|account| !is_operators(account));
                accounts.sort_by_cached_key(|account| email_key(&account.email));
                return Ok(accounts);
            };
            after = Some(last.id.clone());
            accounts.extend(page);
        }
    }
}
