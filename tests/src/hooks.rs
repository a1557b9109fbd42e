//! `POST /hooks/{tool}`: what coding agents hand to their hooks, and what becomes of their sessions.

use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::client::Client;
use crate::recorded::sequences;
use crate::scenario::scenarios;
use crate::world::{World, segment, text, texts};

scenarios! {
    recorded_sequences_lead_to_the_states_that_are_true,
    every_object_is_answered_with_an_empty_object,
    what_is_no_object_is_refused,
    an_unknown_tool_is_not_found,
    a_body_of_eight_mebibytes_is_accepted_and_no_more,
    the_agent_is_the_tool_on_its_host_unless_it_is_named,
    the_context_says_where_the_agent_works,
    what_is_too_long_or_too_much_is_cut,
    secrets_are_cut_out,
    an_answer_says_for_how_long_what_is_stored_lasts,
    a_session_of_which_no_prompt_is_heard_has_a_title_for_people,
    the_sender_may_ask_for_less_detail,
    a_running_that_is_repeated_at_once_leaves_no_history_entry,
    hooks_of_many_sessions_at_once_lose_nothing,
    a_hook_needs_the_scope_report [Required, Accounts],
}

/// A path with this query.
fn path(tool: &str, query: &[(&str, &str)]) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    text.extend_pairs(query);
    format!("/hooks/{tool}?{}", text.finish())
}

/// Hands over what Claude Code hands to its hooks.
async fn hook(client: &Client, query: &[(&str, &str)], body: &Value) {
    let answer = client.post(&path("claude-code", query), body).await;
    assert_eq!(answer.ok(), json!({}));
}

/// An event of Claude Code with these fields.
fn event(session: &str, name: &str, fields: Value) -> Value {
    let mut event = json!({"session_id": session, "hook_event_name": name});
    for (name, value) in fields.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

fn prompt(session: &str, prompt: &str) -> Value {
    event(session, "UserPromptSubmit", json!({"prompt": prompt}))
}

fn tool_use(session: &str, command: &str) -> Value {
    let input = json!({"command": command});
    event(
        session,
        "PostToolUse",
        json!({"tool_name": "Bash", "tool_input": input}),
    )
}

/// A session and its history; `None` when there is none.
async fn found(client: &Client, agent: &str, session: &str) -> Option<Value> {
    let path = format!(
        "/api/agents/{}/sessions/{}",
        segment(agent),
        segment(session)
    );
    let answer = client.get(&path).await;
    (answer.status != 404).then(|| answer.ok())
}

async fn session(client: &Client, agent: &str, session: &str) -> Value {
    let found = found(client, agent, session).await;
    found.expect("a session")["session"].take()
}

async fn recorded_sequences_lead_to_the_states_that_are_true(world: Arc<World>) {
    let client = world.client().await;
    for (name, steps) in sequences() {
        let agent = world.name("agent");
        for (at, step) in steps.iter().enumerate() {
            let mut query = vec![("agent_id", agent.as_str())];
            let given = step.query.iter();
            query.extend(given.map(|(name, value)| (name.as_str(), value.as_str().unwrap())));
            let answer = client.post(&path(&step.tool, &query), &step.body).await;
            assert_eq!(answer.ok(), json!({}));
            let found = found(&client, &agent, &step.session).await;
            let session = found.as_ref().map(|found| &found["session"]);
            step.check(&format!("{name}:{}", at + 1), session);
        }
    }
}

async fn every_object_is_answered_with_an_empty_object(world: Arc<World>) {
    let client = world.client().await;
    let agent = world.name("agent");
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    for body in [
        "{}",
        " {\"hook_event_name\": \"Unheard-Of\", \"session_id\": \"s\"}\n",
        r#"{"hook_event_name": 1, "session_id": []}"#,
        r#"{"hook_event_name": "Stop", "session_id": ""}"#,
        r#"{"hook_event_name": "Notification", "session_id": "s"}"#,
        r#"{"hook_event_name": "SessionStart", "session_id": "s", "source": "startup"}"#,
        r#"{"hook_event_name": "SessionEnd", "session_id": "s"}"#,
        r#"{"hook_event_name": "kubeagents.renew", "session_id": "s"}"#,
        &deep,
    ] {
        for tool in [
            "claude-code",
            "codex",
            "cursor",
            "gemini",
            "copilot",
            "opencode",
            "goose",
        ] {
            let path = path(tool, &[("agent_id", &agent)]);
            let answer = client
                .request(Method::POST, &path)
                .body(body.to_owned())
                .await;
            assert_eq!(answer.ok(), json!({}), "{tool} {body}");
        }
    }
    let agents = client
        .get(&format!("/api/agents?search={agent}"))
        .await
        .ok();
    assert_eq!(agents["agents"], json!([]), "none of it says anything");

    let odd = b"{\"hook_event_name\":\"Stop\",\"session_id\":\"t\",\"session_id\":\"s\",\
        \"last_assistant_message\":\"a\\u0000b \\ud83d \xe4\xb8\"}";
    let path = path(
        "claude-code",
        &[("agent_id", &agent), ("sequence", "x"), ("detail", "y")],
    );
    let answer = client.request(Method::POST, &path).body(&odd[..]).await;
    assert_eq!(answer.ok(), json!({}));
    let session = session(&client, &agent, "s").await;
    assert_eq!(session["current_status"], "success");
    assert_eq!(session["message"], "a b \u{fffd} \u{fffd}");
}

async fn what_is_no_object_is_refused(world: Arc<World>) {
    let client = world.client().await;
    for body in ["", "null", "[]", "1", "\"x\"", "{", "{} {}", "{\"a\":}"] {
        let answer = client
            .request(Method::POST, "/hooks/claude-code")
            .body(body)
            .await;
        answer.error(400, "bad_request", "a hook's body must be a JSON object");
    }
}

async fn an_unknown_tool_is_not_found(world: Arc<World>) {
    let client = world.client().await;
    let body = prompt("s", "Hello");
    for tool in ["emacs", "Claude-Code", "%20"] {
        let answer = client.post(&format!("/hooks/{tool}"), &body).await;
        answer.error(404, "not_found", "Tool not found");
    }
    client
        .post("/hooks", &body)
        .await
        .error_code(404, "not_found");
    let answer = client.get("/hooks/claude-code").await;
    answer.error_code(405, "method_not_allowed");
}

async fn a_body_of_eight_mebibytes_is_accepted_and_no_more(world: Arc<World>) {
    const LIMIT: usize = 8 << 20;
    let client = world.client().await;
    let agent = world.name("agent");
    let path = path("claude-code", &[("agent_id", &agent)]);
    let sized = |length: usize| {
        let mut body = tool_use("s", "ls");
        body["tool_response"] = "".into();
        let rest = length - body.to_string().len();
        body["tool_response"] = "x".repeat(rest).into();
        body.to_string()
    };
    let answer = client.request(Method::POST, &path).body(sized(LIMIT)).await;
    assert_eq!(answer.ok(), json!({}));
    assert_eq!(session(&client, &agent, "s").await["message"], "Bash: ls");
    let answer = client
        .request(Method::POST, &path)
        .body(sized(LIMIT + 1))
        .await;
    answer.error_code(413, "too_large");
}

async fn the_agent_is_the_tool_on_its_host_unless_it_is_named(world: Arc<World>) {
    let client = world.client().await;
    let (host, named, topic) = (world.name("host"), world.name("agent"), world.name("topic"));
    let body = prompt(&topic, "Hello");
    for (query, agent) in [
        (
            &[("host", host.as_str())][..],
            format!("claude-code@{host}"),
        ),
        (&[("host", &host), ("agent_id", &named)], named.clone()),
        (&[("agent_id", " ")], "claude-code".to_owned()),
        (&[], "claude-code".to_owned()),
    ] {
        hook(&client, query, &body).await;
        assert_eq!(
            session(&client, &agent, &topic).await["title"],
            "Hello",
            "{agent}"
        );
        let shown = client
            .get(&format!("/api/agents/{}", segment(&agent)))
            .await
            .ok();
        assert_eq!(shown["source"], "claude-code");
    }
}

async fn the_context_says_where_the_agent_works(world: Arc<World>) {
    let client = world.client().await;
    let agent = world.name("agent");
    let query = [
        ("agent_id", agent.as_str()),
        ("host", "laptop"),
        ("repo", "ann/shop"),
        ("branch", "main"),
        ("model", "of the query"),
        ("mode", "headless"),
        ("unknown", "x"),
    ];
    let mut body = prompt("s", "Hello");
    body["cwd"] = "/home/ann/shop".into();
    hook(&client, &query, &body).await;
    let expected = json!({
        "host": "laptop", "repo": "ann/shop", "branch": "main", "cwd": "/home/ann/shop",
        "model": "of the query", "mode": "headless", "tool": "claude-code",
    });
    assert_eq!(session(&client, &agent, "s").await["context"], expected);

    // What changes is replaced at once, and an empty value removes.
    let query = [("agent_id", agent.as_str()), ("branch", ""), ("pr", "7")];
    let mut body = tool_use("s", "ls");
    body["model"] = "of the payload".into();
    hook(&client, &query, &body).await;
    let context = session(&client, &agent, "s").await["context"].take();
    assert_eq!(context["model"], "of the payload");
    assert_eq!((&context["pr"], context.get("branch")), (&json!("7"), None));
}

async fn what_is_too_long_or_too_much_is_cut(world: Arc<World>) {
    let client = world.client().await;
    let agent = format!("{}{}", world.name("agent"), "é".repeat(200));
    let id: String = agent.chars().take(100).collect();
    let topic: String = "中".repeat(500);
    let long = "x".repeat(300);
    let mut body = prompt(&format!("{topic}more"), &"w".repeat(5000));
    body["session_title"] = long.clone().into();
    hook(&client, &[("agent_id", &agent), ("repo", &long)], &body).await;
    let session = session(&client, &id, &topic).await;
    assert_eq!(session["title"], long[..200]);
    assert_eq!(session["context"]["repo"], long[..200]);
    assert_eq!(session["message"], "w".repeat(80));
}

async fn secrets_are_cut_out(world: Arc<World>) {
    let client = world.client().await;
    let agent = world.name("agent");
    let query = [
        ("agent_id", agent.as_str()),
        ("repo", "https://me:hunter2@example.com/a/b"),
    ];
    let body = prompt("s", "Deploy with ghp_hunter2hunter2\nand more");
    hook(&client, &query, &body).await;
    let secrets = [
        "curl -H 'Authorization: Bearer hunter2' x",
        "curl -u me:hunter2 x",
        "API_TOKEN=hunter2 make",
        "psql postgres://me:hunter2@db/x",
        "curl -sSu 'me:my hunter2' x",
        "curl 'https%3A%2F%2Fme%3Ahunter2%40x%2Fy'",
        "jq .x <<< '{\"password\": \"it \\\"is hunter2\"}'",
        "echo \"-----BEGIN%20PRIVATE%20KEY-----%0Ahunter2\"",
        "令牌gh\u{200b}p_hunter2hunter2在这里",
    ];
    for (n, command) in secrets.iter().enumerate() {
        let mut body = tool_use(&n.to_string(), command);
        body["hook_event_name"] = "PermissionRequest".into();
        hook(&client, &query, &body).await;
    }
    let sessions = client
        .get(&format!("/api/agents/{agent}/sessions"))
        .await
        .ok();
    assert_eq!(
        sessions["sessions"].as_array().map(Vec::len),
        Some(1 + secrets.len())
    );
    let history = client
        .get(&format!("/api/agents/{agent}/history"))
        .await
        .ok();
    for shown in [sessions, history] {
        assert!(!shown.to_string().contains("hunter2"), "{shown}");
    }
}

async fn the_sender_may_ask_for_less_detail(world: Arc<World>) {
    let client = world.client().await;
    let agent = world.name("agent");
    for (detail, title, message, repo) in [
        ("full", Some("Hello"), Some("Bash: ls"), Some("ann/shop")),
        ("title", Some("Hello"), None, Some("ann/shop")),
        ("none", Some("claude-code"), None, None),
    ] {
        let query = [
            ("agent_id", agent.as_str()),
            ("detail", detail),
            ("repo", "ann/shop"),
        ];
        hook(&client, &query, &prompt(detail, "Hello")).await;
        hook(&client, &query, &tool_use(detail, "ls")).await;
        let session = session(&client, &agent, detail).await;
        assert_eq!(session["current_status"], "running");
        for (found, expected) in [
            (&session["title"], title),
            (&session["message"], message),
            (&session["context"]["repo"], repo),
        ] {
            assert_eq!(found.as_str(), expected, "{detail}: {session}");
        }
        assert_eq!(session["context"]["tool"], "claude-code");
    }
}

async fn an_answer_says_for_how_long_what_is_stored_lasts(world: Arc<World>) {
    let client = world.client().await;
    let agent = world.name("agent");
    let path = path("claude-code", &[("agent_id", &agent)]);
    let ttl = async |body: &Value| {
        let answer = client.post(&path, body).await;
        let minutes = answer.headers.get("session-ttl-minutes").cloned();
        (
            answer.ok(),
            minutes.map(|value| value.to_str().unwrap().to_owned()),
        )
    };
    let renewal = event("s", "kubeagents.renew", json!({}));
    assert_eq!(ttl(&renewal).await, (json!({}), None));
    assert_eq!(
        ttl(&prompt("s", "Hello")).await,
        (json!({}), Some("60".into()))
    );
    let report = json!({
        "agent_id": agent, "session_topic": "s", "status": "running", "ttl_minutes": 7,
        "timestamp": "2026-01-01T00:00:00Z",
    });
    client.post("/webhook/status", &report).await.ok();
    assert_eq!(ttl(&renewal).await, (json!({}), Some("7".into())));
}

async fn a_session_of_which_no_prompt_is_heard_has_a_title_for_people(world: Arc<World>) {
    let client = world.client().await;
    let agent = world.name("agent");
    let id = "0b7f6a52-93d4-4a0c-9d0f-3f0a1c5e7b11";
    let query = [
        ("agent_id", agent.as_str()),
        ("repo", "ann/shop"),
        ("branch", "main"),
    ];
    hook(&client, &query, &tool_use(id, "ls")).await;
    assert_eq!(session(&client, &agent, id).await["title"], "ann/shop@main");
    hook(&client, &query, &prompt(id, "Fix the login page")).await;
    assert_eq!(
        session(&client, &agent, id).await["title"],
        "Fix the login page"
    );
}

async fn a_running_that_is_repeated_at_once_leaves_no_history_entry(world: Arc<World>) {
    let client = world.client().await;
    let agent = world.name("agent");
    let query = [("agent_id", agent.as_str())];
    hook(&client, &query, &prompt("s", "Hello")).await;
    let first = session(&client, &agent, "s").await;
    // Even where each took a slow server some seconds, not every one leaves an entry.
    for command in ["ls", "make", "make test"] {
        hook(&client, &query, &tool_use("s", command)).await;
    }
    hook(&client, &query, &event("s", "Stop", json!({}))).await;
    let found = found(&client, &agent, "s").await.unwrap();
    let last = &found["session"];
    assert_eq!(last["created"], first["created"]);
    let statuses = texts(&found["status_history"], "status");
    assert_eq!(
        (&statuses[0][..], &statuses[statuses.len() - 1][..]),
        ("success", "running")
    );
    assert!(statuses.len() < 5, "{statuses:?}");

    hook(&client, &query, &tool_use("s", "make")).await;
    let before = session(&client, &agent, "s").await;
    hook(&client, &query, &tool_use("s", "make install")).await;
    let after = session(&client, &agent, "s").await;
    assert_eq!(after["message"], "Bash: make install");
    assert_eq!(after["status_since"], before["status_since"]);
    assert!(text(&after["last_updated"]) >= text(&before["last_updated"]));
}

async fn hooks_of_many_sessions_at_once_lose_nothing(world: Arc<World>) {
    const SESSIONS: usize = 20;
    let client = world.client().await;
    let agent = world.name("agent");
    // Each session waits for nine calls, which are then answered all at once but for the last.
    let call = |session: usize, call: usize, name: &str| {
        let mut body = tool_use(&format!("s{session}"), &format!("step {call}"));
        body["hook_event_name"] = name.into();
        body
    };
    let play = async |session: usize| {
        let query = [("agent_id", agent.as_str())];
        let ask = (0..9).map(|n| call(session, n, "PermissionRequest"));
        let ask: Vec<Value> = ask.collect();
        join_all(ask.iter().map(|body| hook(&client, &query, body))).await;
        let answer: Vec<Value> = (0..8).map(|n| call(session, n, "PostToolUse")).collect();
        join_all(answer.iter().map(|body| hook(&client, &query, body))).await;
    };
    join_all((0..SESSIONS).map(play)).await;
    let list = client
        .get(&format!("/api/agents/{agent}/sessions"))
        .await
        .ok();
    let sessions = list["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), SESSIONS);
    for session in sessions {
        assert_eq!(session["reason"], "permission", "{session}");
        assert_eq!(session["message"], "Bash: step 8", "{session}");
    }
}

async fn a_hook_needs_the_scope_report(world: Arc<World>) {
    let body = prompt("s", "Hello");
    let anonymous = world.anonymous().post("/hooks/codex", &body).await;
    anonymous.error(401, "unauthorized", "missing authorization header");
    let account = world.account(0).await;
    let reader = account.with_scopes(&["read"]).await;
    reader
        .post("/hooks/codex", &body)
        .await
        .error_code(403, "forbidden");
    let reporter = account.with_scopes(&["report"]).await;
    let answer = reporter.post("/hooks/codex", &body).await;
    assert_eq!(answer.ok(), json!({}));
}
