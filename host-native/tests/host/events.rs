//! Live events beyond what one reader of one server sees.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::StatusCode;
use kubeagents_test_postgres::database;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::{PATIENCE, Server, a_minute_ahead, command, numbered, report};

/// A reader of a server's events.
pub(crate) struct Reader {
    stream: TcpStream,
    /// What has come and is not read: it may end within a character.
    unread: BytesMut,
    /// The last id that came.
    id: String,
}

impl Reader {
    /// Follows, from after the event with this id if there is one.
    async fn start(server: &Server, token: Option<&str>, after: Option<&str>) -> Self {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let reader = Self::on(stream, token, after).await;
        reader.unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    /// Follows on a connection.
    ///
    /// # Errors
    /// The head of an answer that is no stream.
    async fn on(
        mut stream: TcpStream,
        token: Option<&str>,
        after: Option<&str>,
    ) -> Result<Self, String> {
        let mut head = "GET /api/events HTTP/1.1\r\nHost: localhost\r\n".to_owned();
        for (name, value) in [
            (
                "Authorization",
                token.map(|token| format!("Bearer {token}")),
            ),
            ("Last-Event-ID", after.map(str::to_owned)),
        ] {
            if let Some(value) = value {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        stream
            .write_all(format!("{head}\r\n").as_bytes())
            .await
            .unwrap();
        let mut reader = Self {
            stream,
            unread: BytesMut::new(),
            id: String::new(),
        };
        let head = reader.until("\r\n\r\n").await;
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(head);
        }
        reader.until("retry: 2000\n\n").await;
        Ok(reader)
    }

    pub(crate) async fn follow(server: &Server) -> Self {
        Self::start(server, None, None).await
    }

    /// Reads more; false at the end.
    async fn more(&mut self) -> bool {
        self.unread.reserve(64 << 10);
        let count = self.stream.read_buf(&mut self.unread).await;
        count.is_ok_and(|count| count > 0)
    }

    /// The text up to the end of `needle`; `None` at the end of the connection.
    async fn find(&mut self, needle: &str) -> Option<String> {
        let reading = async {
            loop {
                let mut places = self.unread.windows(needle.len());
                if let Some(place) = places.position(|place| place == needle.as_bytes()) {
                    let text = self.unread.split_to(place + needle.len());
                    return Some(str::from_utf8(&text).unwrap().to_owned());
                }
                if !self.more().await {
                    return None;
                }
            }
        };
        let found = timeout(PATIENCE, reading).await;
        found.unwrap_or_else(|_| panic!("no {needle} in time"))
    }

    pub(crate) async fn until(&mut self, needle: &str) -> String {
        let found = self.find(needle).await;
        found.unwrap_or_else(|| panic!("no {needle} in {:?}", self.unread))
    }

    /// Reads to the end of the stream, or of the connection. Returns whether it was that of the
    /// stream.
    async fn end(mut self) -> bool {
        let reading = async {
            while !self.unread.ends_with(b"\r\n0\r\n\r\n") {
                if !self.more().await {
                    return false;
                }
            }
            true
        };
        timeout(PATIENCE, reading).await.expect("an end in time")
    }

    async fn event(&mut self) -> Event {
        self.next().await.expect("an event")
    }

    /// The next event, `reset` or the state of a session; `None` at the end of the connection.
    async fn next(&mut self) -> Option<Event> {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "nothing but comments");
            let block = self.find("\n\n").await?;
            let field = |name: &str| {
                let mut lines = block.lines();
                lines.find_map(|line| {
                    line.strip_prefix(name)?
                        .strip_prefix(": ")
                        .map(str::to_owned)
                })
            };
            if let Some(id) = field("id") {
                self.id = id;
            }
            if let (Some(name), Some(data)) = (field("event"), field("data")) {
                let data = serde_json::from_str(&data).unwrap();
                return Some(Event { name, data });
            }
        }
    }

    /// The state of a session with this topic as soon as `is_such`.
    async fn state(&mut self, topic: &str, is_such: impl Fn(&Value) -> bool) -> Value {
        let reading = async {
            loop {
                let event = self.event().await;
                assert_eq!(event.name, "session", "{event:?}");
                if event.data["session_topic"] == topic && is_such(&event.data) {
                    return event.data;
                }
            }
        };
        let found = timeout(PATIENCE, reading).await;
        found.unwrap_or_else(|_| panic!("{topic} is not so in time"))
    }

    pub(crate) async fn topic(&mut self, topic: &str) -> Value {
        self.state(topic, |_| true).await
    }
}

#[derive(Debug)]
struct Event {
    name: String,
    data: Value,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_readers_each_see_a_report() {
    rlimit::increase_nofile_limit(4096).unwrap();
    let server = Server::start(&[]);
    let mut readers = Vec::new();
    for _ in 0..1000 {
        readers.push(Reader::follow(&server).await);
    }
    for topic in ["one", "two"] {
        server.report(topic, "running").await;
        for reader in &mut readers {
            assert_eq!(reader.topic(topic).await["current_status"], "running");
        }
    }
}

#[tokio::test]
async fn who_missed_more_than_a_thousand_sessions_starts_again() {
    let server = Server::start(&[]);
    let mut reader = Reader::follow(&server).await;
    server.report("first", "running").await;
    reader.topic("first").await;
    let id = reader.id.clone();
    // What happened is known by heart as long as somebody follows.
    let following = tokio::spawn(async move {
        while reader.more().await {
            reader.unread.clear();
        }
    });
    for number in 0..1000 {
        server.report(&number.to_string(), "running").await;
    }
    let mut again = Reader::start(&server, None, Some(&id)).await;
    assert_eq!(again.event().await.data["session_topic"], "0");
    server.report("one more", "running").await;
    again.topic("one more").await;

    let mut again = Reader::start(&server, None, Some(&id)).await;
    assert_eq!(again.event().await.name, "reset");
    server.report("live", "running").await;
    again.topic("live").await;
    assert!(!following.is_finished(), "a stream ended");
}

#[tokio::test]
async fn a_restart_in_memory_starts_again() {
    let server = Server::start(&[]);
    let mut reader = Reader::follow(&server).await;
    server.report("before", "running").await;
    reader.topic("before").await;
    let id = reader.id.clone();
    drop(server);
    assert!(!reader.end().await, "a killed server ends nothing");
    let server = Server::start(&[]);
    let mut again = Reader::start(&server, None, Some(&id)).await;
    assert_eq!(again.event().await.name, "reset");
    server.report("after", "running").await;
    again.topic("after").await;
}

#[tokio::test]
async fn a_reader_goes_on_after_the_death_of_a_server_with_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!(
        "sqlite://{}",
        directory.path().join("kubeagents.db").display()
    );
    let variables = [("DATABASE_URL", &*url)];
    let server = Server::start(&variables);
    let mut reader = Reader::follow(&server).await;
    server.report("seen", "running").await;
    reader.topic("seen").await;
    let id = reader.id.clone();
    server.report("missed", "pending").await;
    // It is killed.
    drop(server);

    let server = Server::start(&variables);
    for _ in 0..2 {
        let mut again = Reader::start(&server, None, Some(&id)).await;
        let state = again.topic("missed").await;
        assert_eq!(state["current_status"], "pending");
        server.report("live", "running").await;
        again.topic("live").await;
    }
}

#[tokio::test]
async fn who_comes_back_learns_of_a_new_name_on_sessions_that_have_long_been_quiet() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubeagents.db");
    let url = format!("sqlite://{}", file.display());
    let variables = [("DATABASE_URL", &*url), ("PORT", "0")];
    let name = async |server: &Server, topic: &str, name: &str| {
        let mut body = report(topic, "running");
        body["agent_name"] = json!(name);
        let answer = server.post("/webhook/status", &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    };
    let server = Server::start(&variables);
    name(&server, "quiet", "Alice").await;
    drop(server);

    // What came shortly before the last event comes again in any case: a minute passes.
    let server = Server::of(&mut a_minute_ahead(command(&variables)));
    let mut reader = Reader::follow(&server).await;
    name(&server, "seen", "Alice").await;
    reader.topic("seen").await;
    let id = reader.id.clone();
    drop(reader);
    name(&server, "missed", "Bob").await;
    drop(server);

    let server = Server::of(&mut a_minute_ahead(command(&variables)));
    let mut again = Reader::start(&server, None, Some(&id)).await;
    let mut left = vec!["quiet", "seen", "missed"];
    while !left.is_empty() {
        let event = again.event().await;
        assert_eq!(
            (&*event.name, &event.data["agent_name"]),
            ("session", &json!("Bob"))
        );
        left.retain(|topic| event.data["session_topic"] != *topic);
    }
}

/// A reader whose connection takes little at a time, so that it is slow as soon as it does not read.
async fn narrow(server: &Server, after: Option<&str>) -> Reader {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    let stream = socket.connect(server.address).await.unwrap();
    Reader::on(stream, None, after).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_are_slow_delay_nobody_and_cost_little() {
    const SESSIONS: usize = 240;
    let server = Server::start(&[]);
    let mut fast = Reader::follow(&server).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        slow.push(narrow(&server, None).await);
    }
    let context: Value = (0..20)
        .map(|key| (format!("k{key}"), json!("𝄞".repeat(200))))
        .collect();
    let before = resident(&server);
    let rounds = 4;
    for round in 0..rounds {
        for session in 0..SESSIONS {
            let mut body = numbered(&session.to_string(), round);
            body["context"] = context.clone();
            let answer = server.post("/webhook/status", &body).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        }
        let last = (SESSIONS - 1).to_string();
        let newest = format!("{last} {round}");
        fast.state(&last, |state| state["message"] == newest).await;
        for reader in &mut slow {
            // A little of what there is by now, as over a bad line.
            let enough = reader.unread.len() + (256 << 10);
            while reader.unread.len() < enough && reader.more().await {}
        }
    }
    let grown = resident(&server).saturating_sub(before);
    // What was sent is four times as much for each of them, and all sessions are as much together.
    let all = SESSIONS * context.to_string().len();
    assert!(
        grown < 20 * all,
        "{grown} bytes more for {all} bytes of sessions"
    );

    // The system holds back as little.
    let unsent = unsent(&server) / slow.len();
    assert!(unsent < 512 << 10, "{unsent} bytes for each reader");

    // It is told how all of them stand now.
    let mut reader = slow.pop().unwrap();
    let mut left: HashSet<String> = (0..SESSIONS).map(|session| session.to_string()).collect();
    while !left.is_empty() {
        let Some(event) = reader.next().await else {
            // A machine that is slow itself took so long that the stream was cut off.
            reader = narrow(&server, Some(&reader.id)).await;
            continue;
        };
        assert_eq!(event.name, "session");
        let topic = event.data["session_topic"].as_str().unwrap();
        if event.data["message"] == format!("{topic} {}", rounds - 1) {
            left.remove(topic);
        }
    }
}

/// The bytes that the system has taken from a server and that its clients have not.
fn unsent(server: &Server) -> usize {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", server.address.port());
    let queues = sockets.lines().filter_map(|socket| {
        let mut fields = socket.split_whitespace().skip(1);
        fields.next()?.ends_with(&port).then_some(())?;
        let (queue, _) = fields.nth(2)?.split_once(':')?;
        usize::from_str_radix(queue, 16).ok()
    });
    queues.sum()
}

/// The bytes of memory that a server takes up.
fn resident(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let mut lines = status.lines();
    let size = lines.find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kibibytes: usize = size.trim().trim_end_matches(" kB").parse().unwrap();
    kibibytes << 10
}

#[tokio::test]
async fn streams_end_at_once_when_the_server_stops() {
    for delay in ["0", "60"] {
        let mut server = Server::start(&[("SHUTDOWN_DELAY_SECONDS", delay)]);
        let reader = Reader::follow(&server).await;
        server.signal(Signal::TERM);
        assert!(reader.end().await, "cut off");
        if delay == "0" {
            assert_eq!(server.exit_code().await, Some(0));
            let lines = server.process.log().lines();
            assert!(
                !lines.iter().any(|line| line.contains("broken off")),
                "{lines:?}"
            );
        } else {
            let refused = server.get("/api/events").await;
            assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let server = Server::start(&[("AUTH_MODE", "required"), ("JWT_ACCESS_TOKEN_EXPIRY", "4s")]);
    let mut tokens = server.account("alice@example.com").await;
    let (token, reader) = loop {
        let refresh = json!({"refresh_token": tokens["refresh_token"]});
        tokens = server.post("/api/auth/refresh", &refresh).await.body;
        let token = tokens["access_token"].as_str().unwrap();
        let stream = TcpStream::connect(server.address).await.unwrap();
        match Reader::on(stream, Some(token), None).await {
            Ok(reader) => break (token.to_owned(), reader),
            // It took so long to ask.
            Err(refusal) => assert!(refusal.starts_with("HTTP/1.1 401 "), "{refusal}"),
        }
    };
    assert!(reader.end().await, "cut off");
    let answer = server
        .send(
            http::Method::GET,
            "/api/sessions",
            Some(&token),
            &Value::Null,
        )
        .await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_connection_that_may_not_be_idle_keeps_its_stream() {
    let server = Server::start(&[("KEEP_ALIVE_SECONDS", "1")]);
    let silence = Instant::now();
    let mut reader = Reader::follow(&server).await;
    // Nothing but time passes until the comment.
    reader.until(":\n\n").await;
    assert!(silence.elapsed() > Duration::from_secs(10));
    server.report("topic", "running").await;
    reader.topic("topic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_on_one_database_show_each_others_changes() {
    let database = database();
    let url = database.url();
    let variables = [("DATABASE_URL", &*url), ("AUTH_MODE", "open")];
    let (server, other) = (Server::start(&variables), Server::start(&variables));
    let mut reader = Reader::follow(&server).await;
    other.report("late", "running").await;
    reader.topic("late").await;

    // A commit that lands long after others that began later.
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    let held = sqlx::query(
        "UPDATE kubeagents_data.sessions SET seq = seq + 1, message = 'held', \
            changed = pg_current_xact_id()::text::bigint WHERE session_topic = 'late'",
    );
    held.execute(&mut *transaction).await.unwrap();
    for round in 0..3 {
        let topic = format!("meanwhile {round}");
        other.report(&topic, "running").await;
        reader.topic(&topic).await;
    }
    let id = reader.id.clone();
    transaction.commit().await.unwrap();
    reader
        .state("late", |state| state["message"] == "held")
        .await;

    // The other server knows what the first one's reader has missed: it was committed late, and the
    // agent has another name.
    let mut named = report("named", "running");
    named["agent_name"] = json!("Alice");
    other.post("/webhook/status", &named).await;
    reader
        .state("late", |state| state["agent_name"] == "Alice")
        .await;
    drop(server);
    let mut again = Reader::start(&other, None, Some(&id)).await;
    let state = again.topic("late").await;
    assert_eq!(
        (&state["message"], &state["agent_name"]),
        (&json!("held"), &json!("Alice"))
    );
    other.report("live", "running").await;
    again.topic("live").await;

    for foreign in ["9999999999:9999999999:", "1:2", "2:1:", "1:3:9"] {
        let (begin, _) = id.rsplit_once('-').unwrap();
        let id = format!("{begin}-{foreign}");
        let mut again = Reader::start(&other, None, Some(&id)).await;
        assert_eq!(again.event().await.name, "reset", "{foreign}");
    }
}
