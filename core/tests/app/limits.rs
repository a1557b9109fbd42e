//! What log-ins, registrations and mails are limited to, by a clock that the test moves.

use chrono::TimeDelta;
use http::{Request, StatusCode};
use kubeagents_core::{AuthMode, Peer};
use serde_json::{Value, json};

use crate::server::{Reply, Server, settings, values};

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse";

/// Addresses of clients, of which documentation may make what it likes.
fn client(n: usize) -> String {
    format!("203.0.113.{n}")
}

fn server() -> Server {
    Server::new(settings(AuthMode::Required))
}

fn server_with(variables: &[(&'static str, &str)]) -> Server {
    let mut settings = settings(AuthMode::Required);
    settings.values = values(variables);
    Server::new(settings)
}

/// Registers and verifies the account; its access token.
fn verified(server: &Server) -> String {
    server.verified(EMAIL, PASSWORD)
}

fn login(server: &Server, peer: &str, email: &str, password: &str) -> Reply {
    let body = json!({"email": email, "password": password});
    server.post_from(peer, "/api/auth/login", &body)
}

#[track_caller]
fn assert_limited(reply: &Reply, variable: &str, wait: &str) {
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    let body = reply.json();
    assert_eq!(body["code"], "too_many_requests");
    assert_eq!(body["error"], body["message"]);
    assert!(
        body["message"].as_str().unwrap().ends_with(variable),
        "{body}"
    );
    assert_eq!(reply.response.headers()["retry-after"], wait);
}

#[test]
fn ten_failed_log_ins_a_minute_are_allowed_to_a_client_at_an_address() {
    const LIMIT: &str = "LOGIN_ATTEMPTS_PER_MINUTE";
    let server = server();
    verified(&server);
    for email in [EMAIL, "nobody@example.com"] {
        for n in 0..10 {
            let email = match n % 2 {
                0 => email.to_owned(),
                _ => email.to_uppercase(),
            };
            let reply = login(&server, &client(1), &email, "wrong");
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        }
        let reply = login(&server, &client(1), email, "wrong");
        assert_limited(&reply, LIMIT, "6");
        let reply = login(&server, &client(1), email, PASSWORD);
        assert_limited(&reply, LIMIT, "6");
    }
    let elsewhere = login(&server, &client(2), EMAIL, PASSWORD);
    assert_eq!(
        elsewhere.status,
        StatusCode::OK,
        "nobody else is locked out"
    );
    server.clock.advance(TimeDelta::milliseconds(5500));
    assert_limited(&login(&server, &client(1), EMAIL, PASSWORD), LIMIT, "1");
    server.clock.advance(TimeDelta::milliseconds(500));
    for _ in 0..20 {
        let reply = login(&server, &client(1), EMAIL, PASSWORD);
        assert_eq!(reply.status, StatusCode::OK, "right ones do not count");
    }
    let reply = login(&server, &client(1), EMAIL, "wrong");
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_limited(&login(&server, &client(1), EMAIL, PASSWORD), LIMIT, "6");
}

#[test]
fn log_ins_at_once_count_only_where_they_fail() {
    let server = server();
    verified(&server);
    let at_once = |passwords: &[&str]| -> Vec<StatusCode> {
        let request = |password: &&str| {
            let body = json!({"email": EMAIL, "password": password});
            let request = Request::post("/api/auth/login");
            let request = request.extension(Peer(client(1).parse().unwrap()));
            request.body(body.to_string()).unwrap()
        };
        let replies = server.send_together(passwords.iter().map(request).collect());
        replies.iter().map(|reply| reply.status).collect()
    };
    assert_eq!(at_once(&[PASSWORD; 25]), [StatusCode::OK; 25]);
    assert_eq!(at_once(&["wrong"; 9]), [StatusCode::UNAUTHORIZED; 9]);
    assert_eq!(at_once(&[PASSWORD; 5]), [StatusCode::OK; 5]);
    let guesses = at_once(&["wrong"; 3]);
    assert_eq!(guesses[0], StatusCode::UNAUTHORIZED);
    assert_eq!(guesses[1..], [StatusCode::TOO_MANY_REQUESTS; 2]);
}

#[test]
fn all_clients_together_are_allowed_ten_times_as_many() {
    let server = server();
    verified(&server);
    for n in 0..100 {
        let reply = login(&server, &client(n % 20), EMAIL, "wrong");
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{n}");
    }
    for n in [0, 20] {
        let reply = login(&server, &client(n), EMAIL, PASSWORD);
        assert_limited(&reply, "LOGIN_ATTEMPTS_PER_MINUTE", "1");
    }
    let unknown = json!({"email": EMAIL, "password": PASSWORD});
    let reply = server.post("/api/auth/login", &unknown);
    assert_limited(&reply, "LOGIN_ATTEMPTS_PER_MINUTE", "1");
}

#[test]
fn changing_a_password_and_deleting_an_account_count_as_log_ins() {
    let server = server();
    let token = verified(&server);
    let send = |method: &str, path: &str, body: &Value| {
        let request = Request::builder().method(method).uri(path);
        let request = request
            .header("authorization", format!("Bearer {token}"))
            .extension(Peer(client(1).parse().unwrap()));
        server.send(request.body(body.to_string()).unwrap())
    };
    for n in 0..10 {
        let reply = match n % 2 {
            0 => {
                let body = json!({"current_password": "wrong", "new_password": "long enough"});
                send("POST", "/api/auth/password", &body)
            }
            _ => send("DELETE", "/api/auth/me", &json!({"password": "wrong"})),
        };
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        assert_eq!(reply.json()["message"], "invalid password");
    }
    let limit = "LOGIN_ATTEMPTS_PER_MINUTE";
    let reply = send("DELETE", "/api/auth/me", &json!({"password": PASSWORD}));
    assert_limited(&reply, limit, "6");
    assert_limited(&login(&server, &client(1), EMAIL, PASSWORD), limit, "6");
}

fn register(server: &Server, peer: &str, forwarded: Option<&str>, email: &str) -> Reply {
    let body = json!({"email": email, "password": PASSWORD});
    let mut request = Request::post("/api/auth/register").extension(Peer(peer.parse().unwrap()));
    if let Some(forwarded) = forwarded {
        request = request.header("x-forwarded-for", forwarded);
    }
    server.send(request.body(body.to_string()).unwrap())
}

#[test]
fn twenty_registrations_an_hour_are_allowed_to_a_client_that_is_not_on_this_machine() {
    let server = server_with(&[("TRUSTED_PROXIES", "192.0.2.1")]);
    let email = |n: usize| format!("user{n}@example.com");
    let mut number = 0;
    let mut next = |peer: &str, forwarded: Option<&str>, email: Option<&str>| {
        number += 1;
        let own = format!("user{number}@example.com");
        register(&server, peer, forwarded, email.unwrap_or(&own))
    };
    let (created, limit) = (StatusCode::CREATED, "REGISTRATIONS_PER_HOUR");
    for _ in 0..30 {
        assert_eq!(next("127.0.0.1", None, None).status, created);
        let reply = next(&client(1), None, Some("no address"));
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "is not counted");
    }
    for n in 0..20 {
        let reply = match n % 2 {
            0 => next(&client(1), None, None),
            _ => next("192.0.2.1", Some(&format!("1.1.1.1, {}", client(1))), None),
        };
        assert_eq!(reply.status, created, "{n}");
    }
    assert_limited(&next(&client(1), None, None), limit, "180");
    assert_limited(&next(&client(1), None, Some("no address")), limit, "180");
    assert_eq!(next("192.0.2.1", Some(&client(2)), None).status, created);
    // Whoever comes through a proxy is not on this machine, whatever the proxy says.
    for _ in 0..20 {
        let reply = next("127.0.0.1", Some("127.0.0.1"), None);
        assert_eq!(reply.status, created);
    }
    assert_limited(&next("127.0.0.1", Some(&client(3)), None), limit, "180");
    let again = register(&server, &client(4), None, &email(1));
    assert_eq!(again.status, created);
}

#[test]
fn five_mails_an_hour_go_to_an_address() {
    let server = server();
    let ask = |path: &str| {
        let reply = server.post(path, &json!({"email": EMAIL}));
        assert_eq!(reply.status, StatusCode::OK);
    };
    let again = || register(&server, "127.0.0.1", None, EMAIL);
    assert_eq!(again().status, StatusCode::CREATED);
    for _ in 0..10 {
        ask("/api/auth/resend-verify");
        ask("/api/auth/forgot");
    }
    assert_eq!(server.mails_to(EMAIL), 5);
    assert_limited(&again(), "VERIFICATION_MAILS_PER_HOUR", "718");
    let newest = server.mailed_token();
    server.clock.advance(TimeDelta::minutes(12));
    assert_eq!(again().status, StatusCode::CREATED);
    assert_eq!(server.mails_to(EMAIL), 6);
    let path = format!("/api/auth/verify?token={newest}");
    assert_eq!(server.get(&path).status, StatusCode::BAD_REQUEST);
    server.clock.advance(TimeDelta::hours(2));
    for _ in 0..10 {
        ask("/api/auth/forgot");
    }
    assert_eq!(server.mails_to(EMAIL), 11);
}

#[test]
fn asking_for_an_address_that_nobody_has_uses_up_nothing() {
    let server = server();
    for _ in 0..300 {
        let reply = server.post("/api/auth/resend-verify", &json!({"email": EMAIL}));
        assert_eq!(reply.status, StatusCode::OK);
    }
    let reply = register(&server, "127.0.0.1", None, EMAIL);
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(server.mails_to(EMAIL), 1);
}

#[test]
fn a_limit_of_0_is_none() {
    let server = server_with(&[
        ("LOGIN_ATTEMPTS_PER_MINUTE", "0"),
        ("REGISTRATIONS_PER_HOUR", "0"),
        ("VERIFICATION_MAILS_PER_HOUR", "0"),
    ]);
    for _ in 0..30 {
        let reply = register(&server, &client(1), None, EMAIL);
        assert_eq!(reply.status, StatusCode::CREATED);
    }
    assert_eq!(server.mails_to(EMAIL), 30);
    for _ in 0..30 {
        let reply = login(&server, &client(1), EMAIL, "wrong");
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    }
}
