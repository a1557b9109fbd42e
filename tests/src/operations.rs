//! `/health`, `/ready` and `/api/openapi.json`, and the ids of requests.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;

use crate::client::{Client, Request};
use crate::scenario::{assert_answer_snapshot, scenarios};
use crate::world::{World, report};

scenarios! {
    health_and_readiness_are_ok,
    the_openapi_document_describes_the_routes,
    every_answer_has_the_id_of_its_request,
    a_stream_has_the_id_of_its_request [Streams],
    a_request_without_a_usable_id_gets_one,
}

async fn health_and_readiness_are_ok(world: Arc<World>) {
    for path in ["/health", "/ready"] {
        let answer = world.anonymous().get(path).await;
        assert_answer_snapshot!(answer.redacted(&[]), @r#"
        200 OK

        {
          "status": "ok",
          "timestamp": "[time]"
        }
        "#);
    }
}

async fn the_openapi_document_describes_the_routes(world: Arc<World>) {
    let document = world.anonymous().get("/api/openapi.json").await.ok();
    assert_eq!(document["openapi"], "3.1.0");
    for (path, method) in [
        ("/webhook/status", "post"),
        ("/api/agents/{agent_id}/sessions/{session_topic}", "get"),
        ("/api/apikeys/{id}", "delete"),
        ("/api/openapi.json", "get"),
    ] {
        let operation = &document["paths"][path][method];
        assert!(operation["responses"]["200"].is_object(), "{method} {path}");
    }
}

const REQUEST_ID: &str = "x-request-id";

/// Requests that are answered in every way there is, with their statuses.
async fn requests(world: &World, client: &Client) -> Vec<(Request, u16)> {
    // A list that nobody else changes.
    let agent = world.name("agent");
    client.report(&report(&agent, "t", "running")).await;
    let list = &format!("/api/agents/{agent}/sessions");
    let tag = client.get(list).await.header("etag").unwrap();
    let preflight = client
        .options("/webhook/status")
        .header("origin", "http://localhost:3000")
        .header("access-control-request-method", "POST");
    vec![
        (client.get(list), 200),
        (client.get(list).header("if-none-match", &tag), 304),
        (client.request(http::Method::HEAD, list), 200),
        (client.get(&format!("{list}?limit=0")), 400),
        (client.with_token("stale").get(list), 401),
        (client.get("/api/unknown"), 404),
        (client.delete("/health"), 405),
        (client.get("/health"), 200),
        (client.get("/"), 200),
        (client.options("/health"), 204),
        (preflight, 204),
        (client.post("/mcp", &json!({})), 400),
    ]
}

async fn every_answer_has_the_id_of_its_request(world: Arc<World>) {
    let client = world.client().await;
    let longest = "x".repeat(64);
    for id in ["AZaz09._-", &longest] {
        for (request, status) in requests(&world, &client).await {
            let answer = request.header(REQUEST_ID, id).await;
            assert_eq!(answer.status, status, "{answer}");
            assert_eq!(answer.header(REQUEST_ID).as_deref(), Some(id), "{answer}");
        }
    }
}

async fn a_stream_has_the_id_of_its_request(world: Arc<World>) {
    let request = world.client().await.get("/api/events");
    let answer = request.header(REQUEST_ID, "a-stream").open().await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()[REQUEST_ID], "a-stream");
}

async fn a_request_without_a_usable_id_gets_one(world: Arc<World>) {
    let client = world.client().await;
    let too_long = "x".repeat(65);
    let mut made = HashSet::new();
    for id in [
        None,
        Some("a b"),
        Some("a,b"),
        Some("a/b"),
        Some(&*too_long),
    ] {
        for (request, _) in requests(&world, &client).await {
            let request = match id {
                Some(id) => request.header(REQUEST_ID, id),
                None => request,
            };
            let answer = request.await;
            let id = answer.header(REQUEST_ID).unwrap();
            assert!((1..=64).contains(&id.len()), "{answer}");
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            assert!(id.chars().all(is_plain), "{answer}");
            assert!(made.insert(id), "an id is made twice: {answer}");
        }
    }
}
