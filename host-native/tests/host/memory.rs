//! What storage holds at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use kubeagents_test_postgres::database;
use serde_json::{Value, json};

use crate::events::Reader;
use crate::support::{Answer, Server, load, numbered, report};

fn large(agent: &str, topic: &str, status: &str) -> Value {
    let mut report = report(topic, status);
    report["agent_id"] = json!(agent);
    report["content"] = json!("x".repeat(10_000));
    report
}

/// Opens sessions with content of this length until one is refused; returns how many there are, and the
/// refusal.
async fn fill(server: &Server, agent: &str, length: usize) -> (usize, Answer) {
    for n in 0..1000 {
        let mut report = large(agent, &format!("session of {length} {n}"), "running");
        report["content"] = json!("x".repeat(length));
        let answer = server.post("/webhook/status", &report).await;
        if answer.status != StatusCode::OK {
            return (n, answer);
        }
    }
    panic!("no session was refused");
}

#[tokio::test]
async fn full_memory_makes_room_in_order_and_then_refuses_what_is_new() {
    let server = Server::start(&[("MAX_MEMORY_MIB", "1")]);
    for n in 0..20 {
        let answer = server
            .post("/webhook/status", &large("old", "ended", "running"))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{n}: {answer:?}");
    }
    server
        .post("/webhook/status", &large("old", "ended", "failed"))
        .await;
    let mut follower = Reader::follow(&server).await;

    let (sessions, _) = fill(&server, "agent", 10_000).await;
    let (small, refused) = fill(&server, "agent", 1).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{refused:?}");
    assert_eq!(refused.body["code"], "limit_reached");
    let message = refused.body["message"].as_str().unwrap();
    assert!(message.contains("MAX_MEMORY_MIB (1)"), "{message}");
    // Fewer would be waste.
    assert!(sessions > 40, "{sessions}");
    follower.until("event: reset").await;
    for gone in ["/api/agents/old", "/api/agents/old/sessions/ended"] {
        assert_eq!(
            server.get(gone).await.status,
            StatusCode::NOT_FOUND,
            "{gone}"
        );
    }
    let agent = server.get("/api/agents/agent").await.body;
    assert_eq!(agent["session_count"], sessions + small);
    let hook = json!({"hook_event_name": "UserPromptSubmit", "session_id": "s", "prompt": "p", "cwd": "/"});
    let answer = server.post("/hooks/claude-code", &hook).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{answer:?}");

    // What is known goes on, and what ends makes room.
    for n in 0..sessions {
        let report = large("agent", &format!("session of 10000 {n}"), "running");
        let answer = server.post("/webhook/status", &report).await;
        assert_eq!(answer.status, StatusCode::OK, "{n}: {answer:?}");
    }
    // A new agent takes a little more than one session leaves.
    for n in 0..2 {
        let end = large("agent", &format!("session of 10000 {n}"), "success");
        let answer = server.post("/webhook/status", &end).await;
        assert_eq!(answer.status, StatusCode::OK, "{n}: {answer:?}");
    }
    let answer = server
        .post("/webhook/status", &large("new", "session", "running"))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let ended = server
        .get("/api/agents/agent/sessions/session%20of%2010000%200")
        .await;
    assert_eq!(ended.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn who_fills_memory_stops_no_known_session() {
    let server = Arc::new(Server::start(&[("MAX_MEMORY_MIB", "1")]));
    let stop = Arc::new(AtomicBool::new(false));
    server.report("known", "running").await;
    let known = tokio::spawn(load(server.clone(), "known".to_owned(), stop.clone()));
    let (_, refused) = fill(&server, "attacker", 10_000).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{refused:?}");
    for n in 0..200 {
        let report = large(&format!("attacker {n}"), "session", "running");
        let answer = server.post("/webhook/status", &report).await;
        let admitted_or_not = [StatusCode::OK, StatusCode::CONFLICT];
        assert!(admitted_or_not.contains(&answer.status), "{answer:?}");
    }
    stop.store(true, Ordering::Relaxed);
    // Any other answer than 200 ends it with a panic.
    let stored = known.await.unwrap();
    let newest = server.get("/api/agents/agent/sessions/known").await.body;
    assert_eq!(newest["session"]["message"], json!(stored.last().unwrap()));
}

#[tokio::test]
async fn a_history_keeps_its_newest_statuses_on_every_storage() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("kubeagents.db").display());
    let database = database();
    for storage in [None, Some(file), Some(database.url())] {
        let storage = storage.as_deref();
        let mode = ("AUTH_MODE", "open");
        let start = |kept| {
            let mut variables = vec![mode, ("MAX_HISTORY_PER_SESSION", kept)];
            variables.extend(storage.map(|url| ("DATABASE_URL", url)));
            Server::start(&variables)
        };
        let shown = async |server: &Server| -> Vec<String> {
            let answer = server.get("/api/agents/agent/sessions/topic").await;
            let history = answer.body["status_history"].as_array().unwrap();
            let message = |status: &Value| status["message"].as_str().unwrap().to_owned();
            history.iter().map(message).collect()
        };
        let server = start("4");
        for number in 0..6 {
            let answer = server
                .post("/webhook/status", &numbered("topic", number))
                .await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        }
        let newest = ["topic 5", "topic 4", "topic 3", "topic 2"];
        assert_eq!(shown(&server).await, newest, "{storage:?}");
        if storage.is_none() {
            continue;
        }
        drop(server);
        let server = start("1");
        let answer = server.post("/webhook/status", &numbered("topic", 6)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(shown(&server).await, ["topic 6", "topic 5"], "{storage:?}");
        let answer = server.post("/webhook/status", &numbered("topic", 7)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(shown(&server).await, ["topic 7"], "{storage:?}");
    }
}
