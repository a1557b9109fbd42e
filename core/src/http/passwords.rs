//! `/api/auth/password`, `/forgot`, `/reset`: passwords that are changed or lost.

use schemars::JsonSchema;
use serde::Deserialize;

use super::accounts::{MIN_PASSWORD_CHARACTERS, check_password};
use super::client::Client;
use super::response::{Answer, confirm};
use super::{Admitted, ApiError, App};
use crate::audit::{self, Act, Actor, AuditEvent};
use crate::ports::{MailKind, Passwords, Ports, random};
use crate::store::{Accounts, RefreshTokens};
use crate::{AccountId, email_key, password, sha256_hex};

const INVALID_TOKEN: &str = "invalid or expired token";

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["current_password", "new_password"]))]
pub(super) struct PasswordRequest {
    current_password: Option<String>,
    /// At most 72 bytes.
    #[schemars(required, length(min = MIN_PASSWORD_CHARACTERS, max = password::MAX_BYTES))]
    new_password: Option<String>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct ForgotRequest {
    email: Option<String>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["token", "password"]))]
pub(super) struct ResetRequest {
    token: Option<String>,
    /// At most 72 bytes.
    #[schemars(required, length(min = MIN_PASSWORD_CHARACTERS, max = password::MAX_BYTES))]
    password: Option<String>,
    /// Whether the refresh token comes as a cookie that no script can read. Only the server's own page
    /// may ask for it.
    cookie: Option<bool>,
}

impl<P: Ports> App<P> {
    pub(super) async fn change_password(&self, request: Admitted<'_>) -> Answer {
        let body: PasswordRequest = request.fields()?;
        let new = body.new_password.unwrap_or_default();
        check_password("new_password", &new)?;
        let current = body.current_password.unwrap_or_default();
        let account = self.authorize_by_password(&request, current).await?;

        let new = self.hash_password(request.client, new).await?;
        let store = self.ports.store();
        if !store.change_password(&account, &new, self.now()).await? {
            return Err(ApiError::invalid_password());
        }
        self.revoke_late_logins(&account.id).await?;
        let event = AuditEvent::PasswordChanged;
        let act = self.act(&account.id, &request, event, Actor::Password);
        self.note(act).await;
        let mut answer = confirm("password changed")?;
        self.cookie(&request).clear(&mut answer);
        Ok(answer)
    }

    pub(super) async fn forgot_password(&self, request: Admitted<'_>) -> Answer {
        let body: ForgotRequest = request.fields()?;
        let asked = self.now();
        let email = body.email.unwrap_or_default();
        let account = self.find_account(&email).await?;
        let wanted = account.is_some();
        let allowed = self
            .draw_silent_mail(request.trace, &email_key(&email), wanted)
            .await?;
        let account = account.filter(|_| allowed);
        let (token, reset) = self.new_mailed_token(MailKind::Reset);
        // The same work for every address.
        let id = account.as_ref().map(|account| account.id.clone());
        let id = id.unwrap_or_else(|| self.nobody());
        self.ports.store().set_reset(&id, &reset).await?;
        let owner = audit::owner(account.as_ref(), &email);
        let act = Act::new(owner, AuditEvent::PasswordForgotten, Actor::Anyone);
        self.note(act.from(self.origin(request.parts))).await;
        if let Some(account) = account {
            self.mail(&request, MailKind::Reset, account.id, account.email, &token);
        }
        self.wait_in_silence(asked).await;
        confirm("if the address is registered, a mail is on its way")
    }

    pub(super) async fn reset_password(&self, request: Admitted<'_>) -> Answer {
        let body: ResetRequest = request.fields()?;
        let cookie = self.wanted_cookie(&request, body.cookie)?;
        let new = body.password.unwrap_or_default();
        check_password("password", &new)?;
        let token_hash = sha256_hex(body.token.unwrap_or_default());
        let store = self.ports.store();
        let invalid = || ApiError::bad_request(INVALID_TOKEN);
        // Before a password is hashed for nobody.
        let awaited = store.account_by_reset(&token_hash, self.now()).await?;
        awaited.ok_or_else(invalid)?;

        let new = self.hash_password(request.client, new).await?;
        let account = store.reset_password(&token_hash, &new, self.now()).await?;
        let account = account.ok_or_else(invalid)?;
        self.revoke_late_logins(&account.id).await?;
        let event = AuditEvent::PasswordReset;
        let act = self.act(&account.id, &request, event, Actor::MailedLink);
        self.note(act).await;
        self.start_family(&request, &account, Actor::MailedLink, cookie)
            .await
    }

    pub(super) async fn hash_password(
        &self,
        client: Client,
        password: String,
    ) -> Result<String, ApiError> {
        let salt = random(self.ports.entropy());
        let passwords = self.ports.passwords();
        Ok(passwords.hash(client.key(), password, salt).await?)
    }

    /// Revokes what a log-in by the old password has stored while the password was changed. Later
    /// ones notice by themselves.
    async fn revoke_late_logins(&self, id: &AccountId) -> Result<(), ApiError> {
        Ok(self.ports.store().revoke_refresh_tokens(id).await?)
    }
}
