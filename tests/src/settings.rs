//! The behaviour of an instance with [`SETTINGS`](crate::SETTINGS) that differs from the default.

use std::sync::Arc;

use futures_util::future::join_all;
use http::StatusCode;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::scenario::scenarios;
use crate::world::{PASSWORD, World, eventually, report, segment, texts, with};

scenarios! {
    registration_can_be_closed [Settings],
    configured_origins_are_allowed_with_credentials [Settings],
    other_origins_get_no_cors_headers [Settings],
    the_default_ttl_can_be_set [Settings],
    hooks_tell_no_more_than_is_allowed [Settings],
    a_workspace_holds_no_more_than_is_allowed [Settings],
    a_workspace_reports_no_more_than_is_allowed [Settings],
}

/// The agent of all scenarios: there is no room for one of each.
const AGENT: &str = "the first";

/// Reports, again while other scenarios use up what is allowed in a minute.
async fn reported(client: &Client, path: &str, body: &Value) -> Answer {
    let mut answered = None;
    eventually("room for a report", async || {
        let answer = client.post(path, body).await;
        let is_limited = answer.status == StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(
            is_limited,
            answer.header("retry-after").is_some(),
            "{answer}"
        );
        answered = Some(answer);
        !is_limited
    })
    .await;
    answered.unwrap()
}

async fn registration_can_be_closed(world: Arc<World>) {
    let client = world.anonymous();
    let body = json!({"email": world.email(), "password": PASSWORD});
    let answer = client.post("/api/auth/register", &body).await;
    answer.error(403, "registration_disabled", "registration is disabled");
    let answer = client.post("/api/auth/login", &body).await;
    answer.error(401, "unauthorized", "invalid email or password");
}

async fn configured_origins_are_allowed_with_credentials(world: Arc<World>) {
    for origin in [
        "https://app.example.com",
        "https://a.example.org",
        "https://b-1.example.org",
    ] {
        let get = world
            .anonymous()
            .get("/health")
            .header("origin", origin)
            .await;
        let preflight = world
            .anonymous()
            .options("/webhook/status")
            .header("origin", origin);
        let preflight = preflight
            .header("access-control-request-method", "POST")
            .await;
        for answer in [get, preflight] {
            assert!(answer.status.is_success(), "{answer}");
            assert_eq!(
                answer.header("access-control-allow-origin").as_deref(),
                Some(origin)
            );
            let credentials = answer.header("access-control-allow-credentials");
            assert_eq!(credentials.as_deref(), Some("true"));
            assert!(
                answer.list("vary").contains(&"origin".to_owned()),
                "{answer}"
            );
        }
    }
}

async fn other_origins_get_no_cors_headers(world: Arc<World>) {
    for origin in [
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.example.net",
        "https://example.org",
        "https://a.example.org.example.net",
        "https://aexample.org",
        "http://localhost:3000",
        "null",
    ] {
        let answer = world
            .anonymous()
            .get("/health")
            .header("origin", origin)
            .await;
        assert_eq!(
            answer.header("access-control-allow-origin"),
            None,
            "{answer}"
        );
        assert_eq!(
            answer.header("access-control-allow-credentials"),
            None,
            "{answer}"
        );
    }
}

async fn the_default_ttl_can_be_set(world: Arc<World>) {
    let client = world.client().await;
    let report = report(AGENT, "t", "running");
    reported(&client, "/webhook/status", &report).await.ok();
    let path = format!("/api/agents/{}/sessions/t", segment(AGENT));
    let found = client.get(&path).await.ok();
    assert_eq!(found["session"]["ttl_minutes"], 7);
}

async fn hooks_tell_no_more_than_is_allowed(world: Arc<World>) {
    let client = world.client().await;
    let agent = segment(AGENT);
    let body = json!({
        "session_id": "s", "hook_event_name": "UserPromptSubmit", "prompt": "Fix the login page",
    });
    for (detail, title) in [("full", "Fix the login page"), ("none", "claude-code")] {
        let topic = format!("s-{detail}");
        let body = with(body.clone(), "session_id", topic.as_str());
        let path = format!("/hooks/claude-code?agent_id={agent}&detail={detail}");
        assert_eq!(reported(&client, &path, &body).await.ok(), json!({}));
        let path = format!("/api/agents/{agent}/sessions/{topic}");
        let session = client.get(&path).await.ok()["session"].take();
        assert_eq!(session["title"], title);
        assert_eq!(
            session.get("message"),
            None,
            "the setting leaves out messages"
        );
    }
}

async fn a_workspace_holds_no_more_than_is_allowed(world: Arc<World>) {
    const AGENTS: &str = "this workspace has as many agents as MAX_AGENTS allows (3): report under \
                          an agent_id that it knows, or ask for a larger MAX_AGENTS";
    const SESSIONS: &str = "this agent has as many sessions as MAX_SESSIONS_PER_AGENT allows (4): \
                            report on a session that it has, or under another agent_id, or ask for \
                            a larger MAX_SESSIONS_PER_AGENT";
    let client = world.client().await;
    let send = async |agent: &str, topic: &str| {
        let report = report(agent, topic, "running");
        reported(&client, "/webhook/status", &report).await
    };
    for (agent, topic) in [(AGENT, "t"), ("second", "1"), ("third", "1")] {
        send(agent, topic).await.ok();
    }
    let refused = |answer: Answer, message| answer.error(409, "limit_reached", message);
    refused(send("fourth", "1").await, AGENTS);
    let body = json!({
        "session_id": "s", "hook_event_name": "UserPromptSubmit", "prompt": "Fix the login page",
    });
    let hook = reported(&client, "/hooks/codex?agent_id=fourth", &body).await;
    refused(hook, AGENTS);
    for topic in ["2", "3", "4"] {
        send("second", topic).await.ok();
    }
    refused(send("second", "5").await, SESSIONS);
    // At once with what is refused, and what is known always.
    let reports = [
        ("second", "6"),
        ("fourth", "1"),
        ("second", "1"),
        ("third", "1"),
        ("third", "2"),
    ];
    let answers = join_all(reports.map(|(agent, topic)| send(agent, topic))).await;
    let statuses: Vec<u16> = answers
        .iter()
        .map(|answer| answer.status.as_u16())
        .collect();
    assert_eq!(statuses, [409, 409, 200, 200, 200]);
    let agents = client.get("/api/agents").await.ok();
    let mut agents = texts(&agents["agents"], "agent_id");
    agents.sort_unstable();
    assert_eq!(agents, ["second", AGENT, "third"]);
}

async fn a_workspace_reports_no_more_than_is_allowed(world: Arc<World>) {
    const REPORTS: &str = "too many reports in this workspace: the limit is 90 a minute, \
                           REPORTS_PER_MINUTE";
    let client = world.client().await;
    // What is refused for another reason counts too. A batch is answered by one instance.
    let params = json!({"name": "report_status", "arguments": {}});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let calls = json!(vec![call; 100]);
    // The more time a machine takes, the more is allowed.
    eventually("a limit on reports", async || {
        let answers = client.post("/mcp", &calls).await.ok();
        let errors = answers.as_array().unwrap().iter();
        errors
            .map(|answer| &answer["result"]["content"][0]["text"])
            .any(|text| text == REPORTS)
    })
    .await;
    client.get("/api/agents").await.ok();
}
