use std::collections::HashMap;

use super::MemoryStore;
use crate::store::{Accounts, Audience, Registration, StoreError};
use crate::{Account, AccountId, NewAccount, Timestamp, Verification, email_key};

#[derive(Debug, Default)]
pub(super) struct AccountTable {
    by_id: HashMap<AccountId, AccountState>,
    by_email: HashMap<String, AccountId>,
    by_email_key: HashMap<String, AccountId>,
}

#[derive(Debug)]
struct AccountState {
    account: Account,
    verification: Option<Verification>,
}

impl Accounts for MemoryStore {
    async fn create_account(&self, new: &NewAccount) -> Result<Registration, StoreError> {
        let table = &mut self.lock().accounts;
        if table.by_email_key.contains_key(&new.email_key) {
            return Ok(Registration::EmailTaken);
        }
        let id = new.id.clone();
        table.by_email.insert(new.email.clone(), id.clone());
        table.by_email_key.insert(new.email_key.clone(), id.clone());
        let account = Account {
            id: id.clone(),
            email: new.email.clone(),
            password_hash: new.password_hash.clone(),
            name: new.name.clone(),
            notification_webhook_url: String::new(),
            email_verified: false,
            created_at: new.created_at,
            updated_at: new.created_at,
        };
        let verification = Some(new.verification.clone());
        table.by_id.insert(
            id,
            AccountState {
                account,
                verification,
            },
        );
        Ok(Registration::Created)
    }

    async fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        Ok(self
            .lock()
            .accounts
            .by_id
            .get(id)
            .map(|state| state.account.clone()))
    }

    async fn account_by_email(&self, email: &str) -> Result<Option<Account>, StoreError> {
        let table = &self.lock().accounts;
        let by_key = || table.by_email_key.get(&email_key(email));
        let id = table.by_email.get(email).or_else(by_key);
        Ok(id.and_then(|id| Some(table.by_id.get(id)?.account.clone())))
    }

    async fn set_verification(
        &self,
        id: &AccountId,
        verification: &Verification,
    ) -> Result<(), StoreError> {
        if let Some(state) = self.lock().accounts.by_id.get_mut(id) {
            state.verification = Some(verification.clone());
        }
        Ok(())
    }

    async fn verify_account(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let table = &mut self.lock().accounts;
        let awaited = table.by_id.values_mut().find(|state| {
            state.verification.as_ref().is_some_and(|verification| {
                verification.token_hash == token_hash && now < verification.expires_at
            })
        });
        Ok(awaited.map(|state| {
            state.verification = None;
            state.account.email_verified = true;
            state.account.updated_at = now;
            state.account.clone()
        }))
    }

    async fn set_notification_url(
        &self,
        id: &AccountId,
        url: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let table = &mut self.lock().accounts;
        Ok(table.by_id.get_mut(id).map(|state| {
            state.account.notification_webhook_url = url.to_owned();
            state.account.updated_at = now;
            state.account.clone()
        }))
    }

    async fn notification_urls(&self, audience: &Audience) -> Result<Vec<String>, StoreError> {
        let table = &self.lock().accounts;
        let accounts: Vec<&AccountState> = match audience {
            Audience::Account(id) => table.by_id.get(id).into_iter().collect(),
            Audience::EveryAccount => table.by_id.values().collect(),
        };
        Ok(accounts
            .into_iter()
            .map(|state| state.account.notification_webhook_url.clone())
            .filter(|url| !url.is_empty())
            .collect())
    }
}
