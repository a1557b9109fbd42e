//! `/api/channels`: who else is told, of what, and in which form.

use std::sync::Arc;

use futures_util::future::join_all;
use http::Method;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::client::Client;
use crate::scenario::{assert_answer_snapshot, scenarios};
use crate::world::{World, text, texts, time};

scenarios! {
    a_channel_is_shown_without_what_is_secret [Accounts, Required],
    a_channel_of_the_shared_workspace_needs_no_credentials [Open],
    the_static_key_manages_the_channels_of_the_shared_workspace [Required, StaticKey],
    an_api_key_manages_no_channels [Accounts],
    a_request_for_a_channel_is_validated [Accounts, Required],
    the_format_follows_from_the_host_unless_it_is_given [Accounts, Required],
    a_change_keeps_what_it_does_not_name [Accounts, Required],
    a_change_is_validated_with_what_stays [Accounts, Required],
    channels_of_others_are_out_of_sight [Accounts, Required],
    a_workspace_has_at_most_20_channels_oldest_first [Accounts, Required],
}

const SLACK: &str = "https://hooks.slack.com/services/T0/B0/secret-abcd";

const UNKNOWN: &str = "/api/channels/00000000-0000-4000-8000-000000000000";

async fn create(client: &Client, channel: &Value) -> Value {
    let answer = client.post("/api/channels", channel).await;
    answer.expect(201).json()
}

async fn listed(client: &Client) -> Value {
    client.get("/api/channels").await.ok()["channels"].take()
}

/// The channel of the list that `channel` is, or null.
async fn found(client: &Client, channel: &Value) -> Value {
    let listed = listed(client).await;
    let mut channels = listed.as_array().unwrap().iter();
    let found = channels.find(|listed| listed["id"] == channel["id"]);
    found.cloned().unwrap_or_default()
}

/// Deletes a channel of the account that scenarios share.
async fn delete(client: &Client, channel: &Value) {
    let path = format!("/api/channels/{}", text(&channel["id"]));
    client.delete(&path).await.ok();
}

/// A client that manages the channels of a workspace, which other scenarios use too.
async fn owner(world: &World) -> Client {
    world.account(1).await.client.clone()
}

async fn a_channel_is_shown_without_what_is_secret(world: Arc<World>) {
    let client = world.new_account().await.client;
    let channel = json!({"name": "my phone 📱", "url": SLACK, "secret": "geheim"});
    let answer = client.post("/api/channels", &channel).await;
    let created = answer.json();
    let id = text(&created["id"]);
    assert_answer_snapshot!(answer.redacted(&[(&id, "[id]")]), @r#"
    201 Created

    {
      "created_at": "[time]",
      "detail": "full",
      "enabled": true,
      "events": [
        "waiting",
        "failed",
        "finished",
        "silent",
        "recovered"
      ],
      "format": "slack",
      "has_secret": true,
      "id": "[id]",
      "name": "my phone 📱",
      "updated_at": "[time]",
      "url_hint": "https://hooks.slack.com/…abcd"
    }
    "#);
    assert_eq!(created["updated_at"], created["created_at"]);
    assert_eq!(listed(&client).await, json!([created]));
    let log = world.host.log.as_ref().expect("a log").lines().concat();
    assert!(!log.contains("geheim") && !log.contains("secret-abcd"));

    let path = format!("/api/channels/{id}");
    let deleted = client.delete(&path).await.ok();
    assert_eq!(deleted, json!({"message": "Channel deleted successfully"}));
    assert_eq!(listed(&client).await, json!([]));
    client
        .delete(&path)
        .await
        .error(404, "not_found", "Channel not found");
}

async fn a_channel_of_the_shared_workspace_needs_no_credentials(world: Arc<World>) {
    let client = world.anonymous();
    let created = create(&client, &json!({"name": world.name("c"), "url": SLACK})).await;
    let ids = texts(&listed(&client).await, "id");
    assert!(ids.contains(&text(&created["id"])));
    delete(&client, &created).await;
}

async fn the_static_key_manages_the_channels_of_the_shared_workspace(world: Arc<World>) {
    let key = world.host.static_key.as_deref().unwrap_or_default();
    let client = world.anonymous().with_token(key);
    let created = create(&client, &json!({"name": "all of us", "url": SLACK})).await;
    let path = format!("/api/channels/{}", text(&created["id"]));
    let stranger = owner(&world).await;
    stranger
        .delete(&path)
        .await
        .error(404, "not_found", "Channel not found");
    client.delete(&path).await.ok();
    let anonymous = world.anonymous();
    anonymous.get("/api/channels").await.expect(401);
}

async fn an_api_key_manages_no_channels(world: Arc<World>) {
    let client = world
        .account(0)
        .await
        .with_scopes(&["report", "read"])
        .await;
    let body = json!({"name": "n", "url": SLACK});
    for (method, path) in [
        (Method::GET, "/api/channels"),
        (Method::POST, "/api/channels"),
        (Method::PUT, UNKNOWN),
        (Method::DELETE, UNKNOWN),
    ] {
        let answer = client.request(method, path).json(&body).await;
        answer.error(403, "forbidden", "API keys cannot manage channels");
    }
}

async fn a_workspace_has_at_most_20_channels_oldest_first(world: Arc<World>) {
    let client = world.new_account().await.client;
    let mut created = Vec::new();
    for name in ["one", "two", "three"] {
        created.push(create(&client, &json!({"name": name, "url": SLACK})).await);
    }
    assert_eq!(listed(&client).await, json!(created));

    let channel = json!({"name": "n", "url": SLACK});
    let requests = (0..20).map(|_| client.post("/api/channels", &channel));
    let answers = join_all(requests.map(IntoFuture::into_future)).await;
    let (more, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(more.len(), 17);
    for answer in refused {
        answer.error(409, "limit_reached", "too many channels");
    }
    delete(&client, &created[0]).await;
    create(&client, &channel).await;
}

async fn a_request_for_a_channel_is_validated(world: Arc<World>) {
    let client = owner(&world).await;
    let valid = json!({"name": "n", "url": SLACK});
    let events = "events must be a list of some of: \
                  started, waiting, failed, finished, silent, recovered";
    let formats = "format must be one of: webhook, slack, discord, teams, feishu, dingtalk, wecom, \
                   telegram, ntfy, pagerduty, email";
    for (field, value, message) in [
        ("name", Value::Null, "name is required"),
        ("name", json!(" "), "name is required"),
        (
            "name",
            json!("名".repeat(101)),
            "name must be 1-100 characters",
        ),
        ("name", json!("\0"), "name must not contain U+0000"),
        ("name", json!(1), "invalid request body"),
        ("url", Value::Null, "url is required"),
        ("url", json!(""), "url is required"),
        ("url", json!("hooks.slack.com"), "invalid url"),
        (
            "url",
            json!(format!("https://a/{}", "x".repeat(2048))),
            "invalid url",
        ),
        (
            "url",
            json!("ftp://example.com/x"),
            "url must start with http or https",
        ),
        (
            "url",
            json!("http://169.254.169.254/latest"),
            "url must not be a link-local or metadata address",
        ),
        (
            "url",
            json!("https://api.telegram.org/bot1:x/sendMessage"),
            "url must name the chat: ?chat_id=",
        ),
        ("format", json!("Slack"), formats),
        (
            "secret",
            json!("s".repeat(201)),
            "secret must be 0-200 characters",
        ),
        ("events", json!([]), events),
        ("events", json!(["idle"]), events),
        ("events", json!("waiting"), "invalid request body"),
        ("delay_seconds", json!(-1), "delay_seconds must be 0-3600"),
        ("delay_seconds", json!(3601), "delay_seconds must be 0-3600"),
        ("delay_seconds", json!("1"), "invalid request body"),
        (
            "detail",
            json!("some"),
            "detail must be one of: none, title, full",
        ),
        ("enabled", json!("yes"), "invalid request body"),
    ] {
        let mut body = valid.clone();
        body[field] = value;
        let answer = client.post("/api/channels", &body).await;
        answer.error(400, "bad_request", message);
    }
}

async fn the_format_follows_from_the_host_unless_it_is_given(world: Arc<World>) {
    let client = owner(&world).await;
    for (url, format, expected) in [
        (SLACK, None, "slack"),
        ("https://example.com/hook", None, "webhook"),
        ("https://example.com/hook", Some("slack"), "slack"),
        (SLACK, Some("webhook"), "webhook"),
        ("https://ntfy.sh/topic", None, "ntfy"),
    ] {
        let mut body = json!({"name": "n", "url": url});
        if let Some(format) = format {
            body["format"] = json!(format);
        }
        let created = create(&client, &body).await;
        assert_eq!(created["format"], expected, "{body}");
        delete(&client, &created).await;
    }
}

async fn a_change_keeps_what_it_does_not_name(world: Arc<World>) {
    let client = owner(&world).await;
    let channel = json!({
        "name": "n", "url": SLACK, "secret": "s", "events": ["failed"], "delay_seconds": 5,
        "detail": "title", "enabled": false,
    });
    let mut expected = create(&client, &channel).await;
    let path = format!("/api/channels/{}", text(&expected["id"]));
    for (change, field, value) in [
        (json!({}), "name", json!("n")),
        (json!({"name": "m", "format": null}), "name", json!("m")),
        (
            json!({"events": ["silent", "started"]}),
            "events",
            json!(["started", "silent"]),
        ),
        (json!({"delay_seconds": null}), "delay_seconds", Value::Null),
        (json!({"delay_seconds": 3600}), "delay_seconds", json!(3600)),
        (json!({"detail": "none"}), "detail", json!("none")),
        (json!({"enabled": true}), "enabled", json!(true)),
        (json!({"secret": ""}), "has_secret", json!(false)),
        (json!({"format": "webhook"}), "format", json!("webhook")),
    ] {
        let changed = client.put(&path, &change).await.ok();
        assert!(time(&changed["updated_at"]) > time(&expected["updated_at"]));
        match value {
            Value::Null => drop(expected.as_object_mut().unwrap().remove(field)),
            value => expected[field] = value,
        }
        expected["updated_at"] = changed["updated_at"].clone();
        assert_eq!(changed, expected, "{change}");
    }
    let change = json!({"url": "https://discord.com/api/webhooks/1/wxyz"});
    let changed = client.put(&path, &change).await.ok();
    assert_eq!(changed["format"], "discord");
    assert_eq!(changed["url_hint"], "https://discord.com/…wxyz");
    assert_eq!(found(&client, &changed).await, changed);
    delete(&client, &changed).await;
}

async fn a_change_is_validated_with_what_stays(world: Arc<World>) {
    let client = owner(&world).await;
    let created = create(&client, &json!({"name": "n", "url": SLACK, "secret": "s"})).await;
    let path = format!("/api/channels/{}", text(&created["id"]));
    for (change, message) in [
        (json!({"name": ""}), "name is required"),
        (json!({"url": ""}), "url is required"),
        (
            json!({"format": "webhook"}),
            "secret must be whsec_ and the base64 of 24 to 64 bytes",
        ),
        (
            json!({"format": "pagerduty", "secret": ""}),
            "secret must be the routing key of the PagerDuty service",
        ),
        (json!({"delay_seconds": 1.5}), "invalid request body"),
    ] {
        client
            .put(&path, &change)
            .await
            .error(400, "bad_request", message);
    }
    assert_eq!(found(&client, &created).await, created);
    delete(&client, &created).await;
}

async fn channels_of_others_are_out_of_sight(world: Arc<World>) {
    let (client, stranger) = (owner(&world).await, world.account(0).await.client.clone());
    let created = create(&client, &json!({"name": "n", "url": SLACK})).await;
    let path = format!("/api/channels/{}", text(&created["id"]));
    assert_eq!(found(&stranger, &created).await, Value::Null);
    for path in [path.as_str(), UNKNOWN] {
        let change = stranger.put(path, &json!({"name": "m"})).await;
        change.error(404, "not_found", "Channel not found");
        let deletion = stranger.delete(path).await;
        deletion.error(404, "not_found", "Channel not found");
    }
    assert_eq!(found(&client, &created).await, created);
    delete(&client, &created).await;
}
