//! `GET /api/events`: sessions as they change.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use chrono::TimeDelta;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::client::{Client, Request};
use crate::scenario::scenarios;
use crate::world::{PATIENCE, World, report, text, time, with};

scenarios! {
    a_host_that_cannot_stream_says_so [NoStreams],
    a_stream_begins_with_a_comment_and_a_pause [Streams],
    a_report_comes_as_its_session_stands_in_the_list [Streams],
    characters_of_several_bytes_come_whole [Streams],
    what_leaves_no_entry_in_the_history_comes_too [Streams],
    what_is_reported_on_a_session_comes_in_order [Streams],
    a_new_name_comes_with_every_session_of_its_agent [Streams],
    an_expiry_comes_at_its_instant [Streams],
    who_comes_back_gets_what_was_missed [Streams],
    what_is_no_id_of_this_workspace_starts_again [Streams],
    head_of_a_stream_ends [Streams],
    nobody_sees_the_events_of_another_workspace [Streams, Required, Accounts],
    events_take_the_scope_read [Streams, Accounts],
    a_revoked_key_ends_its_stream [Streams, Accounts],
    a_deleted_account_ends_its_streams [Streams, Required, Accounts],
}

/// An event, or what stands for it: an id alone has neither name nor data.
#[derive(Debug, Default, PartialEq)]
struct Event {
    id: String,
    name: String,
    data: Value,
}

/// A stream that is read event by event.
struct Stream {
    client: Client,
    headers: HeaderMap,
    body: Incoming,
    /// What has come and is not read: a piece of the body may end within a character.
    unread: BytesMut,
    /// Read already, and not handed out yet.
    ahead: Option<Event>,
    /// States from the list, where too much was missed.
    listed: VecDeque<Value>,
    comments: usize,
    retry: Option<String>,
    /// The last id that came.
    id: String,
}

impl Stream {
    /// Sends a request for events, again while the server is not ready for it.
    async fn open(client: &Client, request: impl Fn() -> Request) -> Self {
        let opening = async {
            loop {
                let answer = request().open().await;
                if answer.status() != 503 {
                    return answer;
                }
                sleep(Duration::from_secs(1)).await;
            }
        };
        let answer = timeout(PATIENCE, opening).await.expect("a stream in time");
        assert_eq!(answer.status(), 200, "{answer:?}");
        let (head, body) = answer.into_parts();
        let mut stream = Self {
            client: client.clone(),
            headers: head.headers,
            body,
            unread: BytesMut::new(),
            ahead: None,
            listed: VecDeque::new(),
            comments: 0,
            retry: None,
            id: String::new(),
        };
        // What follows is known to come from here on.
        while stream.id.is_empty() {
            let block = stream.block().await.expect("an id to begin with");
            stream.ahead = stream.read(&block);
        }
        stream
    }

    async fn follow(client: &Client) -> Self {
        Self::open(client, || client.get("/api/events")).await
    }

    async fn after(client: &Client, id: &str) -> Self {
        let request = || client.get("/api/events").header("last-event-id", id);
        Self::open(client, request).await
    }

    /// The text up to the next empty line; `None` at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|end| end == b"\n\n") {
                let block = self.unread.split_to(end + 2);
                return Some(str::from_utf8(&block[..end]).expect("text").to_owned());
            }
            let frame = timeout(PATIENCE, self.body.frame()).await;
            let frame = frame.expect("an event or a comment in time")?;
            let Ok(frame) = frame else { return None };
            let data = frame.into_data().expect("data");
            self.unread.extend_from_slice(&data);
        }
    }

    fn read(&mut self, block: &str) -> Option<Event> {
        let mut event = Event::default();
        for line in block.lines() {
            match line.split_once(':').expect("a field or a comment") {
                ("", _) => self.comments += 1,
                ("retry", pause) => self.retry = Some(pause.trim().to_owned()),
                ("id", id) => event.id = id.trim().to_owned(),
                ("event", name) => event.name = name.trim().to_owned(),
                ("data", data) => event.data = serde_json::from_str(data).expect("JSON"),
                (field, _) => panic!("{field} in {block}"),
            }
        }
        if !event.id.is_empty() {
            self.id.clone_from(&event.id);
        }
        (event != Event::default()).then_some(event)
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let event = match self.ahead.take() {
                Some(event) => Some(event),
                None => {
                    let block = self.block().await?;
                    self.read(&block)
                }
            };
            if let Some(event) = event.filter(|event| !event.name.is_empty()) {
                return Some(event);
            }
        }
    }

    /// The next state of one of this agent's sessions.
    async fn state(&mut self, agent: &str) -> Value {
        loop {
            if let Some(state) = self.listed.pop_front() {
                return state;
            }
            let event = self.next().await.expect("an event");
            // Others may have changed more than a server keeps.
            if event.name == "reset" {
                let path = format!("/api/sessions?search={agent}");
                let list = self.client.get(&path).await.ok();
                let states = list["sessions"].as_array().expect("a list").iter();
                self.listed.extend(states.cloned());
            } else if event.data["agent_id"] == agent {
                return event.data;
            }
        }
    }

    /// The state of one of this agent's sessions as soon as it is such.
    async fn until(&mut self, agent: &str, is_such: impl Fn(&Value) -> bool) -> Value {
        loop {
            let state = self.state(agent).await;
            if is_such(&state) {
                return state;
            }
        }
    }
}

async fn a_host_that_cannot_stream_says_so(world: Arc<World>) {
    let client = world.client().await;
    let answer = client.get("/api/events").await;
    answer.error_code(501, "not_supported");
    let answer = client.request(Method::HEAD, "/api/events").await;
    assert!(answer.expect(501).body.is_empty());
}

async fn a_stream_begins_with_a_comment_and_a_pause(world: Arc<World>) {
    let stream = Stream::follow(&world.client().await).await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(stream.headers[name], value);
    }
    assert_eq!(stream.comments, 1);
    assert_eq!(stream.retry.as_deref(), Some("2000"));
}

async fn a_report_comes_as_its_session_stands_in_the_list(world: Arc<World>) {
    let client = world.client().await;
    let agent = world.name("agent");
    let mut stream = Stream::follow(&client).await;
    let mut sent = with(report(&agent, "t", "pending"), "agent_name", "Alice");
    sent["session_title"] = json!("Fix the login page\nand more");
    sent["reason"] = json!("permission");
    sent["context"] = json!({"repo": "shop"});
    client.report(&sent).await;
    let state = stream.state(&agent).await;
    let path = format!("/api/sessions?search={agent}");
    assert_eq!(client.get(&path).await.ok()["sessions"], json!([state]));
}

async fn characters_of_several_bytes_come_whole(world: Arc<World>) {
    let client = world.client().await;
    let agent = world.name("agent");
    let mut stream = Stream::follow(&client).await;
    // Wherever a piece of the body ends, it is within a character of one of them.
    for padding in ["x", "xx", "xxx", "xxxx"] {
        let mut sent = with(report(&agent, padding, "running"), "agent_name", padding);
        let texts = (0..20).map(|key| (format!("{padding}{key}"), json!("𝄞".repeat(200))));
        sent["context"] = Value::Object(texts.collect());
        client.report(&sent).await;
        let state = stream
            .until(&agent, |state| state["session_topic"] == *padding)
            .await;
        assert_eq!(state["context"], sent["context"]);
    }
}

async fn what_leaves_no_entry_in_the_history_comes_too(world: Arc<World>) {
    let client = world.client().await;
    let hook = |name: &str| json!({"hook_event_name": name, "session_id": "s", "cwd": "/shop"});
    let mut start = hook("UserPromptSubmit");
    start["prompt"] = json!("Fix the login page");
    let mut tool = hook("PreToolUse");
    tool["tool_name"] = json!("Read");
    tool["tool_input"] = json!({"file_path": "/shop/login.rs"});
    loop {
        let agent = world.name("agent");
        let path = format!("/hooks/claude-code?agent_id={agent}");
        let mut stream = Stream::follow(&client).await;
        client.post(&path, &start).await.ok();
        client.post(&path, &tool).await.ok();
        // What was reported first may come first.
        let state = stream
            .until(&agent, |state| state["last_updated"] != state["created"])
            .await;
        assert_eq!(state["current_status"], "running");
        let history = format!("/api/agents/{agent}/history");
        let history = client.get(&history).await.ok();
        if history["status_history"].as_array().expect("a list").len() == 1 {
            return;
        }
        let age = time(&state["last_updated"]) - time(&state["created"]);
        assert!(age >= TimeDelta::seconds(5), "an entry after {age}");
    }
}

async fn what_is_reported_on_a_session_comes_in_order(world: Arc<World>) {
    let client = world.client().await;
    let agent = world.name("agent");
    let mut stream = Stream::follow(&client).await;
    for step in 0..60 {
        let sent = with(report(&agent, "t", "running"), "message", step.to_string());
        client.report(&sent).await;
    }
    let mut last = None;
    while last != Some(59) {
        let state = stream.state(&agent).await;
        let step = Some(text(&state["message"]).parse().unwrap());
        assert!(last <= step, "{step:?} after {last:?}");
        last = step;
    }
}

async fn a_new_name_comes_with_every_session_of_its_agent(world: Arc<World>) {
    let client = world.client().await;
    let agent = world.name("agent");
    let named = |topic, name| with(report(&agent, topic, "running"), "agent_name", name);
    client.report(&named("1", "Alice")).await;
    client.report(&named("2", "Alice")).await;
    let mut stream = Stream::follow(&client).await;
    client.report(&named("3", "Bob")).await;
    let mut left = vec!["1", "2", "3"];
    while !left.is_empty() {
        let state = stream
            .until(&agent, |state| state["agent_name"] == "Bob")
            .await;
        left.retain(|topic| state["session_topic"] != *topic);
    }
}

async fn an_expiry_comes_at_its_instant(world: Arc<World>) {
    let client = world.client().await;
    let agent = world.name("agent");
    let brief = |topic, status| with(report(&agent, topic, status), "ttl_minutes", 1);
    client.report(&brief("before", "running")).await;
    let mut stream = Stream::follow(&client).await;
    client.report(&brief("during", "running")).await;
    client
        .report(&with(brief("idle", "success"), "reason", "turn"))
        .await;
    let mut left = vec![
        ("before", "expired"),
        ("during", "expired"),
        ("idle", "ended"),
    ];
    let expiries = async {
        while !left.is_empty() {
            let state = stream.until(&agent, |state| state["expired"] == true).await;
            let topic = text(&state["session_topic"]);
            // The same state may come twice.
            if let Some(place) = left.iter().position(|(expected, _)| *expected == topic) {
                assert_eq!(state["state"], left.remove(place).1);
            }
            assert_eq!(time(&state["expired_at"]), time(&state["expires_at"]));
        }
    };
    let limit = Duration::from_secs(60) + PATIENCE;
    timeout(limit, expiries).await.expect("expiries in time");
}

async fn who_comes_back_gets_what_was_missed(world: Arc<World>) {
    let client = world.client().await;
    let agent = world.name("agent");
    let mut stream = Stream::follow(&client).await;
    client.report(&report(&agent, "seen", "running")).await;
    stream.state(&agent).await;
    let id = stream.id.clone();
    drop(stream);
    for status in ["running", "success"] {
        client.report(&report(&agent, "missed", status)).await;
    }
    client.report(&report(&agent, "seen", "failed")).await;

    let header = Stream::after(&client, &id).await;
    let query = format!("/api/events?after={id}");
    let query = Stream::open(&client, || client.get(&query)).await;
    for mut stream in [header, query] {
        let mut left = vec![("missed", "success"), ("seen", "failed")];
        while !left.is_empty() {
            let state = stream.state(&agent).await;
            left.retain(|(topic, status)| {
                state["session_topic"] != *topic || state["current_status"] != *status
            });
        }
        client.report(&report(&agent, "live", "running")).await;
        stream
            .until(&agent, |state| state["session_topic"] == "live")
            .await;
    }
}

async fn what_is_no_id_of_this_workspace_starts_again(world: Arc<World>) {
    let client = world.client().await;
    let agent = world.name("agent");
    for id in ["0", "nonsense", "abc-def-1-1767225600000000", "é"] {
        let mut stream = Stream::after(&client, id).await;
        let event = stream.next().await.expect("an event");
        assert_eq!(event.name, "reset", "{id}");
        client.report(&report(&agent, "t", "running")).await;
        stream.state(&agent).await;
    }
}

async fn head_of_a_stream_ends(world: Arc<World>) {
    let client = world.client().await;
    let answer = client
        .request(Method::HEAD, "/api/events")
        .await
        .expect(200);
    assert_eq!(
        answer.header("content-type").as_deref(),
        Some("text/event-stream")
    );
    assert_eq!(answer.header("content-length"), None);
    assert!(answer.body.is_empty());
}

async fn nobody_sees_the_events_of_another_workspace(world: Arc<World>) {
    let (mine, other) = (world.account(0).await, world.account(1).await);
    let agent = world.name("agent");
    let mut stream = Stream::follow(&other.client).await;
    mine.client.report(&report(&agent, "mine", "running")).await;
    other
        .client
        .report(&report(&agent, "theirs", "running"))
        .await;
    assert_eq!(stream.state(&agent).await["session_topic"], "theirs");

    let foreign = Stream::follow(&mine.client).await.id;
    let mut stream = Stream::after(&other.client, &foreign).await;
    assert_eq!(stream.next().await.expect("an event").name, "reset");
}

async fn events_take_the_scope_read(world: Arc<World>) {
    let account = world.account(0).await;
    let reporter = account.with_scopes(&["report"]).await;
    let answer = reporter.get("/api/events").await;
    answer.error_code(403, "forbidden");
    let reader = account.with_scopes(&["read"]).await;
    Stream::follow(&reader).await;
}

async fn a_revoked_key_ends_its_stream(world: Arc<World>) {
    let account = world.account(0).await;
    let request = json!({"name": "reader", "scopes": ["read"]});
    let (key, id) = account.api_key(&request).await;
    let mut stream = Stream::follow(&world.anonymous().with_token(&key)).await;
    let mut kept = Stream::follow(&account.client).await;
    account
        .client
        .delete(&format!("/api/apikeys/{id}"))
        .await
        .ok();
    while stream.next().await.is_some() {}
    let agent = world.name("agent");
    account.client.report(&report(&agent, "t", "running")).await;
    kept.state(&agent).await;
}

async fn a_deleted_account_ends_its_streams(world: Arc<World>) {
    let account = world.new_account().await;
    let mut stream = Stream::follow(&account.client).await;
    let body = json!({"password": crate::world::PASSWORD});
    let request = account.client.request(Method::DELETE, "/api/auth/me");
    request.json(&body).await.ok();
    while stream.next().await.is_some() {}
}
