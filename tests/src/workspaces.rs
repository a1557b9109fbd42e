//! Separation of workspaces.

use std::sync::Arc;

use pretty_assertions::assert_eq;
use serde_json::json;

use crate::scenario::scenarios;
use crate::world::{World, report, texts, with};

scenarios! {
    everybody_shares_one_workspace_in_open_mode [Open, Accounts],
    an_account_has_a_workspace_of_its_own [Required, Accounts],
    one_agent_id_in_two_workspaces_is_two_agents [Required, Accounts],
    an_api_key_works_in_its_accounts_workspace [Required, Accounts],
    the_static_key_works_in_the_shared_workspace [Required, Accounts, StaticKey],
}

async fn everybody_shares_one_workspace_in_open_mode(world: Arc<World>) {
    let account = world.account(0).await;
    let key = account.with_scopes(&["report", "read"]).await;
    let anybody = world.anonymous();
    for (reporter, name) in [
        (&anybody, "anybody"),
        (&account.client, "account"),
        (&key, "key"),
    ] {
        let id = world.name(name);
        reporter.report(&report(&id, "t", "running")).await;
        for reader in [&anybody, &account.client, &key] {
            let found = reader.get(&format!("/api/agents/{id}")).await.ok();
            assert_eq!(found.get("user_id"), None);
            let listed = reader.get(&format!("/api/agents?search={id}")).await.ok();
            assert_eq!(listed["agents"], json!([found]));
        }
    }
}

async fn an_account_has_a_workspace_of_its_own(world: Arc<World>) {
    let (mine, other) = (world.account(0).await, world.account(1).await);
    let id = world.name("agent");
    mine.client.report(&report(&id, "t", "running")).await;
    let found = mine.client.get(&format!("/api/agents/{id}")).await.ok();
    assert_eq!(found["user_id"], mine.id.as_str());

    for rest in ["", "/sessions", "/sessions/t", "/history"] {
        let answer = other.client.get(&format!("/api/agents/{id}{rest}")).await;
        answer.error(404, "not_found", "Agent not found");
    }
    let path = format!("/api/sessions?search={id}");
    let listed = mine.client.get(&path).await.ok();
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1);
    let listed = other.client.get(&path).await.ok();
    assert_eq!(listed, json!({"sessions": []}));
    let answer = other.client.get(&format!("/api/agents/{id}/status")).await;
    answer.error_code(404, "not_found");
    let listed = other
        .client
        .get(&format!("/api/agents?search={id}"))
        .await
        .ok();
    assert_eq!(listed, json!({"agents": []}));
}

async fn one_agent_id_in_two_workspaces_is_two_agents(world: Arc<World>) {
    let (mine, other) = (world.account(0).await, world.account(1).await);
    let id = world.name("agent");
    for (account, name, status) in [(mine, "Mine", "running"), (other, "Other", "failed")] {
        let report = with(report(&id, "t", status), "agent_name", name);
        account.client.report(&report).await;
    }
    for (account, name, status) in [(mine, "Mine", "running"), (other, "Other", "failed")] {
        let found = account.client.get(&format!("/api/agents/{id}")).await.ok();
        assert_eq!(found["user_id"], account.id.as_str());
        assert_eq!(found["name"], name);
        assert_eq!(found["session_count"], 1);
        let history = account
            .client
            .get(&format!("/api/agents/{id}/history"))
            .await
            .ok();
        assert_eq!(texts(&history["status_history"], "status"), [status]);
    }
}

async fn an_api_key_works_in_its_accounts_workspace(world: Arc<World>) {
    let (mine, other) = (world.account(0).await, world.account(1).await);
    let id = world.name("agent");
    let key = mine.with_scopes(&["report", "read"]).await;
    key.report(&report(&id, "t", "running")).await;
    let found = mine.client.get(&format!("/api/agents/{id}")).await.ok();
    assert_eq!(found["user_id"], mine.id.as_str());
    assert_eq!(key.get(&format!("/api/agents/{id}")).await.ok(), found);
    let key = other.with_scopes(&["report", "read"]).await;
    let answer = key.get(&format!("/api/agents/{id}")).await;
    answer.error(404, "not_found", "Agent not found");
}

async fn the_static_key_works_in_the_shared_workspace(world: Arc<World>) {
    let account = world.account(0).await;
    let shared = world
        .anonymous()
        .with_token(world.host.static_key.as_ref().unwrap());
    let (mine, common) = (world.name("mine"), world.name("common"));
    account.client.report(&report(&mine, "t", "running")).await;
    shared.report(&report(&common, "t", "running")).await;
    let found = shared.get(&format!("/api/agents/{common}")).await.ok();
    assert_eq!(found.get("user_id"), None);
    let answer = shared.get(&format!("/api/agents/{mine}")).await;
    answer.error(404, "not_found", "Agent not found");
    let answer = account.client.get(&format!("/api/agents/{common}")).await;
    answer.error(404, "not_found", "Agent not found");
}
