//! Notifications, as a receiver sees them.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::SecondsFormat;
use http::Method;
use pretty_assertions::assert_eq;
use regex::Regex;
use serde_json::{Value, json};

use crate::client::Client;
use crate::receiver::{Delivery, ELSEWHERE, INSTANCE, Receiver, Reply};
use crate::scenario::scenarios;
use crate::world::{ACCOUNT, World, eventually, report, time, with};

scenarios! {
    a_notification_says_what_happened [Accounts, Notifications],
    a_notification_without_message_and_content_has_no_such_lines [Accounts, Notifications],
    the_end_of_a_run_notifies_and_nothing_else_does [Accounts, Notifications],
    every_notification_has_an_id_of_its_own [Accounts, Notifications],
    the_duration_runs_from_the_start_of_the_run [Accounts, Notifications],
    a_failed_delivery_is_tried_again_with_the_same_id [Accounts, Notifications],
    a_failed_delivery_is_logged_without_its_path [Accounts, Notifications],
    a_redirect_is_not_followed [Accounts, Notifications],
    a_report_does_not_wait_for_its_notification [Accounts, Notifications, DeliveryAfterAnswer],
    a_receiver_that_hangs_does_not_delay_another [Accounts, Notifications],
    a_cleared_webhook_receives_nothing [Accounts, Notifications],
    an_account_is_notified_of_its_own_workspace_only [Required, Accounts, Notifications],
    every_account_is_notified_in_open_mode [Open, Accounts, Notifications],
    the_instance_is_notified_of_the_shared_workspace [InstanceReceiver],
    the_instance_is_not_notified_of_accounts_workspaces [Required, Accounts, InstanceReceiver],
}

/// Waits for `count` requests to `path` for `agent`.
async fn wait_for(
    world: &World,
    receiver: &Receiver,
    path: &str,
    agent: &str,
    count: usize,
) -> Vec<Delivery> {
    let client = world.client().await;
    eventually(
        &format!("{count} notifications of {agent} at {path}"),
        async || {
            // Some hosts deliver only while they serve requests.
            client.get("/api/agents?limit=1").await.ok();
            receiver.received(path, agent).len() >= count
        },
    )
    .await;
    receiver.received(path, agent)
}

/// The notifications of `agent` at the URL of [`World::notified`], when there are `count`: each once,
/// since one whose answer is lost is delivered again.
async fn notified(world: &World, agent: &str, count: usize) -> Vec<Delivery> {
    let receiver = world.receiver().await;
    let mut requests = count;
    loop {
        let mut arrived = wait_for(world, receiver, ACCOUNT, agent, requests).await;
        requests = arrived.len() + 1;
        let mut ids = HashSet::new();
        arrived.retain(|d| ids.insert(d.webhook_id().map(str::to_owned)));
        if arrived.len() >= count {
            return arrived;
        }
    }
}

/// Runs a session from `running` to `status`.
async fn run(client: &Client, agent: &str, topic: &str, status: &str) {
    client.report(&report(agent, topic, "running")).await;
    client.report(&report(agent, topic, status)).await;
}

async fn history(client: &Client, agent: &str) -> Vec<Value> {
    let history = client
        .get(&format!("/api/agents/{agent}/history"))
        .await
        .ok();
    history["status_history"].as_array().unwrap().clone()
}

async fn a_notification_says_what_happened(world: Arc<World>) {
    let client = &world.notified().await.client;
    let id = world.name("agent");
    let named = |report| with(report, "agent_name", "Bau \"é\" 🚀");
    client
        .report(&named(report(&id, "nightly/中", "running")))
        .await;
    let end = with(
        named(report(&id, "nightly/中", "failed")),
        "message",
        "2 < 3 & more",
    );
    client
        .report(&with(end, "content", "first line\nsecond line"))
        .await;

    let delivery = notified(&world, &id, 1).await.remove(0);
    assert_eq!(delivery.method, Method::POST);
    assert_eq!(delivery.headers["content-type"], "application/json");
    let length = delivery.body.len().to_string();
    assert_eq!(delivery.headers["content-length"], *length);
    assert_eq!(delivery.headers.get("transfer-encoding"), None);
    let body: Value = serde_json::from_slice(&delivery.body).expect("JSON");
    assert_eq!(
        body,
        json!({"msg_type": "text", "content": {"text": delivery.text()}})
    );

    let ended = time(&history(client, &id).await[0]["timestamp"]);
    let duration = delivery.line("Duration").expect("a duration");
    assert_eq!(
        delivery.text(),
        format!(
            "🔔 Session Status Change\n\n\
             Agent ID: {id}\n\
             Agent Name: Bau \"é\" 🚀\n\
             Session: nightly/中\n\
             Status: running → failed\n\
             Timestamp: {}\n\
             Duration: {duration}\n\
             Message: 2 < 3 & more\n\
             Content: first line\nsecond line",
            ended.to_rfc3339_opts(SecondsFormat::Secs, true)
        )
    );
}

async fn a_notification_without_message_and_content_has_no_such_lines(world: Arc<World>) {
    let client = &world.notified().await.client;
    let id = world.name("agent");
    let begin = with(report(&id, "t", "running"), "message", "of the start");
    client.report(&with(begin, "agent_name", "N")).await;
    client.report(&report(&id, "t", "pending")).await;
    let text = notified(&world, &id, 1).await[0].text();
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("Duration: "), "{text}");
    assert!(!text.contains("of the start"), "{text}");
}

async fn the_end_of_a_run_notifies_and_nothing_else_does(world: Arc<World>) {
    let client = &world.notified().await.client;
    let id = world.name("agent");
    let statuses = [
        "pending", "running", "running", "success", "success", "failed", "pending", "success",
        "running", "failed", "running", "pending", "running", "success",
    ];
    for status in statuses {
        client.report(&report(&id, "t", status)).await;
    }
    // A transition is one of a session, not of its agent.
    client.report(&report(&id, "running on", "running")).await;
    client.report(&report(&id, "t", "failed")).await;
    client
        .report(&report(&id, "ended at once", "success"))
        .await;
    let last = world.name("sentinel");
    run(client, &last, "t", "success").await;
    notified(&world, &last, 1).await;

    let deliveries = notified(&world, &id, 4).await;
    let mut transitions: Vec<_> = deliveries.iter().filter_map(|d| d.line("Status")).collect();
    transitions.sort();
    assert_eq!(
        transitions,
        [
            "running → failed",
            "running → pending",
            "running → success",
            "running → success"
        ]
    );
    assert!(
        deliveries
            .iter()
            .all(|d| d.line("Session").as_deref() == Some("t"))
    );
}

async fn every_notification_has_an_id_of_its_own(world: Arc<World>) {
    let client = &world.notified().await.client;
    let id = world.name("agent");
    for _ in 0..3 {
        run(client, &id, "t", "success").await;
    }
    let deliveries = notified(&world, &id, 3).await;
    let ids: HashSet<_> = deliveries
        .iter()
        .map(|d| d.webhook_id().expect("an id"))
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(!ids.contains(""));
}

/// The microseconds of a duration as Go writes it.
fn microseconds(duration: &str) -> f64 {
    let form = r"^(?:(?:\d+h)?\d+m)?\d+(?:\.\d*[1-9])?s$|^\d+(?:\.\d*[1-9])?(?:ms|µs)$";
    assert!(
        Regex::new(form).unwrap().is_match(duration),
        "{duration:?} is not Go's form"
    );
    let part = Regex::new(r"(\d+(?:\.\d+)?)(h|ms|µs|m|s)").unwrap();
    part.captures_iter(duration)
        .map(|part| {
            let unit = match &part[2] {
                "h" => 3.6e9,
                "m" => 6e7,
                "s" => 1e6,
                "ms" => 1e3,
                _ => 1.0,
            };
            part[1].parse::<f64>().unwrap() * unit
        })
        .sum()
}

async fn the_duration_runs_from_the_start_of_the_run(world: Arc<World>) {
    let client = &world.notified().await.client;
    let id = world.name("agent");
    // The run ends with the last of these, and began with the fourth.
    for status in [
        "running", "success", "pending", "running", "running", "running", "failed",
    ] {
        client.report(&report(&id, "t", status)).await;
    }
    let deliveries = notified(&world, &id, 2).await;
    let history = history(client, &id).await;
    let at = |newest: usize| time(&history[newest]["timestamp"]);
    for (status, took) in [("failed", at(0) - at(3)), ("success", at(5) - at(6))] {
        let transition = format!("running → {status}");
        let mut ends = deliveries
            .iter()
            .filter(|d| d.line("Status").as_deref() == Some(&transition));
        let duration = ends
            .next()
            .expect(&transition)
            .line("Duration")
            .expect("a duration");
        let took = took.num_microseconds().unwrap() as f64;
        // Stored times are whole microseconds; a host may know a little more.
        assert!(
            (microseconds(&duration) - took).abs() <= 1.5,
            "{duration} is not {took} µs"
        );
    }
}

async fn a_failed_delivery_is_tried_again_with_the_same_id(world: Arc<World>) {
    let client = &world.notified().await.client;
    let id = world.name("agent");
    let receiver = world.receiver().await;
    receiver.reply(&id, Reply::FailFirst(2));
    run(client, &id, "t", "success").await;
    run(client, &id, "t", "failed").await;
    let notifications = notified(&world, &id, 2).await;
    assert_eq!(notifications.len(), 2);
    for notification in &notifications {
        let attempts = || {
            let mut attempts = receiver.received(ACCOUNT, &id);
            attempts.retain(|attempt| attempt.webhook_id() == notification.webhook_id());
            attempts
        };
        eventually("three attempts", async || {
            client.get("/api/agents?limit=1").await.ok();
            attempts().len() >= 3
        })
        .await;
        for attempt in attempts() {
            assert_eq!(attempt.body, notification.body);
        }
    }
}

async fn a_failed_delivery_is_logged_without_its_path(world: Arc<World>) {
    let account = world.new_account().await;
    let receiver = world.receiver().await;
    let (id, secret) = (world.name("agent"), world.name("secret"));
    let path = format!("/{secret}");
    let set = async |url: &str| {
        let settings = json!({"notification_webhook_url": url});
        account.client.put("/api/auth/me", &settings).await.ok();
    };
    set(&receiver.url(&format!("{path}?key={secret}"))).await;
    receiver.reply(&id, Reply::FailFirst(usize::MAX));
    run(&account.client, &id, "t", "success").await;
    wait_for(&world, receiver, &path, &id, 3).await;
    set("").await;
    let last = world.name("sentinel");
    run(&world.notified().await.client, &last, "t", "success").await;
    notified(&world, &last, 1).await;
    let log = world.host.log.as_ref().unwrap().lines();
    let lines: Vec<_> = log.iter().filter(|line| line.contains(&secret)).collect();
    assert!(lines.is_empty(), "{lines:#?}");
}

async fn a_redirect_is_not_followed(world: Arc<World>) {
    let client = &world.notified().await.client;
    let id = world.name("agent");
    let receiver = world.receiver().await;
    receiver.reply(&id, Reply::Redirect);
    run(client, &id, "t", "success").await;
    notified(&world, &id, 1).await;
    let last = world.name("sentinel");
    run(client, &last, "t", "success").await;
    notified(&world, &last, 1).await;
    assert!(receiver.received(ELSEWHERE, &id).is_empty());
}

async fn a_report_does_not_wait_for_its_notification(world: Arc<World>) {
    let client = &world.notified().await.client;
    let id = world.name("agent");
    let receiver = world.receiver().await;
    receiver.hold(&id);
    run(client, &id, "t", "success").await;
    assert_eq!(receiver.abandoned(&id), 0);
    client.get(&format!("/api/agents/{id}/status")).await.ok();
    receiver.release(&id);
    notified(&world, &id, 1).await;
}

async fn a_receiver_that_hangs_does_not_delay_another(world: Arc<World>) {
    let hanging = Receiver::start();
    let account = world.new_account().await;
    let settings = json!({"notification_webhook_url": hanging.url(ACCOUNT)});
    account.client.put("/api/auth/me", &settings).await.ok();
    let id = world.name("agent");
    hanging.hold(&id);
    for n in 0..6 {
        run(&account.client, &id, &n.to_string(), "failed").await;
    }
    wait_for(&world, &hanging, ACCOUNT, &id, 1).await;

    let other = world.name("other");
    run(&world.notified().await.client, &other, "t", "success").await;
    notified(&world, &other, 1).await;
    let arrived = hanging.received(ACCOUNT, &id).len();
    if world.host.answers_before_delivering {
        assert_eq!(
            hanging.abandoned(&id),
            0,
            "the other waited until these were given up"
        );
    }
    if world.host.counts_deliveries_together {
        assert!(arrived <= 4, "{arrived} in flight to one host");
    }

    let settings = json!({"notification_webhook_url": ""});
    account.client.put("/api/auth/me", &settings).await.ok();
    hanging.release(&id);
}

async fn a_cleared_webhook_receives_nothing(world: Arc<World>) {
    let account = world.new_account().await;
    let receiver = world.receiver().await;
    let path = format!("/{}", account.id);
    let set = async |url: &str| {
        let settings = json!({"notification_webhook_url": url});
        account.client.put("/api/auth/me", &settings).await.ok();
    };
    let (before, after) = (world.name("before"), world.name("after"));
    set(&receiver.url(&path)).await;
    run(&account.client, &before, "t", "success").await;
    wait_for(&world, receiver, &path, &before, 1).await;
    set("").await;
    run(&account.client, &after, "t", "success").await;
    let last = world.name("sentinel");
    run(&world.notified().await.client, &last, "t", "success").await;
    notified(&world, &last, 1).await;
    assert!(receiver.received(&path, &after).is_empty());
}

async fn an_account_is_notified_of_its_own_workspace_only(world: Arc<World>) {
    let receiver = world.receiver().await;
    let theirs = world.name("theirs");
    run(&world.account(0).await.client, &theirs, "t", "success").await;
    let mine = world.name("mine");
    run(&world.notified().await.client, &mine, "t", "success").await;
    notified(&world, &mine, 1).await;
    assert!(receiver.received(ACCOUNT, &theirs).is_empty());
}

async fn every_account_is_notified_in_open_mode(world: Arc<World>) {
    let receiver = world.receiver().await;
    world.notified().await;
    let other = world.new_account().await;
    let path = format!("/{}", other.id);
    let settings = json!({"notification_webhook_url": receiver.url(&path)});
    other.client.put("/api/auth/me", &settings).await.ok();
    let id = world.name("agent");
    run(&world.anonymous(), &id, "t", "success").await;
    notified(&world, &id, 1).await;
    wait_for(&world, receiver, &path, &id, 1).await;
    let settings = json!({"notification_webhook_url": ""});
    other.client.put("/api/auth/me", &settings).await.ok();
}

async fn the_instance_is_notified_of_the_shared_workspace(world: Arc<World>) {
    let receiver = world.receiver().await;
    let client = world.client().await;
    let id = world.name("agent");
    run(&client, &id, "t", "failed").await;
    let deliveries = wait_for(&world, receiver, INSTANCE, &id, 1).await;
    assert_eq!(
        deliveries[0].line("Status").as_deref(),
        Some("running → failed")
    );
}

async fn the_instance_is_not_notified_of_accounts_workspaces(world: Arc<World>) {
    let receiver = world.receiver().await;
    let id = world.name("agent");
    run(&world.notified().await.client, &id, "t", "failed").await;
    notified(&world, &id, 1).await;
    let last = world.name("sentinel");
    run(&world.client().await, &last, "t", "failed").await;
    if world.host.static_key.is_some() {
        wait_for(&world, receiver, INSTANCE, &last, 1).await;
    }
    assert!(receiver.received(INSTANCE, &id).is_empty());
}
