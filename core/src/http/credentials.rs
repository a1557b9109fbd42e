//! Who is asking.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::known_accounts::Membership;
use super::{ApiError, App, query_parameter};
use crate::audit::{Act, Actor, AuditEvent};
use crate::ports::Ports;
use crate::store::{Accounts, ApiKeys};
use crate::token::TokenType;
use crate::{
    Account, AccountId, ApiKey, AuthMode, Rule, Scopes, Timestamp, Workspace, WorkspaceChoice,
    hash, operator, sha256_hex,
};

const MISSING: &str = "missing authorization header";
const MALFORMED: &str = "invalid authorization format";
const INVALID: &str = "invalid or expired token";

/// Where a request says which workspace it is for: in a header, or in its query.
pub(super) const WORKSPACE_HEADER: &str = "X-Workspace";
pub(super) const WORKSPACE_PARAMETER: &str = "workspace";

/// How long a key's use is not noted again, in seconds.
const TOUCH_INTERVAL_SECONDS: i64 = 60;

/// Who is asking and what they may do.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Where they work.
    pub(super) workspace: Workspace,
    /// What they may do there.
    pub(super) scopes: Scopes,
    /// What they are called there, where others work, too.
    pub(super) user: Option<String>,
    /// What they have shown. An API key does not speak for a person.
    pub(super) actor: Actor,
    /// Whose account it is, where the route asks for one.
    account: Option<AccountId>,
}

impl Caller {
    /// Someone whose credentials were not asked for.
    pub(super) fn anonymous() -> Self {
        Self {
            workspace: Workspace::Shared,
            scopes: Scopes::ALL,
            user: None,
            actor: Actor::Anyone,
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

/// The workspace that a request asks for: the shared one if the header or the query says so.
///
/// # Errors
/// 400 for a word that is none.
fn wanted(parts: &Parts) -> Result<Option<WorkspaceChoice>, ApiError> {
    let header = parts.headers.get(WORKSPACE_HEADER);
    let header = header.map(|value| value.to_str().unwrap_or("?").trim().to_owned());
    let query = query_parameter(&parts.uri, WORKSPACE_PARAMETER);
    let mut wanted = None;
    let given = header
        .map(|word| (WORKSPACE_HEADER, word))
        .into_iter()
        .chain(query.map(|word| (WORKSPACE_PARAMETER, word)));
    for (name, word) in given.filter(|(_, word)| !word.is_empty()) {
        let choice = WorkspaceChoice::parse(&word)
            .ok_or(Rule::Words(&WorkspaceChoice::WORDS).broken_by(name))?;
        if wanted != Some(WorkspaceChoice::Shared) {
            wanted = Some(choice);
        }
    }
    Ok(wanted)
}

/// What a token proves.
struct Proof {
    /// Whose it is; `None`: the instance's.
    account: Option<AccountId>,
    /// The one workspace that it is for; `None`: any of its account's.
    made_for: Option<WorkspaceChoice>,
    /// Whether the account may work in the shared workspace, where that was asked.
    membership: Membership,
    scopes: Scopes,
    actor: Actor,
}

impl<P: Ports> App<P> {
    /// Whoever may work in a workspace: by access token, API key or static key; in open mode also
    /// without credentials, but not with invalid ones.
    pub(super) async fn authenticate(&self, parts: &Parts) -> Result<Caller, ApiError> {
        let open = self.settings.mode == AuthMode::Open;
        let Some(token) = bearer(&parts.headers)? else {
            return match open {
                true => wanted(parts).map(|_| Caller::anonymous()),
                false => Err(ApiError::unauthorized(MISSING)),
            };
        };
        let proof = self.prove(parts, token).await?;
        let wanted = wanted(parts)?;
        let choice = wanted.or(proof.made_for).unwrap_or(WorkspaceChoice::Own);
        if !open && proof.made_for.is_some_and(|made_for| made_for != choice) {
            return Err(ApiError::forbidden(format!(
                "this key does not work in the workspace {}",
                choice.as_str()
            )));
        }
        let (workspace, user) = match (choice, proof.account) {
            (WorkspaceChoice::Own, Some(id)) => (Workspace::Account(id), None),
            (WorkspaceChoice::Shared, Some(_)) if proof.membership.is_none() && !open => {
                return Err(ApiError::no_member());
            }
            _ => {
                let user = proof.membership.filter(|name| !name.is_empty());
                (Workspace::Shared, user)
            }
        };
        Ok(Caller {
            workspace: if open { Workspace::Shared } else { workspace },
            scopes: proof.scopes,
            user,
            actor: proof.actor,
            account: None,
        })
    }

    async fn prove(&self, parts: &Parts, token: &str) -> Result<Proof, ApiError> {
        if self.is_static_key(token) {
            return Ok(Proof {
                account: None,
                made_for: Some(WorkspaceChoice::Shared),
                membership: None,
                scopes: Scopes::ALL,
                actor: Actor::StaticKey,
            });
        }
        if let Some(id) = self.signer.verify(TokenType::Access, token, self.now()) {
            return Ok(Proof {
                membership: self.check_existence(&id).await?,
                account: Some(id),
                made_for: None,
                scopes: Scopes::ALL,
                actor: Actor::AccessToken,
            });
        }
        let key = self.authenticate_key(parts, token).await?;
        let membership = match key.workspace {
            WorkspaceChoice::Own => None,
            WorkspaceChoice::Shared => self.check_existence(&key.account_id).await?,
        };
        Ok(Proof {
            account: Some(key.account_id),
            made_for: Some(key.workspace),
            membership,
            scopes: key.scopes,
            actor: Actor::ApiKey,
        })
    }

    fn is_static_key(&self, token: &str) -> bool {
        let key = self.settings.values.kubeagents_api_key.as_ref();
        key.is_some_and(|key| hash::equal(key, token))
    }

    /// Checks whether an account may work in the shared workspace.
    pub(super) fn is_member(&self, account: &Account) -> bool {
        operator::is_member(&self.settings.values, account)
    }

    /// The owner of an account, by access token and nothing else.
    pub(super) async fn authenticate_account(
        &self,
        headers: &HeaderMap,
    ) -> Result<Caller, ApiError> {
        let token = bearer(headers)?.ok_or_else(|| ApiError::unauthorized(MISSING))?;
        let Some(id) = self.signer.verify(TokenType::Access, token, self.now()) else {
            let is_key = self.is_static_key(token) || self.find_key(token).await?.is_some();
            return Err(match is_key {
                true => ApiError::wrong_kind(INVALID),
                false => ApiError::unauthorized(INVALID),
            });
        };
        self.check_existence(&id).await?;
        Ok(Caller {
            workspace: Workspace::Account(id.clone()),
            scopes: Scopes::ALL,
            user: None,
            actor: Actor::AccessToken,
            account: Some(id),
        })
    }

    /// The owner of an account, by access token and nothing else, in the workspace that they ask for.
    pub(super) async fn authenticate_owner(&self, parts: &Parts) -> Result<Caller, ApiError> {
        let caller = self.authenticate_account(&parts.headers).await?;
        if wanted(parts)? != Some(WorkspaceChoice::Shared) {
            return Ok(caller);
        }
        let user = self.check_existence(caller.account()?).await?;
        if user.is_none() && self.settings.mode != AuthMode::Open {
            return Err(ApiError::no_member());
        }
        Ok(Caller {
            workspace: Workspace::Shared,
            user,
            ..caller
        })
    }

    /// The membership of an account. Refuses the token of one that has been deleted: by this host at
    /// once, by another one within seconds.
    async fn check_existence(&self, id: &AccountId) -> Result<Membership, ApiError> {
        let now = self.now();
        if let Some(membership) = self.known_accounts.find(id, now) {
            return Ok(membership);
        }
        let deletions = self.known_accounts.deletions();
        let account = self.ports.store().account(id).await?;
        let account = account.ok_or_else(Self::unknown_account)?;
        let membership = self
            .is_member(&account)
            .then(|| operator::called(&account).to_owned());
        self.known_accounts
            .remember(account.id, membership.clone(), now, deletions);
        Ok(membership)
    }

    /// The API key that this is, if it is valid.
    async fn find_key(&self, token: &str) -> Result<Option<ApiKey>, ApiError> {
        let key = self
            .ports
            .store()
            .api_key_by_hash(&sha256_hex(token))
            .await?;
        Ok(key.filter(|key| key.is_valid(self.now())))
    }

    async fn authenticate_key(&self, parts: &Parts, token: &str) -> Result<ApiKey, ApiError> {
        let key = self.find_key(token).await?;
        let key = key.ok_or_else(|| ApiError::unauthorized(INVALID))?;
        // First, so that it is not lost where the request ends in between: the next one writes the same.
        if key.last_used_at.is_none() {
            let owner = operator::audited(&key.account_id);
            let act = Act::new(owner, AuditEvent::KeyUsed, Actor::ApiKey);
            let act = act.from(self.origin(parts)).on(&key.name, &key.id);
            self.note(act).await;
        }
        let now = self.now();
        let fresh = |used: Timestamp| (now - used).num_seconds() < TOUCH_INTERVAL_SECONDS;
        if !key.last_used_at.is_some_and(fresh)
            && let Err(error) = self.ports.store().touch_api_key(&key, now).await
        {
            tracing::warn!(%error, "the use of an API key was not noted");
        }
        Ok(key)
    }

    /// The answer to an account that no longer exists, or never did in this storage.
    pub(super) fn unknown_account() -> ApiError {
        ApiError::unauthorized(INVALID)
    }
}
