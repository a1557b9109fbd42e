//! What receivers, crashes and other hosts do to what channels are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use kubeagents_contract::WebhookLibraries;
use kubeagents_test_postgres::database;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{PATIENCE, Receiver, Reply, Server, eventually, report};

/// A channel of the shared workspace that is told of failures at once.
struct Channel<'a> {
    server: &'a Server,
    id: String,
}

impl<'a> Channel<'a> {
    async fn create(server: &'a Server, url: &str, fields: Value) -> Self {
        let mut body = json!({"name": "n", "url": url, "events": ["failed"], "delay_seconds": 0});
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        let answer = server.post("/api/channels", &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        let id = answer.body["id"].as_str().unwrap().to_owned();
        Self { server, id }
    }

    /// The same channel, as another server has it.
    fn at<'b>(&self, server: &'b Server) -> Channel<'b> {
        let id = self.id.clone();
        Channel { server, id }
    }

    async fn change(&self, change: Value) {
        let path = format!("/api/channels/{}", self.id);
        let answer = self.server.send(Method::PUT, &path, None, &change).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }

    async fn deliveries(&self) -> Vec<Value> {
        let path = format!("/api/channels/{}/deliveries", self.id);
        let answer = self.server.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.body["deliveries"].as_array().unwrap().clone()
    }

    /// Its deliveries, as soon as they are as `wanted`.
    async fn when(&self, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let deliveries = self.deliveries().await;
            if wanted(&deliveries) {
                return deliveries;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "waited in vain for {what}: {deliveries:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its deliveries, as soon as there are so many and none waits.
    async fn settled(&self, count: usize) -> Vec<Value> {
        self.when("the end of its deliveries", |deliveries| {
            deliveries.len() == count && deliveries.iter().all(|one| one["state"] != "pending")
        })
        .await
    }
}

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_bmV3IHNlY3JldHMgbmVlZCAyNCBieXRlcyBhdCBsZWFzdA==";

#[tokio::test(flavor = "multi_thread")]
async fn the_official_libraries_verify_what_a_channel_is_told() {
    let libraries = WebhookLibraries::install();
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("k.db").display());
    let server = Server::start(&[("DATABASE_URL", &url)]);
    // The second event is refused once, and told again when the secret has been replaced.
    let receiver = Receiver::start(|before| match before {
        2 => Reply::Status(500),
        _ => Reply::Status(200),
    })
    .await;
    let channel = Channel::create(&server, &receiver.url(), json!({"secret": OLD})).await;
    let verify = |place: usize, secret: &str| {
        let delivery = receiver.deliveries().remove(place);
        libraries.verify(secret, &delivery.headers, &delivery.body)
    };

    let mut failure = report("first", "failed");
    failure["session_title"] = json!("“quoted” 中文 🦀 <&> \u{7f}");
    failure["message"] = json!("line\r\nline\ttab \\ \"");
    server.post("/webhook/status", &failure).await;
    let first = receiver.wait_for(1).await.remove(0);
    assert_eq!(first.json()["data"]["title"], failure["session_title"]);
    assert!(verify(0, OLD));
    assert!(!verify(0, NEW));
    assert!(!libraries.verify(OLD, &first.headers, &format!("{} ", first.body)));
    let mut headers = first.headers.clone();
    headers.insert("webhook-id", "another".parse().unwrap());
    assert!(!libraries.verify(OLD, &headers, &first.body));

    // While receivers go over to another secret, both sign.
    channel
        .change(json!({"secret": format!("{NEW} {OLD}")}))
        .await;
    server.report("second", "failed").await;
    receiver.wait_for(2).await;
    assert!(verify(1, OLD) && verify(1, NEW));
    server.report("third", "failed").await;
    receiver.wait_for(3).await;
    channel.change(json!({"secret": NEW})).await;
    let attempts = receiver.wait_for(4).await;
    assert_eq!(attempts[2].id, attempts[3].id);
    assert_eq!(attempts[2].body, attempts[3].body);
    assert!(verify(2, OLD));
    assert!(!verify(3, OLD));
    assert!(verify(3, NEW));
    let deliveries = channel.settled(3).await;
    assert_eq!(deliveries[0]["attempts"], 2, "{deliveries:?}");
}

/// Kills the server when it has told a channel of some events, is telling it of some and others wait.
async fn what_was_accepted_is_told_in_spite_of_a_death(storage: &[(&str, &str)]) {
    const SESSIONS: usize = 20;
    let variables = [storage, &[("AUTH_MODE", "open")]].concat();
    // What is under way when the server dies has arrived, but the server has not been told so.
    let holds = Arc::new(AtomicBool::new(false));
    let held = holds.clone();
    let receiver = Receiver::start(move |_| match held.load(Ordering::Relaxed) {
        true => Reply::Hang,
        false => Reply::Status(204),
    })
    .await;
    let server = Server::start(&variables);
    let channel = Channel::create(&server, &receiver.url(), json!({})).await;
    for n in 0..SESSIONS / 2 {
        server.report(&n.to_string(), "failed").await;
    }
    receiver.wait_for(1).await;
    holds.store(true, Ordering::Relaxed);
    let so_far = receiver.deliveries().len();
    for n in SESSIONS / 2..SESSIONS {
        server.report(&n.to_string(), "failed").await;
    }
    receiver.wait_for(so_far + 1).await;
    let id = channel.id;
    // Dropping a server kills it.
    drop(server);
    holds.store(false, Ordering::Relaxed);
    let server = &Server::start(&variables);
    let deliveries = Channel { server, id }.settled(SESSIONS).await;

    let mut told = BTreeMap::new();
    for one in &deliveries {
        let topic = one["session_topic"].as_str().unwrap();
        told.insert(topic, one["id"].as_str().unwrap());
        assert_eq!(
            (&one["state"], &one["status"], one.get("error")),
            (&json!("delivered"), &json!(204), None),
            "{one}"
        );
    }
    assert_eq!(told.len(), SESSIONS);
    for delivery in receiver.deliveries() {
        let body = delivery.json();
        let topic = body["data"]["session_topic"].as_str().unwrap();
        assert_eq!(told[topic], delivery.id, "{topic} has one id");
    }
    let attempts = receiver.attempts();
    assert_eq!(attempts.len(), SESSIONS);
    for one in &deliveries {
        let attempts = attempts[one["id"].as_str().unwrap()];
        // One that died before it arrived counts too.
        assert!(one["attempts"].as_u64() >= Some(attempts as u64), "{one}");
    }
    let repeated = attempts.values().filter(|attempts| **attempts > 1).count();
    assert!((1..SESSIONS).contains(&repeated), "{repeated} are repeated");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_told_in_spite_of_a_death_on_sqlite() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("k.db").display());
    // The dead server's leases last longer than anybody waits.
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("NOTIFICATION_TIMEOUT_SECONDS", "60"),
    ];
    what_was_accepted_is_told_in_spite_of_a_death(&variables).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_told_in_spite_of_a_death_on_postgres() {
    let database = database();
    what_was_accepted_is_told_in_spite_of_a_death(&[("DATABASE_URL", &database.url())]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_on_one_database_tell_each_event_once() {
    const SESSIONS: usize = 60;
    let database = database();
    let url = database.url();
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("AUTH_MODE", "open"),
        // However slow the machine is, no attempt is made twice.
        ("NOTIFICATION_TIMEOUT_SECONDS", "60"),
    ];
    let servers = [Server::start(&variables), Server::start(&variables)];
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let people = Receiver::start(|_| Reply::Status(200)).await;
    let channel = Channel::create(&servers[0], &receiver.url(), json!({})).await;
    let chat = Channel::create(&servers[0], &people.url(), json!({"format": "slack"})).await;
    let reports = (0..SESSIONS).map(async |n| {
        let server = &servers[n % 2];
        server.report(&n.to_string(), "failed").await;
    });
    futures_util::future::join_all(reports).await;
    for server in &servers {
        for channel in [channel.at(server), chat.at(server)] {
            channel.settled(SESSIONS).await;
        }
    }
    let told = receiver.deliveries();
    let topic = |body: Value| body["data"]["session_topic"].as_str().unwrap().to_owned();
    let topics: BTreeSet<String> = told.iter().map(|one| topic(one.json())).collect();
    assert_eq!((told.len(), topics.len()), (SESSIONS, SESSIONS));
    let counted: usize = people
        .deliveries()
        .iter()
        .map(|one| count(&one.json()))
        .sum();
    assert_eq!(counted, SESSIONS);
}

/// How many sessions a message to Slack tells of.
fn count(message: &Value) -> usize {
    let headline = message["text"].as_str().unwrap();
    let (count, rest) = headline.split_once(' ').unwrap().1.split_once(' ').unwrap();
    match rest.starts_with("sessions: ") {
        true => count.parse().unwrap(),
        false => 1,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_becomes_a_message_a_second_and_loses_none() {
    const SESSIONS: usize = 400;
    let server = Server::start(&[("NOTIFICATION_TIMEOUT_SECONDS", "60")]);
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let channel = Channel::create(&server, &receiver.url(), json!({"format": "slack"})).await;
    let begin = Instant::now();
    let next = AtomicUsize::new(0);
    let reports = (0..8).map(async |_| {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= SESSIONS {
                return;
            }
            server.report(&n.to_string(), "failed").await;
        }
    });
    futures_util::future::join_all(reports).await;
    let counted = || {
        let messages = receiver.deliveries();
        messages.iter().map(|one| count(&one.json())).sum::<usize>()
    };
    eventually("all to be told", || (counted() >= SESSIONS).then_some(())).await;
    for one in channel.settled(100).await {
        let state = one["state"].as_str().unwrap();
        assert!(["delivered", "merged"].contains(&state), "{one}");
    }
    let messages = receiver.deliveries().len();
    let allowed = begin.elapsed().as_secs() + 2;
    assert!(messages as u64 <= allowed, "{messages} messages");
    assert_eq!(counted(), SESSIONS);
}

/// A receiver that reads requests, answers each with these bytes and does then what `end` says.
async fn answering(answer: Vec<u8>, end: End) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            // It ends when the server hangs up.
            tokio::spawn(async move { drop(serve(stream, &answer, end).await) });
        }
    });
    url
}

/// What a receiver does after it has begun to answer.
#[derive(Clone, Copy)]
enum End {
    Close,
    Hang,
    /// It says the same again, for ever.
    Repeat,
}

async fn serve(mut stream: TcpStream, answer: &[u8], end: End) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(answer).await?;
    match end {
        End::Close => stream.shutdown().await,
        End::Hang => std::future::pending().await,
        End::Repeat => loop {
            stream.write_all(answer).await?;
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_receivers_answer_is_judged_and_told() {
    const CUT: &str = "the receiver's answer was cut off";
    const NOTHING: &str = "no connection";
    const LATE: &str = "no answer in time";
    const BUSY: &str = "the receiver takes no more for now";
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}\r\n").into_bytes();
    let busy = |wait: &str| {
        let text = format!("HTTP/1.1 429 Busy\r\nretry-after: {wait}\r\ncontent-length: 0\r\n\r\n");
        text.into_bytes()
    };
    let with = |mut head: Vec<u8>, body: &[u8]| {
        head.extend(body);
        head
    };
    let endless = || with(head(""), &[b' '; 65_536]);
    let html = "<html>".repeat(4000).into_bytes();
    let whole = |body: &[u8]| {
        let length = format!("content-length: {}\r\n", body.len());
        with(head(&length), body)
    };
    let ok = br#"{"code":0,"errcode":0,"ok":true}"#;
    let server = Server::start(&[]);
    let mut told = Vec::new();
    for (format, answer, end, state, status, error) in [
        ("webhook", Vec::new(), End::Hang, "failed", None, LATE),
        ("webhook", Vec::new(), End::Close, "failed", None, NOTHING),
        (
            "webhook",
            b"HTTP/1.1 20".to_vec(),
            End::Hang,
            "failed",
            None,
            LATE,
        ),
        (
            "webhook",
            b"HTTP/1.1 20".to_vec(),
            End::Close,
            "failed",
            None,
            NOTHING,
        ),
        (
            "webhook",
            b"ICY 200 OK\r\n\r\n".to_vec(),
            End::Close,
            "failed",
            None,
            NOTHING,
        ),
        (
            "webhook",
            b"HTTP/1.1 OK 200\r\n\r\n".to_vec(),
            End::Close,
            "failed",
            None,
            NOTHING,
        ),
        // The beginning of HTTP/2.
        (
            "webhook",
            b"\0\0\0\x04\0\0\0\0\0".to_vec(),
            End::Hang,
            "failed",
            None,
            NOTHING,
        ),
        (
            "webhook",
            b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000),
            End::Hang,
            "failed",
            None,
            LATE,
        ),
        (
            "webhook",
            head("x: y\r\n"),
            End::Close,
            "delivered",
            Some(200),
            "",
        ),
        (
            "webhook",
            b"HTTP/1.1 200 OK\r\nx: y\r\n".repeat(50_000),
            End::Repeat,
            "failed",
            None,
            NOTHING,
        ),
        // Where the status says it, the body does not matter.
        (
            "slack",
            head("content-length: 9\r\n"),
            End::Hang,
            "delivered",
            Some(200),
            "",
        ),
        (
            "slack",
            head("content-length: 9\r\n"),
            End::Close,
            "delivered",
            Some(200),
            "",
        ),
        ("slack", endless(), End::Repeat, "delivered", Some(200), ""),
        ("feishu", whole(ok), End::Hang, "delivered", Some(200), ""),
        (
            "feishu",
            head("content-length: 9\r\n"),
            End::Hang,
            "failed",
            Some(200),
            CUT,
        ),
        (
            "dingtalk",
            head("content-length: 9\r\n"),
            End::Close,
            "failed",
            Some(200),
            CUT,
        ),
        ("wecom", endless(), End::Repeat, "failed", Some(200), CUT),
        (
            "telegram",
            whole(&html),
            End::Close,
            "failed",
            Some(200),
            CUT,
        ),
        (
            "webhook",
            busy("1000000"),
            End::Close,
            "pending",
            Some(429),
            BUSY,
        ),
        (
            "webhook",
            busy("99999999999999999999999999"),
            End::Close,
            "pending",
            Some(429),
            BUSY,
        ),
    ] {
        let url = answering(answer, end).await;
        let url = format!("{url}?chat_id=1");
        let channel = Channel::create(&server, &url, json!({"format": format})).await;
        told.push((channel, state, status, error));
    }
    server.report("topic", "failed").await;
    for (place, (channel, state, status, error)) in told.into_iter().enumerate() {
        let one = channel
            .when("what became of it", |deliveries| {
                deliveries
                    .first()
                    .is_some_and(|one| one["state"] != "pending" || !one["error"].is_null())
            })
            .await
            .remove(0);
        let found = (
            one["state"].as_str().unwrap(),
            one["status"].as_u64(),
            one["error"].as_str().unwrap_or_default(),
        );
        assert_eq!(found, (state, status, error), "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_hangs_delays_no_other_of_its_workspace() {
    const SESSIONS: usize = 20;
    let server = Server::start(&[("NOTIFICATION_TIMEOUT_SECONDS", "60")]);
    let hanging = Receiver::start(|_| Reply::Hang).await;
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let waiting = Channel::create(&server, &hanging.url(), json!({})).await;
    let channel = Channel::create(&server, &receiver.url(), json!({})).await;
    for n in 0..SESSIONS {
        server.report(&n.to_string(), "failed").await;
    }
    channel.settled(SESSIONS).await;
    assert_eq!(receiver.attempts().len(), SESSIONS);
    let waiting = waiting.deliveries().await;
    let begun: u64 = waiting
        .iter()
        .filter_map(|one| one["attempts"].as_u64())
        .sum();
    assert!((1..=4).contains(&begun), "{waiting:?}");
    assert!(
        waiting.iter().all(|one| one["state"] == "pending"),
        "{waiting:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_channel_that_is_disabled_is_dropped() {
    let server = Server::start(&[]);
    let receiver = Receiver::start(|_| Reply::Busy("1")).await;
    let channel = Channel::create(&server, &receiver.url(), json!({})).await;
    server.report("topic", "failed").await;
    channel
        .when("an attempt", |deliveries| {
            deliveries.first().is_some_and(|one| one["status"] == 429)
        })
        .await;
    channel.change(json!({"enabled": false})).await;
    let dropped = channel.settled(1).await.remove(0);
    assert_eq!(dropped["state"], "dropped");
    assert_eq!(dropped["error"], "the channel is disabled");
    let attempts = receiver.deliveries().len() as u64;
    assert!(dropped["attempts"].as_u64() <= Some(attempts), "{dropped}");
}

/// Asks a server for an hour, and then has more to tell by these servers.
async fn a_receiver_that_asks_for_time_hears_nothing_meanwhile(servers: &[Server]) {
    const SESSIONS: usize = 20;
    let busy = Receiver::start(|_| Reply::Busy("3600")).await;
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let resting = Channel::create(&servers[0], &busy.url(), json!({})).await;
    let channel = Channel::create(&servers[0], &receiver.url(), json!({})).await;
    servers[0].report("first", "failed").await;
    resting
        .when("its wish", |deliveries| deliveries[0]["status"] == 429)
        .await;
    for n in 1..SESSIONS {
        let server = &servers[n % servers.len()];
        server.report(&n.to_string(), "failed").await;
    }
    channel.settled(SESSIONS).await;
    let waiting = resting.deliveries().await;
    assert_eq!(waiting.len(), SESSIONS);
    assert!(waiting.iter().all(|one| one["state"] == "pending"));
    assert_eq!(busy.deliveries().len(), 1, "{waiting:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_time_hears_nothing_meanwhile_in_memory() {
    let servers = [Server::start(&[])];
    a_receiver_that_asks_for_time_hears_nothing_meanwhile(&servers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_time_hears_nothing_meanwhile_from_two_hosts() {
    let database = database();
    let url = database.url();
    let variables = [("DATABASE_URL", url.as_str()), ("AUTH_MODE", "open")];
    let servers = [Server::start(&variables), Server::start(&variables)];
    a_receiver_that_asks_for_time_hears_nothing_meanwhile(&servers).await;
}

/// The forms of chats and other services.
const FORMATS: [&str; 9] = [
    "slack",
    "discord",
    "teams",
    "feishu",
    "dingtalk",
    "wecom",
    "telegram",
    "ntfy",
    "pagerduty",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_format_waits_for_ever_or_follows_a_receiver_elsewhere() {
    const ELSEWHERE: &str = "the receiver is elsewhere, and redirects are not followed";
    const LATE: &str = "no answer in time";
    let server = Server::start(&[("NOTIFICATION_TIMEOUT_SECONDS", "10")]);
    let elsewhere = Receiver::start(|_| Reply::Status(200)).await;
    let redirect = format!(
        "HTTP/1.1 307 Elsewhere\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
        elsewhere.url()
    );
    let mut told = Vec::new();
    for format in FORMATS {
        let redirects = answering(redirect.clone().into_bytes(), End::Close).await;
        let hangs = answering(Vec::new(), End::Hang).await;
        for (url, status, error) in [(redirects, Some(307), ELSEWHERE), (hangs, None, LATE)] {
            let url = format!("{url}?chat_id=1");
            let fields = json!({"format": format, "secret": "key"});
            let channel = Channel::create(&server, &url, fields).await;
            told.push((channel, format, status, error));
        }
    }
    // It takes a connection and says nothing of TLS.
    let stalls = answering(Vec::new(), End::Hang).await;
    let stalls = stalls.replace("http:", "https:");
    for format in ["webhook", "slack"] {
        let channel = Channel::create(&server, &stalls, json!({"format": format})).await;
        told.push((channel, format, None, LATE));
    }
    server.report("topic", "failed").await;
    for (channel, format, status, error) in told {
        let one = channel.settled(1).await.remove(0);
        let found = (one["status"].as_u64(), one["error"].as_str());
        assert_eq!(found, (status, Some(error)), "{format}");
    }
    assert_eq!(elsewhere.deliveries().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_format_takes_in_an_endless_answer_or_one_that_breaks_off_for_a_whole_one() {
    const CUT: &str = "the receiver's answer was cut off";
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; 65_536]].concat();
    let broken = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n{".to_vec();
    for answer in [
        (endless, End::Repeat),
        (broken, End::Close),
        (Vec::new(), End::Close),
    ] {
        let says_nothing = answer.0.is_empty();
        let server = Server::start(&[("NOTIFICATION_TIMEOUT_SECONDS", "10")]);
        let mut told = Vec::new();
        for format in FORMATS {
            let url = answering(answer.0.clone(), answer.1).await;
            let url = format!("{url}?chat_id=1");
            let fields = json!({"format": format, "secret": "key"});
            told.push((format, Channel::create(&server, &url, fields).await));
        }
        server.report("topic", "failed").await;
        for (format, channel) in told {
            let one = channel.settled(1).await.remove(0);
            let found = (one["status"].as_u64(), one["error"].as_str());
            let expected = match format {
                _ if says_nothing => (None, Some("no connection")),
                // Their status says nothing.
                "teams" | "feishu" | "dingtalk" | "wecom" | "telegram" => (Some(200), Some(CUT)),
                _ => (Some(200), None),
            };
            assert_eq!(found, expected, "{format}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_stays_disabled_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("k.db").display());
    let variables = [("DATABASE_URL", url.as_str()), ("AUTH_MODE", "open")];
    let gone = Receiver::start(|_| Reply::Status(410)).await;
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let server = Server::start(&variables);
    let disabled = Channel::create(&server, &gone.url(), json!({})).await;
    let channel = Channel::create(&server, &receiver.url(), json!({})).await;
    server.report("first", "failed").await;
    let failed = disabled.settled(1).await.remove(0);
    assert_eq!(
        (&failed["state"], &failed["status"]),
        (&json!("failed"), &json!(410))
    );
    let (disabled, channel) = (disabled.id, channel.id);
    drop(server);

    let server = &Server::start(&variables);
    server.report("second", "failed").await;
    let channel = Channel {
        server,
        id: channel,
    };
    channel.settled(2).await;
    let disabled = Channel {
        server,
        id: disabled,
    };
    assert_eq!(disabled.deliveries().await, [failed]);
    let listed = server.get("/api/channels").await.body["channels"].take();
    let listed = listed.as_array().unwrap();
    let listed = listed.iter().find(|one| one["id"] == json!(disabled.id));
    let listed = listed.unwrap();
    assert_eq!(
        (&listed["enabled"], &listed["gone"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(gone.deliveries().len(), 1);
}
