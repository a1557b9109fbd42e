//! `/api/auth`: registration, verification, sign-in and the account's settings.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::Mode;
use crate::client::{Answer, Client};
use crate::scenario::{assert_answer_snapshot, scenarios};
use crate::world::{PASSWORD, World, report, text, time, within};

scenarios! {
    a_registration_is_answered_with_its_user [Accounts],
    a_registration_without_a_name_shows_an_empty_one [Accounts],
    a_registration_is_validated,
    a_registration_at_the_limits_is_accepted [Accounts],
    an_email_is_registered_once_whatever_its_case [Accounts],
    an_account_cannot_sign_in_before_it_is_verified [Accounts],
    a_verification_link_works_once [Accounts],
    a_bad_verification_token_is_refused,
    a_new_verification_link_replaces_the_old [Accounts],
    resending_a_link_never_tells_who_is_registered [Accounts],
    signing_in_answers_with_tokens [Accounts],
    an_email_signs_in_whatever_its_case [Accounts],
    a_wrong_password_is_refused [Accounts],
    an_unknown_email_is_refused,
    a_password_is_not_cut_off [Accounts],
    an_account_reads_itself [Accounts],
    an_account_sets_and_clears_its_webhook [Accounts],
    a_webhook_that_is_no_http_url_is_refused [Accounts],
    a_body_that_does_not_parse_is_refused,
    u0000_is_refused_in_what_is_stored [Accounts],
    a_head_request_does_not_spend_a_verification_token [Accounts],
    a_registration_that_nobody_verified_is_replaced [Accounts],
    a_password_is_changed_by_who_knows_it [Accounts],
    a_forgotten_password_is_reset_by_mail [Accounts],
    a_reset_verifies_the_address [Accounts],
    a_new_reset_link_replaces_the_old [Accounts],
    a_bad_reset_is_refused,
    forgetting_a_password_never_tells_who_is_registered [Accounts],
    an_account_is_deleted_by_who_knows_its_password [Accounts],
    no_cache_keeps_tokens_and_keys [Accounts],
}

async fn register(client: &Client, body: &Value) -> Answer {
    client.post("/api/auth/register", body).await
}

async fn login(client: &Client, email: &str, password: &str) -> Answer {
    let body = json!({"email": email, "password": password});
    client.post("/api/auth/login", &body).await
}

async fn a_registration_is_answered_with_its_user(world: Arc<World>) {
    let email = world.email();
    let body = json!({"email": email, "password": PASSWORD, "name": "Ada 🚀"});
    let answer = register(&world.anonymous(), &body).await;
    let id = text(&answer.json()["user"]["id"]);
    assert!(!id.is_empty());
    assert_answer_snapshot!(answer.redacted(&[(&id, "[id]"), (&email, "[email]")]), @r#"
    201 Created

    {
      "message": "注册成功，请检查邮箱完成验证",
      "user": {
        "email": "[email]",
        "id": "[id]",
        "name": "Ada 🚀"
      }
    }
    "#);
}

async fn a_registration_without_a_name_shows_an_empty_one(world: Arc<World>) {
    for body in [
        json!({"email": world.email(), "password": PASSWORD}),
        json!({"email": world.email(), "password": PASSWORD, "name": null}),
    ] {
        let answer = register(&world.anonymous(), &body).await.expect(201);
        assert_eq!(answer.json()["user"]["name"], "");
    }
}

/// An address of so many characters.
fn long_email(world: &World, length: usize) -> String {
    let (user, domain) = (world.name("user"), "example.com");
    let labels = length - user.len() - "@".len() - domain.len();
    let labels: String = (0..labels)
        .rev()
        .map(|left| if left % 50 == 0 { '.' } else { 'd' })
        .collect();
    format!("{user}@{labels}{domain}")
}

async fn a_registration_is_validated(world: Arc<World>) {
    let client = world.anonymous();
    let email = world.email();
    let valid = json!({"email": email, "password": PASSWORD, "name": "n"});
    let cases = [
        (
            "password",
            json!(""),
            "password must be at least 8 characters",
        ),
        (
            "password",
            json!("1234567"),
            "password must be at least 8 characters",
        ),
        (
            "password",
            json!("🚀🚀🚀🚀🚀🚀🚀"),
            "password must be at least 8 characters",
        ),
        (
            "password",
            json!("x".repeat(73)),
            "password must be at most 72 bytes",
        ),
        (
            "password",
            json!("中".repeat(25)),
            "password must be at most 72 bytes",
        ),
        ("email", json!(""), "email is required"),
        ("email", json!("nobody"), "invalid email format"),
        ("email", json!("@example.com"), "invalid email format"),
        ("email", json!("nobody@"), "invalid email format"),
        (
            "email",
            json!("no body@example.com"),
            "invalid email format",
        ),
        (
            "email",
            json!(long_email(&world, 256)),
            "email must be <= 255 characters",
        ),
        (
            "name",
            json!("n".repeat(201)),
            "name must be <= 200 characters",
        ),
        (
            "name",
            json!("名".repeat(201)),
            "name must be <= 200 characters",
        ),
        ("email", json!(7), "invalid request body"),
        ("password", json!(["long enough"]), "invalid request body"),
        ("name", json!({}), "invalid request body"),
    ];
    for (field, value, message) in cases {
        let mut body = valid.clone();
        body[field] = value;
        let answer = register(&client, &body).await;
        answer.error(400, "bad_request", message);
    }
    let answer = register(&client, &json!({"password": PASSWORD})).await;
    answer.error(400, "bad_request", "email is required");
    let answer = register(&client, &json!({"email": email})).await;
    answer.error(400, "bad_request", "password must be at least 8 characters");
    let body = json!({"email": "", "password": "short"});
    let answer = register(&client, &body).await;
    answer.error(400, "bad_request", "password must be at least 8 characters");
    let body = json!({"email": "nobody", "password": PASSWORD, "name": "n".repeat(201)});
    let answer = register(&client, &body).await;
    answer.error(400, "bad_request", "invalid email format");
}

async fn a_registration_at_the_limits_is_accepted(world: Arc<World>) {
    let client = world.anonymous();
    for (email, password, name) in [
        (
            long_email(&world, 255),
            "12345678".to_owned(),
            "n".repeat(200),
        ),
        (world.email(), "中".repeat(24), "名".repeat(200)),
        (world.email(), "🚀".repeat(8), "🚀".repeat(200)),
    ] {
        let body = json!({"email": email, "password": password, "name": name});
        let answer = register(&client, &body).await.expect(201);
        assert_eq!(answer.json()["user"]["name"], name);
    }
}

async fn an_email_is_registered_once_whatever_its_case(world: Arc<World>) {
    let client = world.anonymous();
    let email = &world.account(0).await.email;
    for again in [email.clone(), email.to_uppercase()] {
        let body = json!({"email": again, "password": "another password"});
        let answer = register(&client, &body).await;
        answer.error(409, "conflict", "email already exists");
    }
    login(&client, email, PASSWORD).await.ok();
}

async fn a_registration_that_nobody_verified_is_replaced(world: Arc<World>) {
    let client = world.anonymous();
    let email = world.email();
    world.register(&email).await;
    let body = json!({
        "email": email.to_uppercase(), "password": "another password", "name": "Owner",
    });
    register(&client, &body).await.expect(201);
    let tokens = world.verification_tokens(&email, 2).await;
    let verify = |token: &str| client.get(&format!("/api/auth/verify?token={token}"));
    let answer = verify(&tokens[0]).await;
    answer.error(400, "bad_request", "invalid or expired token");
    let verified = verify(&tokens[1]).await.ok();
    assert_eq!(verified["user"]["name"], "Owner");
    let answer = login(&client, &email, PASSWORD).await;
    answer.error(401, "unauthorized", "invalid email or password");
    login(&client, &email, "another password").await.ok();
}

async fn an_account_cannot_sign_in_before_it_is_verified(world: Arc<World>) {
    let client = world.anonymous();
    let email = world.email();
    world.register(&email).await;
    let answer = login(&client, &email, "not the password").await;
    answer.error(401, "unauthorized", "invalid email or password");
    let answer = login(&client, &email, PASSWORD).await;
    answer.error(403, "email_not_verified", "email not verified");
    world.verify(&email).await;
    login(&client, &email, PASSWORD).await.ok();
}

async fn a_verification_link_works_once(world: Arc<World>) {
    let client = world.anonymous();
    let email = world.email();
    world.register(&email).await;
    let token = &world.verification_tokens(&email, 1).await[0];
    let path = format!("/api/auth/verify?token={token}");
    let tokens = client.get(&path).await.ok();
    assert_eq!(tokens["user"]["email"], email.as_str());
    assert_eq!(tokens["user"]["email_verified"], true);
    world
        .signed_in(&tokens)
        .client
        .get("/api/auth/me")
        .await
        .ok();
    let answer = client.get(&path).await;
    answer.error(400, "bad_request", "invalid or expired token");
}

async fn a_bad_verification_token_is_refused(world: Arc<World>) {
    let client = world.anonymous();
    for query in ["", "?token=", "?other=x"] {
        let answer = client.get(&format!("/api/auth/verify{query}")).await;
        answer.error(400, "bad_request", "missing token");
    }
    for token in ["x", &"0".repeat(64), "%00", "%F0%9F%9A%80", "a%2Fb"] {
        let answer = client.get(&format!("/api/auth/verify?token={token}")).await;
        answer.error(400, "bad_request", "invalid or expired token");
    }
}

const RESENT: &str = "如果该邮箱已注册，您将收到一封验证邮件";

async fn resend(client: &Client, email: &str) {
    let body = json!({"email": email});
    let answer = client.post("/api/auth/resend-verify", &body).await;
    assert_eq!(answer.ok(), json!({"message": RESENT}));
}

async fn a_new_verification_link_replaces_the_old(world: Arc<World>) {
    let client = world.anonymous();
    let email = world.email();
    world.register(&email).await;
    resend(&client, &email.to_uppercase()).await;
    let tokens = world.verification_tokens(&email, 2).await;
    assert_ne!(tokens[0], tokens[1]);
    let answer = client
        .get(&format!("/api/auth/verify?token={}", tokens[0]))
        .await;
    answer.error(400, "bad_request", "invalid or expired token");
    client
        .get(&format!("/api/auth/verify?token={}", tokens[1]))
        .await
        .ok();
}

async fn resending_a_link_never_tells_who_is_registered(world: Arc<World>) {
    let client = world.anonymous();
    resend(&client, &world.email()).await;
    resend(&client, "").await;
    resend(&client, "not an address").await;
    let verified = &world.account(0).await.email;
    let before = world.verification_tokens(verified, 1).await;
    resend(&client, verified).await;
    let unverified = world.email();
    world.register(&unverified).await;
    resend(&client, &unverified).await;
    world.verification_tokens(&unverified, 2).await;
    assert_eq!(world.verification_tokens(verified, 1).await, before);
}

async fn signing_in_answers_with_tokens(world: Arc<World>) {
    let account = world.new_account().await;
    let answer = login(&world.anonymous(), &account.email, PASSWORD).await;
    let body = answer.json();
    let (access, refresh) = (text(&body["access_token"]), text(&body["refresh_token"]));
    assert_eq!(body["expires_in"], world.host.access_token_expiry.as_secs());
    // With its name: a time may have the same digits.
    let expiry = format!("\"expires_in\": {}", body["expires_in"]);
    let redacted = answer.redacted(&[
        (&access, "[access token]"),
        (&refresh, "[refresh token]"),
        (&account.id, "[id]"),
        (&account.email, "[email]"),
        (&expiry, r#""expires_in": [expiry]"#),
    ]);
    assert_answer_snapshot!(redacted, @r#"
    200 OK

    {
      "access_token": "[access token]",
      "expires_in": [expiry],
      "refresh_token": "[refresh token]",
      "user": {
        "created_at": "[time]",
        "email": "[email]",
        "email_verified": true,
        "id": "[id]",
        "updated_at": "[time]"
      }
    }
    "#);
    world.signed_in(&body).client.get("/api/auth/me").await.ok();
}

async fn an_email_signs_in_whatever_its_case(world: Arc<World>) {
    let email = world.email().to_uppercase();
    world.register(&email).await;
    let account = world.verify(&email).await;
    let again = login(&world.anonymous(), &email.to_lowercase(), PASSWORD)
        .await
        .ok();
    assert_eq!(again["user"]["id"], account.id.as_str());
    let again = login(&world.anonymous(), &email, PASSWORD).await.ok();
    assert_eq!(again["user"]["id"], account.id.as_str());
}

async fn a_wrong_password_is_refused(world: Arc<World>) {
    let email = &world.account(0).await.email;
    for password in [&PASSWORD.to_uppercase(), &format!("{PASSWORD} ")] {
        let answer = login(&world.anonymous(), email, password).await;
        answer.error(401, "unauthorized", "invalid email or password");
    }
}

async fn an_unknown_email_is_refused(world: Arc<World>) {
    for email in [world.email(), "not an address".to_owned()] {
        let answer = login(&world.anonymous(), &email, PASSWORD).await;
        answer.error(401, "unauthorized", "invalid email or password");
    }
}

async fn a_password_is_not_cut_off(world: Arc<World>) {
    let client = world.anonymous();
    let email = world.email();
    let password = "p".repeat(72);
    let body = json!({"email": email, "password": password});
    register(&client, &body).await.expect(201);
    world.verify(&email).await;
    login(&client, &email, &password).await.ok();
    let answer = login(&client, &email, &"p".repeat(71)).await;
    answer.error(401, "unauthorized", "invalid email or password");
    let answer = login(&client, &email, &"p".repeat(73)).await;
    answer.error_code(401, "unauthorized");
}

async fn an_account_reads_itself(world: Arc<World>) {
    let email = world.email();
    let body = json!({"email": email, "password": PASSWORD, "name": "Ada"});
    register(&world.anonymous(), &body).await.expect(201);
    let account = world.verify(&email).await;
    let answer = account.client.get("/api/auth/me").await;
    let user = answer.json();
    assert!(time(&user["updated_at"]) >= time(&user["created_at"]));
    assert_answer_snapshot!(answer.redacted(&[(&account.id, "[id]"), (&email, "[email]")]), @r#"
    200 OK

    {
      "created_at": "[time]",
      "email": "[email]",
      "email_verified": true,
      "id": "[id]",
      "name": "Ada",
      "updated_at": "[time]"
    }
    "#);
}

async fn an_account_sets_and_clears_its_webhook(world: Arc<World>) {
    let client = world.new_account().await.client;
    let url = "https://example.com/set-and-cleared".to_owned();
    let https = "https://example.com:8443/".to_owned();
    let put = async |value: Value| {
        let body = json!({"notification_webhook_url": value});
        client.put("/api/auth/me", &body).await.ok()
    };
    let set = put(json!(format!(" \t{url} \n"))).await;
    assert_eq!(set["notification_webhook_url"], url.as_str());
    assert_eq!(client.get("/api/auth/me").await.ok(), set);

    assert_eq!(
        put(Value::Null).await["notification_webhook_url"],
        url.as_str()
    );
    let kept = client.put("/api/auth/me", &json!({})).await.ok();
    assert_eq!(kept["notification_webhook_url"], url.as_str());
    let kept = client
        .put("/api/auth/me", &json!({"name": "ignored"}))
        .await
        .ok();
    assert_eq!(kept["notification_webhook_url"], url.as_str());
    assert_eq!(kept.get("name"), None);
    assert_eq!(
        put(json!(https)).await["notification_webhook_url"],
        https.as_str()
    );

    for nothing in ["", "  "] {
        put(json!(url)).await;
        assert_eq!(
            put(json!(nothing)).await.get("notification_webhook_url"),
            None
        );
        let me = client.get("/api/auth/me").await.ok();
        assert_eq!(me.get("notification_webhook_url"), None);
    }
}

async fn a_webhook_that_is_no_http_url_is_refused(world: Arc<World>) {
    let client = &world.account(0).await.client;
    let before = client.get("/api/auth/me").await.ok();
    let put = async |value: Value| {
        let body = json!({"notification_webhook_url": value});
        client.put("/api/auth/me", &body).await
    };
    for url in ["http://[::1", "nonsense", "example.com/hook"] {
        let answer = put(json!(url)).await;
        answer.error(400, "bad_request", "invalid notification_webhook_url");
    }
    for url in ["ftp://127.0.0.1/x", "file:///etc/passwd", "ws://127.0.0.1/"] {
        let answer = put(json!(url)).await;
        answer.error(
            400,
            "bad_request",
            "notification_webhook_url must start with http or https",
        );
    }
    for url in [
        "https://169.254.169.254/x",
        "https://[fe80::1]/",
        "https://0.0.0.0/",
    ] {
        let answer = put(json!(url)).await;
        let rule = "notification_webhook_url must not be a link-local or metadata address";
        answer.error(400, "bad_request", rule);
    }
    for wrong in [json!(7), json!(["http://127.0.0.1/"]), json!({})] {
        put(wrong).await.error_code(400, "bad_request");
    }
    assert_eq!(client.get("/api/auth/me").await.ok(), before);
}

async fn a_body_that_does_not_parse_is_refused(world: Arc<World>) {
    let client = world.anonymous();
    let bodies = [
        "",
        "{",
        "null",
        "[]",
        "7",
        "\"text\"",
        "{} {}",
        "{\"email\":7}",
    ];
    for body in bodies {
        let answer = client
            .request(Method::POST, "/api/auth/register")
            .body(body)
            .await;
        answer.error(400, "bad_request", "invalid request body");
        for path in ["/api/auth/login", "/api/auth/resend-verify"] {
            let answer = client.request(Method::POST, path).body(body).await;
            answer.error_code(400, "bad_request");
        }
    }
    for body in ["", "{", "null", "[]", "{} {}", r#"{"refresh_token":7}"#] {
        let answer = client
            .request(Method::POST, "/api/auth/refresh")
            .body(body)
            .await;
        answer.error_code(400, "bad_request");
    }
    let twice = r#"{"email":"a@example.com","email":"b@example.com","password":"12345678"}"#;
    for path in ["/api/auth/login", "/api/auth/resend-verify"] {
        let answer = client.request(Method::POST, path).body(twice).await;
        answer.error_code(400, "bad_request");
    }
}

async fn u0000_is_refused_in_what_is_stored(world: Arc<World>) {
    let client = world.anonymous();
    for (email, name) in [
        (world.email(), "a\0b".to_owned()),
        (format!("\0{}", world.email()), String::new()),
    ] {
        let body = json!({"email": email, "password": PASSWORD, "name": name});
        register(&client, &body)
            .await
            .error_code(400, "bad_request");
    }
    let client = &world.account(0).await.client;
    let body = json!({"notification_webhook_url": "http://127.0.0.1/\0"});
    client
        .put("/api/auth/me", &body)
        .await
        .error_code(400, "bad_request");
    let body = json!({"name": "a\0b"});
    client
        .post("/api/apikeys", &body)
        .await
        .error_code(400, "bad_request");
}

async fn a_head_request_does_not_spend_a_verification_token(world: Arc<World>) {
    let client = world.anonymous();
    let email = world.email();
    world.register(&email).await;
    let token = &world.verification_tokens(&email, 1).await[0];
    let path = format!("/api/auth/verify?token={token}");
    client.request(Method::HEAD, &path).await.expect(405);
    client.get(&path).await.ok();
}

const NEW_PASSWORD: &str = "battery staple horse";

async fn change_password(client: &Client, current: &str, new: &str) -> Answer {
    let body = json!({"current_password": current, "new_password": new});
    client.post("/api/auth/password", &body).await
}

async fn refresh(world: &World, token: &str) -> Answer {
    let body = json!({"refresh_token": token});
    world.anonymous().post("/api/auth/refresh", &body).await
}

async fn a_password_is_changed_by_who_knows_it(world: Arc<World>) {
    let account = world.new_account().await;
    let client = &account.client;
    let answer = change_password(&world.anonymous(), PASSWORD, NEW_PASSWORD).await;
    answer.error(401, "unauthorized", "missing authorization header");
    let key = account.with_scopes(&["report", "read"]).await;
    let answer = change_password(&key, PASSWORD, NEW_PASSWORD).await;
    answer.error_code(401, "unauthorized");
    let answer = change_password(client, PASSWORD, "short").await;
    let rule = "new_password must be at least 8 characters";
    answer.error(400, "bad_request", rule);
    let answer = change_password(client, NEW_PASSWORD, NEW_PASSWORD).await;
    answer.error(401, "unauthorized", "invalid password");
    login(&world.anonymous(), &account.email, PASSWORD)
        .await
        .ok();

    let answer = change_password(client, PASSWORD, NEW_PASSWORD).await;
    assert_eq!(answer.ok(), json!({"message": "password changed"}));
    let answer = refresh(&world, &account.refresh_token).await;
    answer.error(401, "unauthorized", "refresh token has been revoked");
    let answer = login(&world.anonymous(), &account.email, PASSWORD).await;
    answer.error(401, "unauthorized", "invalid email or password");
    let again = login(&world.anonymous(), &account.email, NEW_PASSWORD).await;
    refresh(&world, &text(&again.ok()["refresh_token"]))
        .await
        .ok();
}

const FORGOTTEN: &str = "if the address is registered, a mail is on its way";

async fn forgot(client: &Client, email: &str) {
    let body = json!({"email": email});
    let answer = client.post("/api/auth/forgot", &body).await;
    assert_eq!(answer.ok(), json!({"message": FORGOTTEN}));
}

async fn reset(client: &Client, token: &str, password: &str) -> Answer {
    let body = json!({"token": token, "password": password});
    client.post("/api/auth/reset", &body).await
}

async fn a_forgotten_password_is_reset_by_mail(world: Arc<World>) {
    let client = world.anonymous();
    let account = world.new_account().await;
    forgot(&client, &account.email.to_uppercase()).await;
    let token = &world.link_tokens("reset", &account.email, 1).await[0];
    let answer = reset(&client, token, "short").await;
    answer.error(400, "bad_request", "password must be at least 8 characters");
    let verify = client.get(&format!("/api/auth/verify?token={token}")).await;
    verify.error(400, "bad_request", "invalid or expired token");

    let tokens = reset(&client, token, NEW_PASSWORD).await.ok();
    assert_eq!(tokens["user"]["id"], account.id.as_str());
    let signed_in = world.signed_in(&tokens);
    signed_in.client.get("/api/auth/me").await.ok();
    refresh(&world, &signed_in.refresh_token).await.ok();
    let answer = refresh(&world, &account.refresh_token).await;
    answer.error(401, "unauthorized", "refresh token has been revoked");
    let answer = reset(&client, token, "once more, please").await;
    answer.error(400, "bad_request", "invalid or expired token");
    let answer = login(&client, &account.email, PASSWORD).await;
    answer.error(401, "unauthorized", "invalid email or password");
    login(&client, &account.email, NEW_PASSWORD).await.ok();
}

async fn a_reset_verifies_the_address(world: Arc<World>) {
    let client = world.anonymous();
    let email = world.email();
    world.register(&email).await;
    let link = &world.verification_tokens(&email, 1).await[0];
    forgot(&client, &email).await;
    let token = &world.link_tokens("reset", &email, 1).await[0];
    let tokens = reset(&client, token, NEW_PASSWORD).await.ok();
    assert_eq!(tokens["user"]["email_verified"], true);
    let answer = client.get(&format!("/api/auth/verify?token={link}")).await;
    answer.error(400, "bad_request", "invalid or expired token");
    login(&client, &email, NEW_PASSWORD).await.ok();
}

async fn a_new_reset_link_replaces_the_old(world: Arc<World>) {
    let client = world.anonymous();
    let email = world.new_account().await.email;
    forgot(&client, &email).await;
    forgot(&client, &email).await;
    let tokens = world.link_tokens("reset", &email, 2).await;
    let answer = reset(&client, &tokens[0], NEW_PASSWORD).await;
    answer.error(400, "bad_request", "invalid or expired token");
    reset(&client, &tokens[1], NEW_PASSWORD).await.ok();
}

async fn a_bad_reset_is_refused(world: Arc<World>) {
    let client = world.anonymous();
    for token in ["", "x", &"0".repeat(64), "\0", "🚀"] {
        let answer = reset(&client, token, NEW_PASSWORD).await;
        answer.error(400, "bad_request", "invalid or expired token");
    }
    for body in ["", "{", "null", "[]", r#"{"token":7}"#] {
        for path in ["/api/auth/reset", "/api/auth/forgot"] {
            let answer = client.request(Method::POST, path).body(body).await;
            if body.contains("token") && path.ends_with("forgot") {
                continue;
            }
            answer.error_starting(400, "bad_request", "invalid request body: ");
        }
    }
    let answer = client
        .post(
            "/api/auth/reset",
            &json!({"token": "x", "password": "p".repeat(73)}),
        )
        .await;
    answer.error(400, "bad_request", "password must be at most 72 bytes");
}

async fn forgetting_a_password_never_tells_who_is_registered(world: Arc<World>) {
    let client = world.anonymous();
    let unknown = world.email();
    forgot(&client, &unknown).await;
    forgot(&client, "").await;
    forgot(&client, "not an address").await;
    let known = world.new_account().await.email;
    forgot(&client, &known).await;
    world.link_tokens("reset", &known, 1).await;
    let log = world.host.log.as_ref().unwrap();
    assert_eq!(log.link_tokens("reset", &unknown), Vec::<String>::new());
}

async fn an_account_is_deleted_by_who_knows_its_password(world: Arc<World>) {
    let account = world.new_account().await;
    let (key, _) = account
        .api_key(&json!({"name": "key", "scopes": ["report", "read"]}))
        .await;
    let key = world.anonymous().with_token(&key);
    let agent = world.name("agent");
    key.report(&report(&agent, "t", "running")).await;
    let delete = async |client: &Client, password: &str| {
        let request = client.request(Method::DELETE, "/api/auth/me");
        request.json(&json!({"password": password})).await
    };
    let answer = delete(&world.anonymous(), PASSWORD).await;
    answer.error(401, "unauthorized", "missing authorization header");
    delete(&key, PASSWORD).await.error_code(401, "unauthorized");
    let answer = delete(&account.client, NEW_PASSWORD).await;
    answer.error(401, "unauthorized", "invalid password");
    let answer = account.client.request(Method::DELETE, "/api/auth/me").await;
    answer.error_starting(400, "bad_request", "invalid request body: ");
    account.client.get("/api/auth/me").await.ok();

    let answer = delete(&account.client, PASSWORD).await;
    assert_eq!(answer.ok(), json!({"message": "account deleted"}));
    let is_refused = async || {
        let mut refused = true;
        for request in [
            account.client.get("/api/auth/me"),
            account.client.get("/api/apikeys"),
            account.client.get("/api/agents"),
            account
                .client
                .post("/webhook/status", &report(&agent, "t", "running")),
            key.get("/api/agents"),
            key.post("/webhook/status", &report(&agent, "t", "running")),
        ] {
            refused &= request.await.status == 401;
        }
        refused
    };
    match world.host.revocation_delay {
        Duration::ZERO => assert!(is_refused().await),
        delay => within(2 * delay, "its credentials are refused", is_refused).await,
    }
    let answer = refresh(&world, &account.refresh_token).await;
    answer.error(401, "unauthorized", "invalid or expired refresh token");
    let answer = login(&world.anonymous(), &account.email, PASSWORD).await;
    answer.error(401, "unauthorized", "invalid email or password");

    world.register(&account.email).await;
    let token = &world.verification_tokens(&account.email, 2).await[1];
    let path = format!("/api/auth/verify?token={token}");
    let again = world.anonymous().get(&path).await.ok();
    assert_ne!(again["user"]["id"], account.id.as_str());
    let again = world.signed_in(&again);
    if world.host.mode == Mode::Required {
        let agents = again.client.get("/api/agents").await.ok();
        assert_eq!(agents["agents"], json!([]));
    }
    assert_eq!(
        again.client.get("/api/apikeys").await.ok()["api_keys"],
        json!([])
    );
}

async fn no_cache_keeps_tokens_and_keys(world: Arc<World>) {
    let client = world.anonymous();
    let email = world.email();
    world.register(&email).await;
    let token = &world.verification_tokens(&email, 1).await[0];
    let verified = client.get(&format!("/api/auth/verify?token={token}")).await;
    let tokens = verified.json();
    let account = world.signed_in(&tokens);
    forgot(&client, &email).await;
    let token = &world.link_tokens("reset", &email, 1).await[0];
    for answer in [
        verified,
        login(&client, &email, PASSWORD).await,
        refresh(&world, &account.refresh_token).await,
        account
            .client
            .post("/api/apikeys", &json!({"name": "n"}))
            .await,
        reset(&client, token, NEW_PASSWORD).await,
    ] {
        assert!(answer.status.is_success(), "{answer}");
        let cache_control = answer.header("cache-control");
        assert_eq!(cache_control.as_deref(), Some("no-store"), "{answer}");
    }
}
