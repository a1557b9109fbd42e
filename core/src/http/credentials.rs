//! Who is asking.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::{ApiError, App};
use crate::ports::Ports;
use crate::store::{Accounts, ApiKeys};
use crate::token::TokenType;
use crate::{AccountId, AuthMode, Scopes, Timestamp, Workspace, hash, sha256_hex};

const MISSING: &str = "missing authorization header";
const MALFORMED: &str = "invalid authorization format";
const INVALID: &str = "invalid or expired token";

/// How long a key's use is not noted again, in seconds.
const TOUCH_INTERVAL_SECONDS: i64 = 60;

/// Who is asking and what they may do.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Where they work.
    pub(super) workspace: Workspace,
    /// What they may do there.
    pub(super) scopes: Scopes,
    /// Whether they hold an API key, which does not speak for a person.
    pub(super) by_api_key: bool,
    /// Whose account it is, where the route asks for one.
    account: Option<AccountId>,
}

impl Caller {
    /// Someone whose credentials were not asked for.
    pub(super) fn anonymous() -> Self {
        Self {
            workspace: Workspace::Shared,
            scopes: Scopes::ALL,
            by_api_key: false,
            account: None,
        }
    }

    /// The account, on a route that admits only accounts.
    pub(super) fn account(&self) -> Result<&AccountId, ApiError> {
        self.account
            .as_ref()
            .ok_or_else(|| ApiError::unauthorized(MISSING))
    }
}

/// The token of `Authorization: Bearer <token>`; `None` without the header, or without a token in
/// it, as scripts send it whose variable is not set.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(AUTHORIZATION).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let malformed = || ApiError::unauthorized(MALFORMED);
    let value = value.to_str().map_err(|_| malformed())?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    match scheme.eq_ignore_ascii_case("bearer") {
        true => Ok(Some(token.trim()).filter(|token| !token.is_empty())),
        false => Err(malformed()),
    }
}

impl<P: Ports> App<P> {
    /// Whoever may work in a workspace: by access token, API key or static key; in open mode also
    /// without credentials, but not with invalid ones.
    pub(super) async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let open = self.settings.mode == AuthMode::Open;
        let Some(token) = bearer(headers)? else {
            return match open {
                true => Ok(Caller::anonymous()),
                false => Err(ApiError::unauthorized(MISSING)),
            };
        };
        let is_static_key = |key: &String| hash::equal(key, token);
        let mut by_api_key = false;
        let (workspace, scopes) = if self
            .settings
            .values
            .kubeagents_api_key
            .as_ref()
            .is_some_and(is_static_key)
        {
            (Workspace::Shared, Scopes::ALL)
        } else if let Some(id) = self.signer.verify(TokenType::Access, token, self.now()) {
            self.check_existence(&id).await?;
            (Workspace::Account(id), Scopes::ALL)
        } else {
            by_api_key = true;
            self.authenticate_key(token).await?
        };
        Ok(Caller {
            workspace: if open { Workspace::Shared } else { workspace },
            scopes,
            by_api_key,
            account: None,
        })
    }

    /// The owner of an account, by access token and nothing else.
    pub(super) async fn authenticate_account(
        &self,
        headers: &HeaderMap,
    ) -> Result<Caller, ApiError> {
        let token = bearer(headers)?.ok_or_else(|| ApiError::unauthorized(MISSING))?;
        let id = self
            .signer
            .verify(TokenType::Access, token, self.now())
            .ok_or_else(|| ApiError::unauthorized(INVALID))?;
        self.check_existence(&id).await?;
        Ok(Caller {
            workspace: Workspace::Account(id.clone()),
            scopes: Scopes::ALL,
            by_api_key: false,
            account: Some(id),
        })
    }

    /// Refuses the token of an account that has been deleted: by this host at once, by another one
    /// within seconds.
    async fn check_existence(&self, id: &AccountId) -> Result<(), ApiError> {
        let now = self.now();
        if self.known_accounts.contains(id, now) {
            return Ok(());
        }
        let deletions = self.known_accounts.deletions();
        let account = self.ports.store().account(id).await?;
        let account = account.ok_or_else(Self::unknown_account)?;
        self.known_accounts.remember(account.id, now, deletions);
        Ok(())
    }

    async fn authenticate_key(&self, token: &str) -> Result<(Workspace, Scopes), ApiError> {
        let now = self.now();
        let store = self.ports.store();
        let key = store
            .api_key_by_hash(&sha256_hex(token))
            .await?
            .filter(|key| key.is_valid(now))
            .ok_or_else(|| ApiError::unauthorized(INVALID))?;
        let fresh = |used: Timestamp| (now - used).num_seconds() < TOUCH_INTERVAL_SECONDS;
        if !key.last_used_at.is_some_and(fresh)
            && let Err(error) = store.touch_api_key(&key, now).await
        {
            tracing::warn!(%error, "the use of an API key was not noted");
        }
        Ok((Workspace::Account(key.account_id), key.scopes))
    }

    /// The answer to an account that no longer exists, or never did in this storage.
    pub(super) fn unknown_account() -> ApiError {
        ApiError::unauthorized(INVALID)
    }
}
