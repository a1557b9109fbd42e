//! `/api/auth/…`: registering, proving an address, logging in and out.

use std::time::Duration;

use chrono::TimeDelta;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::response::{Answer, confirm, json, ok, secret};
use super::{Admitted, ApiError, App, query_parameter};
use crate::account::UserView;
use crate::notification::check_webhook_url;
use crate::ports::{Entropy, Mailer, Passwords, Ports, VerificationMail, random, random_uuid};
use crate::store::{Accounts, RefreshTokens, Registration};
use crate::token::TokenType;
use crate::validation::{STORABLE, storable};
use crate::{
    Account, AccountId, InvalidField, NewAccount, RefreshDecision, RefreshToken, Rule, Settings,
    Timestamp, Verification, decide_refresh, email_key, password, sha256_hex,
};

/// How long a verification link works.
const VERIFICATION_EXPIRY: TimeDelta = TimeDelta::hours(24);

const MIN_PASSWORD_CHARACTERS: usize = 8;
const MAX_EMAIL_CHARACTERS: usize = 255;
const MAX_NAME_CHARACTERS: usize = 200;

/// When answers that must not tell who is registered are given, after the request: later than their
/// work is done, mail or no mail.
const SILENT_ANSWER: Duration = Duration::from_millis(100);

const INVALID_REFRESH: &str = "invalid or expired refresh token";
const REVOKED_REFRESH: &str = "refresh token has been revoked";

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["email", "password"]))]
pub(super) struct RegisterRequest {
    #[schemars(required, length(max = MAX_EMAIL_CHARACTERS), regex(pattern = EMAIL))]
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
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["refresh_token"]))]
pub(super) struct RefreshRequest {
    refresh_token: Option<String>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct UpdateRequest {
    notification_webhook_url: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Tokens<'a> {
    user: UserView<'a>,
    access_token: String,
    refresh_token: String,
    expires_in: i64,
}

impl<P: Ports> App<P> {
    pub(super) async fn register(&self, request: Admitted<'_>) -> Answer {
        let body: RegisterRequest = request.fields()?;
        let password = body.password.unwrap_or_default();
        let email = body.email.unwrap_or_default();
        let name = body.name.unwrap_or_default();
        check_registration(&email, &password, &name)?;

        let salt = random(self.ports.entropy());
        let password_hash = self.ports.passwords().hash(password, salt).await?;
        let now = self.now();
        let (token, verification) = self.new_verification(now);
        let account = NewAccount {
            id: AccountId::new(random_uuid(self.ports.entropy())),
            email_key: email_key(&email),
            email,
            password_hash,
            name,
            verification,
            created_at: now,
        };
        match self.ports.store().create_account(&account).await? {
            Registration::EmailTaken => return Err(ApiError::conflict("email already exists")),
            Registration::Created => {}
        }
        self.mail_verification(account.id.clone(), account.email.clone(), &token);
        let body = Registered {
            message: "注册成功，请检查邮箱完成验证",
            user: RegisteredUser {
                id: &account.id,
                email: &account.email,
                name: &account.name,
            },
        };
        Ok(json(StatusCode::CREATED, &body))
    }

    pub(super) async fn verify(&self, request: Admitted<'_>) -> Answer {
        let token = query_parameter(&request.parts.uri, "token").unwrap_or_default();
        if token.is_empty() {
            return Err(Rule::Given.broken_by("token").into());
        }
        let store = self.ports.store();
        let account = store.verify_account(&sha256_hex(token), self.now()).await?;
        let account = account.ok_or_else(|| ApiError::bad_request("invalid or expired token"))?;
        self.start_family(&account).await
    }

    pub(super) async fn resend_verify(&self, request: Admitted<'_>) -> Answer {
        let body: ResendRequest = request.fields()?;
        let asked = self.now();
        let account = self.find_account(&body.email.unwrap_or_default()).await?;
        if let Some(account) = account.filter(|account| !account.email_verified) {
            let (token, verification) = self.new_verification(self.now());
            let store = self.ports.store();
            store.set_verification(&account.id, &verification).await?;
            self.mail_verification(account.id, account.email, &token);
        }
        let taken = (self.now() - asked).to_std().unwrap_or_default();
        self.ports.pause(SILENT_ANSWER.saturating_sub(taken)).await;
        confirm("如果该邮箱已注册，您将收到一封验证邮件")
    }

    pub(super) async fn login(&self, request: Admitted<'_>) -> Answer {
        let body: LoginRequest = request.fields()?;
        let account = self.find_account(&body.email.unwrap_or_default()).await?;
        let given = body.password.unwrap_or_default();
        // What bcrypt would cut off is no part of any password.
        let possible = given.len() <= password::MAX_BYTES;
        let hash = account
            .as_ref()
            .map_or(password::DECOY, |account| &account.password_hash);
        let right = self
            .ports
            .passwords()
            .verify(given, hash.to_owned())
            .await?
            && possible;
        match account.filter(|_| right) {
            None => Err(ApiError::unauthorized("invalid email or password")),
            Some(account) if !account.email_verified => Err(ApiError::email_not_verified()),
            Some(account) => self.start_family(&account).await,
        }
    }

    pub(super) async fn refresh(&self, request: Admitted<'_>) -> Answer {
        let body: RefreshRequest = request.fields()?;
        let token = body.refresh_token.unwrap_or_default();
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
                tracing::warn!(
                    account = stored.account_id.as_str(),
                    "a spent refresh token was presented again: its family is revoked"
                );
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
            true => secret(StatusCode::OK, &tokens),
            false => Err(revoked()),
        }
    }

    pub(super) async fn logout(&self, request: Admitted<'_>) -> Answer {
        let id = request.caller.account()?;
        self.ports.store().revoke_refresh_tokens(id).await?;
        confirm("logged out successfully")
    }

    pub(super) async fn get_me(&self, request: Admitted<'_>) -> Answer {
        let id = request.caller.account()?;
        let account = self.ports.store().account(id).await?;
        ok(&account.ok_or_else(Self::unknown_account)?.view())
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
        ok(&account.ok_or_else(Self::unknown_account)?.view())
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
            .map_err(|rule| Rule::Receiver(rule).broken_by(field))
    }

    /// The account of an address. One that no account can have is not looked up.
    async fn find_account(&self, email: &str) -> Result<Option<Account>, ApiError> {
        if email.is_empty() || storable("email", email).is_err() {
            return Ok(None);
        }
        Ok(self.ports.store().account_by_email(email).await?)
    }

    /// Logs an account in: the first tokens of a new family.
    async fn start_family(&self, account: &Account) -> Answer {
        let family = random_uuid(self.ports.entropy());
        let (tokens, stored) = self.new_tokens(account, family, self.now())?;
        self.ports.store().insert_refresh_token(&stored).await?;
        secret(StatusCode::OK, &tokens)
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
            user: account.view(),
            access_token,
            refresh_token,
            expires_in: settings.jwt_access_token_expiry.num_seconds(),
        };
        Ok((tokens, stored))
    }

    /// A token to be mailed, and what is stored of it.
    fn new_verification(&self, now: Timestamp) -> (String, Verification) {
        let token = random_token(self.ports.entropy());
        let verification = Verification {
            token_hash: sha256_hex(&token),
            expires_at: now + VERIFICATION_EXPIRY,
        };
        (token, verification)
    }

    fn mail_verification(&self, account_id: AccountId, to: String, token: &str) {
        let link = format!("{}/verify?token={token}", self.settings.values.app_base_url);
        self.ports.mailer().send(VerificationMail {
            account_id,
            to,
            link,
        });
    }
}

/// 32 random bytes in hexadecimal.
fn random_token(entropy: &impl Entropy) -> String {
    sha256_hex(random::<32>(entropy))
}

/// Checks a registration's fields in the order of the contract's table.
fn check_registration(email: &str, password: &str, name: &str) -> Result<(), InvalidField> {
    if password.chars().count() < MIN_PASSWORD_CHARACTERS {
        return Err(Rule::MinCharacters(MIN_PASSWORD_CHARACTERS).broken_by("password"));
    }
    if password.len() > password::MAX_BYTES {
        return Err(Rule::MaxBytes(password::MAX_BYTES).broken_by("password"));
    }
    if email.trim().is_empty() {
        return Err(Rule::Required.broken_by("email"));
    }
    if !is_email(email) {
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

/// What [`is_email`] takes, as JSON Schema writes it.
const EMAIL: &str = concat!(
    r"^[A-Za-z0-9_%+-]+(\.[A-Za-z0-9_%+-]+)*@",
    r"([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,}$"
);

/// Whether a text has the form of an address that mail on the internet reaches: `local@host.tld` in
/// ASCII, the form that the Go server takes. Whether anyone reads it, the verification mail tells.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let Some((host, tld)) = domain.rsplit_once('.') else {
        return false;
    };
    let are_parts = |text: &str, allowed: fn(&str) -> bool| text.split('.').all(allowed);
    are_parts(local, is_local_part)
        && are_parts(host, is_host_label)
        && tld.len() >= 2
        && tld.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn is_local_part(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_%+-".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn is_host_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(allowed)
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
