//! How sessions live and expire, by a clock that the test moves.

use crate::server::{Server, settings};
use chrono::TimeDelta;
use http::StatusCode;
use kubeagents_core::AuthMode;
use serde_json::{Value, json};

fn server() -> Server {
    Server::new(settings(AuthMode::Open))
}

fn report(server: &Server, status: &str, ttl_minutes: u32) {
    let body = json!({
        "agent_id": "a", "session_topic": "t", "status": status, "message": status,
        "timestamp": "2026-01-01T00:00:00Z", "ttl_minutes": ttl_minutes,
    });
    assert_eq!(server.post("/webhook/status", &body).status, StatusCode::OK);
}

fn session(server: &Server) -> Value {
    server.get("/api/agents/a/sessions/t").json()["session"].clone()
}

#[test]
fn a_session_expires_at_its_instant_and_not_a_microsecond_earlier() {
    let server = server();
    report(&server, "running", 5);
    server
        .clock
        .advance(TimeDelta::minutes(5) - TimeDelta::microseconds(1));
    let before = session(&server);
    assert_eq!(
        (&before["expired"], &before["state"]),
        (&json!(false), &json!("active"))
    );
    assert_eq!(before.get("expired_at"), None);
    let agent = server.get("/api/agents/a").json();
    assert_eq!(
        (&agent["active_session_count"], &agent["latest_status"]),
        (&json!(1), &json!("running"))
    );

    server.clock.advance(TimeDelta::microseconds(1));
    let after = session(&server);
    assert_eq!(
        (&after["expired"], &after["state"]),
        (&json!(true), &json!("expired"))
    );
    assert_eq!(after["expired_at"], after["expires_at"]);
    let agent = server.get("/api/agents/a").json();
    assert_eq!(agent["active_session_count"], 0);
    assert_eq!(
        (agent.get("latest_status"), agent.get("latest_message")),
        (None, None)
    );
    assert_eq!(
        server.get("/api/agents/a/status").json()["status"],
        "running"
    );
}

#[test]
fn a_report_renews_an_expired_session_and_its_history_goes_on() {
    let server = server();
    report(&server, "running", 1);
    server.clock.advance(TimeDelta::hours(30));
    report(&server, "running", 0);
    let detail = server.get("/api/agents/a/sessions/t").json();
    assert_eq!(
        (
            &detail["session"]["state"],
            &detail["session"]["ttl_minutes"]
        ),
        (&json!("active"), &json!(1))
    );
    assert_eq!(detail["status_history"].as_array().unwrap().len(), 2);
}

#[test]
fn a_report_that_names_a_ttl_counts_it_from_itself() {
    let server = server();
    report(&server, "running", 60);
    server.clock.advance(TimeDelta::minutes(10));
    report(&server, "running", 1);
    server.clock.advance(TimeDelta::minutes(1));
    assert_eq!(session(&server)["expired"], true);
}

#[test]
fn finished_work_does_not_turn_expired() {
    let server = server();
    report(&server, "success", 1);
    server.clock.advance(TimeDelta::hours(1));
    let session = session(&server);
    assert_eq!(
        (&session["state"], &session["expired"]),
        (&json!("ended"), &json!(true))
    );
}

#[test]
fn the_expiry_filter_tells_sessions_apart() {
    let server = server();
    report(&server, "running", 1);
    for (minutes, unexpired, expired) in [(0, 1, 0), (1, 0, 1)] {
        server.clock.advance(TimeDelta::minutes(minutes));
        for (filter, count) in [
            ("false", unexpired),
            ("only", expired),
            ("true", 1),
            ("", 1),
        ] {
            let path = format!("/api/agents/a/sessions?expired={filter}");
            let listed = server.get(&path).json();
            assert_eq!(
                listed["sessions"].as_array().unwrap().len(),
                count,
                "{filter}"
            );
        }
        let running = server.get("/api/agents?status=running").json();
        assert_eq!(running["agents"].as_array().unwrap().len(), unexpired);
    }
}
