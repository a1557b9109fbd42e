//! What reports say of a session beside its status: title, reason, context and sequence.

use std::sync::Arc;

use chrono::Utc;
use futures_util::future::join_all;
use http::Method;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::scenario::scenarios;
use crate::world::{World, report, text, texts, time, with};

scenarios! {
    a_title_stays_until_a_report_gives_another,
    reason_and_message_are_those_of_the_newest_report,
    a_reason_is_a_word_for_programs,
    a_finished_turn_leaves_a_session_idle,
    a_spell_lasts_as_long_as_status_and_reason_stay,
    context_is_merged_key_by_key,
    context_is_an_object_of_short_strings,
    context_has_twenty_keys_after_merging,
    null_counts_as_absent,
    a_repeated_report_is_stored_once,
    a_report_that_was_overtaken_is_not_stored,
    sequences_of_two_machines_do_not_compare,
    a_sequence_that_is_far_ahead_of_the_clock_counts_as_absent,
    a_sequence_is_a_whole_number_in_bounds,
    one_report_sent_by_many_at_once_is_stored_once,
}

async fn post(client: &Client, report: &Value) -> Answer {
    client.post("/webhook/status", report).await
}

async fn detail(client: &Client, agent: &str) -> Value {
    let path = format!("/api/agents/{agent}/sessions/t");
    client.get(&path).await.ok()
}

async fn session(client: &Client, agent: &str) -> Value {
    detail(client, agent).await["session"].take()
}

async fn messages(client: &Client, agent: &str) -> Vec<String> {
    texts(&detail(client, agent).await["status_history"], "message")
}

/// An agent's report on its session `t` with this field.
fn said(agent: &str, status: &str, field: &str, value: impl Into<Value>) -> Value {
    with(report(agent, "t", status), field, value)
}

/// The answer to a report of which nothing was to be stored.
#[track_caller]
fn assert_already_reported(answer: Answer) {
    let expected = json!({"success": true, "message": "Already reported"});
    assert_eq!(answer.ok(), expected);
}

async fn a_title_stays_until_a_report_gives_another(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    client.report(&report(&id, "t", "running")).await;
    assert_eq!(session(&client, &id).await.get("title"), None);
    let longest = "中".repeat(200);
    for (given, shown) in [("Fix it", "Fix it"), ("", "Fix it"), (&longest, &longest)] {
        client
            .report(&said(&id, "running", "session_title", given))
            .await;
        assert_eq!(session(&client, &id).await["title"], shown);
        client.report(&report(&id, "t", "running")).await;
        assert_eq!(session(&client, &id).await["title"], shown);
    }
    let listed = client.get(&format!("/api/agents/{id}/sessions")).await.ok();
    assert_eq!(listed["sessions"][0]["title"], longest);
}

async fn reason_and_message_are_those_of_the_newest_report(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let first = with(
        said(&id, "pending", "reason", "permission"),
        "message",
        "may I?",
    );
    client.report(&first).await;
    let before = detail(&client, &id).await;
    assert_eq!(before["session"]["reason"], "permission");
    assert_eq!(before["session"]["message"], "may I?");
    assert_eq!(before["status_history"][0]["reason"], "permission");
    let latest = client.get(&format!("/api/agents/{id}/status")).await.ok();
    assert_eq!(latest, before["status_history"][0]);

    client.report(&report(&id, "t", "pending")).await;
    let after = detail(&client, &id).await;
    assert_eq!(after["session"].get("reason"), None);
    assert_eq!(after["session"].get("message"), None);
    assert_eq!(after["status_history"][0].get("reason"), None);
    assert_eq!(after["status_history"][1], before["status_history"][0]);
}

async fn a_reason_is_a_word_for_programs(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let longest = "r".repeat(50);
    for reason in ["turn", "rate_limit", "0_9", &longest] {
        client.report(&said(&id, "failed", "reason", reason)).await;
        assert_eq!(session(&client, &id).await["reason"], reason);
    }
    for reason in [
        "Turn",
        "rate-limit",
        "a b",
        "é",
        "\u{0}",
        &format!("{longest}r"),
    ] {
        let answer = post(&client, &said(&id, "failed", "reason", reason)).await;
        let message = "reason must be 0-50 of a-z, 0-9 and _";
        answer.error(400, "bad_request", message);
    }
}

async fn a_finished_turn_leaves_a_session_idle(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    for (status, reason, state) in [
        ("success", "turn", "idle"),
        ("success", "closed", "ended"),
        ("success", "", "ended"),
        ("failed", "turn", "ended"),
        ("running", "turn", "active"),
        ("pending", "question", "active"),
    ] {
        client.report(&said(&id, status, "reason", reason)).await;
        assert_eq!(
            session(&client, &id).await["state"],
            state,
            "{status} {reason}"
        );
    }
}

async fn a_spell_lasts_as_long_as_status_and_reason_stay(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let since = async || session(&client, &id).await["status_since"].clone();
    client.report(&said(&id, "pending", "reason", "plan")).await;
    let planned = since().await;
    let history = detail(&client, &id).await["status_history"].take();
    assert_eq!(planned, history[0]["timestamp"]);
    let again = with(said(&id, "pending", "reason", "plan"), "message", "still");
    client.report(&again).await;
    assert_eq!(since().await, planned);
    client
        .report(&said(&id, "pending", "reason", "question"))
        .await;
    let asked = since().await;
    assert!(time(&asked) > time(&planned));
    client
        .report(&said(&id, "running", "reason", "question"))
        .await;
    assert!(time(&since().await) > time(&asked));
}

async fn context_is_merged_key_by_key(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    client.report(&report(&id, "t", "running")).await;
    assert_eq!(session(&client, &id).await.get("context"), None);
    let odd = "/home/α \\ \"quoted\" 🦀\n";
    for (patch, after) in [
        (
            json!({"repo": "r", "cwd": odd}),
            json!({"repo": "r", "cwd": odd}),
        ),
        (json!({}), json!({"repo": "r", "cwd": odd})),
        (
            json!({"repo": "", "branch": "main", "pr": ""}),
            json!({"branch": "main", "cwd": odd}),
        ),
        (
            json!({"cwd": "", "branch": "fix"}),
            json!({"branch": "fix"}),
        ),
        (json!({"branch": ""}), Value::Null),
    ] {
        client.report(&said(&id, "running", "context", patch)).await;
        assert_eq!(session(&client, &id).await["context"], after);
    }
}

async fn context_is_an_object_of_short_strings(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let objects = "context must be an object of strings";
    let keys = "context keys must be 1-40 of a-z, 0-9, _, . and -";
    for (context, message) in [
        (json!([]), objects),
        (json!("host"), objects),
        (json!(5), objects),
        (json!({"host": 5}), objects),
        (json!({"host": null}), objects),
        (json!({"host": {"name": "x"}}), objects),
        (json!({"": "x"}), keys),
        (json!({"Host": "x"}), keys),
        (json!({"a b": "x"}), keys),
        (json!({"é": "x"}), keys),
        (json!({"k".repeat(41): "x"}), keys),
        (
            json!({"host": "中".repeat(201)}),
            "context values must be 0-200 characters",
        ),
        (json!({"host": "\u{0}"}), "context must not contain U+0000"),
    ] {
        let answer = post(&client, &said(&id, "running", "context", context)).await;
        answer.error(400, "bad_request", message);
    }
    let widest = json!({"k".repeat(40): "中".repeat(200), "a_b.c-9": "x"});
    client
        .report(&said(&id, "running", "context", widest.clone()))
        .await;
    assert_eq!(session(&client, &id).await["context"], widest);
}

async fn context_has_twenty_keys_after_merging(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let keys = |keys: std::ops::Range<usize>| -> Value {
        keys.map(|n| (format!("key{n}"), json!("x"))).collect()
    };
    let refused = "context must have at most 20 keys";
    let answer = post(&client, &said(&id, "running", "context", keys(0..21))).await;
    answer.error(400, "bad_request", refused);
    client
        .report(&said(&id, "running", "context", keys(0..20)))
        .await;
    let before = detail(&client, &id).await;
    let answer = post(
        &client,
        &said(&id, "failed", "context", json!({"one": "more"})),
    )
    .await;
    answer.error(400, "bad_request", refused);
    assert_eq!(detail(&client, &id).await, before);
    let swap = json!({"key0": "", "one": "more"});
    client.report(&said(&id, "running", "context", swap)).await;
    let context = session(&client, &id).await["context"].take();
    assert_eq!(context.as_object().unwrap().len(), 20);
    assert_eq!(context["one"], "more");
}

async fn null_counts_as_absent(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let full = json!({
        "agent_id": id, "session_topic": "t", "status": "running", "timestamp":
        "2026-01-01T00:00:00Z", "session_title": "T", "reason": "background",
        "context": {"repo": "r"}, "sequence": 1,
    });
    client.report(&full).await;
    let mut nulls = report(&id, "t", "running");
    for field in ["session_title", "reason", "context", "sequence"] {
        nulls[field] = Value::Null;
    }
    client.report(&nulls).await;
    let after = session(&client, &id).await;
    assert_eq!(after["title"], "T");
    assert_eq!(after["context"], json!({"repo": "r"}));
    assert_eq!(after.get("reason"), None);
    assert_already_reported(post(&client, &full).await);
}

/// A report of the machine `host`, as its clients number them.
fn numbered(agent: &str, host: &str, sequence: i64, message: &str) -> Value {
    let mut report = said(agent, "running", "message", message);
    report["context"] = json!({"host": host});
    report["sequence"] = sequence.into();
    report
}

async fn a_repeated_report_is_stored_once(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let now = Utc::now().timestamp_micros();
    client.report(&numbered(&id, "a", now, "first")).await;
    let before = detail(&client, &id).await;
    let mut again = numbered(&id, "a", now, "again");
    again["status"] = "failed".into();
    again["agent_name"] = "Other".into();
    assert_already_reported(post(&client, &again).await);
    assert_eq!(detail(&client, &id).await, before);
    let agent = client.get(&format!("/api/agents/{id}")).await.ok();
    assert_eq!(agent.get("name"), None);
    client.report(&numbered(&id, "a", now + 1, "next")).await;
    assert_eq!(messages(&client, &id).await, ["next", "first"]);
}

async fn a_report_that_was_overtaken_is_not_stored(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    client.report(&numbered(&id, "a", 5, "5")).await;
    assert_already_reported(post(&client, &numbered(&id, "a", 4, "4")).await);
    // One without a sequence is always stored, and changes nothing for the others.
    client
        .report(&said(&id, "running", "message", "unnumbered"))
        .await;
    assert_already_reported(post(&client, &numbered(&id, "a", 5, "5")).await);
    let unnamed = said(&id, "running", "sequence", 5);
    assert_already_reported(post(&client, &unnamed).await);
    client.report(&numbered(&id, "a", 6, "6")).await;
    assert_eq!(messages(&client, &id).await, ["6", "unnumbered", "5"]);
}

async fn sequences_of_two_machines_do_not_compare(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    client.report(&numbered(&id, "a", 9, "a 9")).await;
    client.report(&numbered(&id, "b", 2, "b 2")).await;
    assert_already_reported(post(&client, &numbered(&id, "b", 2, "b 2 again")).await);
    client.report(&numbered(&id, "b", 3, "b 3")).await;
    assert_eq!(messages(&client, &id).await, ["b 3", "b 2", "a 9"]);
}

async fn a_sequence_that_is_far_ahead_of_the_clock_counts_as_absent(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let minutes = |n: i64| Utc::now().timestamp_micros() + n * 60_000_000;
    let far = minutes(10);
    client.report(&numbered(&id, "a", far, "far")).await;
    client.report(&numbered(&id, "a", far, "far again")).await;
    let near = minutes(3);
    client.report(&numbered(&id, "a", near, "near")).await;
    assert_already_reported(post(&client, &numbered(&id, "a", near, "near again")).await);
    assert_eq!(messages(&client, &id).await, ["near", "far again", "far"]);
}

async fn a_sequence_is_a_whole_number_in_bounds(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    for sequence in [0, -1, 1i64 << 53, i64::MAX, i64::MIN] {
        let answer = post(&client, &said(&id, "running", "sequence", sequence)).await;
        answer.error(400, "bad_request", "sequence must be 1-9007199254740991");
    }
    for sequence in [json!("5"), json!(1.5), json!([1])] {
        let answer = post(&client, &said(&id, "running", "sequence", sequence)).await;
        answer.error_starting(400, "bad_request", "Invalid JSON: sequence: ");
    }
    for sequence in [1, (1i64 << 53) - 1] {
        client
            .report(&said(&id, "running", "sequence", sequence))
            .await;
    }
}

async fn one_report_sent_by_many_at_once_is_stored_once(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let report = numbered(&id, "a", Utc::now().timestamp_micros(), "once");
    let answers = join_all((0..16).map(|_| {
        let request = client.request(Method::POST, "/webhook/status");
        async { request.body(report.to_string()).await.ok() }
    }));
    let answers: Vec<String> = answers
        .await
        .iter()
        .map(|it| text(&it["message"]))
        .collect();
    let stored = answers
        .iter()
        .filter(|it| *it == "Status reported successfully");
    assert_eq!(stored.count(), 1, "{answers:?}");
    assert_eq!(messages(&client, &id).await, ["once"]);
}
