//! What of the component the contract does not show: what it imports, how instances get along on
//! one storage, and what it does when it cannot work.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::HashSet;
use std::pin::pin;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, join, join_all, select};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use kubeagents_contract::page_in_browser;
use kubeagents_spin_tests::{Built, Compiled, Options, Reuse, SpinHost, store_suite};
use kubeagents_test_postgres::{Cluster, PgBouncer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::NoTls;

static BUILT: LazyLock<Built> = LazyLock::new(|| Built::new().unwrap());

/// Short-lived and long-lived instances, several of them at once.
const MIXED: [Reuse; 3] = [
    Reuse {
        requests: 7,
        concurrent: 2,
    },
    Reuse::NONE,
    Reuse {
        requests: 128,
        concurrent: 4,
    },
];

async fn start(options: &Options) -> SpinHost {
    SpinHost::start(&BUILT.manifest, &BUILT.compiled, options)
        .await
        .unwrap()
}

async fn send(host: &SpinHost, request: Request<Full<Bytes>>) -> Response<Bytes> {
    let address = host.url().strip_prefix("http://").unwrap().to_owned();
    let stream = TcpStream::connect(&address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let (mut parts, body) = request.into_parts();
    parts.headers.insert("host", address.parse().unwrap());
    let response = sender
        .send_request(Request::from_parts(parts, body))
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

async fn get(host: &SpinHost, path: &str) -> (StatusCode, Value) {
    let response = send(host, Request::get(path).body(Full::default()).unwrap()).await;
    (
        response.status(),
        serde_json::from_slice(response.body()).unwrap_or_default(),
    )
}

async fn report(host: &SpinHost, agent: &str, topic: &str) -> StatusCode {
    report_status(host, agent, topic, "running").await
}

async fn report_status(host: &SpinHost, agent: &str, topic: &str, status: &str) -> StatusCode {
    let body = json!({
        "agent_id": agent,
        "session_topic": topic,
        "status": status,
        "timestamp": "2026-01-01T00:00:00Z",
    });
    let request = Request::post("/webhook/status")
        .body(body.to_string().into())
        .unwrap();
    send(host, request).await.status()
}

/// Writers on one session and on sessions of one agent, over instances that come and go: every
/// report that was answered 200 is in the history, once.
async fn concurrent_reports_all_land_once(options: Options) {
    const WRITERS: usize = 12;
    const REPORTS: usize = 5;
    let host = start(&options).await;
    join_all((0..WRITERS).map(|writer| {
        let host = &host;
        async move {
            for _ in 0..REPORTS {
                assert_eq!(report(host, "agent", "shared").await, 200);
                assert_eq!(report(host, "agent", &format!("own {writer}")).await, 200);
            }
        }
    }))
    .await;
    let (_, shared) = get(&host, "/api/agents/agent/sessions/shared").await;
    assert_eq!(
        shared["status_history"].as_array().unwrap().len(),
        WRITERS * REPORTS
    );
    let (_, history) = get(&host, "/api/agents/agent/history").await;
    assert_eq!(
        history["status_history"].as_array().unwrap().len(),
        2 * WRITERS * REPORTS
    );
    let (_, agent) = get(&host, "/api/agents/agent").await;
    assert_eq!(agent["session_count"], WRITERS + 1);
    assert!(host.instances() > 3, "instances were to come and go");
}

fn open_mode(directory: &TempDir) -> Options {
    let mut options = Options::new(directory.path()).variable("auth_mode", "open");
    options.reuse = MIXED.to_vec();
    options
}

fn on_postgres(options: Options, url: &str) -> Options {
    let parsed = url::Url::parse(url).unwrap();
    let address = format!(
        "{}:{}",
        parsed.host_str().unwrap(),
        parsed.port().unwrap_or(5432)
    );
    options
        .variable("database_url", url)
        .variable("database_host", address)
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_instances_lose_nothing_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    concurrent_reports_all_land_once(open_mode(&directory)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_instances_lose_nothing_on_postgresql() {
    let directory = tempfile::tempdir().unwrap();
    let database = kubeagents_test_postgres::database();
    concurrent_reports_all_land_once(on_postgres(open_mode(&directory), &database.url())).await;
}

/// Puts the stores, on the databases as components have them, to the shared store suite.
async fn passes_the_store_suite(options: Options) {
    static SUITE: LazyLock<Compiled> = LazyLock::new(|| store_suite().unwrap());
    let host = SpinHost::start(&BUILT.manifest, &SUITE, &options)
        .await
        .unwrap();
    for case in kubeagents_core::store_suite!(names) {
        let (status, _) = get(&host, &format!("/{case}")).await;
        let log = std::fs::read_to_string(options.log()).unwrap();
        assert_eq!(status, 200, "{case}: {log}");
    }
    assert_eq!(get(&host, "/no_case").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_suite_passes_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    passes_the_store_suite(Options::new(directory.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_suite_passes_on_postgresql() {
    let directory = tempfile::tempdir().unwrap();
    let database = kubeagents_test_postgres::database();
    let options = Options::new(directory.path());
    passes_the_store_suite(on_postgres(options, &database.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_the_page() {
    let directory = tempfile::tempdir().unwrap();
    let host = start(&open_mode(&directory)).await;
    let url = host.url();
    let played = tokio::task::spawn_blocking(move || page_in_browser::play_at(&url));
    played.await.unwrap();
}

#[tokio::test]
async fn the_manifest_grants_what_the_component_imports() {
    let component = BUILT.manifest.component().unwrap();
    let imports = BUILT.compiled.imports();
    let imported = |interface: &str| imports.iter().any(|name| name == interface);
    assert!(imported("spin:sqlite/sqlite@3.1.0"));
    assert_eq!(component.sqlite_databases, ["default"]);
    assert!(imported("spin:postgres/postgres@4.2.0"));
    assert!(
        component
            .allowed_outbound_hosts
            .iter()
            .any(|host| host.starts_with("postgres://"))
    );
    assert!(
        imports
            .iter()
            .any(|name| name.starts_with("wasi:http/client@0.3."))
    );
    assert!(
        component
            .allowed_outbound_hosts
            .iter()
            .any(|host| host == "https://*:*")
    );
    assert!(imported("spin:variables/variables@3.0.0"));
    let spin = imports
        .iter()
        .filter(|name| name.starts_with("spin:"))
        .count();
    assert_eq!(spin, 3, "{imports:?}");
    let exports = BUILT.compiled.exports();
    assert!(
        exports.iter().any(|name| name == "wasi:http/handler@0.3.0"),
        "{exports:?}"
    );
}

#[test]
fn the_component_is_small() {
    let size = std::fs::metadata(&BUILT.file).unwrap().len();
    assert!(size < 2_500_000, "{size} bytes");
}

#[tokio::test]
async fn a_bad_variable_is_answered_500_and_the_log_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(directory.path()).variable("auth_mode", "maybe");
    let host = start(&options).await;
    let (status, body) = get(&host, "/health").await;
    assert_eq!(
        (status.as_u16(), &body["code"]),
        (500, &json!("misconfigured"))
    );
    let request = Request::get("/api/auth/me").header("origin", "https://any.example.com");
    let response = send(&host, request.body(Full::default()).unwrap()).await;
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(body["error"], body["message"]);
    let log = std::fs::read_to_string(options.log()).unwrap();
    assert!(log.contains("auth_mode must be open or required"), "{log}");
}

#[tokio::test]
async fn without_its_database_the_component_answers_503_and_the_log_says_why() {
    let directory = tempfile::tempdir().unwrap();
    // Nothing listens on port 1.
    let options = on_postgres(
        open_mode(&directory),
        "postgres://user:secret@127.0.0.1:1/name",
    );
    let host = start(&options).await;
    assert_eq!(get(&host, "/health").await.0, 200);
    let (status, body) = get(&host, "/api/agents").await;
    assert_eq!(
        (status.as_u16(), &body["code"]),
        (503, &json!("unavailable"))
    );
    assert_eq!(get(&host, "/unknown").await.0, 404);
    let origin = "http://localhost:5173";
    let request = Request::head("/api/agents").header("origin", origin);
    let response = send(&host, request.body(Full::default()).unwrap()).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["access-control-allow-origin"], origin);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_ne!(response.headers()["content-length"], "0");
    assert!(response.body().is_empty());
    let log = std::fs::read_to_string(options.log()).unwrap();
    assert!(log.contains("PostgreSQL failed"), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_database_admits_no_more_connections_requests_are_answered_503_until_it_does() {
    let database = kubeagents_test_postgres::database();
    let role = format!("bounded_{}", database.name());
    database.psql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'password' CONNECTION LIMIT 1; \
         GRANT ALL ON DATABASE {} TO {role}",
        database.name()
    ));
    let mut url = url::Url::parse(&database.url()).unwrap();
    url.set_username(&role).unwrap();
    url.set_password(Some("password")).unwrap();
    let (other, connection) = tokio_postgres::connect(url.as_str(), NoTls).await.unwrap();
    tokio::spawn(connection);

    let directory = tempfile::tempdir().unwrap();
    let mut options = on_postgres(open_mode(&directory), url.as_str());
    options.reuse = vec![Reuse::SPIN];
    let host = start(&options).await;
    for _ in 0..3 {
        let request = Request::get("/api/agents").body(Full::default()).unwrap();
        let response = send(&host, request).await;
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "1");
    }
    let log = std::fs::read_to_string(options.log()).unwrap();
    assert!(log.contains("too many connections for role"), "{log}");

    drop(other);
    let recovered = async {
        while report(&host, "agent", "topic").await != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), recovered).await.unwrap();
    // The instance has the only one, so that its lists go without a connection of their own.
    let request = Request::get("/api/agents").body(Full::default()).unwrap();
    assert_eq!(send(&host, request).await.status(), 200);
    drop(host);
    database.psql(&format!("DROP OWNED BY {role}"));
    database.psql(&format!("DROP ROLE {role}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_a_connection_to_postgresql_of_their_own() {
    let database = kubeagents_test_postgres::database();
    let directory = tempfile::tempdir().unwrap();
    let mut options = on_postgres(open_mode(&directory), &database.url());
    options.reuse = vec![Reuse {
        requests: usize::MAX,
        concurrent: 1,
    }];
    let host = start(&options).await;
    // Those that have been used since they were set up.
    let connections = || {
        let counted = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
                AND backend_type = 'client backend' AND query NOT LIKE '%set_config%'";
        database.psql(counted).trim().parse::<u64>().unwrap()
    };
    // An instance that was idle for a second has gone, with its connections.
    let reports =
        async { while report(&host, "agent", "topic").await != 200 || connections() != 1 {} };
    timeout(Duration::from_secs(60), reports).await.unwrap();
    let list = || Request::get("/api/agents").body(Full::default()).unwrap();
    let lists = async { while send(&host, list()).await.status() != 200 || connections() != 2 {} };
    timeout(Duration::from_secs(60), lists).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_the_components_is_refused_in_words() {
    let go = kubeagents_test_postgres::database();
    go.psql(include_str!(
        "../../../host-native/src/postgres/tests/go_server.sql"
    ));
    let cluster = Cluster::start(&[("fsync", "off")]);
    cluster.psql(
        "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    );
    let mut latin = url::Url::parse(&cluster.url()).unwrap();
    latin.set_path("latin");
    for (url, words) in [
        (
            go.url(),
            "start the native server on it once, which converts",
        ),
        (latin.into(), "has the encoding LATIN1 and must have UTF8"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let options = on_postgres(open_mode(&directory), &url);
        let host = start(&options).await;
        assert_eq!(report(&host, "agent", "topic").await, 503);
        let log = std::fs::read_to_string(options.log()).unwrap();
        assert!(log.contains(words), "{log}");
    }
    assert_eq!(
        go.psql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'kubeagents%'"),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_may_keep_connections_for_its_clients_and_not_change_them() {
    let cluster = Cluster::start(&[("fsync", "off")]);
    let database = cluster.database();
    let session = PgBouncer::start(&cluster, "session");
    let directory = tempfile::tempdir().unwrap();
    concurrent_reports_all_land_once(on_postgres(open_mode(&directory), &session.url(&database)))
        .await;

    let statements_of_an_instance = async |url: &str| {
        let directory = tempfile::tempdir().unwrap();
        let mut options = on_postgres(open_mode(&directory), url);
        options.reuse = vec![Reuse::NONE];
        let host = start(&options).await;
        assert_eq!(get(&host, "/api/agents").await.0, 200);
        host.statements()
    };
    let direct = statements_of_an_instance(&database.url()).await;
    let pooled = statements_of_an_instance(&session.url(&database)).await;
    // Only the pooler is looked at, with six statements, or fewer where it does not answer soon.
    let looks = direct + 1..=direct + 6;
    assert!(looks.contains(&pooled), "{pooled} and {direct}");

    let transaction = PgBouncer::start(&cluster, "transaction");
    let directory = tempfile::tempdir().unwrap();
    let options = on_postgres(open_mode(&directory), &transaction.url(&database));
    let host = start(&options).await;
    for _ in 0..5 {
        let (status, body) = get(&host, "/api/agents").await;
        assert_eq!(
            (status.as_u16(), &body["code"]),
            (500, &json!("misconfigured"))
        );
    }
    let log = std::fs::read_to_string(options.log()).unwrap();
    assert!(log.contains("database_url: this is a pooler"), "{log}");
    assert!(log.contains("pool_mode = session"), "{log}");
}

#[tokio::test]
async fn places_that_spin_would_not_let_the_component_reach_are_named_at_the_first_request() {
    let directory = tempfile::tempdir().unwrap();
    for (name, value, message) in [
        (
            "database_url",
            "postgres://user:secret@elsewhere/name",
            "database_host must be elsewhere:5432, where database_url is",
        ),
        (
            "database_url",
            "nonsense",
            "database_url must be an address",
        ),
        (
            "notification_webhook_url",
            "http://chat.internal:8080/secret",
            "notification_webhook_url must start with https",
        ),
    ] {
        let options = open_mode(&directory).variable(name, value);
        let host = start(&options).await;
        let (status, body) = get(&host, "/ready").await;
        let answer = (status.as_u16(), &body["code"]);
        assert_eq!(answer, (500, &json!("misconfigured")), "{name}");
        let log = std::fs::read_to_string(options.log()).unwrap();
        assert!(log.contains(message), "{log}");
        assert!(!log.contains("secret"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_while_a_password_is_hashed_beside_them() {
    let directory = tempfile::tempdir().unwrap();
    let host = start(&Options::new(directory.path())).await;
    assert_eq!(get(&host, "/ready").await.0, 200);
    let account = json!({"email": "a@example.com", "password": "correct horse"});
    let request = Request::post("/api/auth/register").body(account.to_string().into());
    let mut registered = pin!(send(&host, request.unwrap()));
    let mut meanwhile = 0;
    let registered = loop {
        match select(&mut registered, pin!(get(&host, "/health"))).await {
            Either::Left((response, _)) => break response,
            Either::Right(((status, _), _)) => assert_eq!(status, 200),
        }
        meanwhile += 1;
    };
    assert_eq!(registered.status(), 201);
    // Without a rest there is one at most, which was answered before the hashing began.
    assert!(meanwhile > 3, "{meanwhile} requests were answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn official_mcp_clients_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let host = start(&Options::new(directory.path()).variable("auth_mode", "open")).await;
    let url = host.url();
    let check = move || kubeagents_contract::mcp_clients::check(&url, None);
    tokio::task::spawn_blocking(check).await.unwrap();
}

#[tokio::test]
async fn a_report_costs_two_statements() {
    let directory = tempfile::tempdir().unwrap();
    let host = start(&Options::new(directory.path()).variable("auth_mode", "open")).await;
    let mut fewest = u64::MAX;
    for _ in 0..20 {
        let before = host.statements();
        assert_eq!(report(&host, "agent", "topic").await, 200);
        fewest = fewest.min(host.statements() - before);
    }
    // Now and then an instance also looks into the outbox, or is set up anew.
    assert_eq!(fewest, 2);
}

/// The answers to changes of every kind, asked for at once: to an account, its keys, the channels, and a
/// report.
async fn change_everything(host: &SpinHost, access: &str, key_id: &str) -> Vec<Response<Bytes>> {
    let account = json!({"notification_webhook_url": "https://chat.example.com/hook"});
    let channel = json!({"name": "channel", "url": "https://chat.example.com/hook"});
    let other = json!({"email": "other@example.com", "password": "correct horse"});
    let report = json!({
        "agent_id": "agent", "session_topic": "topic", "status": "running",
        "timestamp": "2026-01-01T00:00:00Z",
    });
    let changes = [
        (Request::put("/api/auth/me"), account.to_string()),
        (Request::post("/api/auth/register"), other.to_string()),
        (
            Request::post("/api/apikeys"),
            json!({"name": "new"}).to_string(),
        ),
        (
            Request::delete(format!("/api/apikeys/{key_id}")),
            String::new(),
        ),
        (Request::post("/api/channels"), channel.to_string()),
        (Request::post("/webhook/status"), report.to_string()),
    ];
    join_all(changes.map(|(request, body)| {
        let request = request.header("authorization", format!("Bearer {access}"));
        send(host, request.body(body.into()).unwrap())
    }))
    .await
}

/// Registers and verifies an account, and makes it a key; its access token and the key's id.
async fn account_with_key(host: &SpinHost, options: &Options) -> (String, String) {
    let account = json!({"email": "user@example.com", "password": "correct horse"});
    let request = Request::post("/api/auth/register").body(account.to_string().into());
    assert_eq!(send(host, request.unwrap()).await.status(), 201);
    let log = std::fs::read_to_string(options.log()).unwrap();
    let (_, token) = log.split_once("/verify?token=").unwrap();
    let token = token.split_once(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c));
    let path = format!("/api/auth/verify?token={}", token.unwrap().0);
    let (_, tokens) = get(host, &path).await;
    let access = tokens["access_token"].as_str().unwrap().to_owned();
    let request = Request::post("/api/apikeys").header("authorization", format!("Bearer {access}"));
    let key = send(
        host,
        request
            .body(json!({"name": "old"}).to_string().into())
            .unwrap(),
    )
    .await;
    let key: Value = serde_json::from_slice(key.body()).unwrap();
    (access, key["id"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_every_kind_wait_while_another_program_writes_to_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = open_mode(&directory);
    options.reuse = vec![Reuse::SPIN];
    let host = start(&options).await;
    let (access, key_id) = account_with_key(&host, &options).await;
    let lock = rusqlite::Connection::open(directory.path().join("sqlite_db.db")).unwrap();

    // While the lock stays, what only reads is answered, and changes are refused in the end.
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reads = async {
        for path in ["/ready", "/api/agents", "/api/channels"] {
            assert_eq!(get(&host, path).await.0, 200, "{path}");
        }
    };
    let changes = change_everything(&host, &access, &key_id);
    let (answers, ()) = timeout(Duration::from_secs(120), join(changes, reads))
        .await
        .unwrap();
    for answer in answers {
        assert_eq!(answer.status(), 503, "{answer:?}");
        assert_eq!(answer.headers()["retry-after"], "1");
    }
    lock.execute_batch("ROLLBACK").unwrap();

    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let release = async {
        // Longer than the five seconds that Spin has SQLite wait by itself.
        tokio::time::sleep(Duration::from_secs(7)).await;
        lock.execute_batch("ROLLBACK").unwrap();
    };
    let changes = change_everything(&host, &access, &key_id);
    for answer in join(changes, release).await.0 {
        assert!(answer.status().is_success(), "{answer:?}");
    }
    let (_, session) = get(&host, "/api/agents/agent/sessions/topic").await;
    assert_eq!(session["status_history"].as_array().map(Vec::len), Some(1));
    let (_, channels) = get(&host, "/api/channels").await;
    assert_eq!(channels["channels"].as_array().map(Vec::len), Some(1));
}

/// Answers requests of which it knows how long they are, as simple receivers do, and sends on the
/// id of each.
async fn receive(listener: TcpListener, ids: mpsc::UnboundedSender<String>) {
    while let Ok((stream, _)) = listener.accept().await {
        let ids = ids.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let (mut id, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                let Some((name, value)) = line.split_once(": ") else {
                    if line == "\r\n" {
                        break;
                    }
                    continue;
                };
                match &*name.to_lowercase() {
                    "webhook-id" => id = value.trim().to_owned(),
                    "content-length" => length = value.trim().parse().unwrap(),
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["msg_type"], "text");
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            ids.send(id).unwrap();
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_delivered_to_a_simple_receiver_without_further_requests() {
    const SESSIONS: usize = 64;
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, mut ids) = mpsc::unbounded_channel();
    tokio::spawn(receive(listener, sender));
    let options = Options::new(directory.path())
        .variable("auth_mode", "open")
        .variable("notification_host", &url)
        .variable("notification_webhook_url", &url)
        .variable("notification_timeout_seconds", "60");
    let host = start(&options).await;
    for status in ["running", "success"] {
        let all = (0..SESSIONS).map(|n| {
            let host = &host;
            async move { report_status(host, "agent", &format!("topic {n}"), status).await }
        });
        assert!(join_all(all).await.iter().all(|answer| *answer == 200));
    }
    let all = async {
        let mut told = HashSet::new();
        while told.len() < SESSIONS {
            told.insert(ids.recv().await.unwrap());
        }
    };
    timeout(Duration::from_secs(60), all).await.unwrap();
}

#[tokio::test]
async fn a_body_that_stays_away_is_answered_408() {
    let directory = tempfile::tempdir().unwrap();
    let host = start(&Options::new(directory.path()).variable("auth_mode", "open")).await;
    let address = host.url().strip_prefix("http://").unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let half = format!("POST /webhook/status HTTP/1.1\r\nhost: {address}\r\n")
        + "content-length: 100\r\n\r\n{\"agent_id\":";
    stream.write_all(half.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let line = async { BufReader::new(stream).read_line(&mut answer).await.unwrap() };
    timeout(Duration::from_secs(60), line).await.unwrap();
    assert_eq!(answer.split(' ').nth(1), Some("408"), "{answer}");
}
