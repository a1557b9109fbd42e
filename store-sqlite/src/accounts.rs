//! Accounts.

use kubeagents_core::store::{AccountList, Accounts, Audience, Registration};
use kubeagents_core::{
    Account, AccountId, MailedToken, NewAccount, Receiver, StoreError, Timestamp, email_key,
};

use kubeagents_store_sql::Row;

use crate::{Connection, SqliteStore, deletion};

/// Takes the place of a registration that is not verified.
const CREATE_ACCOUNT: &str = "
    INSERT INTO accounts (id, email, email_key, password_hash, name, notification_webhook_url,
        email_verified, verification_hash, verification_expires_at, created_at, updated_at,
        mail_due_at)
    VALUES (?1, ?2, ?3, ?4, ?5, '', FALSE, ?6, ?7, ?8, ?8, ?9)
    ON CONFLICT (email_key) DO UPDATE SET email = excluded.email,
        password_hash = excluded.password_hash, name = excluded.name,
        notification_webhook_url = '', verification_hash = excluded.verification_hash,
        verification_expires_at = excluded.verification_expires_at, reset_hash = NULL,
        reset_expires_at = NULL, created_at = excluded.created_at,
        updated_at = excluded.updated_at, mail_due_at = excluded.mail_due_at
    WHERE NOT email_verified RETURNING id";

macro_rules! account_columns {
    () => {
        "id, email, password_hash, name, notification_webhook_url, email_verified, created_at, \
         updated_at"
    };
}

const ACCOUNT: &str = concat!(
    "SELECT ",
    account_columns!(),
    " FROM accounts WHERE id = ?1"
);

const ACCOUNTS: &str = concat!(
    "SELECT ",
    account_columns!(),
    " FROM accounts WHERE id > ?1 ORDER BY id LIMIT ?2"
);

const ACCOUNT_BY_EMAIL: &str = concat!(
    "SELECT ",
    account_columns!(),
    " FROM accounts WHERE email_key = ?1"
);

const SET_VERIFICATION: &str = "
    UPDATE accounts SET verification_hash = ?2, verification_expires_at = ?3
    WHERE id = ?1 AND NOT email_verified";

const VERIFY_ACCOUNT: &str = concat!(
    "UPDATE accounts SET email_verified = TRUE, verification_hash = NULL,
        verification_expires_at = NULL, mail_due_at = NULL, updated_at = ?2
    WHERE verification_hash = ?1 AND verification_expires_at > ?2
    RETURNING ",
    account_columns!()
);

const SET_RESET: &str = "
    UPDATE accounts SET reset_hash = ?2, reset_expires_at = ?3 WHERE id = ?1";

const ACCOUNT_BY_RESET: &str = concat!(
    "SELECT ",
    account_columns!(),
    " FROM accounts WHERE reset_hash = ?1 AND reset_expires_at > ?2"
);

const RESET_PASSWORD: &str = concat!(
    "UPDATE accounts SET password_hash = ?2, email_verified = TRUE, verification_hash = NULL,
        verification_expires_at = NULL, reset_hash = NULL, reset_expires_at = NULL,
        mail_due_at = NULL, updated_at = ?3
    WHERE reset_hash = ?1 AND reset_expires_at > ?3
    RETURNING ",
    account_columns!()
);

const CHANGE_PASSWORD: &str = "
    UPDATE accounts SET password_hash = ?3, reset_hash = NULL, reset_expires_at = NULL,
        updated_at = ?4
    WHERE id = ?1 AND password_hash = ?2 RETURNING TRUE";

const DELETE_ACCOUNT: &str = "INSERT INTO deletions VALUES (?1, ?2, ?3) RETURNING TRUE";

const SET_NOTIFICATION_URL: &str = concat!(
    "UPDATE accounts SET notification_webhook_url = ?2, updated_at = ?3 WHERE id = ?1 RETURNING ",
    account_columns!()
);

const RECEIVER: &str = "
    SELECT id, notification_webhook_url FROM accounts
    WHERE id = ?1 AND notification_webhook_url <> ''";

const RECEIVERS: &str = "
    SELECT id, notification_webhook_url FROM accounts WHERE notification_webhook_url <> ''";

impl<C: Connection> AccountList for SqliteStore<C> {
    async fn accounts(
        &self,
        after: Option<&AccountId>,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError> {
        let after = after.map_or("", AccountId::as_str);
        let page = self
            .lists
            .all(ACCOUNTS, [after.into(), limit.into()], Row::account);
        page.await
    }
}

impl<C: Connection> Accounts for SqliteStore<C> {
    async fn create_account(&self, account: &NewAccount) -> Result<Registration, StoreError> {
        let parameters = [
            (&account.id).into(),
            (&account.email).into(),
            (&account.email_key).into(),
            (&account.password_hash).into(),
            (&account.name).into(),
            (&account.verification.token_hash).into(),
            account.verification.expires_at.into(),
            account.created_at.into(),
            account.mail_due.into(),
        ];
        let created = self.writer.first(CREATE_ACCOUNT, parameters, Row::text);
        Ok(created.await?.map_or(Registration::EmailTaken, |id| {
            Registration::Created(AccountId::new(id))
        }))
    }

    async fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        self.lookups.first(ACCOUNT, [id.into()], Row::account).await
    }

    async fn account_by_email(&self, email: &str) -> Result<Option<Account>, StoreError> {
        self.lookups
            .first(ACCOUNT_BY_EMAIL, [(&email_key(email)).into()], Row::account)
            .await
    }

    async fn set_verification(
        &self,
        id: &AccountId,
        verification: &MailedToken,
    ) -> Result<(), StoreError> {
        let parameters = [
            id.into(),
            (&verification.token_hash).into(),
            verification.expires_at.into(),
        ];
        self.writer
            .run(SET_VERIFICATION, parameters)
            .await
            .map(drop)
    }

    async fn verify_account(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        self.writer
            .first(
                VERIFY_ACCOUNT,
                [token_hash.into(), now.into()],
                Row::account,
            )
            .await
    }

    async fn set_reset(&self, id: &AccountId, reset: &MailedToken) -> Result<(), StoreError> {
        let parameters = [
            id.into(),
            (&reset.token_hash).into(),
            reset.expires_at.into(),
        ];
        self.writer.run(SET_RESET, parameters).await.map(drop)
    }

    async fn account_by_reset(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let parameters = [token_hash.into(), now.into()];
        self.lookups
            .first(ACCOUNT_BY_RESET, parameters, Row::account)
            .await
    }

    async fn reset_password(
        &self,
        token_hash: &str,
        password_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let parameters = [token_hash.into(), password_hash.into(), now.into()];
        self.writer
            .first(RESET_PASSWORD, parameters, Row::account)
            .await
    }

    async fn change_password(
        &self,
        account: &Account,
        password_hash: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let parameters = [
            (&account.id).into(),
            (&account.password_hash).into(),
            password_hash.into(),
            now.into(),
        ];
        let changed = self.writer.run(CHANGE_PASSWORD, parameters).await?;
        Ok(!changed.is_empty())
    }

    async fn delete_account(&self, account: &Account, now: Timestamp) -> Result<bool, StoreError> {
        let parameters = [
            (&account.id).into(),
            (&account.password_hash).into(),
            now.into(),
        ];
        let deleted = self.writer.run(DELETE_ACCOUNT, parameters).await?;
        Ok(!deleted.is_empty())
    }

    async fn purge_deleted(&self, now: Timestamp) -> Result<bool, StoreError> {
        deletion::purge(self, now).await
    }

    async fn set_notification_url(
        &self,
        id: &AccountId,
        url: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        self.writer
            .first(
                SET_NOTIFICATION_URL,
                [id.into(), url.into(), now.into()],
                Row::account,
            )
            .await
    }

    async fn receivers(&self, audience: &Audience) -> Result<Vec<Receiver>, StoreError> {
        match audience {
            Audience::Account(id) => self.lookups.all(RECEIVER, [id.into()], Row::receiver).await,
            Audience::EveryAccount => self.lookups.all(RECEIVERS, [], Row::receiver).await,
        }
    }
}
