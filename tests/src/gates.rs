//! The order in which a request is refused, and the answers that no route gives itself.

use std::sync::Arc;

use http::Method;
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::Mode;
use crate::client::Client;
use crate::scenario::{assert_answer_snapshot, scenarios};
use crate::world::{World, report, with};

scenarios! {
    an_unknown_route_is_not_found,
    another_method_is_not_allowed,
    options_without_an_origin_names_the_methods,
    head_answers_like_get_without_a_body,
    head_is_not_allowed_where_get_is_not,
    a_preflight_is_answered_before_the_route_is_looked_up,
    the_route_comes_before_the_method,
    the_route_comes_before_the_credentials,
    the_method_comes_before_the_credentials,
    the_credentials_come_before_the_scope [Accounts],
    the_credentials_come_before_the_body,
    the_scope_comes_before_the_size_of_the_body [Accounts],
    the_size_of_the_body_comes_before_its_parsing,
    every_route_limits_its_body [Accounts],
    parsing_comes_before_the_fields,
    every_route_says_what_is_wrong_with_its_body [Accounts],
    an_error_has_the_form_of_its_route,
}

/// Every route, and its methods but for `HEAD` and `OPTIONS`.
const ROUTES: [(&str, &[&str]); 31] = [
    ("/api/openapi.json", &["get"]),
    ("/health", &["get"]),
    ("/ready", &["get"]),
    ("/webhook/status", &["post"]),
    ("/api/agents", &["get"]),
    ("/api/agents/", &["get"]),
    ("/api/agents/a", &["get"]),
    ("/api/agents/a/sessions", &["get"]),
    ("/api/agents/a/sessions/t", &["get"]),
    ("/api/agents/a/history", &["get"]),
    ("/api/agents/a/status", &["get"]),
    ("/api/events", &["get"]),
    ("/api/sessions", &["get"]),
    ("/api/auth/register", &["post"]),
    ("/api/auth/verify", &["get", "post"]),
    ("/api/auth/resend-verify", &["post"]),
    ("/api/auth/login", &["post"]),
    ("/api/auth/refresh", &["post"]),
    ("/api/auth/logout", &["post"]),
    ("/api/auth/password", &["post"]),
    ("/api/auth/forgot", &["post"]),
    ("/api/auth/reset", &["post"]),
    ("/api/auth/me", &["delete", "get", "put"]),
    ("/api/apikeys", &["get", "post"]),
    ("/api/apikeys/", &["get", "post"]),
    ("/api/apikeys/k", &["delete"]),
    ("/api/audit", &["get"]),
    ("/api/channels", &["get", "post"]),
    ("/api/channels/c", &["delete", "put"]),
    ("/api/channels/c/deliveries", &["get"]),
    ("/api/channels/c/test", &["post"]),
];

const TOO_LARGE: usize = 1024 * 1024 + 1;

/// The largest body, in bytes, of a request that needs no credentials.
const PUBLIC_LIMIT: usize = 16 * 1024;

async fn an_unknown_route_is_not_found(world: Arc<World>) {
    for path in [
        "/api",
        "/api/unknown",
        "/API/agents",
        "/webhook",
        "/webhook/status/more",
        "/healthz",
        "/api/auth",
        "/api/auth/unknown",
        "/api/agents/a/unknown",
        "/api/agents/a/Sessions",
        "/api/agents/a/sessions/t/more",
        "/api/agents%2Fa",
        "/api/apikeys/k/more",
    ] {
        for method in [Method::GET, Method::POST] {
            let answer = world.anonymous().request(method, path).await;
            answer.error_code(404, "not_found");
        }
    }
}

fn without_head_and_options(mut methods: Vec<String>) -> Vec<String> {
    methods.retain(|method| method != "head" && method != "options");
    methods.sort();
    methods
}

async fn another_method_is_not_allowed(world: Arc<World>) {
    let client = world.anonymous();
    for (path, methods) in ROUTES {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            if methods.contains(&method.to_lowercase().as_str()) {
                continue;
            }
            let answer = client.request(method.parse().unwrap(), path).await;
            let allowed = without_head_and_options(answer.list("allow"));
            assert_eq!(allowed, methods, "{answer}");
            answer.error_code(405, "method_not_allowed");
        }
    }
}

async fn options_without_an_origin_names_the_methods(world: Arc<World>) {
    let client = world.anonymous();
    for (path, methods) in ROUTES {
        let answer = client.options(path).await.expect(204);
        assert_eq!(
            without_head_and_options(answer.list("allow")),
            methods,
            "{answer}"
        );
        assert!(answer.body.is_empty());
    }
    client
        .options("/api/unknown")
        .await
        .error_code(404, "not_found");
}

/// A client that every `GET` accepts, and the paths of an agent that it sees.
async fn reader(world: &World) -> (Client, Vec<String>) {
    let client = world.client().await;
    let id = world.name("agent");
    client.report(&report(&id, "t", "running")).await;
    let paths = ["", "/sessions", "/sessions/t", "/history", "/status"];
    let mut paths: Vec<_> = paths
        .iter()
        .map(|rest| format!("/api/agents/{id}{rest}"))
        .collect();
    paths.push(format!("/api/agents?search={id}"));
    (client, paths)
}

async fn head_answers_like_get_without_a_body(world: Arc<World>) {
    let (client, mut paths) = reader(&world).await;
    paths.extend(
        [
            "/health",
            "/ready",
            "/api/agents/unknown-agent",
            "/api/unknown",
        ]
        .map(str::to_owned),
    );
    paths.extend(["/api/auth/me", "/api/apikeys", "/api/agents?limit=0"].map(str::to_owned));
    for path in paths {
        let get = client.get(&path).await;
        let head = client.request(Method::HEAD, &path).await;
        assert_eq!(head.status, get.status, "{head}");
        assert_eq!(
            head.header("content-type"),
            get.header("content-type"),
            "{head}"
        );
        assert!(head.body.is_empty(), "{head}");
    }
}

async fn head_is_not_allowed_where_get_is_not(world: Arc<World>) {
    for path in [
        "/webhook/status",
        "/api/auth/login",
        "/api/apikeys/k",
        "/api/auth/verify",
    ] {
        let answer = world.anonymous().request(Method::HEAD, path).await;
        assert!(answer.header("allow").is_some(), "{answer}");
        answer.expect(405);
    }
    let answer = world
        .anonymous()
        .request(Method::HEAD, "/api/auth/verify?token=x")
        .await;
    answer.expect(405);
}

async fn a_preflight_is_answered_before_the_route_is_looked_up(world: Arc<World>) {
    for path in ["/api/unknown", "/"] {
        let answer = world
            .anonymous()
            .options(path)
            .header("origin", "http://localhost:3000")
            .header("access-control-request-method", "GET")
            .await;
        assert!(answer.status.is_success(), "{answer}");
        assert!(
            answer.header("access-control-allow-origin").is_some(),
            "{answer}"
        );
    }
}

async fn the_route_comes_before_the_method(world: Arc<World>) {
    let answer = world.anonymous().delete("/api/unknown").await;
    assert_eq!(answer.header("allow"), None);
    answer.error_code(404, "not_found");
}

async fn the_route_comes_before_the_credentials(world: Arc<World>) {
    for client in [world.anonymous(), world.anonymous().with_token("stale")] {
        for path in ["/api/unknown", "/api/agents/a/unknown", "/api/auth/unknown"] {
            client.get(path).await.error_code(404, "not_found");
        }
    }
}

async fn the_method_comes_before_the_credentials(world: Arc<World>) {
    for client in [world.anonymous(), world.anonymous().with_token("stale")] {
        for path in [
            "/api/agents",
            "/webhook/status",
            "/api/auth/logout",
            "/api/apikeys",
        ] {
            client
                .delete(path)
                .await
                .error_code(405, "method_not_allowed");
        }
    }
}

async fn the_credentials_come_before_the_scope(world: Arc<World>) {
    let account = world.account(0).await;
    let (key, id) = account
        .api_key(&json!({"name": "n", "scopes": ["report"]}))
        .await;
    let client = world.anonymous().with_token(&key);
    client.get("/api/agents").await.error_code(403, "forbidden");
    account
        .client
        .delete(&format!("/api/apikeys/{id}"))
        .await
        .ok();
    if world.host.revocation_delay.is_zero() {
        client
            .get("/api/agents")
            .await
            .error_code(401, "unauthorized");
    }
}

async fn the_credentials_come_before_the_body(world: Arc<World>) {
    let (stale, anonymous) = (world.anonymous().with_token("stale"), world.anonymous());
    let report = (Method::POST, "/webhook/status");
    let settings = (Method::PUT, "/api/auth/me");
    let mut requests = vec![
        (&stale, &report),
        (&stale, &settings),
        (&anonymous, &settings),
    ];
    if world.host.mode == Mode::Required {
        requests.push((&anonymous, &report));
    }
    for (client, (method, path)) in requests {
        for body in ["{".to_owned(), "x".repeat(TOO_LARGE)] {
            let answer = client.request(method.clone(), path).body(body).await;
            answer.error_code(401, "unauthorized");
        }
    }
    stale
        .get("/api/agents?limit=0")
        .await
        .error_code(401, "unauthorized");
}

async fn the_scope_comes_before_the_size_of_the_body(world: Arc<World>) {
    let client = world.account(0).await.with_scopes(&["read"]).await;
    for body in ["{".to_owned(), "x".repeat(TOO_LARGE)] {
        let answer = client
            .request(Method::POST, "/webhook/status")
            .body(body)
            .await;
        answer.error_code(403, "forbidden");
    }
    let client = world.account(0).await.with_scopes(&["report"]).await;
    client
        .get("/api/agents?limit=0")
        .await
        .error_code(403, "forbidden");
    client
        .get("/api/agents/unknown-agent")
        .await
        .error_code(403, "forbidden");
}

async fn the_size_of_the_body_comes_before_its_parsing(world: Arc<World>) {
    let client = world.client().await;
    let body = "x".repeat(TOO_LARGE);
    let answer = client
        .request(Method::POST, "/webhook/status")
        .body(body)
        .await;
    answer.error_code(413, "too_large");
}

async fn every_route_limits_its_body(world: Arc<World>) {
    let client = &world.account(0).await.client;
    for (path, method, limit) in [
        ("/api/auth/register", Method::POST, PUBLIC_LIMIT),
        ("/api/auth/resend-verify", Method::POST, PUBLIC_LIMIT),
        ("/api/auth/login", Method::POST, PUBLIC_LIMIT),
        ("/api/auth/refresh", Method::POST, PUBLIC_LIMIT),
        ("/api/auth/me", Method::PUT, TOO_LARGE - 1),
        ("/api/apikeys", Method::POST, TOO_LARGE - 1),
    ] {
        for (length, status, code) in [(limit, 400, "bad_request"), (limit + 1, 413, "too_large")] {
            let body = "x".repeat(length);
            let answer = client.request(method.clone(), path).body(body).await;
            answer.error_code(status, code);
        }
    }
}

async fn parsing_comes_before_the_fields(world: Arc<World>) {
    let client = world.client().await;
    let report = with(report("", "", "done"), "ttl_minutes", "text");
    let answer = client.post("/webhook/status", &report).await;
    answer.error_starting(400, "bad_request", "Invalid JSON: ");
    let answer = client
        .request(Method::POST, "/webhook/status")
        .body(r#"{"agent_id":"""#)
        .await;
    answer.error_starting(400, "bad_request", "Invalid JSON: ");
}

async fn every_route_says_what_is_wrong_with_its_body(world: Arc<World>) {
    let account = &world.account(0).await.client;
    let anonymous = &world.anonymous();
    for (client, method, path, fields) in [
        (anonymous, Method::POST, "/api/auth/verify", &["token"][..]),
        (
            anonymous,
            Method::POST,
            "/api/auth/resend-verify",
            &["email"],
        ),
        (
            anonymous,
            Method::POST,
            "/api/auth/login",
            &["email", "password"],
        ),
        (
            anonymous,
            Method::POST,
            "/api/auth/refresh",
            &["refresh_token"],
        ),
        (anonymous, Method::POST, "/api/auth/forgot", &["email"]),
        (
            anonymous,
            Method::POST,
            "/api/auth/reset",
            &["token", "password"],
        ),
        (
            account,
            Method::POST,
            "/api/auth/password",
            &["new_password"],
        ),
        (
            account,
            Method::PUT,
            "/api/auth/me",
            &["notification_webhook_url"],
        ),
        (account, Method::DELETE, "/api/auth/me", &["password"]),
        (
            account,
            Method::POST,
            "/api/apikeys",
            &["name", "expires_in", "scopes", "workspace"],
        ),
        (
            account,
            Method::POST,
            "/api/channels",
            &["name", "url", "events", "delay_seconds"],
        ),
    ] {
        for field in fields {
            // No field takes it, and none is named in a good one's place.
            let body = json!({"unknown": 1, *field: {"x": true}, "~": 1});
            let answer = client.request(method.clone(), path).json(&body).await;
            let message = format!("invalid request body: {field}: invalid type: map, expected ");
            answer.error_starting(400, "bad_request", &message);
        }
        let form = "application/x-www-form-urlencoded";
        let request = client.request(method, path).header("content-type", form);
        let message = format!("invalid request body: send JSON, not {form} (");
        let answer = request.body("name=a&email=b").await;
        answer.error_starting(400, "bad_request", &message);
    }
}

async fn an_error_has_the_form_of_its_route(world: Arc<World>) {
    let client = world.client().await;
    let answer = client
        .post("/webhook/status", &report("a", "t", "done"))
        .await;
    assert_answer_snapshot!(answer.redacted(&[]), @r#"
    400 Bad Request

    {
      "code": "bad_request",
      "error": "bad_request",
      "message": "status must be one of: running, success, failed, pending"
    }
    "#);
    let answer = world.anonymous().get("/api/auth/verify").await;
    assert_answer_snapshot!(answer.redacted(&[]), @r#"
    400 Bad Request

    {
      "code": "bad_request",
      "error": "missing token",
      "message": "missing token"
    }
    "#);
}
