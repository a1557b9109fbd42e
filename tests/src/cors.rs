//! Cross-origin requests under the default of each mode, and requests to a foreign `Host`.

use std::sync::Arc;

use http::Method;
use pretty_assertions::assert_eq;

use crate::client::{Answer, Request};
use crate::scenario::scenarios;
use crate::world::{World, report};

scenarios! {
    loopback_origins_are_allowed_in_open_mode [Open],
    other_origins_get_no_cors_headers_in_open_mode [Open],
    a_preflight_of_another_origin_gets_no_cors_headers_in_open_mode [Open],
    every_origin_is_allowed_without_credentials_in_required_mode [Required],
    a_preflight_says_what_is_allowed,
    cors_headers_stand_on_errors_too,
    a_preflight_needs_no_credentials,
    a_foreign_host_is_refused_on_a_loopback_address [Open, Loopback],
    a_change_that_a_foreign_page_asks_for_is_refused_in_open_mode [Open],
}

const LOOPBACK: &str = "http://localhost:3000";

fn preflight(world: &World, path: &str, origin: &str) -> Request {
    world
        .anonymous()
        .options(path)
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type",
        )
}

#[track_caller]
fn assert_no_cors_headers(answer: &Answer) {
    for name in answer.headers.keys() {
        assert!(!name.as_str().starts_with("access-control-"), "{answer}");
    }
}

async fn loopback_origins_are_allowed_in_open_mode(world: Arc<World>) {
    for origin in [
        "http://localhost",
        "http://localhost:3000",
        "https://localhost:8443",
        "http://127.0.0.1:5173",
        "http://[::1]:8080",
    ] {
        let answer = world
            .anonymous()
            .get("/api/agents?limit=1")
            .header("origin", origin)
            .await;
        assert_eq!(
            answer.header("access-control-allow-origin").as_deref(),
            Some(origin)
        );
        assert_eq!(
            answer.header("access-control-allow-credentials").as_deref(),
            Some("true")
        );
        assert_eq!(
            answer.list("access-control-expose-headers"),
            ["etag", "link", "retry-after", "x-request-id"]
        );
        assert!(
            answer.list("vary").contains(&"origin".to_owned()),
            "{answer}"
        );
        answer.expect(200);
    }
}

const FOREIGN: [&str; 8] = [
    "https://example.com",
    "http://localhost.example.com",
    "http://127.0.0.1.example.com",
    "http://example.com:3000",
    "http://192.168.0.1:3000",
    "http://notlocalhost",
    "http://localhost@example.com",
    "null",
];

async fn other_origins_get_no_cors_headers_in_open_mode(world: Arc<World>) {
    for origin in FOREIGN {
        let answer = world
            .anonymous()
            .get("/health")
            .header("origin", origin)
            .await;
        assert_no_cors_headers(&answer);
    }
}

async fn a_preflight_of_another_origin_gets_no_cors_headers_in_open_mode(world: Arc<World>) {
    for origin in FOREIGN {
        assert_no_cors_headers(&preflight(&world, "/webhook/status", origin).await);
    }
}

async fn every_origin_is_allowed_without_credentials_in_required_mode(world: Arc<World>) {
    for origin in ["https://example.com", LOOPBACK, "null"] {
        let answer = world
            .anonymous()
            .get("/health")
            .header("origin", origin)
            .await;
        assert_eq!(
            answer.header("access-control-allow-origin").as_deref(),
            Some("*")
        );
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        assert_eq!(
            answer.list("access-control-expose-headers"),
            ["etag", "link", "retry-after", "x-request-id"]
        );
        answer.expect(200);
        let answer = preflight(&world, "/api/agents", origin).await;
        assert_eq!(
            answer.header("access-control-allow-origin").as_deref(),
            Some("*")
        );
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
}

async fn a_preflight_says_what_is_allowed(world: Arc<World>) {
    for path in [
        "/webhook/status",
        "/api/agents",
        "/api/auth/me",
        "/health",
        "/api/openapi.json",
    ] {
        let answer = preflight(&world, path, LOOPBACK).await;
        assert!(answer.status.is_success(), "{answer}");
        let methods = answer.list("access-control-allow-methods");
        assert_eq!(methods, ["get", "post", "put", "delete", "options"]);
        let headers = answer.list("access-control-allow-headers");
        assert_eq!(
            headers,
            [
                "accept",
                "authorization",
                "content-type",
                "if-none-match",
                "last-event-id",
                "traceparent",
                "tracestate",
                "x-csrf-token",
                "x-request-id",
                "x-workspace"
            ]
        );
        assert_eq!(
            answer.header("access-control-max-age").as_deref(),
            Some("300")
        );
        assert!(answer.body.is_empty(), "{answer}");
    }
}

async fn cors_headers_stand_on_errors_too(world: Arc<World>) {
    let client = world.client().await;
    let stale = world.anonymous().with_token("stale");
    let invalid = report("", "t", "running");
    let too_large = "x".repeat(1024 * 1024 + 1);
    for (request, status) in [
        (client.post("/webhook/status", &invalid), 400),
        (client.get("/api/agents?limit=0"), 400),
        (stale.get("/api/agents"), 401),
        (stale.get("/api/auth/me"), 401),
        (client.get("/api/unknown"), 404),
        (client.get("/api/agents/unknown-agent"), 404),
        (client.delete("/api/agents"), 405),
        (
            client
                .request(Method::POST, "/webhook/status")
                .body(too_large),
            413,
        ),
    ] {
        let answer = request.header("origin", LOOPBACK).await.expect(status);
        assert!(
            answer.header("access-control-allow-origin").is_some(),
            "{answer}"
        );
    }
}

async fn a_preflight_needs_no_credentials(world: Arc<World>) {
    for path in [
        "/webhook/status",
        "/api/agents",
        "/api/auth/me",
        "/api/apikeys",
    ] {
        let answer = preflight(&world, path, LOOPBACK)
            .header("authorization", "Bearer stale")
            .await;
        assert!(answer.status.is_success(), "{answer}");
    }
}

async fn a_foreign_host_is_refused_on_a_loopback_address(world: Arc<World>) {
    let client = world.anonymous();
    for host in [
        "localhost",
        "localhost:1",
        "LOCALHOST:8080",
        "127.0.0.1",
        "127.0.0.1:9",
        "[::1]",
        "[::1]:80",
    ] {
        client
            .get("/api/agents?limit=1")
            .header("host", host)
            .await
            .ok();
    }
    let report = report(&world.name("agent"), "t", "running");
    for host in [
        "example.com",
        "example.com:8080",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "192.168.0.1",
    ] {
        let answer = client.get("/api/agents").header("host", host).await;
        let message = "host is not allowed: the setting ALLOWED_HOSTS names those that are";
        answer.error(403, "forbidden", message);
        client.get("/health").header("host", host).await.ok();
        client.get("/ready").header("host", host).await.ok();
        let answer = client
            .post("/webhook/status", &report)
            .header("host", host)
            .await;
        answer.error_code(403, "forbidden");
    }
}

async fn a_change_that_a_foreign_page_asks_for_is_refused_in_open_mode(world: Arc<World>) {
    let client = world.anonymous();
    let report = report(&world.name("agent"), "t", "running");
    for origin in FOREIGN {
        for path in [
            "/webhook/status",
            "/api/auth/register",
            "/api/auth/login",
            "/mcp",
        ] {
            let request = client.request(Method::POST, path);
            let request = request
                .header("origin", origin)
                .header("content-type", "text/plain")
                .body(report.to_string());
            request.await.error_code(403, "forbidden");
        }
        // Reading is harmless: the page cannot see the answer.
        client.get("/health").header("origin", origin).await.ok();
    }
    for origin in [LOOPBACK, "http://127.0.0.1", "https://app.localhost"] {
        let request = client.post("/webhook/status", &report);
        request.header("origin", origin).await.ok();
    }
}
