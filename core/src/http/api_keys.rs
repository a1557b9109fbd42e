//! `/api/apikeys…`: an account's long-lived credentials.

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use chrono::TimeDelta;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agents::{cursor, limit, paged};
use super::response::{Answer, confirm, secret};
use super::{Admitted, ApiError, App};
use crate::json::integer;
use crate::ports::{Events, Ports, random, random_uuid};
use crate::store::{Accounts, ApiKeyCreation, ApiKeys};
use crate::validation::{NOT_BLANK, storable};
use crate::{ApiKey, InvalidField, Rule, Scope, Scopes, Timestamp, WorkspaceChoice, sha256_hex};

/// The longest that a key may work, in days, unless it works for ever.
const MAX_EXPIRY_DAYS: i64 = 36_500;

/// The most valid keys of one account.
const MAX_VALID_KEYS: usize = 100;

const MAX_NAME_CHARACTERS: usize = 100;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["name"]))]
pub(super) struct CreateRequest {
    #[schemars(required, length(max = MAX_NAME_CHARACTERS), regex(pattern = NOT_BLANK))]
    name: Option<String>,
    /// In days; 0 or absent: never.
    #[serde(deserialize_with = "integer")]
    #[schemars(range(min = 0, max = MAX_EXPIRY_DAYS))]
    expires_in: Option<i64>,
    /// `report` where nothing is given.
    #[schemars(with = "Option<Vec<Scope>>", length(min = 1))]
    scopes: Option<Vec<String>>,
    /// Where the key works: in the account's `own` workspace, where nothing is given, or in the
    /// `shared` one, if the account is a member.
    #[schemars(with = "Option<WorkspaceChoice>")]
    workspace: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Created<'a> {
    id: &'a str,
    name: &'a str,
    key: &'a str,
    key_prefix: &'a str,
    scopes: Scopes,
    #[serde(serialize_with = "crate::time::serialize_option")]
    expires_at: Option<Timestamp>,
    #[serde(serialize_with = "crate::time::serialize")]
    created_at: Timestamp,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct KeyList {
    api_keys: Vec<ApiKey>,
}

impl<P: Ports> App<P> {
    pub(super) async fn create_api_key(&self, request: Admitted<'_>) -> Answer {
        let (name, expires_in, scopes, workspace) = check(request.fields()?)?;

        let account_id = request.caller.account()?;
        let store = self.ports.store();
        let account = store.account(account_id).await?;
        let account = account.ok_or_else(Self::unknown_account)?;
        if workspace == WorkspaceChoice::Shared && !self.is_member(&account) {
            return Err(ApiError::no_member());
        }

        let entropy = self.ports.entropy();
        let key_text = URL_SAFE.encode(random::<32>(entropy));
        let now = self.now();
        let key = ApiKey {
            id: random_uuid(entropy),
            account_id: account.id,
            name,
            key_hash: sha256_hex(&key_text),
            key_prefix: key_text[..8].to_owned(),
            scopes,
            workspace,
            expires_at: expires_in.map(|expiry| now + expiry),
            last_used_at: None,
            created_at: now,
            revoked: false,
        };
        match store.create_api_key(&key, MAX_VALID_KEYS).await? {
            ApiKeyCreation::Created => {}
            ApiKeyCreation::NoAccount => return Err(Self::unknown_account()),
            ApiKeyCreation::TooMany => {
                return Err(ApiError::limit_reached(format!(
                    "an account may have at most {MAX_VALID_KEYS} valid API keys: revoke one first"
                )));
            }
        }
        // The account may be deleted meanwhile. Either that removes this key, or it is seen here.
        if store.account(account_id).await?.is_none() {
            store.revoke_api_key(account_id, &key.id).await?;
            return Err(Self::unknown_account());
        }
        let created = Created {
            id: &key.id,
            name: &key.name,
            key: &key_text,
            key_prefix: &key.key_prefix,
            scopes: key.scopes,
            expires_at: key.expires_at,
            created_at: key.created_at,
        };
        secret(StatusCode::CREATED, &created)
    }

    pub(super) async fn list_api_keys(&self, request: Admitted<'_>) -> Answer {
        let account_id = request.caller.account()?;
        let uri = &request.parts.uri;
        let (limit, after) = (limit(uri)?, cursor(uri)?);
        let store = self.ports.store();
        let page = store.api_keys(account_id, after.as_ref(), limit).await?;
        let api_keys = page.items;
        paged(uri, KeyList { api_keys }, page.next)
    }

    pub(super) async fn revoke_api_key(&self, request: Admitted<'_>) -> Answer {
        let id = request.route.parameter("id")?;
        let account_id = request.caller.account()?;
        let revoked = self.ports.store().revoke_api_key(account_id, &id).await;
        // Also after a failure: it may have taken effect.
        self.ports.events().recheck();
        match revoked? {
            true => confirm("API key revoked successfully"),
            false => Err(ApiError::not_found("API key not found")),
        }
    }
}

/// Checks the fields in the order of the contract's table.
fn check(
    body: CreateRequest,
) -> Result<(String, Option<TimeDelta>, Scopes, WorkspaceChoice), InvalidField> {
    let name = body.name.unwrap_or_default();
    if name.trim().is_empty() {
        return Err(Rule::Required.broken_by("name"));
    }
    if name.chars().count() > MAX_NAME_CHARACTERS {
        return Err(Rule::MaxCharacters(MAX_NAME_CHARACTERS).broken_by("name"));
    }
    storable("name", &name)?;
    let expires_in = match body.expires_in.unwrap_or(0) {
        0 => None,
        days @ 1..=MAX_EXPIRY_DAYS => Some(TimeDelta::days(days)),
        _ => return Err(Rule::MaxDays(MAX_EXPIRY_DAYS).broken_by("expires_in")),
    };
    let scopes = match &body.scopes {
        None => Scopes::REPORT,
        Some(words) => Scopes::parse(words.iter().map(String::as_str))
            .ok_or(Rule::Scopes.broken_by("scopes"))?,
    };
    let workspace = match &body.workspace {
        None => WorkspaceChoice::Own,
        Some(word) => WorkspaceChoice::parse(word)
            .ok_or(Rule::Words(&WorkspaceChoice::WORDS).broken_by("workspace"))?,
    };
    Ok((name, expires_in, scopes, workspace))
}
