//! Accounts and the addresses that prove them.

use chrono::TimeDelta;

use super::StoreError;
use crate::{Account, AccountId, MailedToken, NewAccount, Receiver, Timestamp};

/// What became of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the address may have been taken"]
pub enum Registration {
    /// The account is stored, with this id: that of the registration it replaces, if there was one.
    Created(AccountId),
    /// A verified account has this address, possibly in another case; nothing is stored.
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
    /// Stores a new account, unless a verified one has its address (compared by key). One that was
    /// never verified is replaced: its password, its name and its links are good for nothing any
    /// more.
    ///
    /// Registrations whose link has run out go: two with each new one, or that of the same address.
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

    /// Awaits this verification instead of any earlier one, unless the account is verified.
    fn set_verification(
        &self,
        id: &AccountId,
        verification: &MailedToken,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Spends the verification with this token hash, if it is awaited and unexpired at `now`: the
    /// account is verified, and is returned.
    fn verify_account(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Account>, StoreError>>;

    /// Awaits this token as leave to set a new password, instead of any earlier one.
    fn set_reset(
        &self,
        id: &AccountId,
        reset: &MailedToken,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// The account whose reset with this token hash is awaited and unexpired at `now`.
    fn account_by_reset(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Account>, StoreError>>;

    /// Spends the reset with this token hash, if it is awaited and unexpired at `now`, in one step:
    /// the account has this password, is verified, awaits nothing any more, its refresh tokens are
    /// revoked, and it is returned.
    fn reset_password(
        &self,
        token_hash: &str,
        password_hash: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Account>, StoreError>>;

    /// Gives an account whose password is still that of `account` another one, and revokes its
    /// refresh tokens, in one step; `false`, and nothing is changed, when it is not.
    fn change_password(
        &self,
        account: &Account,
        password_hash: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>>;

    /// Deletes an account whose password is still that of `account`; `false`, and nothing is
    /// changed, when it is not. Its API keys and refresh tokens go with it, its address is free. A
    /// store that serves API keys from a cache forgets these.
    ///
    /// What its workspace holds is left to [`Accounts::purge_deleted`].
    fn delete_account(
        &self,
        account: &Account,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>>;

    /// Removes a bounded part of what deleted accounts have left behind in their workspaces; `false`
    /// when nothing is left. Until a minute after the deletion it looks again each time: a report
    /// that another host had accepted may come late.
    fn purge_deleted(&self, now: Timestamp) -> impl Future<Output = Result<bool, StoreError>>;

    /// Sets (or, with an empty text, clears) an account's notification address and returns the
    /// account; `None` when there is no such account.
    fn set_notification_url(
        &self,
        id: &AccountId,
        url: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Account>, StoreError>>;

    /// The notification addresses of an audience, each as often as it was set.
    fn receivers(
        &self,
        audience: &Audience,
    ) -> impl Future<Output = Result<Vec<Receiver>, StoreError>>;
}

/// How long after the deletion of an account something may still be stored in its workspace: longer
/// than any host takes its credentials for good.
pub const LATE_REPORTS: TimeDelta = TimeDelta::minutes(1);
