use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all, join3};
use http::{Method, StatusCode};
use kubeagents_test_postgres::SmallDisk;
use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::support::{
    Answer, PATIENCE, Receiver, Reply, Server, assert_stored_once, command, ends_with, eventually,
    load, numbered, registration, report,
};

/// A directory with the file of a database, or room for one.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("kubeagents.db")
    }

    fn url(&self) -> String {
        url(&self.file())
    }

    fn open(&self) -> Server {
        Server::start(&[("DATABASE_URL", &self.url())])
    }
}

fn url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

fn messages(file: &Path) -> Vec<String> {
    let connection = Connection::open(file).unwrap();
    let mut all = connection
        .prepare("SELECT message FROM statuses ORDER BY topic, seq")
        .unwrap();
    let rows = all.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// The number of statuses; none where there is no table yet.
fn count(file: &Path) -> i64 {
    let connection = Connection::open(file).unwrap();
    let count = connection.query_row("SELECT count(*) FROM statuses", [], |row| row.get(0));
    count.unwrap_or(0)
}

/// Puts a server under load; `round` makes the topics new.
fn loads(
    server: &Arc<Server>,
    round: usize,
    stop: &Arc<AtomicBool>,
) -> Vec<JoinHandle<Vec<String>>> {
    let topic = |number| format!("round {round} topic {number}");
    let load = |number| load(server.clone(), topic(number), stop.clone());
    (0..8).map(|number| tokio::spawn(load(number))).collect()
}

async fn ended(loads: Vec<JoinHandle<Vec<String>>>) -> Vec<String> {
    let mut answered = Vec::new();
    for load in loads {
        answered.extend(load.await.unwrap());
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_200_survives_the_death_of_the_server() {
    let place = Place::new();
    let mut answered = Vec::new();
    for round in 0..3 {
        let server = Arc::new(place.open());
        let before = count(&place.file());
        let loads = loads(&server, round, &Arc::default());
        eventually("reports", || {
            (count(&place.file()) > before + 200).then_some(())
        })
        .await;
        server.signal(Signal::KILL);
        answered.extend(ended(loads).await);
        assert_stored_once(&messages(&place.file()), &answered);
    }
    assert!(answered.len() > 300, "{} answers", answered.len());
    let server = place.open();
    server.report("round 0 topic 0", "running").await;
    let agent = server.get("/api/agents/agent").await.body;
    assert_eq!(agent["session_count"], 24, "{agent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_survive_the_death_of_the_server() {
    let place = Place::new();
    let receiver = Receiver::start(|before| match before {
        0..4 => Reply::Hang,
        _ => Reply::Status(200),
    })
    .await;
    let (url, receiver_url) = (place.url(), receiver.url());
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("NOTIFICATION_WEBHOOK_URL", &receiver_url),
        ("NOTIFICATION_TIMEOUT_SECONDS", "1"),
    ];
    let server = Server::start(&variables);
    for topic in 0..8 {
        server.finish(&format!("topic {topic}")).await;
    }
    receiver.wait_for(4).await;
    // Dropping a server kills it.
    drop(server);
    let waiting = || -> i64 {
        let connection = Connection::open(place.file()).unwrap();
        let count = "SELECT count(*) FROM outbox";
        connection.query_row(count, [], |row| row.get(0)).unwrap()
    };
    assert_ne!(waiting(), 0);
    let _server = Server::start(&variables);
    eventually("an empty outbox", || (waiting() == 0).then_some(())).await;
    assert_eq!(receiver.attempts().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_that_begins_while_the_server_is_down_is_told_unless_it_is_old() {
    let place = Place::new();
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let server = place.open();
    let channel = json!({"name": "silence", "url": receiver.url(), "events": ["silent"]});
    let created = server.post("/api/channels", &channel).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    for topic in ["recent", "old", "running"] {
        server.report(topic, "running").await;
    }
    drop(server);
    let file = Connection::open(place.file()).unwrap();
    file.execute_batch(
        "UPDATE channels SET created_at = created_at - 86400000000;
        UPDATE sessions SET last_updated = last_updated - 6600000000,
            expires_at = expires_at - 6600000000 WHERE topic = 'recent';
        UPDATE sessions SET last_updated = last_updated - 7300000000,
            expires_at = expires_at - 7300000000 WHERE topic = 'old'",
    )
    .unwrap();
    let _server = place.open();
    let told = receiver.wait_for(1).await;
    let body = told[0].json();
    assert_eq!(body["type"], "session.silent");
    assert_eq!(body["data"]["session_topic"], "recent");
    // All that is due is noticed at once.
    let noticed = "SELECT group_concat(topic) FROM sessions WHERE silence = 2";
    let noticed: String = file.query_row(noticed, [], |row| row.get(0)).unwrap();
    assert_eq!(noticed, "recent");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_configured_channel_was_told_waits_no_more() {
    let place = Place::new();
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let (url, receiver_url) = (place.url(), receiver.url());
    let server = Server::start(&[
        ("DATABASE_URL", &url),
        ("NOTIFICATION_WEBHOOK_URL", &receiver_url),
        ("NOTIFICATION_WEBHOOK_FORMAT", "webhook"),
        ("NOTIFICATION_EVENTS", "started"),
    ]);
    for topic in 0..5 {
        server.report(&topic.to_string(), "running").await;
    }
    receiver.wait_for(5).await;
    let file = Connection::open(place.file()).unwrap();
    eventually("an empty outbox", || {
        let count = "SELECT count(*) FROM outbox";
        let count: i64 = file.query_row(count, [], |row| row.get(0)).unwrap();
        (count == 0).then_some(())
    })
    .await;
    assert_eq!(receiver.attempts().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_asked_for_beyond_loopback_only() {
    let place = Place::new();
    let server = place.open();
    server.report("topic", "running").await;
    drop(server);
    let server = Server::start(&[("DATABASE_URL", &place.url()), ("HOST", "0.0.0.0")]);
    let answer = server.get("/api/agents").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relative_file_is_in_the_directory_that_the_server_is_started_in() {
    let place = Place::new();
    let mut command = command(&[("DATABASE_URL", "sqlite:kubeagents.db"), ("PORT", "0")]);
    let server = Server::of(command.current_dir(place.0.path()));
    server.report("topic", "running").await;
    assert_eq!(count(&place.file()), 1);
}

#[tokio::test]
async fn nobody_else_reads_or_locks_its_files() {
    let place = Place::new();
    let server = place.open();
    server.report("topic", "running").await;
    let mut names = Vec::new();
    for entry in fs::read_dir(place.0.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{entry:?}");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    let ends = ["", "-lock", "-shm", "-wal"];
    assert_eq!(names, ends.map(|end| format!("kubeagents.db{end}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_a_file_is_refused_until_the_first_has_ended() {
    let place = Place::new();
    let server = place.open();
    let other_name = place.0.path().join("other.db");
    std::os::unix::fs::symlink(place.file(), &other_name).unwrap();
    for name in [place.file(), other_name] {
        let (code, log) = ends_with(&[("DATABASE_URL", &url(&name))]);
        assert_eq!(code, Some(1), "{log}");
        let holder = format!(
            "another kubeagents server is using it (process {})",
            server.process.id()
        );
        assert!(
            log.contains("DATABASE_URL") && log.contains(&holder),
            "{log}"
        );
    }
    server.report("topic", "running").await;
    server.signal(Signal::KILL);
    drop(server);
    let server = place.open();
    server.report("topic", "running").await;
    assert_eq!(count(&place.file()), 2);
}

/// A connection of another program, which keeps all others from writing to the file until it is dropped.
fn lock(file: &Path) -> Connection {
    let connection = Connection::open(file).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

/// An account that has a key, and the server that it is on.
struct Account {
    server: Server,
    access: String,
    key_id: String,
}

impl Account {
    async fn of(place: &Place) -> Self {
        let server = place.open();
        let tokens = server.account("user@example.com").await;
        let access = tokens["access_token"].as_str().unwrap().to_owned();
        let key = json!({"name": "old"});
        let key = server.send(Method::POST, "/api/apikeys", Some(&access), &key);
        let key_id = key.await.body["id"].as_str().unwrap().to_owned();
        Self {
            server,
            access,
            key_id,
        }
    }

    /// The answers to changes of every kind, asked for at once.
    async fn change_everything(&self) -> Vec<Answer> {
        let access = Some(&*self.access);
        let key = format!("/api/apikeys/{}", self.key_id);
        let hook = "http://127.0.0.1:9/hook";
        let account = json!({"notification_webhook_url": hook});
        let channel = json!({"name": "channel", "url": hook});
        let other = registration("other@example.com");
        let new_key = json!({"name": "new"});
        let report = numbered("topic", 1);
        let changes = [
            (Method::PUT, "/api/auth/me", access, &account),
            (Method::POST, "/api/auth/register", None, &other),
            (Method::POST, "/api/apikeys", access, &new_key),
            (Method::DELETE, &key, access, &Value::Null),
            (Method::POST, "/api/channels", None, &channel),
            (Method::POST, "/webhook/status", None, &report),
        ];
        let send = |(method, path, token, body)| self.server.send(method, path, token, body);
        join_all(changes.map(send)).await
    }

    /// Checks that those changes were made, once each.
    async fn assert_changed(&self, answers: &[Answer]) {
        for answer in answers {
            assert!(answer.status.is_success(), "{answer:?}");
        }
        let get = async |path| {
            let answer = self
                .server
                .send(Method::GET, path, Some(&self.access), &Value::Null);
            answer.await.body
        };
        let account = get("/api/auth/me").await;
        assert_eq!(
            account["notification_webhook_url"],
            "http://127.0.0.1:9/hook"
        );
        let keys = get("/api/apikeys").await;
        let keys = keys["api_keys"].as_array().unwrap();
        let keys = keys.iter().map(|key| json!([key["name"], key["revoked"]]));
        let expected = [json!(["new", false]), json!(["old", true])];
        assert_eq!(keys.collect::<Vec<_>>(), expected);
        let channels = self.server.get("/api/channels").await.body;
        assert_eq!(channels["channels"].as_array().map(Vec::len), Some(1));
        let history = self
            .server
            .get("/api/agents/agent/sessions/topic")
            .await
            .body;
        let history = history["status_history"].as_array().unwrap();
        let messages: Vec<_> = history.iter().map(|status| &status["message"]).collect();
        assert_eq!(messages, ["topic 1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_every_kind_wait_while_another_program_writes_to_the_file() {
    let place = Place::new();
    let account = Account::of(&place).await;
    let lock = lock(&place.file());
    let call = |number: usize| {
        let arguments = json!({
            "agent_id": "batch", "session_topic": "topic",
            "status": "running", "message": number.to_string(),
        });
        let params = json!({"name": "report_status", "arguments": arguments});
        json!({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})
    };
    let batch: Value = (0..5).map(call).collect();
    let release = async {
        // Longer than the five seconds that the driver has SQLite wait by itself.
        tokio::time::sleep(Duration::from_secs(7)).await;
        drop(lock);
    };
    let reports = account.server.post("/mcp", &batch);
    let ((), answers, reports) = join3(release, account.change_everything(), reports).await;
    account.assert_changed(&answers).await;
    assert!(!reports.body.to_string().contains("error"), "{reports:?}");
    let history = account
        .server
        .get("/api/agents/batch/sessions/topic")
        .await
        .body;
    let history = history["status_history"].as_array().unwrap();
    let messages: Vec<_> = history.iter().map(|status| &status["message"]).collect();
    assert_eq!(messages, ["4", "3", "2", "1", "0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_answered_503_while_another_program_does_not_stop_writing_to_the_file() {
    let place = Place::new();
    let account = Account::of(&place).await;
    let lock = lock(&place.file());
    let reads = async {
        for path in ["/ready", "/api/agents", "/api/channels"] {
            let answer = account.server.get(path).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        }
    };
    let (answers, ()) = join(account.change_everything(), reads).await;
    for answer in &answers {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        assert_eq!(answer.headers["retry-after"], "1");
    }
    account.server.logged(&["database is locked"]).await;
    drop(lock);
    let answers = account.change_everything().await;
    account.assert_changed(&answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_a_wrong_clock_has_stored_is_told_of_once() {
    let place = Place::new();
    let server = place.open();
    server.report("topic", "running").await;
    let year = "UPDATE sessions SET last_updated = last_updated + 31536000000000,
        expires_at = expires_at + 31536000000000";
    let file = Connection::open(place.file()).unwrap();
    assert_eq!(file.execute(year, []).unwrap(), 1);
    for _ in 0..3 {
        server.report("topic", "running").await;
    }
    // What is logged comes in the order of what happened.
    server.report("other", "running").await;
    let words = "the clock is right again";
    server.logged(&[words, "topic"]).await;
    let lines = server.process.log().lines();
    let warnings = lines.iter().filter(|line| line.contains(words)).count();
    assert_eq!(warnings, 1, "{lines:#?}");
}

#[test]
fn what_is_no_database_of_ours_is_refused_and_left_as_it_is() {
    let place = Place::new();
    let refused = |file: &Path, code: i32, reason: &str| {
        let before = fs::read(file).ok();
        let (ended, log) = ends_with(&[("DATABASE_URL", &url(file))]);
        assert_eq!(ended, Some(code), "{log}");
        assert!(
            log.contains("DATABASE_URL") && log.contains(reason),
            "{log}"
        );
        assert!(log.contains(&file.display().to_string()), "{log}");
        assert_eq!(fs::read(file).ok(), before);
    };
    let text = place.0.path().join("notes.txt");
    fs::write(&text, "no database\n".repeat(1000)).unwrap();
    refused(&text, 2, "not a database");

    refused(
        &place.0.path().join("missing/kubeagents.db"),
        2,
        "its directory",
    );
    refused(place.0.path(), 2, "directory");

    let newer = place.0.path().join("newer.db");
    let connection = Connection::open(&newer).unwrap();
    connection
        .pragma_update(None, "user_version", 1000)
        .unwrap();
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .unwrap();
    drop(connection);
    refused(&newer, 1, "its schema has version 1000");

    for (name, table, version) in [("notes.db", "notes", 0), ("agents.db", "agents", 2)] {
        let file = place.0.path().join(name);
        let connection = Connection::open(&file).unwrap();
        connection
            .execute(&format!("CREATE TABLE {table} (id)"), [])
            .unwrap();
        connection
            .pragma_update(None, "user_version", version)
            .unwrap();
        drop(connection);
        refused(&file, 2, "database of another program");
    }
    refused(Path::new("/dev/null"), 2, "no regular file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_leaves_everything_in_the_one_file() {
    let place = Place::new();
    let mut server = place.open();
    for _ in 0..3 {
        server.report("topic", "running").await;
    }
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code().await, Some(0));
    let copy = place.0.path().join("copy.db");
    fs::copy(place.file(), &copy).unwrap();
    assert_eq!(count(&copy), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_two_names_is_refused() {
    let place = Place::new();
    let server = place.open();
    server.report("topic", "running").await;
    let other_name = place.0.path().join("other.db");
    fs::hard_link(place.file(), &other_name).unwrap();
    let (code, log) = ends_with(&[("DATABASE_URL", &url(&other_name))]);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("more than one hard link"), "{log}");
}

#[test]
fn addresses_that_name_no_file_are_refused() {
    for url in [
        "sqlite:",
        "sqlite::memory:",
        "sqlite://kubeagents.db",
        "sqlite:kubeagents.db?mode=ro",
        "sqlite:///",
    ] {
        let (code, log) = ends_with(&[("DATABASE_URL", url)]);
        assert_eq!(code, Some(2), "{url}: {log}");
        assert!(
            log.contains("DATABASE_URL must name a file"),
            "{url}: {log}"
        );
    }
    let both = [
        ("DATABASE_URL", "sqlite:kubeagents.db"),
        ("DB_NAME", "name"),
    ];
    let (code, log) = ends_with(&both);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("DATABASE_URL, or DB_HOST"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_cannot_be_written_to_is_refused() {
    let disk = SmallDisk::mount(64);
    let file = disk.tablespace().join("kubeagents.db");
    let server = Server::start(&[("DATABASE_URL", &url(&file))]);
    server.report("topic", "running").await;
    drop(server);
    disk.read_only();
    let (code, log) = ends_with(&[("DATABASE_URL", &url(&file))]);
    assert_eq!(code, Some(2), "{log}");
    assert!(
        log.contains("DATABASE_URL") && log.contains("Read-only"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_deleted_or_replaced_under_the_server_is_noticed() {
    for name in ["kubeagents.db", "kubeagents.db-wal"] {
        let place = Place::new();
        let server = place.open();
        server.report("topic", "running").await;
        let (file, elsewhere) = (place.0.path().join(name), place.0.path().join("moved"));
        let refused = async || {
            for answer in [
                server.get("/ready").await,
                server
                    .post("/webhook/status", &report("topic", "success"))
                    .await,
            ] {
                assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{name}");
            }
        };
        fs::rename(&file, &elsewhere).unwrap();
        refused().await;
        server
            .logged(&["path=\"/ready\"", name, "deleted, moved or replaced"])
            .await;
        fs::copy(&elsewhere, &file).unwrap();
        refused().await;
        fs::rename(&elsewhere, &file).unwrap();
        assert_eq!(server.get("/ready").await.status, StatusCode::OK);
        server.report("topic", "running").await;
        assert_eq!(server.get("/health").await.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_reports_until_there_is_room_again() {
    let disk = SmallDisk::mount(64);
    let file = disk.tablespace().join("kubeagents.db");
    let variables = [("DATABASE_URL", &*url(&file))];
    let server = Arc::new(Server::start(&variables));
    let stop = Arc::new(AtomicBool::new(false));
    let loads = loads(&server, 0, &stop);
    let start = std::time::Instant::now();
    let (mut answered, mut numbers) = (Vec::new(), 0..);
    let mut another = async || {
        assert!(start.elapsed() < PATIENCE * 2, "no change in time");
        let body = numbered("other", numbers.next().unwrap());
        let answer = server.post("/webhook/status", &body).await;
        if answer.status == StatusCode::OK {
            answered.push(body["message"].as_str().unwrap().to_owned());
        }
        answer
    };

    disk.fill();
    let refused = loop {
        let answer = another().await;
        if answer.status != StatusCode::OK {
            break answer;
        }
    };
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(server.get("/health").await.status, StatusCode::OK);
    server.logged(&["database or disk is full"]).await;

    disk.free();
    while another().await.status != StatusCode::OK {}
    let so_far = count(&file);
    eventually("more reports", || {
        (count(&file) > so_far + 50).then_some(())
    })
    .await;

    stop.store(true, Ordering::Relaxed);
    answered.extend(ended(loads).await);
    assert_stored_once(&messages(&file), &answered);

    // It does not start where there is no room for what it has to write.
    drop(server);
    disk.fill();
    let empty = disk.tablespace().join("other.db");
    let (code, log) = ends_with(&[("DATABASE_URL", &*url(&empty))]);
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains("DATABASE_URL") && log.contains("full"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_answered_503_and_nothing_else_is_lost() {
    let place = Place::new();
    let server = place.open();
    let long = "text ".repeat(2000);
    for topic in 0..100 {
        let mut body = report(&format!("topic {topic:02}"), "running");
        body["content"] = json!(long);
        let answer = server.post("/webhook/status", &body).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    server.signal(Signal::TERM);
    let mut server = server;
    assert_eq!(server.exit_code().await, Some(0));
    drop(server);

    // Only the table of statuses is damaged, whose pages are named by the schema.
    let connection = Connection::open(place.file()).unwrap();
    let root: i64 = connection
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'statuses'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let size: i64 = connection
        .query_row("PRAGMA page_size", [], |row| row.get(0))
        .unwrap();
    drop(connection);
    let mut bytes = fs::read(place.file()).unwrap();
    let (root, size) = (
        usize::try_from(root).unwrap(),
        usize::try_from(size).unwrap(),
    );
    bytes[(root - 1) * size..root * size].fill(0xff);
    fs::write(place.file(), bytes).unwrap();

    let server = place.open();
    let history = server.get("/api/agents/agent/sessions/topic%2001").await;
    assert_eq!(history.status, StatusCode::SERVICE_UNAVAILABLE);
    let refused = server
        .post("/webhook/status", &report("topic 01", "running"))
        .await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    server.logged(&["database disk image is malformed"]).await;
    let sessions = server.get("/api/agents/agent/sessions?limit=100").await;
    assert_eq!(sessions.status, StatusCode::OK);
    assert_eq!(sessions.body["sessions"].as_array().unwrap().len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_server_is_a_database_of_one_instant() {
    let place = Place::new();
    let server = Arc::new(place.open());
    let stop = Arc::new(AtomicBool::new(false));
    let before: Vec<String> = (0..20).map(|number| format!("before {number}")).collect();
    for number in 0..20 {
        let body = numbered("before", number);
        let answer = server.post("/webhook/status", &body).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    let loads = loads(&server, 0, &stop);
    eventually("reports", || (count(&place.file()) > 200).then_some(())).await;
    let copy = place.0.path().join("backup.db");
    let back_up = || {
        let mut command = command(&[("DATABASE_URL", &place.url())]);
        command.arg("backup").arg(&copy).output().unwrap()
    };
    let output = back_up();
    assert!(output.status.success(), "{output:?}");
    let in_copy = messages(&copy);
    assert_stored_once(&in_copy, &before);
    stop.store(true, Ordering::Relaxed);
    let answered = ended(loads).await;
    assert_stored_once(&messages(&place.file()), &answered);

    let bytes = fs::read(&copy).unwrap();
    let output = back_up();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("overwrites nothing"), "{log}");
    assert_eq!(fs::read(&copy).unwrap(), bytes);
    let names = fs::read_dir(place.0.path()).unwrap();
    let left = names.filter(|name| {
        name.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with('.')
    });
    assert_eq!(left.count(), 0, "a partial copy is left behind");

    let restored = Server::start(&[("DATABASE_URL", &url(&copy))]);
    restored.report("before", "success").await;
    assert_eq!(messages(&copy).len(), in_copy.len() + 1);
    let session = restored.get("/api/agents/agent/sessions/before").await.body;
    assert_eq!(
        session["status_history"].as_array().unwrap().len(),
        21,
        "{session}"
    );
}

#[test]
fn there_is_no_backup_of_what_is_no_database() {
    let place = Place::new();
    let copy = place.0.path().join("backup.db");
    let back_up = |variables: &[(&str, &str)]| {
        let output = command(variables)
            .arg("backup")
            .arg(&copy)
            .output()
            .unwrap();
        assert!(!copy.exists());
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, log) = back_up(&[]);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("DATABASE_URL must"), "{log}");
    let (code, log) = back_up(&[("DATABASE_URL", &place.url())]);
    assert_ne!(code, Some(0), "{log}");
    assert!(log.contains("DATABASE_URL"), "{log}");
    fs::write(place.file(), "no database\n".repeat(1000)).unwrap();
    let (code, log) = back_up(&[("DATABASE_URL", &place.url())]);
    assert_ne!(code, Some(0), "{log}");
    assert_eq!(log.matches("not a database").count(), 1, "{log}");
    fs::write(place.file(), "").unwrap();
    let (code, log) = back_up(&[("DATABASE_URL", &place.url())]);
    assert_ne!(code, Some(0), "{log}");
    assert!(log.contains("holds nothing yet"), "{log}");
    let output = command(&[("DATABASE_URL", &place.url())])
        .arg("backup")
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("<FILE>"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_statuses_are_deleted_where_retention_is_set() {
    let place = Place::new();
    let server = place.open();
    for _ in 0..3 {
        server.report("topic", "running").await;
    }
    drop(server);
    let connection = Connection::open(place.file()).unwrap();
    let age = "UPDATE statuses SET timestamp = seq; UPDATE sessions SET noted_at = seq";
    connection.execute_batch(age).unwrap();
    let _server = Server::start(&[
        ("DATABASE_URL", &place.url()),
        ("HISTORY_RETENTION_DAYS", "1"),
    ]);
    eventually("old statuses to go", || {
        (count(&place.file()) == 1).then_some(())
    })
    .await;
}
