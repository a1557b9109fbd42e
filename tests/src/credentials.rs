//! The `Authorization` header, and the routes that look at it.

use std::sync::Arc;

use http::Method;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::Mode;
use crate::client::{Client, Request};
use crate::jwt;
use crate::scenario::{assert_answer_snapshot, scenarios};
use crate::world::{PASSWORD, World, report, with, without};

scenarios! {
    no_credentials_are_needed_in_open_mode [Open],
    credentials_are_needed_in_required_mode [Required],
    account_routes_need_credentials_in_both_modes,
    an_authorization_of_another_form_is_refused,
    an_empty_bearer_counts_as_absent,
    an_unknown_token_is_refused,
    the_scheme_is_case_insensitive [Accounts],
    an_access_token_reports_and_reads [Accounts],
    account_routes_accept_access_tokens_only [Accounts],
    the_static_key_reports_and_reads [StaticKey],
    account_routes_refuse_the_static_key [StaticKey],
    a_refresh_token_is_no_access_token [Accounts],
    a_forged_token_is_refused [Accounts],
    a_token_of_the_go_server_is_accepted [Accounts, JwtSecret],
    a_token_out_of_its_time_is_refused [Accounts, JwtSecret],
    a_signed_refresh_token_is_refused_as_an_access_token [Accounts, JwtSecret],
    public_routes_ignore_credentials,
    signing_in_ignores_credentials [Accounts],
    a_401_says_how_to_authenticate,
}

const MISSING: &str = "missing authorization header";
const FORMAT: &str = "invalid authorization format";
const INVALID: &str = "invalid or expired token";

/// A request to every route of the workspace.
fn workspace_routes(client: &Client, agent: &str) -> Vec<Request> {
    let mut requests: Vec<_> = ["", "/sessions", "/sessions/t", "/history", "/status"]
        .iter()
        .map(|rest| client.get(&format!("/api/agents/{agent}{rest}")))
        .collect();
    requests.push(client.get("/api/agents"));
    requests.push(client.post("/webhook/status", &report(agent, "t", "running")));
    requests
}

/// A request to every route of an account that has no effect on it.
fn account_routes(client: &Client) -> Vec<Request> {
    vec![
        client.get("/api/auth/me"),
        client.put("/api/auth/me", &json!({})),
        client.get("/api/apikeys"),
        client.get("/api/apikeys/"),
        client.post("/api/apikeys", &json!({"name": "n"})),
        client.delete("/api/apikeys/00000000-0000-4000-8000-000000000000"),
        client.post("/api/auth/password", &json!({})),
        client.delete("/api/auth/me"),
    ]
}

fn logout(client: &Client) -> Request {
    client.request(Method::POST, "/api/auth/logout")
}

async fn no_credentials_are_needed_in_open_mode(world: Arc<World>) {
    let client = world.anonymous();
    let agent = world.name("agent");
    client.report(&report(&agent, "t", "running")).await;
    for request in workspace_routes(&client, &agent) {
        request.await.ok();
    }
    let found = client.get(&format!("/api/agents/{agent}")).await.ok();
    assert_eq!(found.get("user_id"), None);
}

async fn credentials_are_needed_in_required_mode(world: Arc<World>) {
    for request in workspace_routes(&world.anonymous(), "agent") {
        request.await.error(401, "unauthorized", MISSING);
    }
}

async fn account_routes_need_credentials_in_both_modes(world: Arc<World>) {
    let client = world.anonymous();
    for request in account_routes(&client) {
        request.await.error(401, "unauthorized", MISSING);
    }
    logout(&client).await.error(401, "unauthorized", MISSING);
}

async fn an_authorization_of_another_form_is_refused(world: Arc<World>) {
    for authorization in ["Basic dXNlcjpwYXNz", "token", "Token abc", "Bearerabc"] {
        let client = world.anonymous().with_authorization(authorization);
        for request in [client.get("/api/agents"), client.get("/api/auth/me")] {
            request.await.error(401, "unauthorized", FORMAT);
        }
        let report = report(&world.name("agent"), "t", "running");
        let answer = client.post("/webhook/status", &report).await;
        answer.error(401, "unauthorized", FORMAT);
    }
}

async fn an_empty_bearer_counts_as_absent(world: Arc<World>) {
    for authorization in ["Bearer", "Bearer ", "bearer  "] {
        let client = world.anonymous().with_authorization(authorization);
        let listed = client.get("/api/agents?limit=1").await;
        match world.host.mode {
            Mode::Open => drop(listed.ok()),
            Mode::Required => listed.error(401, "unauthorized", MISSING),
        }
        let answer = client.get("/api/auth/me").await;
        answer.error(401, "unauthorized", MISSING);
    }
}

async fn an_unknown_token_is_refused(world: Arc<World>) {
    let agent = world.name("agent");
    let key_like = "A".repeat(43) + "=";
    for token in [
        "x",
        "eyJhbGciOiJIUzI1NiJ9.e30.x",
        "a.b.c",
        "..",
        &key_like,
        &"x".repeat(4000),
    ] {
        let client = world.anonymous().with_token(token);
        for request in workspace_routes(&client, &agent) {
            request.await.error(401, "unauthorized", INVALID);
        }
        for request in account_routes(&client) {
            request.await.error(401, "unauthorized", INVALID);
        }
        logout(&client).await.error(401, "unauthorized", INVALID);
    }
}

async fn the_scheme_is_case_insensitive(world: Arc<World>) {
    let account = world.account(0).await;
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let authorization = format!("{scheme} {}", account.access_token);
        let client = world.anonymous().with_authorization(&authorization);
        let user = client.get("/api/auth/me").await.ok();
        assert_eq!(user["id"], account.id.as_str());
        client.get("/api/agents?limit=1").await.ok();
    }
}

async fn an_access_token_reports_and_reads(world: Arc<World>) {
    let client = &world.account(0).await.client;
    let agent = world.name("agent");
    client.report(&report(&agent, "t", "running")).await;
    for request in workspace_routes(client, &agent) {
        request.await.ok();
    }
}

async fn account_routes_accept_access_tokens_only(world: Arc<World>) {
    let account = world.account(0).await;
    let client = account.with_scopes(&["report", "read"]).await;
    assert_wrong_kind(&client).await;
}

/// Account routes refuse a key, and say that it is of the wrong kind.
async fn assert_wrong_kind(client: &Client) {
    for request in account_routes(client).into_iter().chain([logout(client)]) {
        let answer = request.await;
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        assert_eq!(
            challenge,
            "Bearer error=\"invalid_token\", error_description=\"an access token from \
             /api/auth/login is needed here, not an API key\""
        );
        answer.error(401, "unauthorized", INVALID);
    }
}

async fn the_static_key_reports_and_reads(world: Arc<World>) {
    let client = world
        .anonymous()
        .with_token(world.host.static_key.as_ref().unwrap());
    let agent = world.name("agent");
    client.report(&report(&agent, "t", "running")).await;
    for request in workspace_routes(&client, &agent) {
        request.await.ok();
    }
    let found = client.get(&format!("/api/agents/{agent}")).await.ok();
    assert_eq!(found.get("user_id"), None);
}

async fn account_routes_refuse_the_static_key(world: Arc<World>) {
    let key = world.host.static_key.as_ref().unwrap();
    let client = world.anonymous().with_token(key);
    assert_wrong_kind(&client).await;
    let client = world.anonymous().with_token(&format!("{key}x"));
    client
        .get("/api/agents")
        .await
        .error(401, "unauthorized", INVALID);
    let client = world.anonymous().with_token(&key[..key.len() - 1]);
    client
        .get("/api/agents")
        .await
        .error(401, "unauthorized", INVALID);
}

async fn assert_refused(world: &World, token: &str) {
    let client = world.anonymous().with_token(token);
    for request in [
        client.get("/api/auth/me"),
        client.get("/api/agents"),
        client.get("/api/apikeys"),
        client.post("/webhook/status", &report("agent", "t", "running")),
    ] {
        request.await.error(401, "unauthorized", INVALID);
    }
}

async fn assert_accepted(world: &World, token: &str) {
    let client = world.anonymous().with_token(token);
    client.get("/api/auth/me").await.ok();
    client.get("/api/agents?limit=1").await.ok();
    client
        .report(&report(&world.name("agent"), "t", "running"))
        .await;
}

async fn a_refresh_token_is_no_access_token(world: Arc<World>) {
    assert_refused(&world, &world.account(0).await.refresh_token).await;
}

async fn a_forged_token_is_refused(world: Arc<World>) {
    let account = world.account(0).await;
    let claims = account.claims();
    assert_refused(&world, &jwt::unsigned(&claims)).await;
    assert_refused(
        &world,
        &jwt::sign(&claims, "not the secret, but long enough"),
    )
    .await;
    assert_refused(&world, &jwt::sign(&claims, "")).await;

    let (body, signature) = account.access_token.rsplit_once('.').unwrap();
    assert_refused(&world, &format!("{body}.")).await;
    assert_refused(&world, body).await;
    let (header, _) = body.split_once('.').unwrap();
    let other = jwt::sign(
        &with(claims, "user_id", world.account(1).await.id.as_str()),
        "x",
    );
    let other = other.split('.').nth(1).unwrap().to_owned();
    assert_refused(&world, &format!("{header}.{other}.{signature}")).await;
}

/// A token that lasts for another minute, signed as the instance would.
fn signed(world: &World, claims: &Value) -> String {
    jwt::sign(claims, world.host.jwt_secret.as_ref().unwrap())
}

async fn a_token_of_the_go_server_is_accepted(world: Arc<World>) {
    let claims = world.account(0).await.claims();
    assert_accepted(&world, &signed(&world, &claims)).await;
    let go = without(without(claims, "token_type"), "jti");
    assert_accepted(&world, &signed(&world, &go)).await;
}

async fn a_token_out_of_its_time_is_refused(world: Arc<World>) {
    let claims = world.account(0).await.claims();
    let issued = claims["iat"].as_i64().unwrap();
    let mut expired = claims.clone();
    expired["iat"] = json!(issued - 7200);
    expired["nbf"] = json!(issued - 7200);
    expired["exp"] = json!(issued - 3600);
    assert_refused(&world, &signed(&world, &expired)).await;
    assert_refused(&world, &signed(&world, &with(claims, "nbf", issued + 3600))).await;
}

async fn a_signed_refresh_token_is_refused_as_an_access_token(world: Arc<World>) {
    let claims = with(world.account(0).await.claims(), "token_type", "refresh");
    assert_refused(&world, &signed(&world, &claims)).await;
    let claims = with(claims, "token_type", "other");
    assert_refused(&world, &signed(&world, &claims)).await;
}

async fn public_routes_ignore_credentials(world: Arc<World>) {
    for authorization in ["Bearer stale", "Basic dXNlcjpwYXNz", "nonsense"] {
        let client = world.anonymous().with_authorization(authorization);
        client.get("/health").await.ok();
        client.get("/ready").await.ok();
        client.get("/api/openapi.json").await.ok();
        for path in ["/health", "/api/agents", "/api/auth/me", "/webhook/status"] {
            client.options(path).await.expect(204);
        }
        let answer = client.get("/api/auth/verify?token=x").await;
        answer.error(400, "bad_request", INVALID);
        let body = json!({"email": world.email()});
        client.post("/api/auth/resend-verify", &body).await.ok();
        let body = json!({"email": world.email()});
        client.post("/api/auth/forgot", &body).await.ok();
        let body = json!({"token": "x", "password": PASSWORD});
        let answer = client.post("/api/auth/reset", &body).await;
        answer.error(400, "bad_request", INVALID);
        let body = json!({"refresh_token": "x"});
        let answer = client.post("/api/auth/refresh", &body).await;
        answer.error(401, "unauthorized", "invalid or expired refresh token");
        let body = json!({"email": world.email(), "password": "short"});
        let answer = client.post("/api/auth/register", &body).await;
        answer.error(400, "bad_request", "password must be at least 8 characters");
    }
}

async fn signing_in_ignores_credentials(world: Arc<World>) {
    let account = world.account(1).await;
    let client = world.anonymous().with_token("stale");
    let body = json!({"email": account.email, "password": PASSWORD});
    let tokens = client.post("/api/auth/login", &body).await.ok();
    let body = json!({"refresh_token": tokens["refresh_token"]});
    client.post("/api/auth/refresh", &body).await.ok();
}

async fn a_401_says_how_to_authenticate(world: Arc<World>) {
    let client = match world.host.mode {
        Mode::Open => world.anonymous().with_token("stale"),
        Mode::Required => world.anonymous(),
    };
    let answer = client.get("/api/agents").await;
    let name = [(MISSING, "[message]"), (INVALID, "[message]")];
    assert_answer_snapshot!(answer.redacted(&name), @r#"
    401 Unauthorized
    www-authenticate: Bearer

    {
      "code": "unauthorized",
      "error": "[message]",
      "message": "[message]"
    }
    "#);
}
