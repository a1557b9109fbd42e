use std::collections::HashMap;
use std::mem::size_of;

use chrono::TimeDelta;

use super::{MemoryStore, heap};
use crate::store::{
    AccountList, Accounts, Audience, LATE_REPORTS, Registration, RegistrationMails, StoreError,
};
use crate::{
    Account, AccountId, MailedToken, NewAccount, Receiver, Timestamp, Workspace, email_key,
};

/// The least time between two looks at all accounts for registrations that have run out.
const PURGE_PAUSE: TimeDelta = TimeDelta::hours(1);

#[derive(Debug, Default)]
pub(super) struct AccountTable {
    by_id: HashMap<AccountId, AccountState>,
    by_email_key: HashMap<String, AccountId>,
    /// Accounts whose workspaces may still hold something, and when they were deleted.
    deleted: Vec<(AccountId, Timestamp)>,
    /// When registrations that nobody has verified in time were last dropped.
    purged_at: Timestamp,
}

#[derive(Debug)]
struct AccountState {
    account: Account,
    verification: Option<MailedToken>,
    reset: Option<MailedToken>,
    mail_due: Option<Timestamp>,
}

impl AccountState {
    fn awaits_reset(&self, token_hash: &str, now: Timestamp) -> bool {
        is_awaited(self.reset.as_ref(), token_hash, now)
    }
}

fn is_awaited(token: Option<&MailedToken>, token_hash: &str, now: Timestamp) -> bool {
    token.is_some_and(|token| token.token_hash == token_hash && now < token.expires_at)
}

impl AccountTable {
    /// What they take up.
    pub(super) fn bytes(&self) -> usize {
        // Address, name, hashes, ids and a URL; few are as long as they may be.
        const ACCOUNT: usize = heap::table_place(size_of::<(AccountId, AccountState)>())
            + heap::table_place(size_of::<(String, AccountId)>())
            + 1000;
        self.by_id.len() * ACCOUNT + self.deleted.len() * 2 * heap::block(64)
    }

    pub(super) fn contains(&self, id: &AccountId) -> bool {
        self.by_id.contains_key(id)
    }

    fn purge_unverified(&mut self, now: Timestamp) {
        if (now - self.purged_at).abs() < PURGE_PAUSE {
            return;
        }
        self.purged_at = now;
        self.by_id.retain(|_, state| {
            let link = state.verification.as_ref();
            state.account.email_verified || link.is_none_or(|link| now < link.expires_at)
        });
        self.by_email_key
            .retain(|_, id| self.by_id.contains_key(id));
    }
}

impl RegistrationMails for MemoryStore {
    async fn lease_registration_mails(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError> {
        let table = &mut self.lock().accounts;
        let mut due: Vec<&mut AccountState> = table
            .by_id
            .values_mut()
            .filter(|state| !state.account.email_verified)
            .filter(|state| state.mail_due.is_some_and(|due| due <= now))
            .collect();
        due.sort_by_key(|state| state.mail_due);
        due.truncate(limit);
        Ok(due
            .into_iter()
            .map(|state| {
                state.mail_due = Some(until);
                state.account.clone()
            })
            .collect())
    }

    async fn settle_registration_mail(
        &self,
        id: &AccountId,
        due: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        if let Some(state) = self.lock().accounts.by_id.get_mut(id) {
            state.mail_due = due;
        }
        Ok(())
    }
}

impl AccountList for MemoryStore {
    async fn accounts(
        &self,
        after: Option<&AccountId>,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError> {
        let table = &self.lock().accounts;
        let states = table.by_id.values().map(|state| &state.account);
        let mut accounts: Vec<&Account> = states
            .filter(|account| after.is_none_or(|after| account.id > *after))
            .collect();
        accounts.sort_unstable_by_key(|account| &account.id);
        Ok(accounts.into_iter().take(limit).cloned().collect())
    }
}

impl Accounts for MemoryStore {
    async fn create_account(&self, new: &NewAccount) -> Result<Registration, StoreError> {
        let table = &mut self.lock().accounts;
        table.purge_unverified(new.created_at);
        let id = table.by_email_key.get(&new.email_key);
        let id = id.unwrap_or(&new.id).clone();
        let known = table.by_id.get(&id);
        if known.is_some_and(|known| known.account.email_verified) {
            return Ok(Registration::EmailTaken);
        }
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
        let state = AccountState {
            account,
            verification: Some(new.verification.clone()),
            reset: None,
            mail_due: new.mail_due,
        };
        table.by_id.insert(id.clone(), state);
        Ok(Registration::Created(id))
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
        let id = table.by_email_key.get(&email_key(email));
        Ok(id.and_then(|id| Some(table.by_id.get(id)?.account.clone())))
    }

    async fn set_verification(
        &self,
        id: &AccountId,
        verification: &MailedToken,
    ) -> Result<(), StoreError> {
        if let Some(state) = self.lock().accounts.by_id.get_mut(id)
            && !state.account.email_verified
        {
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
        let mut states = table.by_id.values_mut();
        let awaited = states.find(|state| is_awaited(state.verification.as_ref(), token_hash, now));
        Ok(awaited.map(|state| {
            state.verification = None;
            state.account.email_verified = true;
            state.account.updated_at = now;
            state.account.clone()
        }))
    }

    async fn set_reset(&self, id: &AccountId, reset: &MailedToken) -> Result<(), StoreError> {
        if let Some(state) = self.lock().accounts.by_id.get_mut(id) {
            state.reset = Some(reset.clone());
        }
        Ok(())
    }

    async fn account_by_reset(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let table = &self.lock().accounts;
        let mut states = table.by_id.values();
        let awaited = states.find(|state| state.awaits_reset(token_hash, now));
        Ok(awaited.map(|state| state.account.clone()))
    }

    async fn reset_password(
        &self,
        token_hash: &str,
        password_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let state = &mut *self.lock();
        let mut accounts = state.accounts.by_id.values_mut();
        let Some(found) = accounts.find(|state| state.awaits_reset(token_hash, now)) else {
            return Ok(None);
        };
        found.verification = None;
        found.reset = None;
        found.account.email_verified = true;
        password_hash.clone_into(&mut found.account.password_hash);
        found.account.updated_at = now;
        state.tokens.revoke_all(&found.account.id);
        Ok(Some(found.account.clone()))
    }

    async fn change_password(
        &self,
        account: &Account,
        password_hash: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let state = &mut *self.lock();
        let found = state.accounts.by_id.get_mut(&account.id);
        let Some(found) =
            found.filter(|found| found.account.password_hash == account.password_hash)
        else {
            return Ok(false);
        };
        password_hash.clone_into(&mut found.account.password_hash);
        found.account.updated_at = now;
        found.reset = None;
        state.tokens.revoke_all(&account.id);
        Ok(true)
    }

    async fn delete_account(&self, account: &Account, now: Timestamp) -> Result<bool, StoreError> {
        let state = &mut *self.lock();
        let id = &account.id;
        let found = state.accounts.by_id.get(id);
        if found.is_none_or(|found| found.account.password_hash != account.password_hash) {
            return Ok(false);
        }
        state.accounts.by_id.remove(id);
        state.accounts.by_email_key.retain(|_, owner| owner != id);
        state.accounts.deleted.push((id.clone(), now));
        state.tokens.remove_all(id);
        state.api_keys.retain(|_, key| key.account_id != *id);
        Ok(true)
    }

    async fn purge_deleted(&self, now: Timestamp) -> Result<bool, StoreError> {
        let remove = || {
            let mut state = self.lock();
            let mut deleted = std::mem::take(&mut state.accounts.deleted);
            let mut left = Vec::new();
            for (id, _) in &deleted {
                let workspace = Workspace::Account(id.clone());
                for channel in state.channels.remove(&workspace).into_iter().flatten() {
                    state.outbox.forget_channel(&channel.id);
                }
                state.outbox.remove_workspace(&workspace);
                state.audit.remove(&workspace);
                left.extend(state.sessions.remove(&workspace));
            }
            deleted.retain(|(_, since)| now - *since < LATE_REPORTS);
            state.accounts.deleted = deleted;
            left
        };
        // Dropping a large workspace takes a while, which no report is to wait for.
        for agents in remove() {
            self.remove_places(&agents).await;
        }
        Ok(false)
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

    async fn receivers(&self, audience: &Audience) -> Result<Vec<Receiver>, StoreError> {
        let table = &self.lock().accounts;
        let accounts: Vec<&AccountState> = match audience {
            Audience::Account(id) => table.by_id.get(id).into_iter().collect(),
            Audience::EveryAccount => table.by_id.values().collect(),
        };
        let receivers = accounts.into_iter().map(|state| Receiver {
            workspace: Workspace::Account(state.account.id.clone()),
            url: state.account.notification_webhook_url.clone(),
        });
        Ok(receivers.filter(|to| !to.url.is_empty()).collect())
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use futures_executor::block_on;

    use super::*;
    use crate::store::suite::registration_at;

    #[test]
    fn registrations_go_when_their_link_has_run_out() {
        let store = MemoryStore::default();
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let of = |n: usize, created_at| registration_at(&n.to_string(), created_at);
        let register = |n, created_at| {
            let new = of(n, created_at);
            block_on(store.create_account(&new)).unwrap()
        };
        for n in 0..9 {
            let id = of(n, start).id;
            assert_eq!(register(n, start), Registration::Created(id));
        }
        let link = of(7, start).verification.token_hash;
        let verified = block_on(store.verify_account(&link, start)).unwrap();
        assert!(verified.is_some());
        let there = |n| block_on(store.account(&of(n, start).id)).unwrap().is_some();
        let day = TimeDelta::days(1);
        let _ = register(9, start + day - TimeDelta::seconds(1));
        assert!((0..10).all(there));
        let _ = register(10, start + day + PURGE_PAUSE);
        assert_eq!(
            (0..11).filter(|n| there(*n)).collect::<Vec<_>>(),
            [7, 9, 10]
        );
        assert_eq!(
            block_on(store.account_by_email(&of(8, start).email)).unwrap(),
            None
        );
    }
}
