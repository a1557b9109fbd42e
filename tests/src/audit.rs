//! `/api/audit`: who did what to an account, or to the channels of a workspace.

use std::sync::Arc;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::Mode;
use crate::client::Client;
use crate::scenario::scenarios;
use crate::world::{Account, PASSWORD, World, report, text, texts, time};

scenarios! {
    what_is_done_to_an_account_is_audited [Accounts],
    failed_log_ins_are_counted [Accounts],
    what_fails_without_an_account_is_in_no_audit [Accounts],
    an_audit_is_listed_page_by_page [Accounts],
    an_audit_that_has_not_changed_is_not_sent_again [Accounts],
    only_an_access_token_opens_the_audit [Accounts],
    audits_of_others_are_out_of_sight [Accounts],
    changes_of_channels_are_audited_in_their_workspace [Accounts],
    members_see_who_changed_the_shared_channels [Required, Members, Accounts, StaticKey],
}

/// The entries of an account, newest first.
async fn entries(client: &Client) -> Vec<Value> {
    let list = client.get("/api/audit").await.ok();
    list["entries"].as_array().unwrap().clone()
}

/// The entries of this channel in the audit of its workspace, oldest first.
pub(crate) async fn of_channel(world: &World, client: &Client, channel: &Value) -> Vec<Value> {
    let path = match world.host.mode {
        Mode::Open => "/api/audit?workspace=shared",
        Mode::Required => "/api/audit",
    };
    let list = client.get(path).await.ok();
    let entries = list["entries"].as_array().unwrap().iter();
    let mut entries: Vec<Value> = entries
        .filter(|entry| entry["target_id"] == channel["id"])
        .cloned()
        .collect();
    entries.reverse();
    entries
}

async fn log_in(world: &World, email: &str, password: &str, status: u16) {
    let body = json!({"email": email, "password": password});
    let request = world.anonymous().post("/api/auth/login", &body);
    request.header("user-agent", "suite/1").await.expect(status);
}

async fn what_is_done_to_an_account_is_audited(world: Arc<World>) {
    let account = world.new_account().await;
    log_in(&world, &account.email, PASSWORD, 200).await;
    let (key, id) = account.api_key(&json!({"name": "laptop 💻"})).await;
    let agent = world.anonymous().with_token(&key);
    for _ in 0..2 {
        agent
            .report(&report(&world.name("agent"), "t", "running"))
            .await;
    }
    let path = format!("/api/apikeys/{id}");
    account.client.delete(&path).await.ok();
    let url = "https://hooks.example.com/secret-part";
    let body = json!({"notification_webhook_url": url});
    account.client.put("/api/auth/me", &body).await.ok();
    let change = json!({"current_password": PASSWORD, "new_password": "battery staple"});
    account
        .client
        .post("/api/auth/password", &change)
        .await
        .ok();
    account
        .client
        .post("/api/auth/logout", &json!({}))
        .await
        .ok();

    let list = account.client.get("/api/audit").await.ok();
    assert_eq!(
        texts(&list["entries"], "event"),
        [
            "login.ended",
            "password.changed",
            "webhook.changed",
            "key.revoked",
            "key.first_used",
            "key.created",
            "login.succeeded",
            "login.succeeded",
            "account.verified",
            "account.registered",
        ]
    );
    let entry = |place: usize| {
        let mut entry = list["entries"][place].clone();
        time(&entry["at"]);
        assert_eq!(text(&entry["id"]).len(), 36);
        assert_eq!(
            entry.get("client_address").is_some(),
            world.host.knows_clients
        );
        for field in ["at", "id", "client_address"] {
            entry.as_object_mut().unwrap().remove(field);
        }
        entry
    };
    assert_eq!(
        entry(6),
        json!({"event": "login.succeeded", "actor": "password", "user_agent": "suite/1"})
    );
    assert_eq!(
        entry(4),
        json!({
            "event": "key.first_used", "actor": "api_key", "target": "laptop 💻", "target_id": id,
        })
    );
    assert_eq!(
        entry(2),
        json!({
            "event": "webhook.changed", "actor": "access_token",
            "target": "https://hooks.example.com",
        })
    );
}

async fn failed_log_ins_are_counted(world: Arc<World>) {
    let account = world.new_account().await;
    for password in ["wrong", "wrong too", ""] {
        log_in(&world, &account.email.to_uppercase(), password, 401).await;
    }
    let failed = entries(&account.client).await;
    let failed = failed
        .iter()
        .filter(|entry| entry["event"] == "login.failed");
    let counts: Vec<u64> = failed
        .map(|entry| entry["count"].as_u64().unwrap())
        .collect();
    // A minute may have ended in between.
    assert!(counts.len() <= 2, "{counts:?}");
    assert_eq!(counts.iter().sum::<u64>(), 3);
}

async fn what_fails_without_an_account_is_in_no_audit(world: Arc<World>) {
    let account = world.new_account().await;
    let before = entries(&account.client).await;
    log_in(&world, &world.email(), PASSWORD, 401).await;
    let body = json!({"email": world.email()});
    let answer = world.anonymous().post("/api/auth/forgot", &body).await;
    answer.ok();
    assert_eq!(entries(&account.client).await, before);
}

async fn an_audit_is_listed_page_by_page(world: Arc<World>) {
    let account = world.new_account().await;
    for _ in 0..2 {
        account.api_key(&json!({"name": "k"})).await;
    }
    let all = entries(&account.client).await;
    assert_eq!(all.len(), 5);
    let mut walked = Vec::new();
    let mut path = "/api/audit?limit=2".to_owned();
    loop {
        let answer = account.client.get(&path).await.expect(200);
        let body = answer.json();
        walked.extend(body["entries"].as_array().unwrap().clone());
        let Some(cursor) = body["next_cursor"].as_str() else {
            assert_eq!(answer.header("link"), None);
            break;
        };
        let link = format!("<?limit=2&cursor={cursor}>; rel=\"next\"");
        assert_eq!(answer.header("link"), Some(link));
        path = format!("/api/audit?limit=2&cursor={cursor}");
    }
    assert_eq!(walked, all);
    for query in ["limit=0", "limit=10001", "limit=x", "cursor=x"] {
        let answer = account.client.get(&format!("/api/audit?{query}")).await;
        answer.error_code(400, "bad_request");
    }
}

async fn an_audit_that_has_not_changed_is_not_sent_again(world: Arc<World>) {
    let account = world.new_account().await;
    let answer = account.client.get("/api/audit").await.expect(200);
    let tag = answer.header("etag").unwrap();
    let again = || {
        account
            .client
            .get("/api/audit")
            .header("if-none-match", &tag)
    };
    again().await.expect(304);
    account.api_key(&json!({"name": "k"})).await;
    again().await.expect(200);
}

async fn only_an_access_token_opens_the_audit(world: Arc<World>) {
    let account = world.account(0).await;
    let message = "missing authorization header";
    let answer = world.anonymous().get("/api/audit").await;
    answer.error(401, "unauthorized", message);
    let key = account.with_scopes(&["report", "read"]).await;
    let static_key = world.host.static_key.as_deref();
    for token in ["nonsense"].into_iter().chain(static_key) {
        let answer = world.anonymous().with_token(token).get("/api/audit").await;
        answer.error(401, "unauthorized", "invalid or expired token");
    }
    let answer = key.get("/api/audit").await;
    answer.error(401, "unauthorized", "invalid or expired token");
}

async fn audits_of_others_are_out_of_sight(world: Arc<World>) {
    let (mine, other) = (world.new_account().await, world.new_account().await);
    let (_, id) = mine.api_key(&json!({"name": "mine"})).await;
    let is_of_key = |entry: &Value| entry["target_id"] == *id;
    assert!(entries(&mine.client).await.iter().any(is_of_key));
    assert!(!entries(&other.client).await.iter().any(is_of_key));
    if world.host.mode == Mode::Required {
        let answer = mine.client.get("/api/audit?workspace=shared").await;
        answer.error_code(403, "forbidden");
    }
}

async fn changes_of_channels_are_audited_in_their_workspace(world: Arc<World>) {
    let client = &world.new_account().await.client;
    let name = world.name("channel");
    let body = json!({"name": name, "url": "https://example.com/secret-part", "format": "webhook"});
    let channel = client.post("/api/channels", &body).await.expect(201).json();
    let path = format!("/api/channels/{}", text(&channel["id"]));
    client.put(&path, &json!({"enabled": false})).await.ok();
    client.delete(&path).await.ok();
    let told = of_channel(&world, client, &channel).await;
    let expected = ["channel.created", "channel.changed", "channel.removed"];
    assert_eq!(texts(&json!(told), "event"), expected);
    for entry in &told {
        assert_eq!(entry["target"], *name);
        assert_eq!(entry["actor"], "access_token");
    }
}

async fn members_see_who_changed_the_shared_channels(world: Arc<World>) {
    let member = async |name: &str| -> Account {
        let email = format!("{}@members.example.com", world.name("member"));
        let body = json!({"email": email, "password": PASSWORD, "name": name});
        let answer = world.anonymous().post("/api/auth/register", &body).await;
        answer.expect(201);
        world.verify(&email).await
    };
    let (ann, bob) = (member("Ann").await, member("Bob").await);
    let body = json!({"name": "team", "url": "https://example.com/x", "format": "webhook"});
    let answer = ann
        .client
        .post("/api/channels?workspace=shared", &body)
        .await;
    let channel = answer.expect(201).json();
    let key = world.host.static_key.as_ref().unwrap();
    let path = format!("/api/channels/{}", text(&channel["id"]));
    world.anonymous().with_token(key).delete(&path).await.ok();

    let list = bob.client.get("/api/audit").header("x-workspace", "shared");
    let list = list.await.ok();
    let told = list["entries"].as_array().unwrap().iter();
    let told: Vec<_> = told
        .filter(|entry| entry["target_id"] == channel["id"])
        .map(|entry| {
            (
                entry["event"].clone(),
                entry["actor"].clone(),
                entry.get("user"),
            )
        })
        .collect();
    let expected = [
        (json!("channel.removed"), json!("static_key"), None),
        (
            json!("channel.created"),
            json!("access_token"),
            Some(&json!("Ann")),
        ),
    ];
    assert_eq!(told, expected);
    let own = entries(&ann.client).await;
    assert!(!own.iter().any(|entry| entry["target_id"] == channel["id"]));
}
