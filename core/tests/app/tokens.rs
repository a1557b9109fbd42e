//! How tokens live, are spent and revoked, by a clock that the test moves.

use crate::server::{JWT_SECRET, Reply, Server, settings};
use chrono::TimeDelta;
use http::{Request, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kubeagents_core::AuthMode;
use kubeagents_core::ports::Clock;
use kubeagents_core::store::Accounts;
use serde_json::{Value, json};

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse";

fn server() -> Server {
    Server::new(settings(AuthMode::Required))
}

/// Registers and verifies an account; its first tokens.
fn verified(server: &Server) -> Value {
    let body = json!({"email": EMAIL, "password": PASSWORD});
    assert_eq!(
        server.post("/api/auth/register", &body).status,
        StatusCode::CREATED
    );
    let path = format!("/api/auth/verify?token={}", server.mailed_token());
    let reply = server.get(&path);
    assert_eq!(reply.status, StatusCode::OK);
    reply.json()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

fn refresh(server: &Server, token: &str) -> Reply {
    server.post("/api/auth/refresh", &json!({"refresh_token": token}))
}

#[track_caller]
fn assert_refused(reply: &Reply, message: &str) {
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(reply.json()["message"], message);
}

const REVOKED: &str = "refresh token has been revoked";
const INVALID: &str = "invalid or expired refresh token";

#[test]
fn a_spent_token_is_just_refused_for_ten_seconds() {
    let server = server();
    let first = verified(&server);
    let second = refresh(&server, text(&first, "refresh_token")).json();
    server
        .clock
        .advance(TimeDelta::seconds(10) - TimeDelta::microseconds(1));
    assert_refused(&refresh(&server, text(&first, "refresh_token")), REVOKED);
    assert_eq!(
        refresh(&server, text(&second, "refresh_token")).status,
        StatusCode::OK
    );
}

#[test]
fn a_spent_token_after_ten_seconds_revokes_its_family_and_no_other() {
    let server = server();
    let first = verified(&server);
    let other = server
        .post(
            "/api/auth/login",
            &json!({"email": EMAIL, "password": PASSWORD}),
        )
        .json();
    let second = refresh(&server, text(&first, "refresh_token")).json();
    server.clock.advance(TimeDelta::seconds(10));
    assert_refused(&refresh(&server, text(&first, "refresh_token")), REVOKED);
    assert_refused(&refresh(&server, text(&second, "refresh_token")), REVOKED);
    assert_eq!(
        refresh(&server, text(&other, "refresh_token")).status,
        StatusCode::OK
    );
}

#[test]
fn tokens_expire_at_their_instant() {
    let server = server();
    let tokens = verified(&server);
    assert_eq!(tokens["expires_in"], 900);
    let me = |server: &Server| {
        server
            .get_as(text(&tokens, "access_token"), "/api/auth/me")
            .status
    };
    server.clock.advance(TimeDelta::seconds(899));
    assert_eq!(me(&server), StatusCode::OK);
    server.clock.advance(TimeDelta::seconds(1));
    assert_eq!(me(&server), StatusCode::UNAUTHORIZED);

    server
        .clock
        .advance(TimeDelta::hours(168) - TimeDelta::seconds(900));
    assert_refused(&refresh(&server, text(&tokens, "refresh_token")), INVALID);
}

#[test]
fn a_verification_link_works_for_a_day() {
    let server = server();
    let body = json!({"email": EMAIL, "password": PASSWORD});
    server.post("/api/auth/register", &body);
    server.clock.advance(TimeDelta::hours(24));
    let path = format!("/api/auth/verify?token={}", server.mailed_token());
    assert_eq!(
        server.get(&path).json()["message"],
        "invalid or expired token"
    );
    server.post("/api/auth/resend-verify", &json!({"email": EMAIL}));
    server
        .clock
        .advance(TimeDelta::hours(24) - TimeDelta::seconds(1));
    let path = format!("/api/auth/verify?token={}", server.mailed_token());
    assert_eq!(server.get(&path).status, StatusCode::OK);
}

#[test]
fn a_link_to_reset_a_password_works_for_an_hour() {
    let server = server();
    verified(&server);
    let reset_after = |time| {
        server.post("/api/auth/forgot", &json!({"email": EMAIL}));
        let body = json!({"token": server.mailed_token(), "password": "another password"});
        server.clock.advance(time);
        server.post("/api/auth/reset", &body)
    };
    let refused = reset_after(TimeDelta::hours(1));
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.json()["message"], "invalid or expired token");
    let in_time = reset_after(TimeDelta::hours(1) - TimeDelta::seconds(1));
    assert_eq!(in_time.status, StatusCode::OK);
}

#[test]
fn asking_for_a_link_takes_the_same_time_for_every_address() {
    let server = server();
    verified(&server);
    let waiting = "waiting@example.com";
    let body = json!({"email": waiting, "password": PASSWORD});
    server.post("/api/auth/register", &body);
    let times = [EMAIL, waiting, "nobody@example.com", "no address", ""].map(|email| {
        let asked = server.clock.now();
        server.post("/api/auth/resend-verify", &json!({"email": email}));
        server.clock.now() - asked
    });
    assert_eq!(times, [times[0]; 5]);
}

#[test]
fn an_api_key_expires_at_its_instant() {
    let server = server();
    let tokens = verified(&server);
    let request = Request::post("/api/apikeys")
        .header(
            "authorization",
            format!("Bearer {}", text(&tokens, "access_token")),
        )
        .body(json!({"name": "k", "expires_in": 1, "scopes": ["read"]}).to_string())
        .unwrap();
    let key = text(&server.send(request).json(), "key").to_owned();
    server
        .clock
        .advance(TimeDelta::days(1) - TimeDelta::microseconds(1));
    assert_eq!(server.get_as(&key, "/api/agents").status, StatusCode::OK);
    server.clock.advance(TimeDelta::microseconds(1));
    assert_eq!(
        server.get_as(&key, "/api/agents").status,
        StatusCode::UNAUTHORIZED
    );
}

/// A token with these claims, signed with this secret.
fn sign(secret: &str, algorithm: Algorithm, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
}

#[test]
fn an_access_token_of_the_go_server_is_accepted_until_it_expires() {
    let server = server();
    let user = verified(&server)["user"]["id"].clone();
    let now = server.clock.now().timestamp();
    let claims = json!({
        "user_id": user, "email": EMAIL, "iss": "kubeagents", "sub": user,
        "exp": now + 900, "nbf": now, "iat": now,
    });
    let token = sign(JWT_SECRET, Algorithm::HS256, &claims);
    assert_eq!(server.get_as(&token, "/api/auth/me").status, StatusCode::OK);
    assert_eq!(server.get_as(&token, "/api/agents").status, StatusCode::OK);
    assert_refused(&refresh(&server, &token), INVALID);
    server.clock.advance(TimeDelta::seconds(900));
    assert_eq!(
        server.get_as(&token, "/api/agents").status,
        StatusCode::UNAUTHORIZED
    );
}

#[test]
fn tokens_that_say_or_prove_something_else_are_refused() {
    let server = server();
    let tokens = verified(&server);
    let user = &tokens["user"]["id"];
    let now = server.clock.now().timestamp();
    let claims = |change: fn(&mut Value, i64)| {
        let mut claims = json!({
            "user_id": user, "email": EMAIL, "iss": "kubeagents", "sub": user,
            "token_type": "access", "exp": now + 900, "nbf": now, "iat": now,
        });
        change(&mut claims, now);
        claims
    };
    let signed = |change| sign(JWT_SECRET, Algorithm::HS256, &claims(change));
    assert_eq!(
        server.get_as(&signed(|_, _| ()), "/api/agents").status,
        StatusCode::OK
    );
    let unsigned = signed(|_, _| ()).rsplit_once('.').unwrap().0.to_owned() + ".";
    for (what, token) in [
        ("refresh token", text(&tokens, "refresh_token").to_owned()),
        (
            "another secret",
            sign("another secret", Algorithm::HS256, &claims(|_, _| ())),
        ),
        (
            "another type",
            signed(|c, _| c["token_type"] = json!("session")),
        ),
        ("another issuer", signed(|c, _| c["iss"] = json!("someone"))),
        ("two users", signed(|c, _| c["sub"] = json!("someone"))),
        ("not yet", signed(|c, now| c["nbf"] = json!(now + 61))),
        ("no end", signed(|c, _| c["exp"] = Value::Null)),
        ("no signature", unsigned),
        ("nonsense", "a.b.c".to_owned()),
    ] {
        assert_eq!(
            server.get_as(&token, "/api/agents").status,
            StatusCode::UNAUTHORIZED,
            "{what}"
        );
        assert_eq!(
            server.get_as(&token, "/api/auth/me").status,
            StatusCode::UNAUTHORIZED,
            "{what}"
        );
    }
}

#[test]
fn a_log_in_that_a_change_of_the_password_overtakes_is_refused() {
    let server = server();
    let tokens = verified(&server);
    server.meanwhile(async |store| {
        let account = store.account_by_email(EMAIL).await.unwrap().unwrap();
        let changed = store.change_password(&account, "another", account.created_at);
        assert!(changed.await.unwrap());
    });
    let login = json!({"email": EMAIL, "password": PASSWORD});
    let reply = server.post("/api/auth/login", &login);
    assert_refused(&reply, "invalid email or password");
    assert_refused(&refresh(&server, text(&tokens, "refresh_token")), REVOKED);
}

#[test]
fn an_access_token_of_an_account_that_another_host_deleted_is_refused_after_five_seconds() {
    let server = server();
    let tokens = verified(&server);
    let access = text(&tokens, "access_token");
    server.meanwhile(async |store| {
        let account = store.account_by_email(EMAIL).await.unwrap().unwrap();
        let deleted = store.delete_account(&account, account.created_at);
        assert!(deleted.await.unwrap());
    });
    for path in ["/api/agents", "/api/auth/me"] {
        let status = server.get_as(access, path).status;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    let login = json!({"email": EMAIL, "password": PASSWORD});
    let reply = server.post("/api/auth/login", &login);
    assert_refused(&reply, "invalid email or password");
    server.clock.advance(TimeDelta::seconds(5));
    for path in ["/api/agents", "/api/auth/me"] {
        let reply = server.get_as(access, path);
        assert_refused(&reply, "invalid or expired token");
    }
}
