//! `/api/channels`: who else is told, of what, and in which form.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use http::Method;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::audit::of_channel;
use crate::client::Client;
use crate::receiver::{Delivery, Receiver};
use crate::scenario::{assert_answer_snapshot, scenarios};
use crate::world::{World, eventually, report, text, texts, time, with, within};

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
    a_channel_is_told_in_its_format [Accounts, Required, Notifications],
    a_webhook_is_signed [Accounts, Required, Notifications],
    a_channel_is_told_what_it_asks_for [Accounts, Required, Notifications],
    what_does_not_last_is_dropped [Accounts, Required, Notifications],
    a_session_that_falls_silent_is_told_once_and_its_return_too [Accounts, Required, Notifications],
    many_at_once_are_counted_in_few_messages [Accounts, Required, Notifications],
    a_receiver_that_is_gone_disables_its_channel [Accounts, Required, Notifications],
    a_channel_whose_receiver_hangs_delays_no_other [Accounts, Required, Notifications],
    an_error_in_a_200_is_a_failure [Accounts, Required, Notifications],
    a_test_says_what_came_of_it [Accounts, Required, Notifications],
    a_channel_is_tested_ten_times_a_minute [Accounts, Required],
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
        ("delay_seconds", json!(-1), "delay_seconds must be 0-3600"),
        ("delay_seconds", json!(3601), "delay_seconds must be 0-3600"),
        (
            "detail",
            json!("some"),
            "detail must be one of: none, title, full",
        ),
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
        (json!({"url": SLACK}), "has_secret", json!(true)),
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
            json!({"url": "https://stranger.example.com/x", "format": "pagerduty"}),
            "secret must be given again with another url; \"\" clears it",
        ),
        (
            json!({"format": "webhook"}),
            "secret must be whsec_ and the base64 of 24 to 64 bytes",
        ),
        (
            json!({"format": "pagerduty", "secret": ""}),
            "secret must be the routing key of the PagerDuty service",
        ),
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

/// A channel of the account that tells the receiver at `path` of these events at once.
async fn telling(world: &World, client: &Client, path: &str, change: Value) -> Value {
    let mut channel = json!({
        "name": path, "url": world.receiver().await.url(path), "delay_seconds": 0,
    });
    for (field, value) in change.as_object().unwrap() {
        channel[field] = value.clone();
    }
    create(client, &channel).await
}

/// Waits for `count` requests to `path`: of those that are repeated, the first.
async fn told(world: &World, client: &Client, path: &str, count: usize) -> Vec<Delivery> {
    let receiver = world.receiver().await;
    let requests = || {
        let mut ids = std::collections::HashSet::new();
        let mut requests = receiver.requests(path);
        requests.retain(|request| ids.insert(request.webhook_id().map(str::to_owned)));
        requests
    };
    eventually(&format!("{count} requests to {path}"), async || {
        // Some hosts deliver only while they serve requests.
        client.get("/api/agents?limit=1").await.ok();
        requests().len() >= count
    })
    .await;
    requests()
}

/// Waits until this many deliveries of a channel are in none but these states; the newest first.
async fn finished(client: &Client, channel: &Value, count: usize, states: &[&str]) -> Vec<Value> {
    let path = format!("/api/channels/{}/deliveries", text(&channel["id"]));
    let listed = std::sync::Mutex::new(Vec::new());
    eventually(&format!("{count} deliveries {states:?}"), async || {
        let deliveries = client.get(&path).await.ok()["deliveries"].take();
        let deliveries = deliveries.as_array().unwrap().clone();
        let is_wanted = |one: &Value| states.contains(&one["state"].as_str().unwrap());
        let done = deliveries.len() == count && deliveries.iter().all(is_wanted);
        *listed.lock().unwrap() = deliveries;
        done
    })
    .await;
    listed.into_inner().unwrap()
}

/// A report that a session with marks of every mark-up has failed.
fn failure(agent: &str) -> Value {
    let mut failure = report(agent, "0198-topic", "failed");
    failure["agent_name"] = json!("Bob");
    failure["session_title"] = json!("<fix> *login* & @everyone <!channel> @all 中");
    failure["message"] = json!("line [one](https://example.com)\n_two_");
    failure["reason"] = json!("rate_limit");
    failure["context"] = json!({"repo": "shop", "branch": "main", "host": "mac"});
    failure
}

async fn a_channel_is_told_in_its_format(world: Arc<World>) {
    let client = &world.new_account().await.client;
    let place = world.name("f");
    let path = |format: &str| format!("/{place}/{format}");
    for (format, url_path, secret) in [
        ("webhook", path("webhook"), ""),
        ("slack", path("slack"), ""),
        ("discord", path("discord"), ""),
        ("teams", path("teams"), ""),
        ("feishu", path("feishu"), "feishu-secret"),
        (
            "dingtalk",
            format!("{}?access_token=x", path("dingtalk")),
            "SECding",
        ),
        ("wecom", format!("{}?key=x", path("wecom")), ""),
        ("telegram", format!("{}?chat_id=-100", path("telegram")), ""),
        ("ntfy", path("ntfy/my_topic"), ""),
        ("pagerduty", path("pagerduty"), "routing-key"),
    ] {
        let change = json!({"format": format, "secret": secret});
        telling(&world, client, &url_path, change).await;
    }
    let agent = world.name("agent");
    client.report(&failure(&agent)).await;

    let body = async |path: &str| told(&world, client, path, 1).await.remove(0);
    let webhook = body(&path("webhook")).await;
    assert_eq!(webhook.headers["content-type"], "application/json");
    let sent = webhook.json();
    assert_eq!(sent["type"], "session.failed");
    assert_eq!(
        sent["data"],
        json!({
            "agent_id": agent, "agent_name": "Bob", "session_topic": "0198-topic",
            "title": "<fix> *login* & @everyone <!channel> @all 中", "status": "failed",
            "reason": "rate_limit", "message": "line [one](https://example.com)\n_two_",
            "context": {"repo": "shop", "branch": "main", "host": "mac"},
        })
    );
    time(&sent["timestamp"]);

    let slack = body(&path("slack")).await.json();
    let shown = text(&slack["blocks"][0]["text"]["text"]);
    assert!(shown.contains("&lt;fix&gt; *login* &amp; @"), "{shown}");
    assert!(
        shown.contains("has failed (rate_limit)\nAgent: Bob\nWhere: shop@"),
        "{shown}"
    );
    assert!(
        !shown.contains("<!channel>") && !shown.contains("@everyone"),
        "{shown}"
    );

    let discord = body(&path("discord")).await.json();
    assert_eq!(discord["allowed_mentions"], json!({"parse": []}));
    let title = text(&discord["embeds"][0]["title"]);
    assert!(title.contains(r"\<fix\> \*login\* & @"), "{title}");

    let teams = body(&path("teams")).await.json();
    let card = &teams["attachments"][0]["content"];
    assert_eq!(card["type"], "AdaptiveCard");
    assert!(text(&card["body"][0]["text"]).contains(r"\<fix\> \*login\*"));

    let feishu = body(&path("feishu")).await.json();
    let shown = text(&feishu["content"]["text"]);
    assert!(
        shown.contains("fix> *login* &") && !shown.contains("@all"),
        "{shown}"
    );
    let key = format!("{}\nfeishu-secret", text(&feishu["timestamp"]));
    assert_eq!(feishu["sign"], hmac(key.as_bytes(), b""));

    let dingtalk = body(&path("dingtalk")).await;
    assert_eq!(dingtalk.json()["msgtype"], "text");
    let query: std::collections::HashMap<_, _> =
        url::form_urlencoded::parse(dingtalk.query.as_bytes()).collect();
    assert_eq!(query["access_token"], "x");
    let signed = format!("{}\nSECding", query["timestamp"]);
    assert_eq!(query["sign"], hmac(b"SECding", signed.as_bytes()));

    let wecom = body(&path("wecom")).await;
    assert_eq!(wecom.query, "key=x");
    assert!(!text(&wecom.json()["text"]["content"]).contains("@all"));

    let telegram = body(&path("telegram/sendMessage")).await;
    assert_eq!(
        (&*telegram.query, &telegram.json()["chat_id"]),
        ("", &json!("-100"))
    );
    assert!(text(&telegram.json()["text"]).contains("&lt;fix&gt; *login* &amp; @"));

    let ntfy = body(&path("ntfy")).await.json();
    assert_eq!(
        (&ntfy["topic"], &ntfy["priority"]),
        (&json!("my_topic"), &json!(4))
    );
    assert!(text(&ntfy["title"]).starts_with("<fix> *login* & @everyone"));

    let pagerduty = body(&path("pagerduty")).await.json();
    assert_eq!(pagerduty["routing_key"], "routing-key");
    assert_eq!(pagerduty["event_action"], "trigger");
    assert_eq!(pagerduty["payload"]["severity"], "error");
    client
        .report(&report(&agent, "0198-topic", "running"))
        .await;
    let resolved = told(&world, client, &path("pagerduty"), 2).await[1].json();
    assert_eq!(resolved["event_action"], "resolve");
    assert_eq!(resolved["dedup_key"], pagerduty["dedup_key"]);
}

fn hmac(key: &[u8], text: &[u8]) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut code = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    code.update(text);
    STANDARD.encode(code.finalize().into_bytes())
}

async fn a_webhook_is_signed(world: Arc<World>) {
    let client = &world.new_account().await.client;
    let path = format!("/{}", world.name("signed"));
    let key = [7; 32];
    let secret = format!("whsec_{}", STANDARD.encode(key));
    telling(&world, client, &path, json!({"secret": secret})).await;
    client.report(&failure(&world.name("agent"))).await;

    let request = told(&world, client, &path, 1).await.remove(0);
    let header = |name: &str| request.headers[name].to_str().unwrap().to_owned();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let age = chrono::Utc::now().timestamp() - timestamp.parse::<i64>().unwrap();
    assert!((-60..300).contains(&age), "{timestamp}");
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &request.body].concat();
    assert_eq!(
        header("webhook-signature"),
        format!("v1,{}", hmac(&key, &signed))
    );
}

async fn a_channel_is_told_what_it_asks_for(world: Arc<World>) {
    let client = &world.new_account().await.client;
    let path = format!("/{}", world.name("events"));
    let change = json!({"events": ["started", "waiting", "finished"], "detail": "none"});
    let channel = telling(&world, client, &path, change).await;
    let agent = world.name("agent");
    for status in [
        "running", "pending", "running", "failed", "running", "success",
    ] {
        client
            .report(&report(&agent, "a secret topic", status))
            .await;
    }
    let headless = with(
        report(&agent, "h", "pending"),
        "context",
        json!({"mode": "headless"}),
    );
    client.report(&headless).await;
    let listed = finished(client, &channel, 3, &["delivered"]).await;
    assert_eq!(
        texts(&json!(listed), "event"),
        ["finished", "waiting", "started"]
    );
    for delivery in &listed {
        assert_eq!(
            (&delivery["attempts"], &delivery["status"]),
            (&json!(1), &json!(200))
        );
        assert_eq!(delivery["agent_id"], json!(agent));
        assert!(time(&delivery["finished_at"]) >= time(&delivery["created_at"]));
    }
    let bodies = told(&world, client, &path, 3).await;
    assert_eq!(bodies.len(), 3);
    for body in bodies {
        assert_eq!(body.json()["data"].get("title"), None);
    }
    let disabled = json!({"enabled": false});
    let place = format!("/api/channels/{}", text(&channel["id"]));
    client.put(&place, &disabled).await.ok();
    client.report(&report(&agent, "another", "success")).await;
    assert_eq!(finished(client, &channel, 3, &["delivered"]).await, listed);
}

async fn what_does_not_last_is_dropped(world: Arc<World>) {
    let client = &world.new_account().await.client;
    let path = format!("/{}", world.name("lasting"));
    let channel = telling(&world, client, &path, json!({"delay_seconds": 2})).await;
    let agent = world.name("agent");
    client.report(&report(&agent, "short", "running")).await;
    client.report(&report(&agent, "short", "pending")).await;
    client.report(&report(&agent, "short", "running")).await;
    client.report(&report(&agent, "long", "running")).await;
    client
        .report(&with(report(&agent, "long", "pending"), "reason", "plan"))
        .await;
    client
        .report(&with(
            report(&agent, "long", "pending"),
            "reason",
            "question",
        ))
        .await;

    let listed = finished(client, &channel, 2, &["delivered", "dropped"]).await;
    let states: Vec<_> = listed
        .iter()
        .map(|one| (text(&one["session_topic"]), text(&one["state"])))
        .collect();
    let expected = [("long", "delivered"), ("short", "dropped")];
    assert_eq!(
        states,
        expected.map(|(topic, state)| (topic.to_owned(), state.to_owned()))
    );
    assert_eq!(listed[1]["error"], "it did not last");
    let bodies = told(&world, client, &path, 1).await;
    assert_eq!(bodies.len(), 1);
    assert_eq!(bodies[0].json()["data"]["session_topic"], "long");
}

async fn a_session_that_falls_silent_is_told_once_and_its_return_too(world: Arc<World>) {
    let client = &world.new_account().await.client;
    let path = format!("/{}", world.name("silence"));
    let events = json!({"events": ["silent", "recovered"]});
    let channel = telling(&world, client, &path, events).await;
    let agent = world.name("agent");
    let brief = |topic, status| with(report(&agent, topic, status), "ttl_minutes", 1);
    for topic in ["silent", "waiting", "over", "renewed"] {
        client.report(&brief(topic, "running")).await;
    }
    client.report(&brief("waiting", "pending")).await;
    client.report(&brief("over", "success")).await;
    client
        .report(&with(brief("renewed", "running"), "ttl_minutes", 60))
        .await;

    let deliveries = format!("/api/channels/{}/deliveries", text(&channel["id"]));
    let begun = async |count: usize| {
        let patience = Duration::from_secs(150);
        within(patience, "a session falls silent", async || {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let listed = client.get(&deliveries).await.ok();
            texts(&listed["deliveries"], "state").len() >= count
        })
        .await;
    };
    begun(1).await;
    let session = format!("/api/agents/{agent}/sessions/silent");
    let session = client.get(&session).await.ok()["session"].take();
    assert_eq!(session["state"], "expired");
    client
        .report(&with(brief("silent", "running"), "ttl_minutes", 60))
        .await;
    begun(2).await;
    let listed = finished(client, &channel, 2, &["delivered"]).await;
    assert_eq!(texts(&json!(listed), "event"), ["recovered", "silent"]);
    assert_eq!(texts(&json!(listed), "session_topic"), ["silent", "silent"]);
    assert_eq!(listed[1]["created_at"], session["expired_at"]);
    let bodies = told(&world, client, &path, 2).await;
    let mut types: Vec<_> = bodies
        .iter()
        .map(|body| text(&body.json()["type"]))
        .collect();
    types.sort();
    assert_eq!(types, ["session.recovered", "session.silent"]);
}

async fn many_at_once_are_counted_in_few_messages(world: Arc<World>) {
    let sessions = 90;
    let client = &world.new_account().await.client;
    let path = format!("/{}", world.name("storm"));
    let change = json!({"format": "slack", "events": ["failed"]});
    let channel = telling(&world, client, &path, change).await;
    let agent = world.name("agent");
    let failures: Vec<_> = (0..sessions)
        .map(|n| report(&agent, &format!("task {n}"), "failed"))
        .collect();
    let begin = Instant::now();
    join_all(failures.iter().map(|failure| client.report(failure))).await;

    let listed = finished(client, &channel, sessions, &["delivered", "merged"]).await;
    let merged = listed.iter().filter(|one| one["state"] == "merged").count();
    let messages = told(&world, client, &path, sessions - merged).await;
    // One a second, however long the reports themselves took.
    let most = 1 + usize::try_from(begin.elapsed().as_secs()).unwrap();
    assert!(messages.len() <= most, "{} messages", messages.len());
    let counted: usize = messages
        .iter()
        .map(|message| {
            let headline = text(&message.json()["text"]);
            let count = headline.split(' ').nth(1).unwrap();
            count.parse().unwrap_or(1)
        })
        .sum();
    assert!(counted >= sessions, "{counted}");
}

async fn a_receiver_that_is_gone_disables_its_channel(world: Arc<World>) {
    let client = &world.new_account().await.client;
    let path = format!("/{}", world.name("gone"));
    world.receiver().await.answer(&path, 410, "", "");
    let channel = telling(&world, client, &path, json!({})).await;
    client.report(&failure(&world.name("agent"))).await;
    let listed = finished(client, &channel, 1, &["failed"]).await;
    assert_eq!(listed[0]["status"], 410);
    assert_eq!(listed[0]["error"], "the receiver is gone");
    let found = found(client, &channel).await;
    assert_eq!(
        (&found["enabled"], &found["gone"]),
        (&json!(false), &json!(true))
    );

    let told = of_channel(&world, client, &channel).await;
    let told: Vec<_> = told
        .iter()
        .map(|entry| (&entry["event"], &entry["actor"]))
        .collect();
    let disabled = (&json!("channel.disabled"), &json!("receiver"));
    assert_eq!(told.last(), Some(&disabled));

    let place = format!("/api/channels/{}", text(&channel["id"]));
    let enabled = client.put(&place, &json!({"enabled": true})).await.ok();
    assert_eq!(enabled.get("gone"), None);
}

async fn a_channel_whose_receiver_hangs_delays_no_other(world: Arc<World>) {
    const SESSIONS: usize = 6;
    let client = &world.new_account().await.client;
    let hanging = Receiver::start();
    // What channels are told names no agent in the form that is asked for here.
    hanging.hold("");
    let stuck = json!({"name": "stuck", "url": hanging.url("/stuck"), "delay_seconds": 0});
    create(client, &stuck).await;
    let path = format!("/{}", world.name("healthy"));
    let healthy = telling(&world, client, &path, json!({})).await;
    let agent = world.name("agent");
    for n in 0..SESSIONS {
        let failure = report(&agent, &n.to_string(), "failed");
        client.report(&failure).await;
    }
    told(&world, client, &path, SESSIONS).await;
    finished(client, &healthy, SESSIONS, &["delivered"]).await;
    hanging.release("");
}

async fn an_error_in_a_200_is_a_failure(world: Arc<World>) {
    let client = &world.new_account().await.client;
    let receiver = world.receiver().await;
    for (format, body) in [
        ("feishu", r#"{"code":19021,"msg":"sign match fail"}"#),
        (
            "dingtalk",
            r#"{"errcode":310000,"errmsg":"sign not match"}"#,
        ),
        (
            "wecom",
            r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#,
        ),
        ("telegram", r#"{"ok":false,"description":"chat not found"}"#),
        (
            "teams",
            "Webhook message delivery failed with error: too large",
        ),
    ] {
        let path = format!("/{}{format}", world.name("refused"));
        let sends_to = match format {
            "telegram" => format!("{path}/sendMessage"),
            _ => path.clone(),
        };
        receiver.answer(&sends_to, 200, "", body);
        let url = format!("{path}?chat_id=1");
        let channel = telling(&world, client, &url, json!({"format": format})).await;
        let test = format!("/api/channels/{}/test", text(&channel["id"]));
        let tested = client.post(&test, &json!({})).await.ok();
        let expected = json!({
            "delivered": false, "status": 200, "error": "the receiver refused the message",
        });
        assert_eq!(tested, expected, "{format}");
    }
}

async fn a_test_says_what_came_of_it(world: Arc<World>) {
    let client = &world.new_account().await.client;
    let receiver = world.receiver().await;
    for (status, expected) in [
        (204, json!({"delivered": true, "status": 204})),
        (
            404,
            json!({"delivered": false, "status": 404, "error": "the receiver refused the message"}),
        ),
        (
            500,
            json!({"delivered": false, "status": 500, "error": "the receiver failed"}),
        ),
        (
            429,
            json!({"delivered": false, "status": 429, "error": "the receiver takes no more for now"}),
        ),
    ] {
        let path = format!("/{}{status}", world.name("test"));
        receiver.answer(&path, status, "", "");
        let channel = telling(&world, client, &path, json!({"enabled": false})).await;
        let test = format!("/api/channels/{}/test", text(&channel["id"]));
        assert_eq!(client.post(&test, &json!({})).await.ok(), expected);
        let sample = receiver.requests(&path).remove(0).json();
        assert_eq!(sample["data"]["title"], "Test of this channel");
    }
}

async fn a_channel_is_tested_ten_times_a_minute(world: Arc<World>) {
    let client = &world.new_account().await.client;
    let url = "https://nowhere.invalid/x";
    let channel = create(client, &json!({"name": "n", "url": url, "format": "slack"})).await;
    let test = format!("/api/channels/{}/test", text(&channel["id"]));
    for _ in 0..10 {
        let tested = client.post(&test, &json!({})).await.ok();
        assert_eq!(tested["delivered"], false);
    }
    let refused = client.post(&test, &json!({})).await;
    assert!(refused.header("retry-after").is_some());
    refused.error_code(429, "too_many_requests");
}
