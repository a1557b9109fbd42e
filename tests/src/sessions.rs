//! Sessions: their time to live, the state that follows from it, and how they expire.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::client::Client;
use crate::scenario::scenarios;
use crate::world::{World, report, texts, time, with, within};

scenarios! {
    a_session_expires_when_its_time_is_over_and_a_report_renews_it,
    a_session_expires_its_ttl_after_its_last_report,
    the_default_ttl_is_an_hour,
    a_ttl_stays_until_a_report_gives_another,
    state_follows_from_the_latest_status,
    a_report_updates_its_session_only,
    the_active_session_count_includes_ended_sessions,
}

async fn session(client: &Client, agent: &str, topic: &str) -> Value {
    let path = format!("/api/agents/{agent}/sessions/{topic}");
    client.get(&path).await.ok()["session"].take()
}

async fn a_session_expires_when_its_time_is_over_and_a_report_renews_it(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let said = |topic, status| with(report(&id, topic, status), "message", topic);
    client.report(&said("lasting", "pending")).await;
    client
        .report(&with(said("done", "success"), "ttl_minutes", 1))
        .await;
    client
        .report(&with(said("brief", "running"), "ttl_minutes", 1))
        .await;
    let expires_at = session(&client, &id, "brief").await["expires_at"].clone();
    let running = client
        .get(&format!("/api/agents?search={id}&status=running"))
        .await
        .ok();
    assert_eq!(texts(&running["agents"], "agent_id"), [id.as_str()]);

    within(
        Duration::from_secs(100),
        "a session of one minute expires",
        async || {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let session = session(&client, &id, "brief").await;
            if session["expired"] == json!(false) {
                assert_eq!(session["state"], "active");
                assert_eq!(session.get("expired_at"), None);
            }
            session["expired"] == json!(true)
        },
    )
    .await;
    let now = client.get("/health").await.ok();
    assert!(time(&now["timestamp"]) + TimeDelta::seconds(1) >= time(&expires_at));
    let expired = session(&client, &id, "brief").await;
    assert_eq!(expired["state"], "expired");
    assert_eq!(expired["expires_at"], expires_at);
    assert_eq!(expired["expired_at"], expires_at);
    assert_eq!(expired["current_status"], "running");
    let done = session(&client, &id, "done").await;
    assert_eq!(done["expired"], true);
    assert_eq!(done["expired_at"], done["expires_at"]);
    assert_eq!(done["state"], "ended");

    let listed = async |query: &str| {
        let path = format!("/api/agents/{id}/sessions{query}");
        texts(&client.get(&path).await.ok()["sessions"], "session_topic")
    };
    assert_eq!(listed("?expired=only").await, ["brief", "done"]);
    assert_eq!(listed("?expired=false").await, ["lasting"]);
    assert_eq!(listed("").await, ["brief", "done", "lasting"]);
    assert_eq!(listed("?expired=true").await, ["brief", "done", "lasting"]);

    let agent = client.get(&format!("/api/agents/{id}")).await.ok();
    assert_eq!(agent["session_count"], 3);
    assert_eq!(agent["active_session_count"], 1);
    assert_eq!(agent["latest_status"], "pending");
    assert_eq!(agent["latest_message"], "lasting");
    let newest = client.get(&format!("/api/agents/{id}/status")).await.ok();
    assert_eq!(newest["session_topic"], "brief");
    let running = client
        .get(&format!("/api/agents?search={id}&status=running"))
        .await
        .ok();
    assert_eq!(running["agents"], json!([]));
    let pending = client
        .get(&format!("/api/agents?search={id}&status=pending"))
        .await
        .ok();
    assert_eq!(texts(&pending["agents"], "agent_id"), [id.as_str()]);

    client.report(&report(&id, "brief", "running")).await;
    let renewed = session(&client, &id, "brief").await;
    assert_eq!(renewed["expired"], false);
    assert_eq!(renewed["state"], "active");
    assert_eq!(renewed["ttl_minutes"], 1);
    assert_eq!(renewed["created"], expired["created"]);
    assert_eq!(renewed.get("expired_at"), None);
    assert!(time(&renewed["expires_at"]) > time(&expires_at));
    let path = format!("/api/agents/{id}/sessions/brief");
    let history = client.get(&path).await.ok();
    assert_eq!(history["status_history"].as_array().unwrap().len(), 2);
    assert_eq!(listed("?expired=false").await, ["brief", "lasting"]);
}

async fn a_session_expires_its_ttl_after_its_last_report(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    for ttl in [1, 30, 1440] {
        client
            .report(&with(report(&id, "t", "running"), "ttl_minutes", ttl))
            .await;
        let session = session(&client, &id, "t").await;
        let left = time(&session["expires_at"]) - time(&session["last_updated"]);
        assert_eq!(left, TimeDelta::minutes(ttl));
        let status = client.get(&format!("/api/agents/{id}/status")).await.ok();
        assert_eq!(status["timestamp"], session["last_updated"]);
    }
}

async fn the_default_ttl_is_an_hour(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    client.report(&report(&id, "absent", "running")).await;
    client
        .report(&with(report(&id, "zero", "running"), "ttl_minutes", 0))
        .await;
    for topic in ["absent", "zero"] {
        assert_eq!(session(&client, &id, topic).await["ttl_minutes"], 60);
    }
}

async fn a_ttl_stays_until_a_report_gives_another(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let steps = [
        (Some(7), 7),
        (None, 7),
        (Some(0), 7),
        (Some(1440), 1440),
        (None, 1440),
        (Some(1), 1),
    ];
    for (given, then) in steps {
        let mut report = report(&id, "t", "running");
        if let Some(ttl) = given {
            report["ttl_minutes"] = json!(ttl);
        }
        client.report(&report).await;
        assert_eq!(session(&client, &id, "t").await["ttl_minutes"], then);
    }
}

async fn state_follows_from_the_latest_status(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let steps = [
        ("pending", "active"),
        ("running", "active"),
        ("success", "ended"),
        ("running", "active"),
        ("failed", "ended"),
        ("pending", "active"),
    ];
    for (status, state) in steps {
        client.report(&report(&id, "t", status)).await;
        let session = session(&client, &id, "t").await;
        assert_eq!(session["current_status"], status);
        assert_eq!(session["state"], state);
        assert_eq!(session["expired"], false);
    }
}

async fn a_report_updates_its_session_only(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    client.report(&report(&id, "a", "running")).await;
    let before = session(&client, &id, "a").await;
    client
        .report(&with(report(&id, "b", "failed"), "ttl_minutes", 5))
        .await;
    assert_eq!(session(&client, &id, "a").await, before);

    client.report(&report(&id, "a", "running")).await;
    let after = session(&client, &id, "a").await;
    assert_eq!(after["created"], before["created"]);
    assert!(time(&after["last_updated"]) >= time(&before["last_updated"]));
    let agent = client.get(&format!("/api/agents/{id}")).await.ok();
    assert_eq!(agent["last_seen"], after["last_updated"]);
}

async fn the_active_session_count_includes_ended_sessions(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    for (n, status) in ["running", "success", "failed", "pending"]
        .iter()
        .enumerate()
    {
        client.report(&report(&id, &format!("{n}"), status)).await;
        let agent = client.get(&format!("/api/agents/{id}")).await.ok();
        assert_eq!(agent["session_count"], n + 1);
        assert_eq!(agent["active_session_count"], n + 1);
        assert_eq!(agent["latest_status"], *status);
    }
}
