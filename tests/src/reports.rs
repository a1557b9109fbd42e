//! `POST /webhook/status`: what is accepted, what is refused and with which words, and the
//! effect of a report.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::scenario::{assert_answer_snapshot, scenarios};
use crate::world::{World, report, segment, text, texts, time, with, without};

scenarios! {
    a_body_that_cannot_be_read_is_refused_with_the_reason,
    a_report_is_acknowledged,
    a_first_report_registers_the_agent_and_its_session,
    a_report_without_optional_fields_shows_none,
    a_later_report_replaces_name_and_source,
    null_and_empty_name_and_source_keep_the_former,
    null_in_an_optional_field_counts_as_absent,
    null_in_a_required_field_counts_as_absent,
    an_empty_message_and_content_are_left_out,
    a_status_joins_the_end_of_the_history,
    the_servers_clock_is_stored,
    text_is_kept_as_it_was_written,
    unknown_fields_are_ignored,
    field_names_are_case_sensitive,
    the_content_type_is_not_checked,
    duplicate_fields_are_refused,
    duplicate_unknown_fields_are_refused,
    trailing_data_is_refused,
    anything_but_an_object_is_refused,
    json_that_does_not_parse_is_refused,
    wrong_types_are_refused,
    u0000_is_refused_in_every_text,
    lengths_count_characters,
    blank_names_are_refused,
    a_status_is_exactly_one_of_four,
    a_timestamp_is_rfc_3339,
    a_ttl_is_a_day_at_most,
    fields_are_checked_in_order,
    a_body_of_one_mebibyte_is_accepted_and_no_more,
    a_refused_report_leaves_no_trace,
    sixteen_writers_on_one_session_lose_nothing,
    first_reports_at_once_make_one_agent_and_one_session,
}

const REQUIRED: [(&str, &str); 4] = [
    ("agent_id", "agent_id is required"),
    ("session_topic", "session_topic is required"),
    ("status", STATUS),
    ("timestamp", "timestamp is required"),
];

const STATUS: &str = "status must be one of: running, success, failed, pending";
const TTL: &str = "ttl_minutes must be 0 or 1-1440";

/// Field, greatest length, and what is said of more.
const LENGTHS: [(&str, usize, &str); 7] = [
    ("agent_id", 100, "agent_id must be 1-100 characters"),
    ("agent_name", 200, "agent_name must be 0-200 characters"),
    ("agent_source", 200, "agent_source must be 0-200 characters"),
    (
        "session_topic",
        500,
        "session_topic must be 1-500 characters",
    ),
    ("message", 1000, "message must be 0-1000 characters"),
    ("content", 10_000, "content must be 0-10000 characters"),
    (
        "session_title",
        200,
        "session_title must be 0-200 characters",
    ),
];

/// An agent's name that is unique, and a report of it that says everything.
fn full_report(world: &World) -> (String, Value) {
    let agent = world.name("agent");
    let report = json!({
        "agent_id": agent,
        "agent_name": "Builder",
        "agent_source": "ci",
        "session_topic": "nightly",
        "status": "running",
        "timestamp": "2026-01-01T08:00:00+08:00",
        "message": "Compiling",
        "content": "crate 3 of 10",
        "ttl_minutes": 30,
    });
    (agent, report)
}

async fn post(client: &Client, report: &Value) -> Answer {
    client.post("/webhook/status", report).await
}

async fn post_text(client: &Client, body: impl Into<bytes::Bytes>) -> Answer {
    client
        .request(Method::POST, "/webhook/status")
        .header("content-type", "application/json")
        .body(body)
        .await
}

async fn agent(client: &Client, id: &str) -> Value {
    client
        .get(&format!("/api/agents/{}", segment(id)))
        .await
        .ok()
}

async fn history(client: &Client, id: &str) -> Value {
    let path = format!("/api/agents/{}/history", segment(id));
    client.get(&path).await.ok()["status_history"].take()
}

async fn a_report_is_acknowledged(world: Arc<World>) {
    let client = world.client().await;
    let answer = post(&client, &full_report(&world).1).await;
    assert_answer_snapshot!(answer.redacted(&[]), @r#"
    200 OK

    {
      "message": "Status reported successfully",
      "success": true
    }
    "#);
}

async fn a_first_report_registers_the_agent_and_its_session(world: Arc<World>) {
    let client = world.client().await;
    let (id, report) = full_report(&world);
    client.report(&report).await;
    let names = [(id.as_str(), "[agent]")];

    if client.get(&format!("/api/agents/{id}")).await.ok()["user_id"].is_null() {
        let answer = client.get(&format!("/api/agents/{id}")).await;
        assert_answer_snapshot!(answer.redacted(&names), @r#"
        200 OK

        {
          "active_session_count": 1,
          "agent_id": "[agent]",
          "last_seen": "[time]",
          "latest_message": "Compiling",
          "latest_status": "running",
          "name": "Builder",
          "registered": "[time]",
          "session_count": 1,
          "source": "ci"
        }
        "#);
    }

    let answer = client
        .get(&format!("/api/agents/{id}/sessions/nightly"))
        .await;
    assert_answer_snapshot!(answer.redacted(&names), @r#"
    200 OK

    {
      "session": {
        "agent_id": "[agent]",
        "created": "[time]",
        "current_status": "running",
        "expired": false,
        "expires_at": "[time]",
        "last_updated": "[time]",
        "message": "Compiling",
        "session_topic": "nightly",
        "state": "active",
        "status_since": "[time]",
        "ttl_minutes": 30
      },
      "status_history": [
        {
          "agent_id": "[agent]",
          "content": "crate 3 of 10",
          "message": "Compiling",
          "session_topic": "nightly",
          "status": "running",
          "timestamp": "[time]"
        }
      ]
    }
    "#);
}

async fn a_report_without_optional_fields_shows_none(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    client.report(&report(&id, "t", "running")).await;
    let found = agent(&client, &id).await;
    assert_eq!(found.get("name"), None);
    assert_eq!(found.get("source"), None);
    assert_eq!(found.get("latest_message"), None);

    let answer = client.get(&format!("/api/agents/{id}/status")).await;
    assert_answer_snapshot!(answer.redacted(&[(&id, "[agent]")]), @r#"
    200 OK

    {
      "agent_id": "[agent]",
      "session_topic": "t",
      "status": "running",
      "timestamp": "[time]"
    }
    "#);
}

async fn a_later_report_replaces_name_and_source(world: Arc<World>) {
    let client = world.client().await;
    let (id, first) = full_report(&world);
    client.report(&first).await;
    let before = agent(&client, &id).await;

    client
        .report(&with(report(&id, "other", "running"), "agent_name", "New"))
        .await;
    let after = agent(&client, &id).await;
    assert_eq!(after["name"], "New");
    assert_eq!(after["source"], "ci");
    assert_eq!(after["registered"], before["registered"]);
    assert!(time(&after["last_seen"]) >= time(&before["last_seen"]));
    assert_eq!(after["session_count"], 2);

    client
        .report(&with(
            report(&id, "other", "running"),
            "agent_source",
            "cron",
        ))
        .await;
    let after = agent(&client, &id).await;
    assert_eq!(after["name"], "New");
    assert_eq!(after["source"], "cron");
}

async fn null_and_empty_name_and_source_keep_the_former(world: Arc<World>) {
    let client = world.client().await;
    let (id, first) = full_report(&world);
    client.report(&first).await;
    for nothing in [Value::Null, json!("")] {
        let mut second = report(&id, "nightly", "running");
        second["agent_name"] = nothing.clone();
        second["agent_source"] = nothing;
        client.report(&second).await;
        let found = agent(&client, &id).await;
        assert_eq!(found["name"], "Builder");
        assert_eq!(found["source"], "ci");
    }
}

async fn null_in_an_optional_field_counts_as_absent(world: Arc<World>) {
    let client = world.client().await;
    let (id, first) = full_report(&world);
    client.report(&first).await;
    let mut second = report(&id, "nightly", "running");
    for field in [
        "agent_name",
        "agent_source",
        "message",
        "content",
        "ttl_minutes",
    ] {
        second[field] = Value::Null;
    }
    client.report(&second).await;
    let status = client.get(&format!("/api/agents/{id}/status")).await.ok();
    assert_eq!(status.get("message"), None);
    assert_eq!(status.get("content"), None);
    let session = client
        .get(&format!("/api/agents/{id}/sessions/nightly"))
        .await
        .ok();
    assert_eq!(session["session"]["ttl_minutes"], 30);
}

async fn null_in_a_required_field_counts_as_absent(world: Arc<World>) {
    let client = world.client().await;
    let (_, report) = full_report(&world);
    for (field, message) in REQUIRED {
        let absent = without(report.clone(), field);
        post(&client, &absent)
            .await
            .error(400, "bad_request", message);
        let null = with(report.clone(), field, Value::Null);
        post(&client, &null)
            .await
            .error(400, "bad_request", message);
    }
}

async fn an_empty_message_and_content_are_left_out(world: Arc<World>) {
    let client = world.client().await;
    let (id, report) = full_report(&world);
    let report = with(with(report, "message", ""), "content", "");
    client.report(&report).await;
    let status = client.get(&format!("/api/agents/{id}/status")).await.ok();
    assert_eq!(status.get("message"), None);
    assert_eq!(status.get("content"), None);
    assert_eq!(agent(&client, &id).await.get("latest_message"), None);
}

async fn a_status_joins_the_end_of_the_history(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    let statuses = ["pending", "running", "running", "failed", "success"];
    for (n, status) in statuses.iter().enumerate() {
        let report = with(report(&id, "t", status), "message", n.to_string());
        client.report(&report).await;
    }
    let history = history(&client, &id).await;
    assert_eq!(texts(&history, "message"), ["4", "3", "2", "1", "0"]);
    let newest_first: Vec<_> = statuses.into_iter().rev().collect();
    assert_eq!(texts(&history, "status"), newest_first);
    let times: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|s| time(&s["timestamp"]))
        .collect();
    assert!(
        times.is_sorted_by(|newer, older| newer >= older),
        "{times:?}"
    );
}

async fn the_servers_clock_is_stored(world: Arc<World>) {
    let client = world.client().await;
    let id = world.name("agent");
    for claimed in ["1999-12-31T23:59:59Z", "2999-01-01T00:00:00Z"] {
        let report = with(report(&id, "t", "running"), "timestamp", claimed);
        client.report(&report).await;
        let health = client.get("/health").await.ok();
        let status = client.get(&format!("/api/agents/{id}/status")).await.ok();
        let apart = time(&health["timestamp"]) - time(&status["timestamp"]);
        // Clocks of hosts that take turns differ a little.
        assert!(apart.abs() < chrono::TimeDelta::minutes(5), "{status}");
    }
}

async fn text_is_kept_as_it_was_written(world: Arc<World>) {
    let client = world.client().await;
    let written =
        " \t“É” e\u{301} 中文 \u{1F468}\u{200D}\u{1F469} \\ \" <b>&amp;</b> \u{7f}\u{1} \n ";
    let id = format!(" {}", world.name("é"));
    let topic = format!("{written}topic");
    let mut report = report(&id, &topic, "running");
    for field in ["agent_name", "agent_source", "message", "content"] {
        report[field] = json!(written);
    }
    client.report(&report).await;
    let found = agent(&client, &id).await;
    assert_eq!(found["agent_id"], id.as_str());
    for field in ["name", "source", "latest_message"] {
        assert_eq!(found[field], written, "{field}");
    }
    let status = &history(&client, &id).await[0];
    assert_eq!(status["session_topic"], topic.as_str());
    assert_eq!(status["message"], written);
    assert_eq!(status["content"], written);

    let id = world.name("agent");
    let escaped = format!(
        r#"{{"agent_id":"{id}","session_topic":"t","status":"running",
            "timestamp":"2026-01-01T00:00:00Z","message":"\ud83d\ude80 \u4e2d\/"}}"#
    );
    post_text(&client, escaped).await.ok();
    assert_eq!(history(&client, &id).await[0]["message"], "🚀 中/");

    let (id, report) = full_report(&world);
    let report = report.to_string();
    let (before, after) = report.split_once("Compiling").unwrap();
    for (piece, shown) in [
        (&br"cut \ud83d"[..], "cut \u{fffd}"),
        (b"\xff\xe4\xb8!", "\u{fffd}\u{fffd}!"),
    ] {
        let body = [before.as_bytes(), piece, after.as_bytes()].concat();
        post_text(&client, body).await.ok();
        assert_eq!(history(&client, &id).await[0]["message"], shown);
    }
}

async fn unknown_fields_are_ignored(world: Arc<World>) {
    let client = world.client().await;
    let (id, report) = full_report(&world);
    let report = with(
        report,
        "priority",
        json!({"agent_id": [null, {"deep": 1.5e3}]}),
    );
    client.report(&with(report, "user_id", "somebody")).await;
    assert_ne!(agent(&client, &id).await["user_id"], "somebody");
}

async fn field_names_are_case_sensitive(world: Arc<World>) {
    let client = world.client().await;
    let (id, report) = full_report(&world);
    let report = with(without(report, "agent_id"), "Agent_ID", id);
    let answer = post(&client, &report).await;
    answer.error(400, "bad_request", "agent_id is required");
}

async fn the_content_type_is_not_checked(world: Arc<World>) {
    let client = world.client().await;
    let (_, report) = full_report(&world);
    let request = || {
        client
            .request(Method::POST, "/webhook/status")
            .body(report.to_string())
    };
    request().await.ok();
    request().header("content-type", "text/plain").await.ok();
    request()
        .header("content-type", "application/x-www-form-urlencoded")
        .await
        .ok();
    request().header("content-type", "nonsense").await.ok();
}

async fn duplicate_fields_are_refused(world: Arc<World>) {
    let client = world.client().await;
    let (id, report) = full_report(&world);
    for (field, value) in report.as_object().unwrap() {
        let text = report.to_string();
        for again in [value, &Value::Null] {
            let twice = format!(r#"{{"{field}":{again},{}"#, &text[1..]);
            let answer = post_text(&client, twice).await;
            answer.error_starting(400, "bad_request", "Invalid JSON: ");
        }
    }
    client
        .get(&format!("/api/agents/{id}"))
        .await
        .error_code(404, "not_found");
}

async fn duplicate_unknown_fields_are_refused(world: Arc<World>) {
    let client = world.client().await;
    let (_, report) = full_report(&world);
    for twice in [
        r#""unknown":1,"unknown":2"#,
        r#""unknown":[{"a":{"b":1,"b":1}}]"#,
    ] {
        let twice = format!("{{{twice},{}", &report.to_string()[1..]);
        let answer = post_text(&client, twice).await;
        answer.error_starting(400, "bad_request", "Invalid JSON: ");
    }
}

async fn trailing_data_is_refused(world: Arc<World>) {
    let client = world.client().await;
    let (_, report) = full_report(&world);
    for trailing in ["{}", "x", "]", "null", ",", "\0"] {
        let answer = post_text(&client, format!("{report} {trailing}")).await;
        answer.error_starting(400, "bad_request", "Invalid JSON: ");
    }
    let answer = post_text(&client, format!("{report}{report}")).await;
    answer.error_starting(400, "bad_request", "Invalid JSON: ");
    post_text(&client, format!(" \t\r\n{report} \t\r\n"))
        .await
        .ok();
}

async fn anything_but_an_object_is_refused(world: Arc<World>) {
    let client = world.client().await;
    let (_, report) = full_report(&world);
    let array = json!([report]);
    // The values of a report in its fields' order, as some deserialisers would take them.
    let tuple = json!([
        world.name("agent"),
        null,
        null,
        "topic",
        "running",
        "2026-01-01T00:00:00Z",
        null,
        null,
        null
    ]);
    for body in [
        Value::Null,
        json!(true),
        json!(7),
        json!("text"),
        json!([]),
        array,
        tuple,
    ] {
        let answer = post(&client, &body).await;
        answer.error_starting(400, "bad_request", "Invalid JSON: ");
    }
}

async fn json_that_does_not_parse_is_refused(world: Arc<World>) {
    let client = world.client().await;
    let (_, report) = full_report(&world);
    let report = report.to_string();
    let bodies: Vec<Vec<u8>> = vec![
        b"".into(),
        b"   ".into(),
        b"{".into(),
        b"agent_id=x&status=running".into(),
        report[..report.len() - 1].into(),
        report.replace(',', ",,").into(),
        report.replace("Compiling", "\\x41").into(),
        report.replace("Compiling", "a\nb").into(),
        "[".repeat(100_000).into(),
        format!(r#"{{"content":{}"#, "[".repeat(100_000)).into(),
    ];
    for body in bodies {
        let answer = post_text(&client, body).await;
        answer.error_starting(400, "bad_request", "Invalid JSON: ");
    }
}

async fn wrong_types_are_refused(world: Arc<World>) {
    let client = world.client().await;
    let (_, report) = full_report(&world);
    for (field, _) in report.as_object().unwrap() {
        let wrong = if field == "ttl_minutes" {
            vec![json!("30"), json!(true), json!([30]), json!({}), json!(1.5)]
        } else {
            vec![json!(7), json!(true), json!(["text"]), json!({})]
        };
        for value in wrong {
            let answer = post(&client, &with(report.clone(), field, value)).await;
            answer.error_starting(400, "bad_request", "Invalid JSON: ");
        }
    }
}

async fn u0000_is_refused_in_every_text(world: Arc<World>) {
    let client = world.client().await;
    let (id, report) = full_report(&world);
    for (field, _, _) in LENGTHS {
        for text in ["\0", "a\0", "\0b", "a\0b"] {
            let answer = post(&client, &with(report.clone(), field, text)).await;
            answer.error_code(400, "bad_request");
        }
    }
    client
        .get(&format!("/api/agents/{id}"))
        .await
        .error_code(404, "not_found");
}

async fn lengths_count_characters(world: Arc<World>) {
    let client = world.client().await;
    for (field, most, message) in LENGTHS {
        for character in ["a", "é", "中", "🚀", "\u{301}"] {
            let fits = with(full_report(&world).1, field, fill(&world, character, most));
            let answer = post(&client, &fits).await;
            assert_eq!(
                answer.status, 200,
                "{most} {character:?} in {field}: {answer}"
            );
            let exceeds = with(
                full_report(&world).1,
                field,
                fill(&world, character, most + 1),
            );
            let answer = post(&client, &exceeds).await;
            answer.error(400, "bad_request", message);
        }
    }
}

/// A unique text of so many characters, nearly all of them `character`.
fn fill(world: &World, character: &str, length: usize) -> String {
    let name = world.name("");
    character.repeat(length - name.len()) + &name
}

async fn blank_names_are_refused(world: Arc<World>) {
    let client = world.client().await;
    let (_, report) = full_report(&world);
    for (field, message) in [
        ("agent_id", "agent_id is required"),
        ("session_topic", "session_topic is required"),
    ] {
        for blank in ["", " ", "\t\r\n "] {
            let answer = post(&client, &with(report.clone(), field, blank)).await;
            answer.error(400, "bad_request", message);
        }
    }
    for field in ["agent_name", "agent_source", "message", "content"] {
        post(&client, &with(report.clone(), field, " ")).await.ok();
    }
}

async fn a_status_is_exactly_one_of_four(world: Arc<World>) {
    let client = world.client().await;
    let (id, report) = full_report(&world);
    for status in ["running", "success", "failed", "pending"] {
        client.report(&with(report.clone(), "status", status)).await;
        assert_eq!(agent(&client, &id).await["latest_status"], status);
    }
    for status in ["", "Running", "SUCCESS", " running", "failed ", "done"] {
        let answer = post(&client, &with(report.clone(), "status", status)).await;
        answer.error(400, "bad_request", STATUS);
    }
}

async fn a_timestamp_is_rfc_3339(world: Arc<World>) {
    let client = world.client().await;
    let (_, report) = full_report(&world);
    for timestamp in [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.1Z",
        "2026-01-01T00:00:00.123456789Z",
        "2026-01-01T00:00:00+00:00",
        "2026-01-01T00:00:00-11:30",
        "2024-02-29T23:59:59+14:00",
    ] {
        let answer = post(&client, &with(report.clone(), "timestamp", timestamp)).await;
        assert_eq!(answer.status, 200, "{timestamp}: {answer}");
    }
    for timestamp in [
        "now",
        "1767225600",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-01-01T24:00:01Z",
        "2026-01-01T00:00:00+0800",
        "Thu, 01 Jan 2026 00:00:00 GMT",
        "2026-01-01T00:00:00\u{2212}08:00",
    ] {
        let answer = post(&client, &with(report.clone(), "timestamp", timestamp)).await;
        answer.error(400, "bad_request", "timestamp must be RFC 3339");
    }
    let answer = post(&client, &with(report, "timestamp", "")).await;
    answer.error_code(400, "bad_request");
}

async fn a_ttl_is_a_day_at_most(world: Arc<World>) {
    let client = world.client().await;
    for ttl in [0, 1, 2, 1439, 1440] {
        let answer = post(&client, &with(full_report(&world).1, "ttl_minutes", ttl)).await;
        assert_eq!(answer.status, 200, "{ttl}: {answer}");
    }
    for ttl in [-1, 1441, -1440, i64::from(i32::MAX), i64::MIN, i64::MAX] {
        let answer = post(&client, &with(full_report(&world).1, "ttl_minutes", ttl)).await;
        answer.error(400, "bad_request", TTL);
    }
    for (whole, status) in [
        ("5.0", 200),
        ("1e3", 200),
        ("-0", 200),
        ("1e4", 400),
        ("-5.0", 400),
    ] {
        let report = full_report(&world).1.to_string();
        let answer = post_text(&client, report.replace(":30", &format!(":{whole}"))).await;
        assert_eq!(answer.status, status, "{whole}: {answer}");
    }
    let beyond = full_report(&world).1.to_string();
    let beyond = beyond.replace(":30", ":99999999999999999999999");
    post_text(&client, beyond)
        .await
        .error_code(400, "bad_request");
}

async fn fields_are_checked_in_order(world: Arc<World>) {
    let client = world.client().await;
    let long = "x".repeat(10_001);
    let broken: [(&str, Value, &str); 13] = [
        ("agent_id", json!(""), "agent_id is required"),
        (
            "agent_name",
            json!(long),
            "agent_name must be 0-200 characters",
        ),
        (
            "agent_source",
            json!(long),
            "agent_source must be 0-200 characters",
        ),
        (
            "session_topic",
            json!(long),
            "session_topic must be 1-500 characters",
        ),
        ("status", json!("done"), STATUS),
        ("timestamp", json!("now"), "timestamp must be RFC 3339"),
        ("message", json!(long), "message must be 0-1000 characters"),
        ("content", json!(long), "content must be 0-10000 characters"),
        ("ttl_minutes", json!(-1), TTL),
        (
            "session_title",
            json!(long),
            "session_title must be 0-200 characters",
        ),
        (
            "reason",
            json!("No"),
            "reason must be 0-50 of a-z, 0-9 and _",
        ),
        ("context", json!([]), "context must be an object of strings"),
        ("sequence", json!(0), "sequence must be 1-9007199254740991"),
    ];
    for pair in broken.windows(2) {
        let (_, mut report) = full_report(&world);
        for (field, value, _) in pair {
            report[field] = value.clone();
        }
        let answer = post(&client, &report).await;
        answer.error(400, "bad_request", pair[0].2);
    }
    let all: Value = broken
        .iter()
        .map(|(f, v, _)| ((*f).to_owned(), v.clone()))
        .collect();
    let answer = post(&client, &all).await;
    answer.error(400, "bad_request", "agent_id is required");
}

async fn a_body_of_one_mebibyte_is_accepted_and_no_more(world: Arc<World>) {
    const MEBIBYTE: usize = 1024 * 1024;
    let client = world.client().await;
    let padded = |length: usize| {
        let report = with(full_report(&world).1, "padding", "").to_string();
        let padding = "x".repeat(length - report.len());
        report.replace(r#""padding":"""#, &format!(r#""padding":"{padding}""#))
    };
    let request = || client.request(Method::POST, "/webhook/status");
    assert_eq!(padded(MEBIBYTE).len(), MEBIBYTE);
    request().body(padded(MEBIBYTE)).await.ok();
    request().chunked(padded(MEBIBYTE)).await.ok();
    request()
        .body(padded(MEBIBYTE + 1))
        .await
        .error_code(413, "too_large");
    request()
        .chunked(padded(MEBIBYTE + 1))
        .await
        .error_code(413, "too_large");
    request()
        .body(" ".repeat(2 * MEBIBYTE))
        .await
        .error_code(413, "too_large");
    client.report(&full_report(&world).1).await;
}

async fn a_refused_report_leaves_no_trace(world: Arc<World>) {
    let client = world.client().await;
    let (id, report) = full_report(&world);
    let refused = with(report.clone(), "ttl_minutes", 1441);
    post(&client, &refused).await.error(400, "bad_request", TTL);
    let answer = client.get(&format!("/api/agents/{id}")).await;
    answer.error(404, "not_found", "Agent not found");

    client.report(&report).await;
    let before = agent(&client, &id).await;
    let refused = with(refused, "agent_name", "Other");
    post(&client, &refused).await.error(400, "bad_request", TTL);
    assert_eq!(agent(&client, &id).await, before);
    assert_eq!(history(&client, &id).await.as_array().unwrap().len(), 1);
}

async fn sixteen_writers_on_one_session_lose_nothing(world: Arc<World>) {
    const WRITERS: usize = 16;
    const REPORTS: usize = 12;
    let client = world.client().await;
    let id = world.name("agent");
    join_all((0..WRITERS).map(|writer| {
        let (client, id) = (&client, &id);
        async move {
            for n in 0..REPORTS {
                let status = ["running", "success", "failed", "pending"][(writer + n) % 4];
                let report = report(id, "shared", status);
                client
                    .report(&with(report, "message", format!("{writer} {n}")))
                    .await;
            }
        }
    }))
    .await;

    let history = history(&client, &id).await;
    assert_eq!(history.as_array().unwrap().len(), WRITERS * REPORTS);
    let mut next = HashMap::new();
    for status in history.as_array().unwrap().iter().rev() {
        let message = text(&status["message"]);
        let (writer, n) = message.split_once(' ').unwrap();
        let next = next.entry(writer.to_owned()).or_insert(0);
        assert_eq!(
            n,
            next.to_string(),
            "writer {writer}'s reports are out of order"
        );
        *next += 1;
    }
    assert_eq!(next.len(), WRITERS);
    let times: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|s| time(&s["timestamp"]))
        .collect();
    assert!(
        times.is_sorted_by(|newer, older| newer >= older),
        "time went back"
    );

    let found = agent(&client, &id).await;
    assert_eq!(found["session_count"], 1);
    assert_eq!(found["latest_message"], history[0]["message"]);
    let path = format!("/api/agents/{id}/sessions/shared");
    let session = client.get(&path).await.ok();
    assert_eq!(session["status_history"], history);
    assert_eq!(session["session"]["current_status"], history[0]["status"]);
    assert_eq!(session["session"]["last_updated"], history[0]["timestamp"]);
}

async fn first_reports_at_once_make_one_agent_and_one_session(world: Arc<World>) {
    let client = world.client().await;
    for _ in 0..4 {
        let id = world.name("agent");
        let topics = ["a", "b", "a", "b", "a", "b", "a", "b"];
        let reports = topics.map(|topic| report(&id, topic, "running"));
        join_all(reports.iter().map(|report| client.report(report))).await;
        let found = agent(&client, &id).await;
        assert_eq!(found["session_count"], 2);
        assert_eq!(found["active_session_count"], 2);
        assert_eq!(
            history(&client, &id).await.as_array().unwrap().len(),
            topics.len()
        );
        let path = format!("/api/agents?search={id}");
        assert_eq!(
            texts(&client.get(&path).await.ok()["agents"], "agent_id"),
            [id]
        );
    }
}

async fn a_body_that_cannot_be_read_is_refused_with_the_reason(world: Arc<World>) {
    let client = world.client().await;
    let typed = with(report("a", "t", "running"), "ttl_minutes", "5").to_string();
    for (content_type, body, reason) in [
        (
            "application/x-www-form-urlencoded",
            "agent_id=a&status=running",
            "send JSON, not application/x-www-form-urlencoded",
        ),
        (
            "multipart/form-data; boundary=x",
            "--x--",
            "send JSON, not multipart/form-data",
        ),
        (
            "application/x-www-form-urlencoded",
            r#" {"agent_id": "a",}"#,
            "trailing comma at line 1 column 19",
        ),
        (
            "text/plain",
            typed.as_str(),
            "ttl_minutes: invalid type: string \"5\", expected an integer",
        ),
    ] {
        let request = client.request(Method::POST, "/webhook/status");
        let request = request
            .header("content-type", content_type)
            .body(body.to_owned());
        let message = format!("Invalid JSON: {reason}");
        let answer = request.await.expect(400).json();
        let found = answer["message"].as_str().unwrap();
        assert!(found.starts_with(&message), "{found:?} is no {message:?}…");
    }
}
