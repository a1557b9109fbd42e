//! API keys.

use kubeagents_core::{AccountId, ApiKey, Scopes, StoreError, Timestamp};

use crate::{Query, Row, UnexpectedResult, Value};

/// A column list that [`key_from`] reads.
macro_rules! columns {
    () => {
        "id, account_id, name, key_hash, key_prefix, scopes, expires_at, last_used_at, \
            created_at, revoked"
    };
}

const INSERT: &str = concat!(
    "INSERT INTO kubeagents_data.api_keys (",
    columns!(),
    ") VALUES ($1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::bigint, \
        $8::bigint, $9::bigint, $10::boolean)"
);

const OF_ACCOUNT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM kubeagents_data.api_keys WHERE account_id = $1::text ORDER BY created_at DESC, id"
);

const BY_HASH: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM kubeagents_data.api_keys WHERE key_hash = $1::text"
);

const REVOKE: &str = "\
UPDATE kubeagents_data.api_keys SET revoked = true \
WHERE id = $1::text AND account_id = $2::text RETURNING id";

const TOUCH: &str = "\
UPDATE kubeagents_data.api_keys SET last_used_at = greatest(last_used_at, $2::bigint) \
WHERE id = $1::text";

fn key_from(row: &mut Row) -> Result<ApiKey, UnexpectedResult> {
    Ok(ApiKey {
        id: row.text()?,
        account_id: AccountId::new(row.text()?),
        name: row.text()?,
        key_hash: row.text()?,
        key_prefix: row.text()?,
        scopes: Scopes::from_text(&row.text()?).ok_or(UnexpectedResult("unknown scopes"))?,
        expires_at: row.optional_instant()?,
        last_used_at: row.optional_instant()?,
        created_at: row.instant()?,
        revoked: row.bool()?,
    })
}

pub(crate) async fn insert(query: &impl Query, key: &ApiKey) -> Result<(), StoreError> {
    let scopes = key.scopes.to_text();
    let params = [
        Value::from(&key.id),
        key.account_id.as_str().into(),
        Value::from(&key.name),
        Value::from(&key.key_hash),
        Value::from(&key.key_prefix),
        Value::from(&scopes),
        key.expires_at.into(),
        key.last_used_at.into(),
        key.created_at.into(),
        key.revoked.into(),
    ];
    query.query(INSERT, &params).await.map(drop)
}

pub(crate) async fn of_account(
    query: &impl Query,
    id: &AccountId,
) -> Result<Vec<ApiKey>, StoreError> {
    let rows = query.query(OF_ACCOUNT, &[id.as_str().into()]).await?;
    Ok(rows
        .into_iter()
        .map(|mut row| key_from(&mut row))
        .collect::<Result<_, _>>()?)
}

pub(crate) async fn by_hash(
    query: &impl Query,
    key_hash: &str,
) -> Result<Option<ApiKey>, StoreError> {
    let rows = query.query(BY_HASH, &[key_hash.into()]).await?;
    Ok(rows
        .into_iter()
        .next()
        .map(|mut row| key_from(&mut row))
        .transpose()?)
}

pub(crate) async fn revoke(
    query: &impl Query,
    id: &AccountId,
    key_id: &str,
) -> Result<bool, StoreError> {
    let rows = query
        .query(REVOKE, &[key_id.into(), id.as_str().into()])
        .await?;
    Ok(!rows.is_empty())
}

pub(crate) async fn touch(
    query: &impl Query,
    key: &ApiKey,
    now: Timestamp,
) -> Result<(), StoreError> {
    query
        .query(TOUCH, &[Value::from(&key.id), now.into()])
        .await
        .map(drop)
}
