use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Answer, Server, registration};

#[tokio::test]
async fn a_flood_of_logins_leaves_reports_answered() {
    const LOGINS: usize = 60;
    let server = Arc::new(Server::start(&[]));
    let mut logins = JoinSet::new();
    for n in 0..LOGINS {
        let server = server.clone();
        logins.spawn(async move {
            let login = registration(&format!("nobody{n}@example.com"));
            server.post("/api/auth/login", &login).await.status
        });
    }
    let first = logins.join_next().await.unwrap();
    assert_eq!(first.unwrap(), StatusCode::UNAUTHORIZED);
    for n in 0..20 {
        server.report(&n.to_string(), "running").await;
    }
    let finished = std::iter::from_fn(|| logins.try_join_next()).count();
    assert!(finished < LOGINS / 2, "reports waited for logins");
}

#[tokio::test]
async fn more_logins_than_can_be_checked_are_told_to_come_again() {
    let server = Arc::new(Server::start(&[]));
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut logins = JoinSet::new();
    // Enough to fill any queue: one password takes longer than to send this many.
    for n in 0..cores * 200 {
        let server = server.clone();
        logins.spawn(async move {
            let login = registration(&format!("nobody{n}@example.com"));
            server.post("/api/auth/login", &login).await
        });
    }
    while let Some(answer) = logins.join_next().await {
        let answer = answer.unwrap();
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            assert!(answer.headers.contains_key("retry-after"));
            // Not one of the failures that are logged.
            let message = "too many passwords are waiting, try again";
            assert_eq!(answer.body["message"], message);
            return;
        }
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    panic!("the queue has no end");
}

#[tokio::test]
async fn the_log_holds_no_token_but_the_verification_link_once() {
    let server = Server::start(&[("AUTH_MODE", "required"), ("RUST_LOG", "debug")]);
    let email = "user@example.com";
    let verified = server.account(email).await;
    let verification = server.verification_token(email).await;
    let login = server
        .post("/api/auth/login", &registration(email))
        .await
        .body;
    let refresh = json!({"refresh_token": login["refresh_token"]});
    let refreshed = server.post("/api/auth/refresh", &refresh).await.body;
    let access = refreshed["access_token"].as_str();
    let body = json!({"name": "key", "scopes": ["report", "read"]});
    let key = server
        .send(Method::POST, "/api/apikeys", access, &body)
        .await
        .body;
    let agents = server
        .send(
            Method::GET,
            "/api/agents",
            key["key"].as_str(),
            &json!(null),
        )
        .await;
    assert_eq!(agents.status, StatusCode::OK, "{agents:?}");

    server.logged(&["answered", "/api/agents"]).await;
    let lines = server.process.log().lines();
    let occurrences = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    for tokens in [&verified, &login, &refreshed] {
        for name in ["access_token", "refresh_token"] {
            assert_eq!(occurrences(tokens[name].as_str().unwrap()), 0, "{name}");
        }
    }
    assert_eq!(occurrences(key["key"].as_str().unwrap()), 0, "API key");
    assert_eq!(occurrences("correct horse"), 0, "password");
    assert_eq!(occurrences(&verification), 1, "verification token");
}

/// Posts through a proxy that names this client.
async fn post_for(server: &Server, client: Option<&str>, path: &str, body: &Value) -> Answer {
    let request = Request::post(format!("http://{}{path}", server.address));
    let request = match client {
        Some(client) => request.header("x-forwarded-for", client),
        None => request,
    };
    let body = Bytes::from(body.to_string());
    let answer = server.exchange(request.body(Full::new(body)).unwrap());
    answer.await.unwrap()
}

#[tokio::test]
async fn registrations_are_limited_unless_they_come_from_this_machine_itself() {
    let server = Server::start(&[("REGISTRATIONS_PER_HOUR", "1")]);
    let register = async |n: u32, client: Option<&str>| {
        let body = registration(&format!("user{n}@example.com"));
        post_for(&server, client, "/api/auth/register", &body).await
    };
    for (n, client) in [(0, None), (1, None), (2, Some("203.0.113.9"))] {
        let answer = register(n, client).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    }
    let answer = register(3, Some("203.0.113.10")).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{answer:?}");
    assert!(answer.headers.contains_key("retry-after"));
    server.logged(&["WARN", "TRUSTED_PROXIES"]).await;
}

#[tokio::test]
async fn a_log_in_that_fails_is_logged_with_the_clients_address() {
    let server = Server::start(&[("TRUSTED_PROXIES", "127.0.0.1")]);
    let body = registration("nobody@example.com");
    let answer = post_for(&server, Some("203.0.113.9"), "/api/auth/login", &body).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    server
        .logged(&["INFO", "audit", "login.failed", "203.0.113.9"])
        .await;
}

#[tokio::test]
async fn a_crowd_of_log_ins_by_one_client_does_not_hold_up_another() {
    let server = Arc::new(Server::start(&[("TRUSTED_PROXIES", "127.0.0.1")]));
    let cores = std::thread::available_parallelism().unwrap().get();
    let threads = (cores - 1).max(1);
    let mut crowd = JoinSet::new();
    for n in 0..cores * 200 {
        let server = server.clone();
        crowd.spawn(async move {
            let login = registration(&format!("nobody{n}@example.com"));
            let client = Some("203.0.113.9");
            post_for(&server, client, "/api/auth/login", &login)
                .await
                .status
        });
    }
    // There is no more room.
    while crowd.join_next().await.unwrap().unwrap() != StatusCode::SERVICE_UNAVAILABLE {}
    let login = registration("somebody@example.com");
    let answer = post_for(&server, Some("203.0.113.10"), "/api/auth/login", &login).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
    let finished = std::iter::from_fn(|| crowd.try_join_next());
    let checked = finished.filter(|status| matches!(status, Ok(StatusCode::UNAUTHORIZED)));
    assert!(checked.count() < threads * 32, "it waited behind the crowd");
}
