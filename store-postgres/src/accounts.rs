//! Accounts.

use kubeagents_core::{
    Account, AccountId, MailedToken, NewAccount, StoreError, Timestamp, email_key,
    store::{Accounts, Audience, Registration},
};

use crate::query::Fetch;
use crate::{PostgresStore, Query, Row, Value};

/// A column list that [`Row::account`] reads.
macro_rules! columns {
    () => {
        "id, email, password_hash, name, notification_webhook_url, email_verified, created_at, \
            updated_at"
    };
}

const CREATE: &str = "\
INSERT INTO kubeagents_data.accounts (id, email, email_key, password_hash, name, \
    verification_hash, verification_expires_at, created_at, updated_at) \
VALUES ($1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::bigint, $8::bigint, \
    $8::bigint) \
ON CONFLICT DO NOTHING RETURNING id";

const BY_ID: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM kubeagents_data.accounts WHERE id = $1::text"
);

const BY_EMAIL: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM kubeagents_data.accounts WHERE email = $1::text OR email_key = $2::text \
    ORDER BY email = $1::text DESC LIMIT 1"
);

const SET_VERIFICATION: &str = "\
UPDATE kubeagents_data.accounts \
SET verification_hash = $2::text, verification_expires_at = $3::bigint WHERE id = $1::text";

const VERIFY: &str = concat!(
    "UPDATE kubeagents_data.accounts SET email_verified = true, verification_hash = NULL, \
        verification_expires_at = NULL, updated_at = $2::bigint \
    WHERE verification_hash = $1::text AND verification_expires_at > $2::bigint RETURNING ",
    columns!()
);

const SET_NOTIFICATION_URL: &str = concat!(
    "UPDATE kubeagents_data.accounts SET notification_webhook_url = $2::text, \
        updated_at = $3::bigint \
    WHERE id = $1::text RETURNING ",
    columns!()
);

const NOTIFICATION_URL: &str = "\
SELECT notification_webhook_url FROM kubeagents_data.accounts \
WHERE id = $1::text AND notification_webhook_url <> ''";

const NOTIFICATION_URLS: &str = "\
SELECT notification_webhook_url FROM kubeagents_data.accounts \
WHERE notification_webhook_url <> '' ORDER BY id";

impl<Q: Query, C> Accounts for PostgresStore<Q, C> {
    async fn create_account(&self, account: &NewAccount) -> Result<Registration, StoreError> {
        let params = [
            account.id.as_str().into(),
            Value::from(&account.email),
            Value::from(&account.email_key),
            Value::from(&account.password_hash),
            Value::from(&account.name),
            Value::from(&account.verification.token_hash),
            account.verification.expires_at.into(),
            account.created_at.into(),
        ];
        Ok(match self.query.returns_row(CREATE, &params).await? {
            true => Registration::Created,
            false => Registration::EmailTaken,
        })
    }

    async fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        let params = [id.as_str().into()];
        self.query.optional(BY_ID, &params, Row::account).await
    }

    async fn account_by_email(&self, email: &str) -> Result<Option<Account>, StoreError> {
        let key = email_key(email);
        let params = [email.into(), Value::from(&key)];
        self.query.optional(BY_EMAIL, &params, Row::account).await
    }

    async fn set_verification(
        &self,
        id: &AccountId,
        verification: &MailedToken,
    ) -> Result<(), StoreError> {
        let params = [
            id.as_str().into(),
            Value::from(&verification.token_hash),
            verification.expires_at.into(),
        ];
        self.query.execute(SET_VERIFICATION, &params).await
    }

    async fn verify_account(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let params = [token_hash.into(), now.into()];
        self.query.optional(VERIFY, &params, Row::account).await
    }

    async fn set_notification_url(
        &self,
        id: &AccountId,
        url: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let params = [id.as_str().into(), url.into(), now.into()];
        self.query
            .optional(SET_NOTIFICATION_URL, &params, Row::account)
            .await
    }

    async fn notification_urls(&self, audience: &Audience) -> Result<Vec<String>, StoreError> {
        match audience {
            Audience::Account(id) => {
                let params = [id.as_str().into()];
                self.query.all(NOTIFICATION_URL, &params, Row::text).await
            }
            Audience::EveryAccount => self.query.all(NOTIFICATION_URLS, &[], Row::text).await,
        }
    }
}
