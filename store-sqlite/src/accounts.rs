//! Accounts.

use kubeagents_core::store::{Accounts, Audience, Registration};
use kubeagents_core::{
    Account, AccountId, MailedToken, NewAccount, StoreError, Timestamp, email_key,
};

use kubeagents_store_sql::Row;

use crate::{Connection, SqliteStore};

const CREATE_ACCOUNT: &str = "
    INSERT INTO accounts VALUES (?1, ?2, ?3, ?4, ?5, '', FALSE, ?6, ?7, ?8, ?8)
    ON CONFLICT (email_key) DO NOTHING RETURNING TRUE";

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

const ACCOUNT_BY_EMAIL: &str = concat!(
    "SELECT ",
    account_columns!(),
    " FROM accounts WHERE email_key = ?1"
);

const SET_VERIFICATION: &str = "
    UPDATE accounts SET verification_hash = ?2, verification_expires_at = ?3 WHERE id = ?1";

const VERIFY_ACCOUNT: &str = concat!(
    "UPDATE accounts SET email_verified = TRUE, verification_hash = NULL,
        verification_expires_at = NULL, updated_at = ?2
    WHERE verification_hash = ?1 AND verification_expires_at > ?2
    RETURNING ",
    account_columns!()
);

const SET_NOTIFICATION_URL: &str = concat!(
    "UPDATE accounts SET notification_webhook_url = ?2, updated_at = ?3 WHERE id = ?1 RETURNING ",
    account_columns!()
);

const NOTIFICATION_URL: &str = "
    SELECT notification_webhook_url FROM accounts
    WHERE id = ?1 AND notification_webhook_url <> ''";

const NOTIFICATION_URLS: &str = "
    SELECT notification_webhook_url FROM accounts WHERE notification_webhook_url <> ''";

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
        ];
        let created = self.writer.run(CREATE_ACCOUNT, parameters).await?;
        Ok(if created.is_empty() {
            Registration::EmailTaken
        } else {
            Registration::Created
        })
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

    async fn notification_urls(&self, audience: &Audience) -> Result<Vec<String>, StoreError> {
        match audience {
            Audience::Account(id) => {
                self.lookups
                    .all(NOTIFICATION_URL, [id.into()], Row::text)
                    .await
            }
            Audience::EveryAccount => self.lookups.all(NOTIFICATION_URLS, [], Row::text).await,
        }
    }
}
