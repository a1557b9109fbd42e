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
        ("agents.example.com:443", "https://agents.example.com", 200),
        ("agents.example.com:80", "http://agents.example.com", 200),
        ("agents.example.com:443", "http://agents.example.com", 403),
        ("agents.example.com", "ftp://agents.example.com", 403),
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
fn the_scheme_of_a_page_is_that_of_the_request_where_that_is_known() {
    for (forwarded, target, origin, status) in [
        (None, "/webhook/status", "http://agents.example.com", 200),
        (
            Some("https"),
            "/webhook/status",
            "https://agents.example.com",
            200,
        ),
        (
            Some("https, http"),
            "/webhook/status",
            "http://agents.example.com",
            403,
        ),
        (
            Some("http"),
            "/webhook/status",
            "https://agents.example.com",
            403,
        ),
        (
            None,
            "https://agents.example.com/webhook/status",
            "https://agents.example.com",
            200,
        ),
        (
            None,
            "https://agents.example.com/webhook/status",
            "http://agents.example.com",
            403,
        ),
    ] {
        let mut request = Request::post(target)
            .header("host", "agents.example.com")
            .header("origin", origin);
        if let Some(scheme) = forwarded {
            request = request.header("x-forwarded-proto", scheme);
        }
        let body = json!({
            "agent_id": "a", "session_topic": "t", "status": "running",
            "timestamp": "2026-01-01T00:00:00Z",
        });
        let reply = server(false).send(request.body(body.to_string()).unwrap());
        assert_eq!(
            reply.status.as_u16(),
            status,
            "{forwarded:?} {target} {origin}"
        );
    }
}

#[test]
fn the_target_names_the_host_else_the_only_host_header_does() {
    for (target, hosts, status) in [
        ("/api/agents", &["localhost"][..], 200),
        ("/api/agents", &[], 403),
        ("/api/agents", &[""], 403),
        ("/api/agents", &["localhost", "localhost"], 400),
        ("/api/agents", &["localhost", "evil.example"], 400),
        ("http://localhost/api/agents", &["evil.example"], 200),
        ("http://evil.example/api/agents", &["localhost"], 403),
        ("http://localhost/api/agents", &[], 200),
        ("/health", &[], 200),
        ("/ready", &["10.0.0.1"], 200),
        ("/health", &["localhost", "evil.example"], 400),
    ] {
        let mut request = Request::get(target);
        for host in hosts {
            request = request.header("host", *host);
        }
        let reply = server(true).send(request.body(String::new()).unwrap());
        assert_eq!(reply.status.as_u16(), status, "{target} {hosts:?}");
    }
    let twice = Request::get("/api/agents")
        .header("host", "localhost")
        .header("host", "localhost");
    let required = Server::new(settings(AuthMode::Required));
    let reply = required.send(twice.body(String::new()).unwrap());
    assert_eq!(reply.status.as_u16(), 400);
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
