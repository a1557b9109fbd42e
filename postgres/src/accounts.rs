//! Accounts and the instance's secrets.

use kubeagents_core::{
    Account, AccountId, NewAccount, StoreError, Timestamp, Verification, email_key,
    store::{Audience, Registration},
};

use crate::{Query, Row, UnexpectedResult, Value};

/// A column list that [`account_from`] reads.
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

/// The update changes nothing: it makes the row visible to a host that lost the race to insert it.
const SECRET: &str = "\
INSERT INTO kubeagents_data.secrets AS secret (name, value) VALUES ($1::text, $2::text) \
ON CONFLICT (name) DO UPDATE SET value = secret.value RETURNING value";

fn account_from(row: &mut Row) -> Result<Account, UnexpectedResult> {
    Ok(Account {
        id: AccountId::new(row.text()?),
        email: row.text()?,
        password_hash: row.text()?,
        name: row.text()?,
        notification_webhook_url: row.text()?,
        email_verified: row.bool()?,
        created_at: row.instant()?,
        updated_at: row.instant()?,
    })
}

async fn one_account(
    query: &impl Query,
    sql: &'static str,
    params: &[Value<'_>],
) -> Result<Option<Account>, StoreError> {
    let rows = query.query(sql, params).await?;
    Ok(rows
        .into_iter()
        .next()
        .map(|mut row| account_from(&mut row))
        .transpose()?)
}

pub(crate) async fn create(
    query: &impl Query,
    account: &NewAccount,
) -> Result<Registration, StoreError> {
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
    let rows = query.query(CREATE, &params).await?;
    Ok(match rows.is_empty() {
        false => Registration::Created,
        true => Registration::EmailTaken,
    })
}

pub(crate) async fn by_id(
    query: &impl Query,
    id: &AccountId,
) -> Result<Option<Account>, StoreError> {
    one_account(query, BY_ID, &[id.as_str().into()]).await
}

pub(crate) async fn by_email(
    query: &impl Query,
    email: &str,
) -> Result<Option<Account>, StoreError> {
    let key = email_key(email);
    one_account(query, BY_EMAIL, &[email.into(), Value::from(&key)]).await
}

pub(crate) async fn set_verification(
    query: &impl Query,
    id: &AccountId,
    verification: &Verification,
) -> Result<(), StoreError> {
    let params = [
        id.as_str().into(),
        Value::from(&verification.token_hash),
        verification.expires_at.into(),
    ];
    query.query(SET_VERIFICATION, &params).await.map(drop)
}

pub(crate) async fn verify(
    query: &impl Query,
    token_hash: &str,
    now: Timestamp,
) -> Result<Option<Account>, StoreError> {
    one_account(query, VERIFY, &[token_hash.into(), now.into()]).await
}

pub(crate) async fn set_notification_url(
    query: &impl Query,
    id: &AccountId,
    url: &str,
    now: Timestamp,
) -> Result<Option<Account>, StoreError> {
    let params = [id.as_str().into(), url.into(), now.into()];
    one_account(query, SET_NOTIFICATION_URL, &params).await
}

pub(crate) async fn notification_urls(
    query: &impl Query,
    audience: &Audience,
) -> Result<Vec<String>, StoreError> {
    let rows = match audience {
        Audience::Account(id) => query.query(NOTIFICATION_URL, &[id.as_str().into()]).await?,
        Audience::EveryAccount => query.query(NOTIFICATION_URLS, &[]).await?,
    };
    Ok(rows
        .into_iter()
        .map(|mut row| row.text())
        .collect::<Result<_, _>>()?)
}

pub(crate) async fn secret(
    query: &impl Query,
    name: &str,
    candidate: &str,
) -> Result<String, StoreError> {
    let rows = query
        .query(SECRET, &[name.into(), candidate.into()])
        .await?;
    let mut row = rows.into_iter().next().ok_or(UnexpectedResult("no row"))?;
    Ok(row.text()?)
}
