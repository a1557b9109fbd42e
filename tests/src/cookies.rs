//! The cookie that holds a page's refresh token.

use std::sync::Arc;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::client::{Answer, Request};
use crate::scenario::scenarios;
use crate::world::{PASSWORD, World, text, with};

scenarios! {
    signing_in_by_cookie_keeps_the_refresh_token_from_scripts [Accounts],
    a_link_is_followed_by_cookie [Accounts],
    the_cookie_is_exchanged_for_its_successor [Accounts],
    a_refused_refresh_changes_no_cookie [Accounts],
    signing_out_clears_the_cookie [Accounts],
    only_the_servers_own_page_uses_the_cookie [Accounts],
    a_page_by_https_has_a_secure_cookie [Accounts],
    without_being_asked_for_no_cookie_is_set [Accounts],
}

/// The server's own page asks, as a browser says.
fn by_page(request: Request) -> Request {
    request.header("sec-fetch-site", "same-origin")
}

/// A cookie that an answer sets: `name=value`, and its attributes in lower case.
#[track_caller]
fn cookie(answer: &Answer) -> (String, Vec<String>) {
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    let [cookie] = cookies[..] else {
        panic!("not one cookie: {answer}");
    };
    let mut parts = cookie.to_str().unwrap().split(';').map(str::trim);
    let pair = parts.next().unwrap().to_owned();
    (pair, parts.map(str::to_lowercase).collect())
}

/// The cookie with a new refresh token, which must be out of scripts' reach.
#[track_caller]
fn kept(answer: &Answer) -> String {
    let (pair, attributes) = cookie(answer);
    let token = pair.split_once('=').unwrap().1.to_owned();
    let body = String::from_utf8_lossy(&answer.body);
    assert!(!token.is_empty() && !body.contains(&token), "{answer}");
    let tokens: Value = answer.json();
    assert!(tokens["access_token"].is_string(), "{answer}");
    assert_eq!(tokens.get("refresh_token"), None, "{answer}");
    for attribute in ["httponly", "samesite=strict", "path=/api/auth"] {
        assert!(attributes.iter().any(|a| a == attribute), "{answer}");
    }
    let max_age = attributes.iter().find_map(|a| a.strip_prefix("max-age="));
    let max_age: u32 = max_age.and_then(|age| age.parse().ok()).unwrap();
    assert_eq!(max_age, 168 * 60 * 60, "as long as the token");
    assert!(
        !attributes.iter().any(|a| a.starts_with("domain")),
        "{answer}"
    );
    pair
}

#[track_caller]
fn assert_no_cookie(answer: &Answer) {
    assert_eq!(answer.header("set-cookie"), None, "{answer}");
}

async fn sign_in(world: &World, email: &str) -> Answer {
    let body = json!({"email": email, "password": PASSWORD, "cookie": true});
    by_page(world.anonymous().post("/api/auth/login", &body))
        .await
        .expect(200)
}

/// Asks for new tokens with this cookie.
fn refresh(world: &World, cookie: &str) -> Request {
    let body = json!({"cookie": true});
    let request = world.anonymous().post("/api/auth/refresh", &body);
    request.header("cookie", &format!("theme=dark; {cookie}; other=x"))
}

async fn signing_in_by_cookie_keeps_the_refresh_token_from_scripts(world: Arc<World>) {
    let account = world.account(0).await;
    let answer = sign_in(&world, &account.email).await;
    kept(&answer);
    let client = world
        .anonymous()
        .with_token(&text(&answer.json()["access_token"]));
    client.get("/api/auth/me").await.ok();
}

async fn a_link_is_followed_by_cookie(world: Arc<World>) {
    let client = world.anonymous();
    let email = world.email();
    world.register(&email).await;
    let token = &world.verification_tokens(&email, 1).await[0];
    let body = json!({"token": token, "cookie": true});

    let answer = client.post("/api/auth/verify", &body).await;
    answer.error_code(403, "forbidden");
    let verified = by_page(client.post("/api/auth/verify", &body))
        .await
        .expect(200);
    kept(&verified);
    assert_eq!(verified.json()["user"]["email_verified"], true);
    for (body, message) in [
        (&body, "invalid or expired token"),
        (&json!({}), "missing token"),
        (&json!({"token": ""}), "missing token"),
    ] {
        let answer = by_page(client.post("/api/auth/verify", body)).await;
        assert_no_cookie(&answer);
        answer.error(400, "bad_request", message);
    }

    client
        .post("/api/auth/forgot", &json!({"email": email}))
        .await
        .ok();
    let token = &world.link_tokens("reset", &email, 1).await[0];
    let body = json!({"token": token, "password": PASSWORD, "cookie": true});
    let answer = client.post("/api/auth/reset", &body).await;
    answer.error_code(403, "forbidden");
    kept(
        &by_page(client.post("/api/auth/reset", &body))
            .await
            .expect(200),
    );
}

async fn the_cookie_is_exchanged_for_its_successor(world: Arc<World>) {
    let account = world.account(0).await;
    let first = kept(&sign_in(&world, &account.email).await);
    let second = by_page(refresh(&world, &first)).await.expect(200);
    let name = |pair: &str| pair.split_once('=').unwrap().0.to_owned();
    assert_eq!(name(&kept(&second)), name(&first));
    assert_ne!(kept(&second), first);
    let third = by_page(refresh(&world, &kept(&second))).await.expect(200);
    assert_ne!(kept(&third), kept(&second));

    // A page that had the token itself moves on to the cookie.
    let body = json!({"refresh_token": account.refresh_token, "cookie": true});
    let moved = by_page(world.anonymous().post("/api/auth/refresh", &body));
    match moved.await {
        // Scenarios share the account, and one of them may have spent the token.
        answer if answer.status == 401 => assert_no_cookie(&answer),
        answer => drop(kept(&answer)),
    }
}

async fn a_refused_refresh_changes_no_cookie(world: Arc<World>) {
    let account = world.account(0).await;
    let first = kept(&sign_in(&world, &account.email).await);
    let second = kept(&by_page(refresh(&world, &first)).await.expect(200));
    let forged = format!("{second}x");
    let twice = format!("{second}; {first}");
    for cookie in [&first, &forged, &twice, "other=y"] {
        let answer = by_page(refresh(&world, cookie)).await;
        assert_no_cookie(&answer);
        answer.error_code(401, "unauthorized");
    }
    by_page(refresh(&world, &second)).await.expect(200);
}

async fn signing_out_clears_the_cookie(world: Arc<World>) {
    let account = world.new_account().await;
    let answer = sign_in(&world, &account.email).await;
    let kept = kept(&answer);
    let access_token = text(&answer.json()["access_token"]);
    let client = world.anonymous().with_token(&access_token);
    let request = client.post("/api/auth/logout", &json!({}));
    let answer = by_page(request.header("cookie", &kept)).await.expect(200);
    let (cleared, attributes) = cookie(&answer);
    let name = kept.split_once('=').unwrap().0;
    assert_eq!(cleared, format!("{name}="));
    for attribute in ["max-age=0", "path=/api/auth"] {
        assert!(attributes.iter().any(|a| a == attribute), "{answer}");
    }
    let answer = by_page(refresh(&world, &kept)).await;
    answer.error(401, "unauthorized", "refresh token has been revoked");
}

async fn only_the_servers_own_page_uses_the_cookie(world: Arc<World>) {
    let account = world.account(0).await;
    let login = json!({"email": account.email, "password": PASSWORD, "cookie": true});
    let mut newest = kept(&sign_in(&world, &account.email).await);
    for headers in [
        &[][..],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[
            ("host", "localhost:8080"),
            ("origin", "http://localhost:8081"),
        ],
        &[("host", "localhost:8080"), ("origin", "http://localhost")],
        &[("host", "localhost"), ("origin", "http://evil.localhost")],
        // Anybody may have written it.
        &[
            ("x-forwarded-host", "evil.example"),
            ("origin", "https://evil.example"),
        ],
    ] {
        let login = world.anonymous().post("/api/auth/login", &login);
        for request in [login, refresh(&world, &newest)] {
            let request = headers.iter().fold(request, |request, (name, value)| {
                request.header(name, value)
            });
            let answer = request.await;
            assert_no_cookie(&answer);
            answer.error_code(403, "forbidden");
        }
    }
    for (host, origin) in [
        ("localhost:8080", "http://localhost:8080"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("[::1]:8080", "http://[::1]:8080"),
    ] {
        let request = refresh(&world, &newest).header("host", host);
        let answer = request.header("origin", origin).await.expect(200);
        newest = kept(&answer);
    }
}

async fn a_page_by_https_has_a_secure_cookie(world: Arc<World>) {
    let account = world.account(0).await;
    let (_, attributes) = cookie(&sign_in(&world, &account.email).await);
    assert!(!attributes.contains(&"secure".to_owned()), "{attributes:?}");

    let login = json!({"email": account.email, "password": PASSWORD, "cookie": true});
    let by_https = |request: Request| {
        let request = request.header("host", "localhost:8443");
        request.header("origin", "https://localhost:8443")
    };
    let answer = by_https(world.anonymous().post("/api/auth/login", &login))
        .await
        .expect(200);
    let secured = kept(&answer);
    assert!(secured.starts_with("__Secure-"), "{answer}");
    let (_, attributes) = cookie(&answer);
    assert!(attributes.contains(&"secure".to_owned()), "{attributes:?}");
    let answer = by_page(refresh(&world, &secured)).await;
    answer.error_code(401, "unauthorized");
    kept(&by_https(refresh(&world, &secured)).await.expect(200));
}

async fn without_being_asked_for_no_cookie_is_set(world: Arc<World>) {
    let client = world.anonymous();
    let email = world.email();
    world.register(&email).await;
    let token = &world.verification_tokens(&email, 1).await[0];
    let path = format!("/api/auth/verify?token={token}&cookie=true");
    let verified = by_page(client.get(&path)).await;
    let kept = kept(&sign_in(&world, &email).await);

    let login = json!({"email": email, "password": PASSWORD});
    let refresh = json!({"refresh_token": verified.json()["refresh_token"]});
    let mut answers = vec![verified];
    for (path, body) in [
        ("/api/auth/login", login.clone()),
        ("/api/auth/login", with(login.clone(), "cookie", false)),
        (
            "/api/auth/login",
            with(login.clone(), "cookie", Value::Null),
        ),
        ("/api/auth/refresh", refresh),
    ] {
        let request = client.post(path, &body).header("cookie", &kept);
        answers.push(by_page(request).await);
    }
    for answer in answers {
        assert_no_cookie(&answer);
        assert!(answer.ok()["refresh_token"].is_string());
    }
    let request = client.post("/api/auth/refresh", &json!({}));
    let answer = by_page(request.header("cookie", &kept)).await;
    answer.error(401, "unauthorized", "invalid or expired refresh token");
    let body = with(login, "cookie", "yes");
    let answer = by_page(client.post("/api/auth/login", &body)).await;
    let message = "invalid request body: cookie: invalid type: string \"yes\", expected a boolean";
    answer.error(400, "bad_request", message);
}
