//! `/api/apikeys`: creation, list, revocation, and what a key may do.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use chrono::TimeDelta;
use http::Method;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::client::Client;
use crate::scenario::{assert_answer_snapshot, scenarios};
use crate::world::{World, eventually, report, text, texts, time};

scenarios! {
    a_key_is_shown_at_its_creation [Accounts],
    a_key_is_32_random_bytes [Accounts],
    a_key_expires_so_many_days_after_its_creation [Accounts],
    a_request_for_a_key_is_validated [Accounts],
    keys_are_listed_newest_first [Accounts],
    keys_are_listed_page_by_page [Accounts],
    an_account_has_at_most_a_hundred_keys_that_work [Accounts],
    a_key_shows_when_it_was_last_used [Accounts],
    a_revoked_key_is_refused [Accounts],
    an_unknown_key_cannot_be_revoked [Accounts],
    keys_of_others_are_out_of_sight [Accounts],
    a_key_may_do_what_its_scopes_say [Accounts],
    a_key_reports_by_default_and_no_more [Accounts],
    a_trailing_slash_names_the_same_route [Accounts],
}

/// The entry of the account's key list with this id.
async fn listed(client: &Client, id: &str) -> Value {
    let keys = client.get("/api/apikeys").await.ok();
    let keys = keys["api_keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["id"] == id);
    key.expect("the key is listed").clone()
}

async fn a_key_is_shown_at_its_creation(world: Arc<World>) {
    let client = &world.account(0).await.client;
    let answer = client
        .post("/api/apikeys", &json!({"name": "laptop 💻"}))
        .await;
    let created = answer.json();
    let (id, key) = (text(&created["id"]), text(&created["key"]));
    let redacted = answer.redacted(&[(&id, "[id]"), (&key, "[key]"), (&key[..8], "[prefix]")]);
    assert_answer_snapshot!(redacted, @r#"
    201 Created

    {
      "created_at": "[time]",
      "expires_at": null,
      "id": "[id]",
      "key": "[key]",
      "key_prefix": "[prefix]",
      "name": "laptop 💻",
      "scopes": [
        "report"
      ]
    }
    "#);
    let listed = listed(client, &id).await;
    assert_eq!(
        listed,
        json!({
            "id": id,
            "name": "laptop 💻",
            "key_prefix": key[..8],
            "scopes": ["report"],
            "workspace": "own",
            "expires_at": null,
            "last_used_at": null,
            "created_at": created["created_at"],
            "revoked": false,
        })
    );
}

async fn a_key_is_32_random_bytes(world: Arc<World>) {
    let account = world.account(0).await;
    let (one, _) = account.api_key(&json!({"name": "one"})).await;
    let (two, _) = account.api_key(&json!({"name": "two"})).await;
    assert_ne!(one, two);
    for key in [one, two] {
        assert_eq!(key.len(), 44);
        assert_eq!(
            URL_SAFE
                .decode(&key)
                .expect("URL-safe base64 with padding")
                .len(),
            32
        );
    }
}

async fn a_key_expires_so_many_days_after_its_creation(world: Arc<World>) {
    let client = &world.account(0).await.client;
    for days in [1, 30, 3650, 36_500] {
        let body = json!({"name": "n", "expires_in": days});
        let created = client.post("/api/apikeys", &body).await.expect(201).json();
        let lasts = time(&created["expires_at"]) - time(&created["created_at"]);
        assert!(
            (lasts - TimeDelta::days(days)).abs() < TimeDelta::seconds(2),
            "{created}"
        );
        let listed = listed(client, &text(&created["id"])).await;
        assert_eq!(listed["expires_at"], created["expires_at"]);
    }
    for never in [json!(0), Value::Null] {
        let body = json!({"name": "n", "expires_in": never});
        let created = client.post("/api/apikeys", &body).await.expect(201).json();
        assert_eq!(created["expires_at"], Value::Null);
    }
}

async fn a_request_for_a_key_is_validated(world: Arc<World>) {
    let client = &world.account(0).await.client;
    let cases = [
        (json!({}), "name is required"),
        (json!({"name": ""}), "name is required"),
        (json!({"name": null}), "name is required"),
        (
            json!({"name": "n".repeat(101)}),
            "name must be <= 100 characters",
        ),
        (
            json!({"name": "名".repeat(101)}),
            "name must be <= 100 characters",
        ),
        (
            json!({"name": "n", "expires_in": -1}),
            "expires_in must be 0-36500 days",
        ),
        (
            json!({"name": "n", "expires_in": 36_501}),
            "expires_in must be 0-36500 days",
        ),
        (
            json!({"name": "n", "expires_in": 36_501.0}),
            "expires_in must be 0-36500 days",
        ),
        (
            json!({"name": "n", "expires_in": i64::MAX}),
            "expires_in must be 0-36500 days",
        ),
        (
            json!({"name": "n", "scopes": ["admin"]}),
            "scopes must be report, read",
        ),
        (
            json!({"name": "n", "scopes": ["read", ""]}),
            "scopes must be report, read",
        ),
        (
            json!({"name": "n", "scopes": ["Report"]}),
            "scopes must be report, read",
        ),
        (json!({"name": "", "expires_in": -1}), "name is required"),
        (
            json!({"name": "n", "expires_in": -1, "scopes": ["x"]}),
            "expires_in must be 0-36500 days",
        ),
    ];
    for (body, message) in cases {
        let answer = client.post("/api/apikeys", &body).await;
        answer.error(400, "bad_request", message);
    }
    for body in [
        json!(null),
        json!([]),
        json!({"name": 7}),
        json!({"name": "n", "expires_in": "30"}),
        json!({"name": "n", "scopes": [7]}),
        json!({"name": "n", "scopes": {}}),
    ] {
        let answer = client.post("/api/apikeys", &body).await;
        answer.error_code(400, "bad_request");
    }
    for body in ["", "{", r#"{"name":"a","name":"b"}"#, r#"{"name":"a"} x"#] {
        let answer = client
            .request(Method::POST, "/api/apikeys")
            .body(body)
            .await;
        answer.error_code(400, "bad_request");
    }
    for name in ["n".repeat(100), "名".repeat(100), "🚀".repeat(100)] {
        let answer = client.post("/api/apikeys", &json!({"name": name})).await;
        assert_eq!(answer.expect(201).json()["name"], name);
    }
}

async fn keys_are_listed_newest_first(world: Arc<World>) {
    let client = world.new_account().await.client;
    assert_eq!(
        client.get("/api/apikeys").await.ok(),
        json!({"api_keys": []})
    );
    for name in ["b", "a", "c"] {
        client
            .post("/api/apikeys", &json!({"name": name}))
            .await
            .expect(201);
    }
    let keys = client.get("/api/apikeys").await.ok();
    assert_eq!(texts(&keys["api_keys"], "name"), ["c", "a", "b"]);
}

async fn keys_are_listed_page_by_page(world: Arc<World>) {
    let account = world.new_account().await;
    for n in 0..5 {
        account.api_key(&json!({"name": n.to_string()})).await;
    }
    let mut names = Vec::new();
    let mut path = "/api/apikeys?limit=2".to_owned();
    for page in 0.. {
        let answer = account.client.get(&path).await.expect(200);
        let body = answer.json();
        let keys = body["api_keys"].as_array().unwrap();
        assert!(keys.len() == 2 || page == 2, "{answer}");
        names.extend(keys.iter().map(|key| text(&key["name"])));
        let Some(cursor) = body["next_cursor"].as_str() else {
            assert_eq!(answer.header("link"), None);
            break;
        };
        let link = format!("<?limit=2&cursor={cursor}>; rel=\"next\"");
        assert_eq!(answer.header("link"), Some(link));
        path = format!("/api/apikeys?limit=2&cursor={cursor}");
    }
    assert_eq!(names, ["4", "3", "2", "1", "0"]);
    for query in ["limit=0", "limit=%2B1", "limit=x", "cursor=x"] {
        let answer = account.client.get(&format!("/api/apikeys?{query}")).await;
        answer.error_code(400, "bad_request");
    }
}

async fn an_account_has_at_most_a_hundred_keys_that_work(world: Arc<World>) {
    let account = world.new_account().await;
    let mut id = String::new();
    for n in 0..100 {
        (_, id) = account.api_key(&json!({"name": n.to_string()})).await;
    }
    let create = || {
        account
            .client
            .post("/api/apikeys", &json!({"name": "more"}))
    };
    let message = "an account may have at most 100 valid API keys: revoke one first";
    create().await.error(409, "limit_reached", message);
    let path = format!("/api/apikeys/{id}");
    account.client.delete(&path).await.ok();
    create().await.expect(201);
    create().await.expect(409);
}

async fn a_key_shows_when_it_was_last_used(world: Arc<World>) {
    let account = world.account(0).await;
    let (key, id) = account.api_key(&json!({"name": "used"})).await;
    assert_eq!(
        listed(&account.client, &id).await["last_used_at"],
        Value::Null
    );
    let client = world.anonymous().with_token(&key);
    client
        .report(&report(&world.name("agent"), "t", "running"))
        .await;
    eventually("the use of a key shows", async || {
        !listed(&account.client, &id).await["last_used_at"].is_null()
    })
    .await;
}

async fn a_revoked_key_is_refused(world: Arc<World>) {
    let account = world.account(0).await;
    let (key, id) = account
        .api_key(&json!({"name": "lost", "scopes": ["report", "read"]}))
        .await;
    let client = world.anonymous().with_token(&key);
    let report = report(&world.name("agent"), "t", "running");
    client.report(&report).await;
    client.get("/api/agents?limit=1").await.ok();

    let answer = account.client.delete(&format!("/api/apikeys/{id}")).await;
    assert_eq!(
        answer.ok(),
        json!({"message": "API key revoked successfully"})
    );
    if !world.host.revocation_delay.is_zero() {
        // Every host has to refuse it by then, and which one answers is not ours to choose.
        tokio::time::sleep(world.host.revocation_delay * 2).await;
    }
    let answer = client.post("/webhook/status", &report).await;
    answer.error(401, "unauthorized", "invalid or expired token");
    let answer = client.get("/api/agents").await;
    answer.error(401, "unauthorized", "invalid or expired token");
    assert_eq!(listed(&account.client, &id).await["revoked"], true);
}

async fn an_unknown_key_cannot_be_revoked(world: Arc<World>) {
    let client = &world.account(0).await.client;
    for id in [
        "00000000-0000-4000-8000-000000000000",
        "nonsense",
        "1",
        "a%2Fb",
        "..",
    ] {
        let answer = client.delete(&format!("/api/apikeys/{id}")).await;
        answer.error(404, "not_found", "API key not found");
    }
}

async fn keys_of_others_are_out_of_sight(world: Arc<World>) {
    let (mine, other) = (world.account(0).await, world.account(1).await);
    let (key, id) = mine.api_key(&json!({"name": "mine"})).await;
    let answer = other.client.delete(&format!("/api/apikeys/{id}")).await;
    answer.error(404, "not_found", "API key not found");
    let keys = other.client.get("/api/apikeys").await.ok();
    assert!(!texts(&keys["api_keys"], "id").contains(&id));
    let client = world.anonymous().with_token(&key);
    client
        .report(&report(&world.name("agent"), "t", "running"))
        .await;
    assert_eq!(listed(&mine.client, &id).await["revoked"], false);
}

/// Every route that a scope opens, with the id of an agent that there is.
fn reads(agent: &str) -> Vec<String> {
    ["", "/sessions", "/sessions/t", "/history", "/status"]
        .iter()
        .map(|rest| format!("/api/agents/{agent}{rest}"))
        .chain(["/api/agents".to_owned(), "/api/agents/".to_owned()])
        .collect()
}

async fn a_key_may_do_what_its_scopes_say(world: Arc<World>) {
    let account = world.account(0).await;
    let agent = world.name("agent");
    let report = report(&agent, "t", "running");
    account.client.report(&report).await;
    for (scopes, reports, may_read) in [
        (vec!["report"], true, false),
        (vec!["read"], false, true),
        (vec!["report", "read"], true, true),
        (vec!["read", "report"], true, true),
    ] {
        let client = account.with_scopes(&scopes).await;
        let answer = client.post("/webhook/status", &report).await;
        if reports {
            answer.ok();
        } else {
            answer.error_code(403, "forbidden");
        }
        for path in reads(&agent) {
            let answer = client.get(&path).await;
            if may_read {
                answer.ok();
            } else {
                answer.error_code(403, "forbidden");
            }
        }
    }
}

async fn a_key_reports_by_default_and_no_more(world: Arc<World>) {
    let account = world.account(0).await;
    let (key, id) = account.api_key(&json!({"name": "default"})).await;
    assert_eq!(
        listed(&account.client, &id).await["scopes"],
        json!(["report"])
    );
    let client = world.anonymous().with_token(&key);
    client
        .report(&report(&world.name("agent"), "t", "running"))
        .await;
    client.get("/api/agents").await.error_code(403, "forbidden");
    client
        .request(Method::HEAD, "/api/agents")
        .await
        .expect(403);
}

async fn a_trailing_slash_names_the_same_route(world: Arc<World>) {
    let client = &world.account(1).await.client;
    let created = client
        .post("/api/apikeys/", &json!({"name": "slash"}))
        .await
        .expect(201)
        .json();
    let keys = client.get("/api/apikeys/").await.ok();
    assert!(texts(&keys["api_keys"], "id").contains(&text(&created["id"])));
}
