//! What the audit tells, by a clock that the test moves.

use chrono::TimeDelta;
use http::{Request, StatusCode};
use kubeagents_core::AuthMode;
use kubeagents_core::audit::MAX_AUDIT_ENTRIES;
use kubeagents_core::store::Audit;
use kubeagents_core::{AccountId, Timestamp, Workspace};
use serde_json::{Value, json};

use crate::server::{Reply, Server, settings, values};

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse";

fn server() -> Server {
    Server::new(settings(AuthMode::Required))
}

fn login(server: &Server, peer: &str, email: &str, password: &str) -> StatusCode {
    let body = json!({"email": email, "password": password});
    server.post_from(peer, "/api/auth/login", &body).status
}

/// The entries that an account sees, newest first.
fn entries(server: &Server, token: &str) -> Vec<Value> {
    let reply = server.get_as(token, "/api/audit");
    assert_eq!(reply.status, StatusCode::OK);
    reply.json()["entries"].as_array().unwrap().clone()
}

fn events(entries: &[Value]) -> Vec<&str> {
    entries
        .iter()
        .map(|entry| entry["event"].as_str().unwrap())
        .collect()
}

/// Sends a request of an account from a machine; its reply.
fn send(server: &Server, token: &str, method: &str, path: &str, body: &Value) -> Reply {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("authorization", format!("Bearer {token}"));
    let request = request.header("user-agent", "curl/8.5.0");
    server.send(request.body(body.to_string()).unwrap())
}

#[test]
fn failures_of_a_minute_from_one_client_are_one_entry() {
    let server = server();
    let token = server.verified(EMAIL, PASSWORD);
    for (peer, password) in [
        ("203.0.113.1", "wrong"),
        ("203.0.113.1", "wrong too"),
        ("2001:db8::1", "wrong"),
        ("2001:db8::2", "wrong"),
    ] {
        assert_eq!(
            login(&server, peer, EMAIL, password),
            StatusCode::UNAUTHORIZED
        );
        server.clock.advance(TimeDelta::seconds(1));
    }
    server.clock.advance(TimeDelta::minutes(1));
    let again = login(&server, "203.0.113.1", EMAIL, "wrong");
    assert_eq!(again, StatusCode::UNAUTHORIZED);
    let entries = entries(&server, &token);
    let failed: Vec<_> = entries
        .iter()
        .filter(|entry| entry["event"] == "login.failed")
        .map(|entry| (entry["client_address"].as_str().unwrap(), &entry["count"]))
        .collect();
    assert_eq!(
        failed,
        [
            ("203.0.113.1", &json!(1)),
            ("2001:db8::1", &json!(2)),
            ("203.0.113.1", &json!(2)),
        ]
    );
    assert_eq!(entries[0]["actor"], "password");
}

#[test]
fn whoever_fails_at_log_ins_drives_out_nothing_else() {
    let mut settings = settings(AuthMode::Required);
    settings.values = values(&[("LOGIN_ATTEMPTS_PER_MINUTE", "0")]);
    let server = Server::new(settings);
    let token = server.verified(EMAIL, PASSWORD);
    let before = entries(&server, &token);
    for n in 0..MAX_AUDIT_ENTRIES + 20 {
        let peer = format!("198.51.{}.{}", n / 250, n % 250);
        assert_eq!(
            login(&server, &peer, EMAIL, "wrong"),
            StatusCode::UNAUTHORIZED
        );
        server.clock.advance(TimeDelta::milliseconds(1));
    }
    let after = entries(&server, &token);
    let count = |event: &str| events(&after).iter().filter(|each| **each == event).count();
    assert_eq!(count("login.failed"), MAX_AUDIT_ENTRIES);
    for kept in ["login.succeeded", "account.verified"] {
        assert!(events(&before).contains(&kept));
        assert_eq!(count(kept), 1, "{kept}");
    }
    assert_eq!(
        count("account.registered"),
        0,
        "it is counted, and the oldest"
    );
}

#[test]
fn failures_at_an_address_without_an_account_are_nobodys() {
    let server = server();
    let token = server.verified(EMAIL, PASSWORD);
    let before = entries(&server, &token);
    for email in ["nobody@example.com", "", "no\0body"] {
        let refused = login(&server, "203.0.113.1", email, PASSWORD);
        assert_eq!(refused, StatusCode::UNAUTHORIZED);
        let body = json!({"email": email});
        let reply = server.post("/api/auth/forgot", &body);
        assert_eq!(reply.status, StatusCode::OK);
    }
    assert_eq!(entries(&server, &token), before);
    // Each costs what one at an account does: an entry is written.
    let store = server.app.ports();
    let written = (0..16).map(|n| {
        let nobody = Workspace::Account(AccountId::new(format!("nobody-{n}")));
        let store = kubeagents_core::ports::Ports::store(store);
        let page = store.audit(&nobody, Timestamp::UNIX_EPOCH, None, 100);
        futures_executor::block_on(page).unwrap().items.len()
    });
    assert_eq!(written.sum::<usize>(), 6);
}

#[test]
fn what_an_account_does_is_told_without_its_secrets() {
    let server = server();
    let token = server.verified(EMAIL, PASSWORD);
    let act = |method: &str, path: &str, body: Value| send(&server, &token, method, path, &body);
    let made = act("POST", "/api/apikeys", json!({"name": "laptop"})).json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let report = json!({
        "agent_id": "a", "session_topic": "t", "status": "running",
        "timestamp": "2026-01-01T00:00:00Z",
    });
    for _ in 0..2 {
        let reply = send(&server, key, "POST", "/webhook/status", &report);
        assert_eq!(reply.status, StatusCode::OK);
    }
    act("DELETE", &format!("/api/apikeys/{id}"), json!({}));
    act("DELETE", &format!("/api/apikeys/{id}"), json!({}));
    let url = "https://user:hidden@hooks.example.com/secret-path?key=hidden";
    for url in [url, ""] {
        act(
            "PUT",
            "/api/auth/me",
            json!({"notification_webhook_url": url}),
        );
    }
    let channel = json!({"name": "chat", "url": url, "format": "webhook"});
    let channel = act("POST", "/api/channels", channel).json();
    let place = format!("/api/channels/{}", channel["id"].as_str().unwrap());
    act("PUT", &place, json!({"enabled": false}));
    act("DELETE", &place, json!({}));
    let new = "battery staple";
    for (current, status) in [("wrong", 401), (PASSWORD, 200)] {
        let body = json!({"current_password": current, "new_password": new});
        assert_eq!(act("POST", "/api/auth/password", body).status, status);
    }
    server.post("/api/auth/forgot", &json!({"email": EMAIL}));
    let reset = json!({"token": server.mailed_token(), "password": PASSWORD});
    assert_eq!(
        server.post("/api/auth/reset", &reset).status,
        StatusCode::OK
    );
    act("POST", "/api/auth/logout", json!({}));

    let mut told = entries(&server, &token);
    told.reverse();
    // The clock stands still but for the mails: what comes at one instant is in no order.
    let mut events = events(&told);
    events.sort_unstable();
    assert_eq!(
        events,
        [
            "account.registered",
            "account.verified",
            "channel.changed",
            "channel.created",
            "channel.removed",
            "key.created",
            "key.first_used",
            "key.revoked",
            "login.ended",
            "login.succeeded",
            "login.succeeded",
            "password.changed",
            "password.forgotten",
            "password.refused",
            "password.reset",
            "webhook.changed",
            "webhook.removed",
        ]
    );
    let of = |event: &str| told.iter().find(|entry| entry["event"] == event).unwrap();
    let target = |event: &str| {
        (
            of(event)["target"].as_str(),
            of(event)["target_id"].as_str(),
        )
    };
    for event in ["key.created", "key.first_used", "key.revoked"] {
        assert_eq!(target(event), (Some("laptop"), Some(id)), "{event}");
    }
    assert_eq!(
        target("channel.removed"),
        (Some("chat"), channel["id"].as_str())
    );
    assert_eq!(
        target("webhook.changed"),
        (Some("https://hooks.example.com"), None)
    );
    assert_eq!(target("webhook.removed"), (None, None));
    for (event, actor) in [
        ("key.created", "access_token"),
        ("key.first_used", "api_key"),
        ("password.reset", "mailed_link"),
        ("account.registered", "anyone"),
    ] {
        assert_eq!(of(event)["actor"], actor, "{event}");
    }
    assert_eq!(of("key.first_used")["user_agent"], "curl/8.5.0");
    let told = json!(told).to_string();
    let access = told.contains(&token);
    assert!(!access, "a token is told");
    for secret in ["hidden", "secret-path", PASSWORD, new, key] {
        assert!(!told.contains(secret), "{secret}");
    }
}

#[test]
fn a_spent_token_that_comes_again_is_told() {
    let server = server();
    let body = json!({"email": EMAIL, "password": PASSWORD});
    server.post("/api/auth/register", &body);
    let verify = format!("/api/auth/verify?token={}", server.mailed_token());
    let tokens = server.get(&verify).json();
    let spent = json!({"refresh_token": tokens["refresh_token"]});
    assert_eq!(
        server.post("/api/auth/refresh", &spent).status,
        StatusCode::OK
    );
    server.clock.advance(TimeDelta::seconds(10));
    for _ in 0..2 {
        server.post("/api/auth/refresh", &spent);
        server.clock.advance(TimeDelta::seconds(1));
    }
    let token = tokens["access_token"].as_str().unwrap();
    let told = entries(&server, token);
    let reused = told.iter().filter(|entry| entry["event"] == "token.reused");
    let reused: Vec<_> = reused.collect();
    assert_eq!(reused.len(), 1, "it was revoked once");
    assert_eq!(reused[0]["actor"], "refresh_token");
}

#[test]
fn entries_are_told_for_as_long_as_they_are_kept() {
    let mut settings = settings(AuthMode::Required);
    settings.values = values(&[
        ("AUDIT_RETENTION_DAYS", "2"),
        ("JWT_ACCESS_TOKEN_EXPIRY", "72h"),
    ]);
    let server = Server::new(settings);
    let token = server.verified(EMAIL, PASSWORD);
    let first = entries(&server, &token).len();
    server.clock.advance(TimeDelta::days(1));
    assert_eq!(
        login(&server, "203.0.113.1", EMAIL, PASSWORD),
        StatusCode::OK
    );
    assert_eq!(entries(&server, &token).len(), first + 1);
    server.clock.advance(TimeDelta::hours(25));
    assert_eq!(events(&entries(&server, &token)), ["login.succeeded"]);
}

#[test]
fn the_shared_workspace_shows_its_members_who_changed_its_channels() {
    let mut required = settings(AuthMode::Required);
    required.values = values(&[
        ("SHARED_WORKSPACE_MEMBERS", "@example.com"),
        ("KUBEAGENTS_API_KEY", "a-key-for-the-team"),
    ]);
    let server = Server::new(required);
    let [ada, bob, eve] = ["ada@example.com", "bob@example.com", "eve@example.org"]
        .map(|email| server.verified(email, PASSWORD));
    let channel = json!({"name": "team", "url": "https://example.com/x"});
    let shared = "/api/channels?workspace=shared";
    assert_eq!(send(&server, &ada, "POST", shared, &channel).status, 201);
    let by_key = send(
        &server,
        "a-key-for-the-team",
        "POST",
        "/api/channels",
        &channel,
    );
    assert_eq!(by_key.status, 201);
    let mut told: Vec<_> = server.get_as(&bob, "/api/audit?workspace=shared").json()["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["user"].clone(), entry["actor"].clone()))
        .collect();
    told.sort_by_key(|(_, actor)| actor.to_string());
    assert_eq!(
        told,
        [
            (json!("ada@example.com"), json!("access_token")),
            (Value::Null, json!("static_key")),
        ]
    );
    let own = entries(&server, &ada);
    assert!(!events(&own).contains(&"channel.created"));
    for (token, status) in [(&*eve, 403), ("a-key-for-the-team", 401)] {
        let reply = server.get_as(token, "/api/audit?workspace=shared");
        assert_eq!(reply.status, status);
    }
}

#[test]
fn an_open_server_shows_the_shared_audit_to_every_account() {
    let server = Server::new(settings(AuthMode::Open));
    assert_eq!(server.get("/api/audit").status, StatusCode::UNAUTHORIZED);
    let token = server.verified(EMAIL, PASSWORD);
    let channel = json!({"name": "team", "url": "https://example.com/x"});
    assert_eq!(
        server.post("/api/channels", &channel).status,
        StatusCode::CREATED
    );
    let own = entries(&server, &token);
    assert!(!events(&own).contains(&"channel.created"));
    let shared = server.get_as(&token, "/api/audit?workspace=shared").json();
    assert_eq!(shared["entries"][0]["event"], "channel.created");
    assert_eq!(shared["entries"][0]["actor"], "anyone");
}
