//! `/api/auth/…`: registering, proving an address, logging in and out.

use std::net::IpAddr;
use std::time::Duration;

use chrono::TimeDelta;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::client::Client;
use super::cookie::Cookie;
use super::response::{Answer, confirm, json, ok, secret};
use super::turns::{Impatient, Turn};
use super::{Admitted, ApiError, App, query_parameter};
use crate::account::UserView;
use crate::audit::{self, Act, Actor, AuditEvent};
use crate::json::parse;
use crate::notification::check_webhook_url;
use crate::ports::{
    Events, Mail, MailKind, Mailer, PasswordFailure, Passwords, Ports, random_uuid,
};
use crate::store::{Accounts, RefreshTokens, Registration};
use crate::token::TokenType;
use crate::validation::{STORABLE, storable};
use crate::{
    Account, AccountId, InvalidField, MailedToken, NewAccount, RefreshDecision, RefreshToken, Rule,
    Settings, Timestamp, causes, decide_refresh, email, email_key, operator, password, sha256_hex,
};

pub(super) const MIN_PASSWORD_CHARACTERS: usize = 8;
const MAX_EMAIL_CHARACTERS: usize = 255;
const MAX_NAME_CHARACTERS: usize = 200;

/// When answers that must not tell who is registered are given, after the request: later than their
/// work is done, mail or no mail.
const SILENT_ANSWER: Duration = Duration::from_millis(100);

/// How long the answer to a deletion waits for the workspace to be empty. What is left by then goes
/// later.
const DELETION: TimeDelta = TimeDelta::seconds(5);

/// How long a password may wait for others of its account that its client sent before it.
const ATTEMPT: Duration = Duration::from_secs(60);

const EMAIL_TAKEN: &str = "email already exists";
const INVALID_LOGIN: &str = "invalid email or password";
const INVALID_REFRESH: &str = "invalid or expired refresh token";
const REVOKED_REFRESH: &str = "refresh token has been revoked";

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["email", "password"]))]
pub(super) struct RegisterRequest {
    #[schemars(required, length(max = MAX_EMAIL_CHARACTERS), regex(pattern = email::PATTERN))]
    email: Option<String>,
    /// At most 72 bytes.
    #[schemars(required, length(min = MIN_PASSWORD_CHARACTERS, max = password::MAX_BYTES))]
    password: Option<String>,
    #[schemars(length(max = MAX_NAME_CHARACTERS), regex(pattern = STORABLE))]
    name: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Registered<'a> {
    message: &'static str,
    user: RegisteredUser<'a>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct RegisteredUser<'a> {
    id: &'a AccountId,
    email: &'a str,
    name: &'a str,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct ResendRequest {
    email: Option<String>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["email", "password"]))]
pub(super) struct LoginRequest {
    email: Option<String>,
    password: Option<String>,
    /// Whether the refresh token comes as a cookie that no script can read. Only the server's own page
    /// may ask for it.
    cookie: Option<bool>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct RefreshRequest {
    /// Not needed with the cookie.
    refresh_token: Option<String>,
    /// Whether the refresh token comes as a cookie, and is taken from it where none is given. Only the
    /// server's own page may ask for it.
    cookie: Option<bool>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["token"]))]
pub(super) struct VerifyRequest {
    /// The token of the verification link.
    #[schemars(required, length(min = 1))]
    token: Option<String>,
    /// Whether the refresh token comes as a cookie that no script can read. Only the server's own page
    /// may ask for it.
    cookie: Option<bool>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct UpdateRequest {
    notification_webhook_url: Option<String>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["password"]))]
pub(super) struct DeleteRequest {
    password: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Tokens<'a> {
    user: UserView<'a>,
    access_token: String,
    /// Absent where it comes as a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    expires_in: i64,
}

impl<P: Ports> App<P> {
    pub(super) async fn register(&self, request: Admitted<'_>) -> Answer {
        // The contract fixes these words, and gives no reason.
        let body: RegisterRequest =
            parse(&request.body).map_err(|_| ApiError::bad_request("invalid request body"))?;
        let password = body.password.unwrap_or_default();
        let email = body.email.unwrap_or_default();
        let name = body.name.unwrap_or_default();
        check_registration(&email, &password, &name)?;
        self.check_hashing(request.client)?;

        let email_key = email_key(&email);
        let known = self.ports.store().account_by_email(&email).await?;
        if known.is_some_and(|known| known.email_verified) {
            return Err(ApiError::conflict(EMAIL_TAKEN));
        }
        self.draw_mail(&email_key).await?;
        let password_hash = self.hash_password(request.client, password).await?;
        let now = self.now();
        let (token, verification) = self.new_mailed_token(MailKind::Verification);
        let mailer = self.ports.mailer();
        let account = NewAccount {
            id: AccountId::new(random_uuid(self.ports.entropy())),
            email_key,
            email,
            password_hash,
            name,
            verification,
            mail_due: mailer.takes_registrations().then_some(now),
            created_at: now,
        };
        let store = self.ports.store();
        let id = match store.create_account(&account).await? {
            Registration::Created(id) => id,
            Registration::EmailTaken => return Err(ApiError::conflict(EMAIL_TAKEN)),
        };
        let act = self.act(&id, &request, AuditEvent::AccountRegistered, Actor::Anyone);
        self.note(act).await;
        match account.mail_due {
            Some(_) => mailer.wake(),
            None => {
                let to = account.email.clone();
                self.mail(&request, MailKind::Verification, id.clone(), to, &token);
            }
        }
        self.purge_deleted_within(TimeDelta::zero()).await;
        let body = Registered {
            message: "注册成功，请检查邮箱完成验证",
            user: RegisteredUser {
                id: &id,
                email: &account.email,
                name: &account.name,
            },
        };
        Ok(json(StatusCode::CREATED, &body))
    }

    pub(super) async fn verify(&self, request: Admitted<'_>) -> Answer {
        let token = query_parameter(&request.parts.uri, "token").unwrap_or_default();
        self.verify_by(&request, token, None).await
    }

    pub(super) async fn verify_by_page(&self, request: Admitted<'_>) -> Answer {
        let body: VerifyRequest = request.fields()?;
        let cookie = self.wanted_cookie(&request, body.cookie)?;
        let token = body.token.unwrap_or_default();
        self.verify_by(&request, token, cookie).await
    }

    async fn verify_by(
        &self,
        request: &Admitted<'_>,
        token: String,
        cookie: Option<Cookie<'_>>,
    ) -> Answer {
        if token.is_empty() {
            return Err(Rule::Given.broken_by("token").into());
        }
        let store = self.ports.store();
        let account = store.verify_account(&sha256_hex(token), self.now()).await?;
        let account = account.ok_or_else(|| ApiError::bad_request("invalid or expired token"))?;
        let (event, actor) = (AuditEvent::AccountVerified, Actor::MailedLink);
        self.note(self.act(&account.id, request, event, actor))
            .await;
        self.start_family(request, &account, actor, cookie).await
    }

    pub(super) async fn resend_verify(&self, request: Admitted<'_>) -> Answer {
        let body: ResendRequest = request.fields()?;
        let asked = self.now();
        let email = body.email.unwrap_or_default();
        let account = self.find_account(&email).await?;
        let account = account.filter(|account| !account.email_verified);
        let wanted = account.is_some();
        let allowed = self
            .draw_silent_mail(request.trace, &email_key(&email), wanted)
            .await?;
        let account = account.filter(|_| allowed);
        let (token, verification) = self.new_mailed_token(MailKind::Verification);
        // The same work for every address.
        let id = account.as_ref().map(|account| account.id.clone());
        let id = id.unwrap_or_else(|| self.nobody());
        let store = self.ports.store();
        store.set_verification(&id, &verification).await?;
        if let Some(account) = account {
            let (id, to) = (account.id, account.email);
            self.mail(&request, MailKind::Verification, id, to, &token);
        }
        self.wait_in_silence(asked).await;
        confirm("如果该邮箱已注册，您将收到一封验证邮件")
    }

    pub(super) async fn login(&self, request: Admitted<'_>) -> Answer {
        let body: LoginRequest = request.fields()?;
        let cookie = self.wanted_cookie(&request, body.cookie)?;
        let email = body.email.unwrap_or_default();
        self.check_hashing(request.client)?;
        let account = self.find_account(&email).await?;
        // Failures at addresses without an account cost what others do.
        let owner = audit::owner(account.as_ref(), &email);
        let given = body.password.unwrap_or_default();
        let right = self
            .is_password(request.client, &email, account.as_ref(), given)
            .await?;
        match account.filter(|_| right) {
            None => {
                let act = Act::new(owner, AuditEvent::LoginFailed, Actor::Password);
                self.note(act.from(self.origin(request.parts))).await;
                Err(ApiError::unauthorized(INVALID_LOGIN))
            }
            Some(account) if !account.email_verified => Err(ApiError::email_not_verified()),
            Some(account) => {
                self.start_family(&request, &account, Actor::Password, cookie)
                    .await
            }
        }
    }

    pub(super) async fn refresh(&self, request: Admitted<'_>) -> Answer {
        let body: RefreshRequest = request.fields()?;
        let cookie = self.wanted_cookie(&request, body.cookie)?;
        let kept = || cookie?.value(&request.parts.headers).map(str::to_owned);
        let given = body.refresh_token.filter(|token| !token.is_empty());
        let token = given.or_else(kept).unwrap_or_default();
        let invalid = || ApiError::unauthorized(INVALID_REFRESH);
        let revoked = || ApiError::unauthorized(REVOKED_REFRESH);
        let now = self.now();
        let store = self.ports.store();
        self.signer
            .verify(TokenType::Refresh, &token, now)
            .ok_or_else(invalid)?;
        let stored = store.refresh_token(&sha256_hex(&token)).await?;
        let stored = match decide_refresh(stored, now) {
            RefreshDecision::Rotate(stored) => stored,
            RefreshDecision::Invalid => return Err(invalid()),
            RefreshDecision::Revoked => return Err(revoked()),
            RefreshDecision::RevokeFamily(stored) => {
                store.revoke_token_family(&stored.family_id).await?;
                let (event, actor) = (AuditEvent::TokenReused, Actor::RefreshToken);
                let act = self.act(&stored.account_id, &request, event, actor);
                self.note(act).await;
                return Err(revoked());
            }
        };
        let account = store
            .account(&stored.account_id)
            .await?
            .ok_or_else(invalid)?;
        let (tokens, successor) = self.new_tokens(&account, stored.family_id, now)?;
        let hash = &stored.token_hash;
        match store.rotate_refresh_token(hash, now, &successor).await? {
            true => self.hand_over(tokens, cookie),
            false => Err(revoked()),
        }
    }

    pub(super) async fn logout(&self, request: Admitted<'_>) -> Answer {
        let id = request.caller.account()?;
        self.ports.store().revoke_refresh_tokens(id).await?;
        let act = self.act(id, &request, AuditEvent::LoginEnded, Actor::AccessToken);
        self.note(act).await;
        let mut answer = confirm("logged out successfully")?;
        self.cookie(&request).clear(&mut answer);
        Ok(answer)
    }

    pub(super) async fn get_me(&self, request: Admitted<'_>) -> Answer {
        let id = request.caller.account()?;
        let account = self.ports.store().account(id).await?;
        ok(&self.view(&account.ok_or_else(Self::unknown_account)?))
    }

    pub(super) async fn put_me(&self, request: Admitted<'_>) -> Answer {
        let body: UpdateRequest = request.fields()?;
        let Some(url) = body.notification_webhook_url else {
            return self.get_me(request).await;
        };
        let url = url.trim();
        if !url.is_empty() {
            self.check_notification_url(url)?;
        }
        let id = request.caller.account()?;
        let store = self.ports.store();
        let account = store.set_notification_url(id, url, self.now()).await?;
        let account = account.ok_or_else(Self::unknown_account)?;
        let event = match url.is_empty() {
            true => AuditEvent::WebhookRemoved,
            false => AuditEvent::WebhookChanged,
        };
        // Where the receiver is, not what its path or query give away.
        let receiver = Url::parse(url).map(|url| url.origin().ascii_serialization());
        let act = self.act(id, &request, event, Actor::AccessToken);
        self.note(act.on(receiver.unwrap_or_default(), "")).await;
        ok(&self.view(&account))
    }

    pub(super) async fn delete_me(&self, request: Admitted<'_>) -> Answer {
        let body: DeleteRequest = request.fields()?;
        let given = body.password.unwrap_or_default();
        let account = self.authorize_by_password(&request, given).await?;
        let deleted = self
            .ports
            .store()
            .delete_account(&account, self.now())
            .await;
        // Also after a failure: it may have taken effect.
        self.known_accounts.forget(&account.id);
        self.ports.events().recheck();
        if !deleted? {
            return Err(ApiError::invalid_password());
        }
        let event = AuditEvent::AccountDeleted;
        let act = self.act(&account.id, &request, event, Actor::Password);
        self.note(act).await;
        self.purge_deleted_within(DELETION).await;
        let mut answer = confirm("account deleted")?;
        self.cookie(&request).clear(&mut answer);
        Ok(answer)
    }

    /// An account as its owner sees it.
    fn view<'a>(&self, account: &'a Account) -> UserView<'a> {
        account.view(self.is_member(account))
    }

    /// Removes what deleted accounts have left, part by part for this long, at least one part. A
    /// failure is no concern of the request that this comes with.
    async fn purge_deleted_within(&self, time: TimeDelta) {
        let until = self.now() + time;
        loop {
            match self.ports.store().purge_deleted(self.now()).await {
                Ok(true) if self.now() < until => {}
                Ok(_) => return,
                Err(error) => {
                    let causes = causes(&error);
                    tracing::warn!(%causes, "what deleted accounts have left is not removed yet");
                    return;
                }
            }
        }
    }

    /// The caller's account, if this is its password.
    pub(super) async fn authorize_by_password(
        &self,
        request: &Admitted<'_>,
        given: String,
    ) -> Result<Account, ApiError> {
        let id = request.caller.account()?;
        let account = self.ports.store().account(id).await?;
        let account = account.ok_or_else(Self::unknown_account)?;
        self.check_hashing(request.client)?;
        let email = account.email.clone();
        match self
            .is_password(request.client, &email, Some(&account), given)
            .await?
        {
            true => Ok(account),
            false => {
                let event = AuditEvent::PasswordRefused;
                let act = self.act(id, request, event, Actor::AccessToken);
                self.note(act).await;
                Err(ApiError::invalid_password())
            }
        }
    }

    /// Refuses a client that has too many passwords waiting, before anything is read or counted.
    pub(super) fn check_hashing(&self, client: Client) -> Result<(), ApiError> {
        match self.ports.passwords().admits(client.key()) {
            true => Ok(()),
            false => Err(PasswordFailure::Crowded.into()),
        }
    }

    /// Waits for a turn at the password of an address. Tries of one client come one after the other:
    /// a right one is counted only while it is checked, and so never stands in the way of the next.
    async fn attempt(
        &self,
        email_key: &str,
        client: Client,
    ) -> Result<Option<Turn<(String, IpAddr)>>, ApiError> {
        let Some(address) = client.key() else {
            return Ok(None);
        };
        let key = (email_key.to_owned(), address);
        let turn = self.attempts.wait(&key, self.ports.pause(ATTEMPT)).await;
        turn.map_err(|Impatient| PasswordFailure::Crowded.into())
    }

    /// Checks whether the account of an address has this password. What fails is counted, and whether
    /// there is an account makes no difference.
    async fn is_password(
        &self,
        client: Client,
        email: &str,
        account: Option<&Account>,
        given: String,
    ) -> Result<bool, ApiError> {
        let email_key = email_key(email);
        let _turn = self.attempt(&email_key, client).await?;
        let drawn = self.draw_attempt(&email_key, client).await?;
        // What bcrypt would cut off is no part of any password.
        let possible = given.len() <= password::MAX_BYTES;
        let hash = account.map_or(password::DECOY, |account| &account.password_hash);
        let passwords = self.ports.passwords();
        let verified = passwords
            .verify(client.key(), given, hash.to_owned())
            .await
            .map(|right| right && possible && account.is_some());
        if !matches!(verified, Ok(false)) {
            self.put_back(drawn).await;
        }
        Ok(verified?)
    }

    fn check_notification_url(&self, url: &str) -> Result<(), InvalidField> {
        let field = "notification_webhook_url";
        storable(field, url)?;
        check_webhook_url(url).map_err(|rule| rule.broken_by(field))?;
        let Settings {
            values, host, mode, ..
        } = &self.settings;
        values
            .check_receiver(*host, *mode, url)
            .map_err(|rule| Rule::Sentence(rule).broken_by(field))
    }

    /// The account of an address. One that no account can have is not looked up.
    pub(super) async fn find_account(&self, email: &str) -> Result<Option<Account>, ApiError> {
        let is_nobodys = email.is_empty() || email_key(email) == operator::EMAIL;
        if is_nobodys || storable("email", email).is_err() {
            return Ok(None);
        }
        Ok(self.ports.store().account_by_email(email).await?)
    }

    /// Logs an account in: the first tokens of a new family.
    pub(super) async fn start_family(
        &self,
        request: &Admitted<'_>,
        account: &Account,
        actor: Actor,
        cookie: Option<Cookie<'_>>,
    ) -> Answer {
        let family = random_uuid(self.ports.entropy());
        let (tokens, stored) = self.new_tokens(account, family, self.now())?;
        let store = self.ports.store();
        store.insert_refresh_token(&stored).await?;
        // The password may have been changed, or the account deleted, since it was looked at. Either
        // that revokes this token, or it is seen here.
        let current = store.account(&account.id).await?;
        match current.is_some_and(|current| current.password_hash == account.password_hash) {
            true => {
                let event = AuditEvent::LoginSucceeded;
                self.note(self.act(&account.id, request, event, actor))
                    .await;
                self.hand_over(tokens, cookie)
            }
            false => {
                store.revoke_token_family(&stored.family_id).await?;
                Err(ApiError::unauthorized(INVALID_LOGIN))
            }
        }
    }

    fn new_tokens<'a>(
        &self,
        account: &'a Account,
        family_id: String,
        now: Timestamp,
    ) -> Result<(Tokens<'a>, RefreshToken), ApiError> {
        let settings = &self.settings.values;
        let sign = |kind, expiry| {
            self.signer
                .sign(kind, account, now, expiry, self.ports.entropy())
                .map_err(ApiError::internal)
        };
        let access_token = sign(TokenType::Access, settings.jwt_access_token_expiry)?;
        let refresh_token = sign(TokenType::Refresh, settings.jwt_refresh_token_expiry)?;
        let stored = RefreshToken {
            token_hash: sha256_hex(&refresh_token),
            account_id: account.id.clone(),
            family_id,
            created_at: now,
            expires_at: now + settings.jwt_refresh_token_expiry,
            spent_at: None,
            revoked: false,
        };
        let tokens = Tokens {
            user: self.view(account),
            access_token,
            refresh_token: Some(refresh_token),
            expires_in: settings.jwt_access_token_expiry.num_seconds(),
        };
        Ok((tokens, stored))
    }

    /// The answer with tokens, the refresh token in the cookie if there is to be one.
    fn hand_over(&self, mut tokens: Tokens<'_>, cookie: Option<Cookie<'_>>) -> Answer {
        let kept = cookie.and_then(|cookie| Some((cookie, tokens.refresh_token.take()?)));
        let mut response = secret(StatusCode::OK, &tokens)?;
        if let Some((cookie, token)) = kept {
            let lifetime = self.settings.values.jwt_refresh_token_expiry;
            cookie.set(&mut response, &token, lifetime.num_seconds());
        }
        Ok(response)
    }

    /// A token to be mailed, and what is stored of it.
    pub(super) fn new_mailed_token(&self, kind: MailKind) -> (String, MailedToken) {
        MailedToken::new(kind, self.now(), self.ports.entropy())
    }

    pub(super) fn mail(
        &self,
        request: &Admitted<'_>,
        kind: MailKind,
        account_id: AccountId,
        to: String,
        token: &str,
    ) {
        let page = self.page_url(request);
        let mail = Mail::new(kind, account_id, to, &page, token);
        self.ports.mailer().send(mail);
    }

    /// An id that no account has.
    pub(super) fn nobody(&self) -> AccountId {
        AccountId::new(random_uuid(self.ports.entropy()))
    }

    /// Waits until an answer that must not tell who is registered may be given.
    pub(super) async fn wait_in_silence(&self, asked: Timestamp) {
        let taken = (self.now() - asked).to_std().unwrap_or_default();
        self.ports.pause(SILENT_ANSWER.saturating_sub(taken)).await;
    }
}

/// Checks a registration's fields in the order of the contract's table.
pub(crate) fn check_registration(
    email: &str,
    password: &str,
    name: &str,
) -> Result<(), InvalidField> {
    check_password("password", password)?;
    if email.trim().is_empty() {
        return Err(Rule::Required.broken_by("email"));
    }
    if !email::is_email(email) {
        return Err(Rule::Email.broken_by("email"));
    }
    if email.chars().count() > MAX_EMAIL_CHARACTERS {
        return Err(Rule::MaxCharacters(MAX_EMAIL_CHARACTERS).broken_by("email"));
    }
    if name.chars().count() > MAX_NAME_CHARACTERS {
        return Err(Rule::MaxCharacters(MAX_NAME_CHARACTERS).broken_by("name"));
    }
    storable("name", name)
}

/// Checks whether a password may be set.
pub(crate) fn check_password(field: &'static str, password: &str) -> Result<(), InvalidField> {
    if password.chars().count() < MIN_PASSWORD_CHARACTERS {
        return Err(Rule::MinCharacters(MIN_PASSWORD_CHARACTERS).broken_by(field));
    }
    if password.len() > password::MAX_BYTES {
        return Err(Rule::MaxBytes(password::MAX_BYTES).broken_by(field));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_are_checked_field_by_field() {
        let long_email = |length: usize| format!("{}@example.com", "a".repeat(length - 12));
        let check = |email: &str, password: &str, name: &str| {
            check_registration(email, password, name)
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        assert_eq!(check("a@b.io", "12345678", ""), "");
        assert_eq!(
            check("", "1234567", ""),
            "password must be at least 8 characters"
        );
        assert_eq!(check("a@b.io", "密码密码密码密码", ""), "");
        assert_eq!(check("a@b.io", &"x".repeat(72), ""), "");
        assert_eq!(
            check("a@b.io", &"x".repeat(73), ""),
            "password must be at most 72 bytes"
        );
        assert_eq!(
            check("a@b.io", &"密".repeat(25), ""),
            "password must be at most 72 bytes"
        );
        assert_eq!(check(" ", "12345678", ""), "email is required");
        for email in ["a.b+c_%d-@b-c.e.io", "1@2.io", "A@B.IO"] {
            assert_eq!(check(email, "12345678", ""), "", "{email}");
        }
        let long_label = format!("a@{}.io", "b".repeat(64));
        for email in [
            "a",
            "a@b",
            "@b.io",
            "a@.",
            "a@b.c",
            "a b@c.io",
            "a@b.io ",
            "a@b@c.io",
            "a\0@b.io",
            "a@..io",
            "a@.b.io",
            "a@b..io",
            "a@-b.io",
            "a@b-.io",
            ".a@b.io",
            "a.@b.io",
            "a..b@c.io",
            &long_label,
        ] {
            assert_eq!(
                check(email, "12345678", ""),
                "invalid email format",
                "{email}"
            );
        }
        assert_eq!(check(&long_email(255), "12345678", ""), "");
        assert_eq!(
            check(&long_email(256), "12345678", ""),
            "email must be <= 255 characters"
        );
        assert_eq!(check("a@b.io", "12345678", &"名".repeat(200)), "");
        assert_eq!(
            check("a@b.io", "12345678", &"名".repeat(201)),
            "name must be <= 200 characters"
        );
    }
}
