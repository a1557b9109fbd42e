//! Lists of one workspace that are read at once.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use kubeagents_core::{AuthMode, Settings};
use serde_json::json;

use crate::server::{Server, settings, values};

fn get(server: &Server, path: &str) -> Pin<Box<impl Future<Output = Response<Bytes>>>> {
    let request = Request::get(path).body(Full::new(Bytes::new()));
    Box::pin(server.app.handle(request.unwrap()))
}

fn is_at_work(request: &mut Pin<Box<impl Future>>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    matches!(request.as_mut().poll(&mut context), Poll::Pending)
}

#[test]
fn a_workspace_reads_so_many_lists_at_once_and_others_are_told_to_come_again() {
    let server = Server::new(Settings {
        values: values(&[("READS_IN_FLIGHT", "2")]),
        ..settings(AuthMode::Open)
    });
    // A list that finds none of them gives way, and is under way until it is polled again.
    for n in 0..300 {
        let report = json!({
            "agent_id": n.to_string(), "session_topic": "t", "status": "running",
            "timestamp": "2026-01-01T00:00:00Z",
        });
        assert_eq!(server.post("/webhook/status", &report).status, 200);
    }
    let slow = "/api/agents?status=failed";
    let mut first = get(&server, slow);
    let mut second = get(&server, slow);
    assert!(is_at_work(&mut first) && is_at_work(&mut second));

    // The clock of these tests does not wait.
    for path in [
        "/api/agents?limit=1",
        "/api/agents/1/sessions",
        "/api/agents/1/history",
    ] {
        let refused = server.get(path);
        assert_eq!(refused.status, 503);
        assert_eq!(refused.response.headers()["retry-after"], "1");
        let body = refused.json();
        assert_eq!(body["code"], "unavailable");
        let message = body["message"].as_str().unwrap();
        assert!(message.contains("READS_IN_FLIGHT"), "{message}");
    }
    let params = json!({"name": "list_agents", "arguments": {}});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let refused = server.post("/mcp", &call).json();
    assert_eq!(refused["result"]["isError"], true, "{refused}");

    // What is no list goes on.
    assert_eq!(server.get("/api/agents/1").status, 200);
    assert_eq!(server.get("/ready").status, 200);

    let mut context = Context::from_waker(Waker::noop());
    let answer = pin!(first).poll(&mut context);
    assert!(matches!(answer, Poll::Ready(answer) if answer.status() == 200));
    assert_eq!(server.get("/api/agents?limit=1").status, 200);
    drop(second);
    let answered = server.post("/mcp", &call).json();
    assert_eq!(answered["result"]["isError"], false);
}
