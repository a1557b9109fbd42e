//! The shared workspace and its members.

use std::sync::Arc;

use pretty_assertions::assert_eq;
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::scenario::scenarios;
use crate::world::{Account, PASSWORD, World, eventually, report, text, with};

scenarios! {
    a_member_works_in_either_workspace [Required, Members, Accounts, StaticKey],
    who_is_no_member_works_in_their_own_workspace_alone [Required, Members, Accounts],
    a_key_is_made_for_one_of_the_workspaces [Required, Members, Accounts, StaticKey],
    a_shared_session_says_whose_it_is [Required, Members, Accounts, StaticKey],
    the_user_of_a_shared_session_takes_the_place_of_what_has_no_room [Required, Members, Accounts],
    a_member_manages_the_shared_channels [Required, Members, Accounts, StaticKey],
    what_a_deleted_member_has_shared_stays [Required, Members, Accounts, StaticKey],
    an_unknown_workspace_is_refused [Accounts],
    pages_may_say_for_which_workspace_they_ask,
}

/// A verified account whose address is a member's.
async fn member(world: &World, name: &str) -> Account {
    let email = format!("{}@Members.Example.com", world.name("member"));
    let body = json!({"email": email, "password": PASSWORD, "name": name});
    let client = world.anonymous();
    client.post("/api/auth/register", &body).await.expect(201);
    world.verify(&email).await
}

fn static_key(world: &World) -> Client {
    let key = world.host.static_key.as_ref().unwrap();
    world.anonymous().with_token(key)
}

async fn shared_key(account: &Account) -> Client {
    let request = json!({"name": "k", "scopes": ["report", "read"], "workspace": "shared"});
    let (key, _) = account.api_key(&request).await;
    account.client.with_token(&key)
}

async fn context(client: &Client, agent: &str, topic: &str) -> Value {
    let path = format!("/api/agents/{agent}/sessions/{topic}?workspace=shared");
    client.get(&path).await.ok()["session"]["context"].take()
}

async fn a_member_works_in_either_workspace(world: Arc<World>) {
    let account = member(&world, "Ann").await;
    let (agent, client) = (world.name("agent"), &account.client);
    let path = format!("/api/agents/{agent}");
    assert_eq!(
        client.get("/api/auth/me").await.ok()["shared_workspace"],
        true
    );

    let body = report(&agent, "t", "running");
    client
        .post("/webhook/status", &body)
        .header("x-workspace", "shared")
        .await
        .ok();
    client.get(&path).await.error_code(404, "not_found");
    client.report(&with(body, "agent_name", "own")).await;

    let own = client.get(&path).await.ok();
    assert_eq!(
        (&own["name"], &own["user_id"]),
        (&json!("own"), &json!(account.id))
    );
    assert_eq!(client.get(&format!("{path}?workspace=own")).await.ok(), own);
    let shared = static_key(&world).get(&path).await.ok();
    assert_eq!((shared.get("name"), shared.get("user_id")), (None, None));
    for request in [
        client.get(&path).header("X-WORKSPACE", "shared"),
        client.get(&format!("{path}?workspace=shared")),
        client
            .get(&format!("{path}?workspace=shared"))
            .header("x-workspace", "shared"),
    ] {
        assert_eq!(request.await.ok(), shared);
    }
    let lists = format!("/api/sessions?search={agent}&workspace=shared");
    assert_eq!(
        client.get(&lists).await.ok()["sessions"][0]["context"]["user"],
        "Ann"
    );
}

async fn who_is_no_member_works_in_their_own_workspace_alone(world: Arc<World>) {
    let account = world.account(0).await;
    let client = &account.client;
    let user = client.get("/api/auth/me").await.ok();
    assert_eq!(user.get("shared_workspace"), None);
    client.get("/api/agents?limit=1&workspace=own").await.ok();
    let body = report(&world.name("agent"), "t", "running");
    for request in [
        client.get("/api/agents?workspace=shared"),
        client.get("/api/sessions").header("x-workspace", "shared"),
        client.post("/webhook/status?workspace=shared", &body),
        client.post("/hooks/claude-code?workspace=shared", &json!({})),
        client.post("/mcp?workspace=shared", &json!({})),
        client.get("/api/channels?workspace=shared"),
    ] {
        request.await.error_code(403, "forbidden");
    }
    let request = json!({"name": "k", "workspace": "shared"});
    let answer = client.post("/api/apikeys", &request).await;
    answer.error_code(403, "forbidden");
    // The account itself is in no workspace.
    client.get("/api/auth/me?workspace=shared").await.ok();
}

async fn a_key_is_made_for_one_of_the_workspaces(world: Arc<World>) {
    let account = member(&world, "Ann").await;
    let (agent, everybody) = (world.name("agent"), static_key(&world));
    let path = format!("/api/agents/{agent}");
    let shared = shared_key(&account).await;
    let own = account.with_scopes(&["report", "read"]).await;
    let listed = account.client.get("/api/apikeys").await.ok();
    let places = listed["api_keys"].as_array().unwrap();
    let places: Vec<_> = places.iter().map(|key| &key["workspace"]).collect();
    assert_eq!(places, ["own", "shared"]);

    shared.report(&report(&agent, "t", "running")).await;
    everybody.get(&path).await.ok();
    shared.get(&path).await.ok();
    shared.get(&format!("{path}?workspace=shared")).await.ok();
    own.get(&path).await.error_code(404, "not_found");
    own.get(&format!("{path}?workspace=own"))
        .await
        .error_code(404, "not_found");
    for request in [
        shared.get(&format!("{path}?workspace=own")),
        own.get(&path).header("x-workspace", "shared"),
        everybody.get(&path).header("x-workspace", "own"),
    ] {
        request.await.error_code(403, "forbidden");
    }
    for workspace in ["", "Shared", "other"] {
        let request = json!({"name": "k", "workspace": workspace});
        let answer = account.client.post("/api/apikeys", &request).await;
        answer.error(400, "bad_request", "workspace must be one of: own, shared");
    }
}

async fn a_shared_session_says_whose_it_is(world: Arc<World>) {
    let named = member(&world, " Ann 🚀 ").await;
    let unnamed = member(&world, "").await;
    let everybody = static_key(&world);
    for (account, user) in [(&named, "Ann 🚀"), (&unnamed, unnamed.email.as_str())] {
        let client = shared_key(account).await;
        let agent = world.name("agent");
        let body = report(&agent, "t", "running");
        let body = with(body, "context", json!({"user": "Somebody", "repo": "r"}));
        everybody.report(&body).await;
        let found = context(&everybody, &agent, "t").await;
        assert_eq!(found, json!({"user": "Somebody", "repo": "r"}));
        for told in [
            json!({"user": "Somebody else"}),
            json!({"user": ""}),
            json!({}),
        ] {
            client.report(&with(body.clone(), "context", told)).await;
            let found = context(&everybody, &agent, "t").await;
            assert_eq!(found, json!({"user": user, "repo": "r"}));
        }

        let hook = json!({
            "session_id": "hooked", "hook_event_name": "UserPromptSubmit", "prompt": "Fix it",
        });
        let path = format!("/hooks/claude-code?agent_id={agent}");
        assert_eq!(client.post(&path, &hook).await.ok(), json!({}));
        assert_eq!(context(&everybody, &agent, "hooked").await["user"], user);

        let call = json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {
                "name": "start_session",
                "arguments": {"agent_id": agent, "session_topic": "called"},
            },
        });
        let accepts = "application/json, text/event-stream";
        client
            .post("/mcp", &call)
            .header("accept", accepts)
            .await
            .ok();
        assert_eq!(context(&everybody, &agent, "called").await["user"], user);
    }
    let own = named.with_scopes(&["report", "read"]).await;
    let agent = world.name("agent");
    own.report(&report(&agent, "t", "running")).await;
    let found = own
        .get(&format!("/api/agents/{agent}/sessions/t"))
        .await
        .ok();
    assert_eq!(found["session"].get("context"), None);
}

async fn the_user_of_a_shared_session_takes_the_place_of_what_has_no_room(world: Arc<World>) {
    let account = member(&world, "Ann").await;
    let client = shared_key(&account).await;
    let agent = world.name("agent");
    let keys = |count: usize| -> Map<String, Value> {
        (0..count)
            .map(|n| (format!("k{n:02}"), json!("v")))
            .collect()
    };
    let report = |count| with(report(&agent, "t", "running"), "context", keys(count));
    let answer = client.post("/webhook/status", &report(21)).await;
    answer.error(400, "bad_request", "context must have at most 20 keys");
    for _ in 0..2 {
        client.report(&report(20)).await;
        let mut kept = keys(19);
        kept.insert("user".to_owned(), json!("Ann"));
        assert_eq!(context(&client, &agent, "t").await, json!(kept));
    }
    let hook = json!({
        "session_id": "t", "hook_event_name": "UserPromptSubmit", "prompt": "Fix it",
    });
    let path = format!("/hooks/claude-code?agent_id={agent}&repo=r&branch=b");
    client.post(&path, &hook).await.ok();
    let found = context(&client, &agent, "t").await;
    assert_eq!(found["user"], "Ann");
    assert_eq!(found.as_object().unwrap().len(), 20);
}

async fn a_member_manages_the_shared_channels(world: Arc<World>) {
    let account = member(&world, "Ann").await;
    let everybody = static_key(&world);
    let body = json!({"name": world.name("channel"), "url": "https://example.com/hook"});
    let request = account.client.post("/api/channels?workspace=shared", &body);
    let channel = request.await.expect(201).json();
    let has_it = |list: Value| {
        let list = list["channels"].as_array().unwrap().clone();
        list.iter().any(|other| other["id"] == channel["id"])
    };
    assert!(has_it(everybody.get("/api/channels").await.ok()));
    assert!(!has_it(account.client.get("/api/channels").await.ok()));
    let path = format!("/api/channels/{}", text(&channel["id"]));
    account
        .client
        .delete(&path)
        .await
        .error_code(404, "not_found");
    account
        .client
        .delete(&path)
        .header("x-workspace", "shared")
        .await
        .ok();
}

async fn what_a_deleted_member_has_shared_stays(world: Arc<World>) {
    let account = member(&world, "Ann").await;
    let client = shared_key(&account).await;
    let agent = world.name("agent");
    client.report(&report(&agent, "t", "running")).await;
    let deletion = account.client.request(http::Method::DELETE, "/api/auth/me");
    deletion.json(&json!({"password": PASSWORD})).await.ok();
    let path = format!("/api/agents/{agent}");
    eventually("the key is refused", async || {
        client.get(&path).await.status == 401
    })
    .await;
    let context = context(&static_key(&world), &agent, "t").await;
    assert_eq!(context["user"], "Ann");
}

async fn an_unknown_workspace_is_refused(world: Arc<World>) {
    let client = &world.account(0).await.client;
    for request in [
        client.get("/api/agents?workspace=other"),
        client.get("/api/agents").header("x-workspace", "Shared"),
        client.post("/mcp?workspace=other", &json!({})),
    ] {
        request.await.error_code(400, "bad_request");
    }
    client.get("/api/agents?limit=1&workspace=").await.ok();
}

async fn pages_may_say_for_which_workspace_they_ask(world: Arc<World>) {
    for path in ["/api/agents", "/mcp"] {
        let request = world.anonymous().options(path);
        let request = request
            .header("origin", "http://localhost:5173")
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "x-workspace");
        let allowed = request.await.list("access-control-allow-headers");
        assert!(allowed.contains(&"x-workspace".to_owned()), "{allowed:?}");
    }
}
