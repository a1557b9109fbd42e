//! What log-ins, registrations, mails, reports and what they register are limited to, by a clock that
//! the test moves.

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
fn a_network_of_ipv6_registers_no_more_than_ten_clients_do() {
    let server = server();
    let mut number = 0;
    let mut next = |network: u16, subnet: u16| {
        number += 1;
        let email = format!("user{number}@example.com");
        register(
            &server,
            &format!("2001:db8:{network:x}:{subnet:x}::1"),
            None,
            &email,
        )
    };
    for subnet in 0..200 {
        assert_eq!(next(1, subnet).status, StatusCode::CREATED, "{subnet}");
    }
    assert_limited(&next(1, 200), "REGISTRATIONS_PER_HOUR", "18");
    assert_eq!(next(2, 200).status, StatusCode::CREATED);
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

const REPORTS: &str = "too many reports in this workspace: the limit is 3 a minute, \
                       REPORTS_PER_MINUTE";

fn a_report(agent: &str, topic: &str) -> Value {
    json!({
        "agent_id": agent,
        "session_topic": topic,
        "status": "running",
        "timestamp": "2026-01-01T00:00:00Z",
    })
}

fn tool_call(name: &str, arguments: &Value) -> Value {
    let params = json!({"name": name, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
}

/// Sends a JSON body with these credentials.
fn post_as(server: &Server, token: &str, path: &str, body: &Value) -> Reply {
    let request = Request::post(path).header("authorization", format!("Bearer {token}"));
    server.send(request.body(body.to_string()).unwrap())
}

/// The text of a tool's error.
#[track_caller]
fn tool_error(answer: &Value) -> &str {
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    answer["result"]["content"][0]["text"].as_str().unwrap()
}

#[test]
fn every_way_to_report_counts_and_so_does_what_is_refused() {
    let server = server_with(&[("REPORTS_PER_MINUTE", "3")]);
    let token = server.verified(EMAIL, PASSWORD);
    let other = server.verified("bob@example.com", PASSWORD);
    let report = |token: &str| post_as(&server, token, "/webhook/status", &a_report("a", "t"));
    let hook = json!({"session_id": "s", "hook_event_name": "Stop"});
    let limited = |reply: Reply| {
        assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
        let body = reply.json();
        assert_eq!(
            (&body["code"], &body["error"], &body["message"]),
            (
                &json!("too_many_requests"),
                &json!("too_many_requests"),
                &json!(REPORTS)
            )
        );
        assert_eq!(reply.response.headers()["retry-after"], "20");
    };

    assert_eq!(report(&token).status, StatusCode::OK);
    assert_eq!(
        post_as(&server, &token, "/hooks/codex", &hook).status,
        StatusCode::OK
    );
    let nothing = post_as(&server, &token, "/webhook/status", &json!({}));
    assert_eq!(nothing.status, StatusCode::BAD_REQUEST);
    limited(report(&token));
    limited(post_as(&server, &token, "/hooks/codex", &hook));
    let reply = post_as(
        &server,
        &token,
        "/mcp",
        &tool_call("report_status", &json!({})),
    );
    assert_eq!(tool_error(&reply.json()), REPORTS);

    // What reads is not counted, and neither is what others report.
    let reply = post_as(
        &server,
        &token,
        "/mcp",
        &tool_call("list_agents", &json!({})),
    );
    assert_eq!(reply.json()["result"]["isError"], json!(false));
    assert_eq!(server.get_as(&token, "/api/agents").status, StatusCode::OK);
    let arguments = json!({"agent_id": "a", "session_topic": "t", "status": "running"});
    let batch = vec![tool_call("report_status", &arguments); 5];
    let answers = post_as(&server, &other, "/mcp", &json!(batch)).json();
    for n in 0..3 {
        assert_eq!(answers[n]["result"]["isError"], json!(false), "{answers}");
    }
    for n in 3..5 {
        assert_eq!(tool_error(&answers[n]), REPORTS);
    }

    server.clock.advance(TimeDelta::seconds(20));
    assert_eq!(report(&token).status, StatusCode::OK);
    limited(report(&token));
    server.clock.advance(TimeDelta::seconds(60));
    for _ in 0..3 {
        assert_eq!(report(&token).status, StatusCode::OK);
    }
    limited(report(&token));
}

#[test]
fn who_may_not_report_uses_up_nothing_and_in_open_mode_nothing_is_counted() {
    let server = server_with(&[("REPORTS_PER_MINUTE", "1")]);
    let token = server.verified(EMAIL, PASSWORD);
    let key = json!({"name": "reads", "scopes": ["read"]});
    let key = post_as(&server, &token, "/api/apikeys", &key).json();
    for _ in 0..3 {
        let reply = post_as(&server, "no token", "/webhook/status", &a_report("a", "t"));
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        let reader = key["key"].as_str().unwrap();
        let reply = post_as(&server, reader, "/webhook/status", &a_report("a", "t"));
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
        let call = tool_call("report_status", &a_report("a", "t"));
        let reply = post_as(&server, reader, "/mcp", &call).json();
        assert_eq!(tool_error(&reply), "this key lacks the scope report");
    }
    let reply = post_as(&server, &token, "/webhook/status", &a_report("a", "t"));
    assert_eq!(reply.status, StatusCode::OK);

    for (mode, limit) in [(AuthMode::Open, "1"), (AuthMode::Required, "0")] {
        let mut settings = settings(mode);
        settings.values = values(&[
            ("REPORTS_PER_MINUTE", limit),
            ("KUBEAGENTS_API_KEY", "the-static-key-of-the-tests"),
        ]);
        let server = Server::new(settings);
        for _ in 0..5 {
            let key = "the-static-key-of-the-tests";
            let reply = post_as(&server, key, "/webhook/status", &a_report("a", "t"));
            assert_eq!(reply.status, StatusCode::OK);
        }
    }
}

#[test]
fn what_a_workspace_holds_is_limited_and_what_it_has_goes_on() {
    const AGENTS: &str = "this workspace has as many agents as MAX_AGENTS allows (2): report under \
                          an agent_id that it knows, or ask for a larger MAX_AGENTS";
    const SESSIONS: &str = "this agent has as many sessions as MAX_SESSIONS_PER_AGENT allows (2): \
                            report on a session that it has, or under another agent_id, or ask for \
                            a larger MAX_SESSIONS_PER_AGENT";
    let server = server_with(&[
        ("MAX_AGENTS", "2"),
        ("MAX_SESSIONS_PER_AGENT", "2"),
        ("JWT_ACCESS_TOKEN_EXPIRY", "1000h"),
    ]);
    let token = server.verified(EMAIL, PASSWORD);
    let other = server.verified("bob@example.com", PASSWORD);
    let report = |token: &str, agent: &str, topic: &str| {
        post_as(&server, token, "/webhook/status", &a_report(agent, topic))
    };
    let limited = |reply: Reply, message: &str| {
        assert_eq!(reply.status, StatusCode::CONFLICT);
        let expected = json!({
            "error": "limit_reached", "message": message, "code": "limit_reached",
        });
        assert_eq!(reply.json(), expected);
    };
    for (agent, topic) in [("a", "1"), ("b", "1"), ("a", "2")] {
        assert_eq!(report(&token, agent, topic).status, StatusCode::OK);
    }
    limited(report(&token, "c", "1"), AGENTS);
    limited(report(&token, "a", "3"), SESSIONS);
    let hook = json!({
        "session_id": "s", "hook_event_name": "UserPromptSubmit", "prompt": "Fix the login page",
    });
    limited(post_as(&server, &token, "/hooks/codex", &hook), AGENTS);
    let call = tool_call(
        "start_session",
        &json!({"agent_id": "a", "session_topic": "3"}),
    );
    assert_eq!(
        tool_error(&post_as(&server, &token, "/mcp", &call).json()),
        SESSIONS
    );
    let agents = server.get_as(&token, "/api/agents").json();
    assert_eq!(
        agents["agents"].as_array().unwrap().len(),
        2,
        "nothing is left of the others"
    );
    for (agent, topic) in [("a", "1"), ("b", "1"), ("a", "2"), ("b", "2")] {
        assert_eq!(report(&token, agent, topic).status, StatusCode::OK);
    }
    // Expired sessions count too: their history is there.
    server.clock.advance(TimeDelta::days(30));
    limited(report(&token, "a", "3"), SESSIONS);
    assert_eq!(report(&token, "a", "2").status, StatusCode::OK);
    assert_eq!(
        report(&other, "c", "3").status,
        StatusCode::OK,
        "it is another's workspace"
    );
}
