//! What web pages that a browser shows may ask for in open mode.

use crate::server::{Server, settings, values};
use http::Request;
use kubeagents_core::{AuthMode, Settings};
use serde_json::json;

fn server(loopback_only: bool) -> Server {
    Server::new(Settings {
        values: values(&[("ALLOWED_HOSTS", "agents.example.com")]),
        loopback_only,
        ..settings(AuthMode::Open)
    })
}

/// The status of the answer to a report that a page of this origin sends to this host.
fn report(server: &Server, host: &str, origin: &str) -> u16 {
    let body = json!({
        "agent_id": "a", "session_topic": "t", "status": "running",
        "timestamp": "2026-01-01T00:00:00Z",
    });
    let request = Request::post("/webhook/status")
        .header("host", host)
        .header("origin", origin)
        .body(body.to_string());
    server.send(request.unwrap()).status.as_u16()
}

#[test]
fn a_page_of_the_server_itself_may_change_what_it_shows() {
    for (host, origin, status) in [
        ("agents.example.com", "https://agents.example.com", 200),
        ("192.168.0.7:8080", "http://192.168.0.7:8080", 200),
        ("localhost:8080", "http://localhost:3000", 200),
        ("agents.example.com", "https://evil.example", 403),
        ("192.168.0.7:8080", "http://192.168.0.8:8080", 403),
        ("evil.example", "http://evil.example", 403),
    ] {
        let answered = report(&server(false), host, origin);
        assert_eq!(answered, status, "{host} {origin}");
    }
}

#[test]
fn configured_origins_take_the_place_of_loopback_ones() {
    let server = Server::new(Settings {
        values: values(&[("CORS_ALLOWED_ORIGINS", "https://app.example.com")]),
        ..settings(AuthMode::Open)
    });
    assert_eq!(report(&server, "localhost", "https://app.example.com"), 200);
    assert_eq!(report(&server, "localhost", "http://localhost:3000"), 403);
}

#[test]
fn names_that_are_not_allowed_are_refused_where_the_address_says_nothing() {
    for (host, local, known) in [
        ("agents.example.com:443", 200, 200),
        ("127.0.0.1:9", 200, 200),
        ("evil.example", 403, 200),
        ("10.0.0.1", 403, 200),
    ] {
        for (loopback_only, status) in [(true, local), (false, known)] {
            let request = Request::get("/api/agents").header("host", host);
            let request = request.body(String::new()).unwrap();
            let answered = server(loopback_only).send(request).status;
            assert_eq!(answered.as_u16(), status, "{host} {loopback_only}");
        }
    }
}
