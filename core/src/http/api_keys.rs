//! `/api/apikeys…`: an account's long-lived credentials.

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agents::{cursor, limit, list};
use super::response::{Answer, confirm, secret};
use super::{Admitted, ApiError, App};
use crate::api_key::{MAX_EXPIRY_DAYS, MAX_NAME_CHARACTERS, NewApiKey, Unmade};
use crate::audit::{Actor, AuditEvent};
use crate::json::integer;
use crate::ports::{Events, Ports};
use crate::store::{Accounts, ApiKeys};
use crate::validation::NOT_BLANK;
use crate::{ApiKey, Limit, Scope, Scopes, Timestamp, WorkspaceChoice};

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
        let body: CreateRequest = request.fields()?;
        let words = body.scopes.as_deref();
        let workspace = body.workspace.as_deref();
        let new = NewApiKey::check(
            body.name.unwrap_or_default(),
            body.expires_in,
            words,
            workspace,
        )?;

        let account_id = request.caller.account()?;
        let store = self.ports.store();
        let account = store.account(account_id).await?;
        let account = account.ok_or_else(Self::unknown_account)?;
        if new.workspace == WorkspaceChoice::Shared && !self.is_member(&account) {
            return Err(ApiError::no_member());
        }
        let made = new.make(store, self.ports.entropy(), account.id, self.now());
        let (key, key_text) = made.await.map_err(|unmade| match unmade {
            Unmade::NoAccount => Self::unknown_account(),
            Unmade::TooMany => ApiError::limit_reached(Limit::ApiKeys, unmade.to_string()),
            Unmade::Store(error) => error.into(),
        })?;
        let event = AuditEvent::KeyCreated;
        let act = self.act(account_id, &request, event, Actor::AccessToken);
        self.note(act.on(&key.name, &key.id)).await;
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
        self.paged(&request, page, |page, size| {
            let api_keys = page.items;
            list(KeyList { api_keys }, page.next, size)
        })
        .await
    }

    pub(super) async fn revoke_api_key(&self, request: Admitted<'_>) -> Answer {
        let id = request.route.parameter("id")?;
        let account_id = request.caller.account()?;
        let revoked = self.ports.store().revoke_api_key(account_id, &id).await;
        // Also after a failure: it may have taken effect.
        self.ports.events().recheck();
        let key = revoked?.ok_or_else(|| ApiError::not_found("API key not found"))?;
        let event = AuditEvent::KeyRevoked;
        let act = self.act(account_id, &request, event, Actor::AccessToken);
        self.note(act.on(key.name, key.id)).await;
        confirm("API key revoked successfully")
    }
}
