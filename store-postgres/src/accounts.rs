//! Accounts.

use kubeagents_core::{
    Account, AccountId, MailedToken, NewAccount, Receiver, StoreError, Timestamp, email_key,
    store::{AccountList, Accounts, Audience, Registration},
};

use crate::query::Fetch;
use crate::value::saturating;
use crate::{ApiKeyCache, PostgresStore, Query, Row, Value, deletion};

/// A column list that [`Row::account`] reads.
macro_rules! columns {
    () => {
        "id, email, password_hash, name, notification_webhook_url, email_verified, created_at, \
            updated_at"
    };
}

/// Takes the place of a registration that is not verified. An adopted account may have the address
/// without owning its key.
///
/// Two registrations whose links have run out go, so that they do not pile up.
const CREATE: &str = "\
WITH stale AS (\
    SELECT id FROM kubeagents_data.accounts \
    WHERE NOT email_verified AND verification_expires_at < $8::bigint \
    AND email_key IS DISTINCT FROM $3::text \
    ORDER BY verification_expires_at LIMIT 2 FOR UPDATE SKIP LOCKED), \
purged AS (\
    DELETE FROM kubeagents_data.accounts AS account USING stale WHERE account.id = stale.id) \
INSERT INTO kubeagents_data.accounts AS account (id, email, email_key, password_hash, name, \
    verification_hash, verification_expires_at, created_at, updated_at, mail_due_at) \
SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::bigint, $8::bigint, \
    $8::bigint, $9::bigint \
WHERE NOT EXISTS (\
    SELECT FROM kubeagents_data.accounts WHERE email = $2::text AND email_key IS NULL) \
ON CONFLICT (email_key) DO UPDATE SET email = excluded.email, \
    password_hash = excluded.password_hash, name = excluded.name, \
    notification_webhook_url = '', verification_hash = excluded.verification_hash, \
    verification_expires_at = excluded.verification_expires_at, reset_hash = NULL, \
    reset_expires_at = NULL, created_at = excluded.created_at, updated_at = excluded.updated_at, \
    mail_due_at = excluded.mail_due_at \
WHERE NOT account.email_verified RETURNING id";

const BY_ID: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM kubeagents_data.accounts WHERE id = $1::text"
);

const ALL: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM kubeagents_data.accounts WHERE id > $1::text ORDER BY id LIMIT $2::bigint"
);

const BY_EMAIL: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM kubeagents_data.accounts WHERE email = $1::text OR email_key = $2::text \
    ORDER BY email = $1::text DESC LIMIT 1"
);

const SET_VERIFICATION: &str = "\
UPDATE kubeagents_data.accounts \
SET verification_hash = $2::text, verification_expires_at = $3::bigint \
WHERE id = $1::text AND NOT email_verified";

const VERIFY: &str = concat!(
    "UPDATE kubeagents_data.accounts SET email_verified = true, verification_hash = NULL, \
        verification_expires_at = NULL, mail_due_at = NULL, updated_at = $2::bigint \
    WHERE verification_hash = $1::text AND verification_expires_at > $2::bigint RETURNING ",
    columns!()
);

const SET_RESET: &str = "\
UPDATE kubeagents_data.accounts SET reset_hash = $2::text, reset_expires_at = $3::bigint \
WHERE id = $1::text";

const BY_RESET: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM kubeagents_data.accounts \
    WHERE reset_hash = $1::text AND reset_expires_at > $2::bigint"
);

/// A step of a statement that revokes every refresh token of the account that the step `changed`
/// returns.
macro_rules! revoked {
    () => {
        "revoked AS (\
            UPDATE kubeagents_data.token_families AS family SET revoked = true FROM changed \
            WHERE family.account_id = changed.id AND NOT family.revoked) "
    };
}

const RESET_PASSWORD: &str = concat!(
    "WITH changed AS (\
        UPDATE kubeagents_data.accounts SET password_hash = $2::text, email_verified = true, \
            verification_hash = NULL, verification_expires_at = NULL, reset_hash = NULL, \
            reset_expires_at = NULL, mail_due_at = NULL, updated_at = $3::bigint \
        WHERE reset_hash = $1::text AND reset_expires_at > $3::bigint RETURNING ",
    columns!(),
    "), ",
    revoked!(),
    "SELECT ",
    columns!(),
    " FROM changed"
);

const CHANGE_PASSWORD: &str = concat!(
    "WITH changed AS (\
        UPDATE kubeagents_data.accounts SET password_hash = $3::text, reset_hash = NULL, \
            reset_expires_at = NULL, updated_at = $4::bigint \
        WHERE id = $1::text AND password_hash = $2::text RETURNING id), ",
    revoked!(),
    "SELECT id FROM changed"
);

/// API keys and tokens go by their foreign keys.
const DELETE: &str = "\
WITH deleted AS (\
    DELETE FROM kubeagents_data.accounts WHERE id = $1::text AND password_hash = $2::text \
    RETURNING id) \
INSERT INTO kubeagents_data.deleted_accounts (id, deleted_at) \
SELECT id, $3::bigint FROM deleted RETURNING id";

const SET_NOTIFICATION_URL: &str = concat!(
    "UPDATE kubeagents_data.accounts SET notification_webhook_url = $2::text, \
        updated_at = $3::bigint \
    WHERE id = $1::text RETURNING ",
    columns!()
);

const RECEIVER: &str = "\
SELECT id, notification_webhook_url FROM kubeagents_data.accounts \
WHERE id = $1::text AND notification_webhook_url <> ''";

const RECEIVERS: &str = "\
SELECT id, notification_webhook_url FROM kubeagents_data.accounts \
WHERE notification_webhook_url <> '' ORDER BY id";

impl<Q: Query, C: ApiKeyCache> AccountList for PostgresStore<Q, C> {
    async fn accounts(
        &self,
        after: Option<&AccountId>,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError> {
        let after = after.map_or("", AccountId::as_str);
        let params = [after.into(), saturating(limit).into()];
        self.query.all(ALL, &params, Row::account).await
    }
}

impl<Q: Query, C: ApiKeyCache> Accounts for PostgresStore<Q, C> {
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
            account.mail_due.into(),
        ];
        let id = self.query.optional(CREATE, &params, Row::text).await?;
        Ok(id.map_or(Registration::EmailTaken, |id| {
            Registration::Created(AccountId::new(id))
        }))
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

    async fn set_reset(&self, id: &AccountId, reset: &MailedToken) -> Result<(), StoreError> {
        let params = [
            id.as_str().into(),
            Value::from(&reset.token_hash),
            reset.expires_at.into(),
        ];
        self.query.execute(SET_RESET, &params).await
    }

    async fn account_by_reset(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let params = [token_hash.into(), now.into()];
        self.query.optional(BY_RESET, &params, Row::account).await
    }

    async fn reset_password(
        &self,
        token_hash: &str,
        password_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let params = [token_hash.into(), password_hash.into(), now.into()];
        self.query
            .optional(RESET_PASSWORD, &params, Row::account)
            .await
    }

    async fn change_password(
        &self,
        account: &Account,
        password_hash: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let params = [
            account.id.as_str().into(),
            Value::from(&account.password_hash),
            password_hash.into(),
            now.into(),
        ];
        self.query.returns_row(CHANGE_PASSWORD, &params).await
    }

    async fn delete_account(&self, account: &Account, now: Timestamp) -> Result<bool, StoreError> {
        let params = [
            account.id.as_str().into(),
            Value::from(&account.password_hash),
            now.into(),
        ];
        let deleted = self.query.returns_row(DELETE, &params).await;
        // Also after a failure: the statement may have taken effect.
        self.cache.revoke_all(&account.id);
        deleted
    }

    async fn purge_deleted(&self, now: Timestamp) -> Result<bool, StoreError> {
        deletion::purge(&self.query, now).await
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

    async fn receivers(&self, audience: &Audience) -> Result<Vec<Receiver>, StoreError> {
        match audience {
            Audience::Account(id) => {
                let params = [id.as_str().into()];
                self.query.all(RECEIVER, &params, Row::receiver).await
            }
            Audience::EveryAccount => self.query.all(RECEIVERS, &[], Row::receiver).await,
        }
    }
}
