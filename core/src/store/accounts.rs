//! Accounts and the addresses that prove them.

use super::StoreError;
use crate::{Account, AccountId, NewAccount, Timestamp, Verification};

/// What became of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the address may have been taken"]
pub enum Registration {
    /// The account is stored.
    Created,
    /// Another account has this address, possibly in another case; nothing is stored.
    EmailTaken,
}

/// Whose notification addresses are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// One account's.
    Account(AccountId),
    /// Every account's that has one.
    EveryAccount,
}

/// Accounts.
pub trait Accounts {
    /// Stores a new account, unless its address (compared by key) is taken.
    fn create_account(
        &self,
        account: &NewAccount,
    ) -> impl Future<Output = Result<Registration, StoreError>>;

    /// The account with this id.
    fn account(&self, id: &AccountId) -> impl Future<Output = Result<Option<Account>, StoreError>>;

    /// The account with exactly this address, else the one that owns the address by its
    /// [`email_key`](crate::email_key).
    fn account_by_email(
        &self,
        email: &str,
    ) -> impl Future<Output = Result<Option<Account>, StoreError>>;

    /// Awaits this verification instead of any earlier one.
    fn set_verification(
        &self,
        id: &AccountId,
        verification: &Verification,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Spends the verification with this token hash, if it is awaited and unexpired at `now`: the
    /// account is verified, and is returned.
    fn verify_account(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Account>, StoreError>>;

    /// Sets (or, with an empty text, clears) an account's notification address and returns the
    /// account; `None` when there is no such account.
    fn set_notification_url(
        &self,
        id: &AccountId,
        url: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Account>, StoreError>>;

    /// The notification addresses of an audience, each as often as it was set.
    fn notification_urls(
        &self,
        audience: &Audience,
    ) -> impl Future<Output = Result<Vec<String>, StoreError>>;
}
