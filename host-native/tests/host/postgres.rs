use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use kubeagents_test_postgres::{
    Cluster, Database, PASSWORD, PgBouncer, SmallDisk, USER, database, wait_for,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::{
    Answer, PATIENCE, Receiver, Reply, Server, a_minute_ahead, assert_stored_once, command,
    ends_with, eventually, load, numbered, ready, report,
};

fn open_on(url: &str) -> Server {
    Server::start(&[("DATABASE_URL", url), ("AUTH_MODE", "open")])
}

const GO_SERVER: [&str; 2] = [
    include_str!("../../src/postgres/tests/go_server.sql"),
    include_str!("../../src/postgres/tests/go_data.sql"),
];

fn messages(database: &Database) -> Vec<String> {
    let rows =
        database.psql("SELECT message FROM kubeagents_data.statuses ORDER BY session_topic, seq");
    rows.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_200_survives_the_death_of_the_database() {
    let mut cluster = Cluster::start(&[]);
    let database = cluster.database();
    let server = Arc::new(open_on(&database.url()));
    let stop = Arc::new(AtomicBool::new(false));
    let loads: Vec<_> = (0..8)
        .map(|topic| tokio::spawn(load(server.clone(), format!("topic {topic}"), stop.clone())))
        .collect();
    eventually("reports", || {
        (messages(&database).len() > 200).then_some(())
    })
    .await;

    cluster.kill();
    assert_eq!(server.get("/health").await.status, StatusCode::OK);
    assert_eq!(
        server.get("/ready").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    let refused = server
        .post("/webhook/status", &report("other", "running"))
        .await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers["retry-after"], "1");

    cluster.restart();
    ready(&server).await;
    let so_far = messages(&database).len();
    eventually("more reports", || {
        (messages(&database).len() > so_far + 50).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let mut answered = Vec::new();
    for load in loads {
        answered.extend(load.await.unwrap());
    }
    assert_stored_once(&messages(&database), &answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_reports_until_there_is_room_again() {
    let disk = SmallDisk::mount(64);
    let cluster = Cluster::start(&[]);
    let database = cluster.database();
    let location = disk.tablespace();
    cluster.psql(&format!(
        "CREATE TABLESPACE small LOCATION '{}'",
        location.display()
    ));
    cluster.psql(&format!(
        "ALTER DATABASE {} SET default_tablespace = small",
        database.name()
    ));
    let server = Arc::new(open_on(&database.url()));
    let stop = Arc::new(AtomicBool::new(false));
    let loads: Vec<_> = (0..8)
        .map(|topic| tokio::spawn(load(server.clone(), format!("topic {topic}"), stop.clone())))
        .collect();
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

    disk.free();
    while another().await.status != StatusCode::OK {}
    let so_far = messages(&database).len();
    eventually("more reports", || {
        (messages(&database).len() > so_far + 50).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        answered.extend(load.await.unwrap());
    }
    assert_stored_once(&messages(&database), &answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_survive_the_death_of_the_host() {
    let database = database();
    let receiver = Receiver::start(|before| match before {
        0..4 => Reply::Hang,
        _ => Reply::Status(200),
    })
    .await;
    let variables = [
        ("DATABASE_URL", database.url()),
        ("AUTH_MODE", "open".into()),
        ("NOTIFICATION_WEBHOOK_URL", receiver.url()),
        ("NOTIFICATION_TIMEOUT_SECONDS", "1".into()),
    ];
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let server = Server::start(&variables);
    for topic in 0..8 {
        server.finish(&format!("topic {topic}")).await;
    }
    receiver.wait_for(4).await;
    // Dropping a server kills it.
    drop(server);
    assert_ne!(
        database.psql("SELECT count(*) FROM kubeagents_data.outbox"),
        "0"
    );
    let _server = Server::start(&variables);
    eventually("an empty outbox", || {
        (database.psql("SELECT count(*) FROM kubeagents_data.outbox") == "0").then_some(())
    })
    .await;
    assert_eq!(receiver.attempts().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_silence_is_told_by_one_of_two_hosts_and_its_end_too() {
    const COUNT: usize = 40;
    let database = database();
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let hosts = [open_on(&database.url()), open_on(&database.url())];
    let channel = json!({
        "name": "silence", "url": receiver.url(), "events": ["silent", "recovered"],
    });
    let created = hosts[0].post("/api/channels", &channel).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    for topic in 0..COUNT {
        hosts[topic % 2].report(&topic.to_string(), "running").await;
    }
    hosts[0].report("over", "success").await;
    // As if the hour had passed.
    database.psql(
        "UPDATE kubeagents_data.sessions \
        SET last_updated = kubeagents_data.now_micros() + 500000 - ttl_minutes * 60000000",
    );
    let told = |count: usize| {
        let database = &database;
        async move {
            let done = "SELECT count(*) FROM kubeagents_data.deliveries WHERE state = 'delivered'";
            let count = count.to_string();
            eventually("deliveries", || {
                (database.psql(done) == count).then_some(())
            })
            .await;
        }
    };
    told(COUNT).await;
    for topic in 0..COUNT {
        let host = &hosts[(topic + 1) % 2];
        host.report(&topic.to_string(), "running").await;
        host.report(&topic.to_string(), "running").await;
    }
    told(2 * COUNT).await;
    let waiting = "SELECT count(*) FROM kubeagents_data.outbox";
    assert_eq!(database.psql(waiting), "0");
    let mut told: Vec<(String, String)> = receiver
        .deliveries()
        .iter()
        .map(|delivery| delivery.json())
        .map(|body| {
            (
                body["type"].to_string(),
                body["data"]["session_topic"].to_string(),
            )
        })
        .collect();
    told.sort();
    let once = ["session.recovered", "session.silent"].into_iter();
    let mut once: Vec<_> = once
        .flat_map(|event| (0..COUNT).map(move |n| (format!("{event:?}"), format!("\"{n}\""))))
        .collect();
    once.sort();
    assert_eq!(told, once);
}

/// The history of the only session has no gap and never goes back in time.
fn assert_in_order(database: &Database) {
    let gaps = "SELECT count(*) FROM (SELECT seq - lag(seq, 1, 0::bigint) OVER w AS step, \
        \"timestamp\" < lag(\"timestamp\") OVER w AS back FROM kubeagents_data.statuses \
        WINDOW w AS (ORDER BY seq)) AS steps WHERE step <> 1 OR back";
    assert_eq!(database.psql(gaps), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_share_a_session_and_its_history_stays_complete_and_in_order() {
    let database = database();
    let servers = [open_on(&database.url()), open_on(&database.url())].map(Arc::new);
    let stop = Arc::new(AtomicBool::new(false));
    let loads: Vec<_> = (0..8)
        .map(|number| {
            let server = Arc::clone(&servers[number % 2]);
            let stop = stop.clone();
            tokio::spawn(async move {
                let mut stored = Vec::new();
                for round in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let mut body = report("shared", "running");
                    body["message"] = json!(format!("{number} {round}"));
                    let answer = server.post("/webhook/status", &body).await;
                    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
                    stored.push(format!("{number} {round}"));
                }
                stored
            })
        })
        .collect();
    eventually("reports", || {
        (messages(&database).len() > 300).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let mut stored = Vec::new();
    for load in loads {
        stored.push(load.await.unwrap());
    }
    let found = messages(&database);
    assert_eq!(found.len(), stored.iter().map(Vec::len).sum::<usize>());
    for (number, mine) in stored.iter().enumerate() {
        let prefix = format!("{number} ");
        let in_history: Vec<_> = found
            .iter()
            .filter(|text| text.starts_with(&prefix))
            .collect();
        assert!(in_history.into_iter().eq(mine), "out of order");
    }
    assert_in_order(&database);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_shared_by_hosts_whose_clocks_differ_by_a_minute() {
    let database = database();
    let url = database.url();
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("AUTH_MODE", "open"),
        ("PORT", "0"),
    ];
    let slow = Server::start(&variables);
    let mut fast = Server::of(&mut a_minute_ahead(command(&variables)));
    for round in 0..50 {
        for server in [&slow, &fast] {
            let mut body = report("shared", "running");
            body["message"] = json!(round.to_string());
            body["ttl_minutes"] = json!(2);
            let answer = server.post("/webhook/status", &body).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            for server in [&slow, &fast] {
                let session = server.get("/api/agents/agent/sessions/shared").await.body;
                assert_eq!(session["session"]["expired"], false, "{session}");
                assert_eq!(session["session"]["state"], "active", "{session}");
            }
        }
    }
    let expected: Vec<_> = (0..50)
        .flat_map(|n| [n.to_string(), n.to_string()])
        .collect();
    assert_eq!(messages(&database), expected);
    assert_in_order(&database);
    let apart = "SELECT max(\"timestamp\") - min(\"timestamp\") >= 60000000 \
        FROM kubeagents_data.statuses";
    assert_eq!(database.psql(apart), "t", "the clocks do not differ");
    fast.signal(Signal::TERM);
    assert_eq!(fast.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_good_on_hosts_whose_clocks_differ_by_a_minute() {
    let database = database();
    let url = database.url();
    let variables = [("DATABASE_URL", url.as_str()), ("PORT", "0")];
    let slow = Server::start(&variables);
    let mut fast = Server::of(&mut a_minute_ahead(command(&variables)));
    let mut tokens = slow.account("owner@example.com").await;
    for (there, here) in [(&fast, &slow), (&slow, &fast), (&fast, &slow)] {
        let access = tokens["access_token"].as_str();
        let me = there
            .send(Method::GET, "/api/auth/me", access, &Value::Null)
            .await;
        assert_eq!(me.status, StatusCode::OK, "{me:?}");
        let refresh = json!({"refresh_token": tokens["refresh_token"]});
        let refreshed = there.post("/api/auth/refresh", &refresh).await;
        assert_eq!(refreshed.status, StatusCode::OK, "{refreshed:?}");
        let access = refreshed.body["access_token"].as_str();
        let me = here
            .send(Method::GET, "/api/auth/me", access, &Value::Null)
            .await;
        assert_eq!(me.status, StatusCode::OK, "{me:?}");
        tokens = refreshed.body;
    }
    fast.signal(Signal::TERM);
    assert_eq!(fast.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_holds_on_hosts_whose_clocks_differ_by_a_minute() {
    let database = database();
    let (url, receiver) = (
        database.url(),
        Receiver::start(|before| match before {
            0 | 1 => Reply::Hang,
            _ => Reply::Status(200),
        })
        .await,
    );
    let webhook = receiver.url();
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("AUTH_MODE", "open"),
        ("PORT", "0"),
        ("NOTIFICATION_WEBHOOK_URL", webhook.as_str()),
        // The lease of three attempts is then shorter than the minute.
        ("NOTIFICATION_TIMEOUT_SECONDS", "15"),
    ];
    let slow = Server::start(&variables);
    let mut fast = Server::of(&mut a_minute_ahead(command(&variables)));
    slow.finish("held").await;
    receiver.wait_for(1).await;
    fast.finish("held too").await;
    receiver.wait_for(2).await;
    for round in 0..5 {
        slow.finish(&format!("slow {round}")).await;
        fast.finish(&format!("fast {round}")).await;
    }
    eventually("an empty outbox", || {
        (database.psql("SELECT count(*) FROM kubeagents_data.outbox") == "0").then_some(())
    })
    .await;
    let mut attempts = receiver.attempts();
    assert_eq!(attempts.len(), 12);
    // Those that were left hanging are tried again, by the host that holds them.
    for held in &receiver.deliveries()[..2] {
        assert_eq!(attempts.remove(&held.id), Some(2));
    }
    assert!(attempts.values().all(|attempts| *attempts == 1));
    fast.signal(Signal::TERM);
    assert_eq!(fast.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_revoked_on_one_host_is_soon_refused_by_the_other() {
    let database = database();
    let url = database.url();
    let start = || Server::start(&[("DATABASE_URL", &url)]);
    let (here, there) = (start(), start());
    let tokens = here.account("owner@example.com").await;
    let token = tokens["access_token"].as_str();
    let body = json!({"name": "key", "scopes": ["report", "read"]});
    let key = here
        .send(Method::POST, "/api/apikeys", token, &body)
        .await
        .body;
    let secret = key["key"].as_str();
    let status = async |server: &Server| {
        server
            .send(Method::GET, "/api/agents", secret, &Value::Null)
            .await
            .status
    };
    assert_eq!(status(&here).await, StatusCode::OK);
    assert_eq!(status(&there).await, StatusCode::OK);
    let path = format!("/api/apikeys/{}", key["id"].as_str().unwrap());
    let revoked = here.send(Method::DELETE, &path, token, &Value::Null).await;
    assert_eq!(revoked.status, StatusCode::OK);
    assert_eq!(status(&here).await, StatusCode::UNAUTHORIZED);
    let start = std::time::Instant::now();
    while status(&there).await != StatusCode::UNAUTHORIZED {
        assert!(
            start.elapsed() < PATIENCE,
            "the other host never learns of it"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_hosts_may_start_at_once() {
    let database = database();
    let url = database.url();
    let servers: Vec<Server> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..10).map(|_| scope.spawn(|| open_on(&url))).collect();
        starting
            .into_iter()
            .map(|server| server.join().unwrap())
            .collect()
    });
    for server in &servers {
        assert_eq!(server.get("/ready").await.status, StatusCode::OK);
    }
    let each_once = "SELECT count(*) = max(version) FROM kubeagents_data.migrations";
    assert_eq!(database.psql(each_once), "t");
}

#[test]
fn a_newer_schema_is_left_alone() {
    let database = database();
    let url = database.url();
    drop(open_on(&url));
    database.psql("INSERT INTO kubeagents_data.migrations (version) VALUES (1000)");
    let (code, log) = ends_with(&[("DATABASE_URL", &url)]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("schema version 1000"), "{log}");
}

#[test]
fn a_database_that_is_absent_is_waited_for_and_then_given_up() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = unused.local_addr().unwrap().port().to_string();
    drop(unused);
    let begin = Instant::now();
    let (code, log) = ends_with(&[
        ("DB_HOST", "127.0.0.1"),
        ("DB_PORT", &port),
        ("DB_NAME", "kubeagents"),
        ("DB_USER", "kubeagents"),
        ("DB_PASSWORD", "very secret"),
        ("DB_CONNECT_TIMEOUT_SECONDS", "3"),
    ]);
    assert_eq!(code, Some(1), "{log}");
    assert!(begin.elapsed() >= Duration::from_millis(2500), "{log}");
    assert!(log.contains("waiting for PostgreSQL"), "{log}");
    assert!(!log.contains("very secret"), "{log}");
}

#[test]
fn a_wrong_configuration_is_refused_at_once_with_the_variables_name() {
    // Not the server of TEST_DATABASE_URL, whose users are not ours to know.
    let cluster = Cluster::start(&[("fsync", "off")]);
    let port = cluster.port().to_string();
    let with = |changes: &[(&'static str, &str)]| {
        let mut variables = vec![
            ("DB_HOST", "127.0.0.1"),
            ("DB_PORT", port.as_str()),
            ("DB_USER", USER),
            ("DB_PASSWORD", PASSWORD),
            ("DB_NAME", "postgres"),
        ];
        for (name, value) in changes {
            variables.retain(|(other, _)| other != name);
            variables.push((name, value));
        }
        ends_with(&variables)
    };
    for (changes, named) in [
        (vec![("DB_PASSWORD", "wrong")], "DB_PASSWORD"),
        (vec![("DB_NAME", "missing")], "DB_NAME"),
        (vec![("DB_NAME", "")], "DB_NAME must be set"),
        (vec![("DB_SSLMODE", "require")], "DB_SSLMODE"),
        (vec![("DB_SSLMODE", "never")], "DB_SSLMODE must be"),
        (
            vec![("DB_PORT", "tcp://10.0.0.1:5432")],
            "enableServiceLinks: false",
        ),
        (
            vec![("DB_MAX_OPEN_CONNS", "0")],
            "DB_MAX_OPEN_CONNS must be",
        ),
        (
            vec![("DATABASE_URL", "postgres://localhost/x")],
            "DATABASE_URL, or DB_HOST",
        ),
        (
            vec![("DATABASE_URL", "mysql://user:secret@localhost/x")],
            "DATABASE_URL must be",
        ),
    ] {
        let (code, log) = with(&changes);
        assert_eq!(code, Some(2), "{changes:?}: {log}");
        assert!(log.contains(named), "{changes:?}: {log}");
        assert!(!log.contains(PASSWORD) && !log.contains("secret"), "{log}");
        // The line of PostgreSQL's own source helps nobody.
        assert!(!log.contains("at line"), "{log}");
    }
}

#[test]
fn no_message_shows_a_piece_of_a_password_however_it_is_written() {
    let database = database();
    let url = database.url();
    let (_, real) = url.rsplit_once('@').unwrap();
    // Nothing listens on port 1.
    for place in [real, "127.0.0.1:1/name", "[::1/name"] {
        for between in ["@", "/", "#", "?", ":", "%", " ", "@127.0.0.1:1/"] {
            let url = format!("postgres://{USER}:pearl{between}oyster@{place}");
            for arguments in [&[][..], &["user", "list"]] {
                let output = command(&[
                    ("DATABASE_URL", &url),
                    ("DB_CONNECT_TIMEOUT_SECONDS", "1"),
                    ("RUST_LOG", "debug"),
                    ("PORT", "0"),
                ])
                .args(arguments)
                .output()
                .unwrap();
                assert!(!output.status.success(), "{url} {arguments:?}");
                for text in [output.stdout, output.stderr] {
                    let text = String::from_utf8(text).unwrap();
                    let shown = text.contains("pearl") || text.contains("oyster");
                    assert!(!shown, "{url} {arguments:?}: {text}");
                }
            }
        }
    }
}

#[test]
fn a_database_that_cannot_hold_every_text_is_refused() {
    let cluster = Cluster::start(&[("fsync", "off")]);
    cluster.psql(
        "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    );
    let (code, log) = ends_with(&[
        ("DB_HOST", "127.0.0.1"),
        ("DB_PORT", &cluster.port().to_string()),
        ("DB_USER", USER),
        ("DB_PASSWORD", PASSWORD),
        ("DB_NAME", "latin"),
    ]);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("DB_NAME") && log.contains("LATIN1"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_servers_tables_are_restored_and_dropped_by_commands() {
    let database = database();
    for sql in GO_SERVER {
        database.psql(sql);
    }
    let run = |task| {
        let output = command(&[("DATABASE_URL", &database.url())])
            .arg(task)
            .output()
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), log)
    };
    let succeeds = |task, words| {
        let (code, log) = run(task);
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains(words), "{log}");
    };
    let place =
        || database.psql("SELECT schemaname FROM pg_tables WHERE tablename = 'agent_statuses'");
    let convert = async || {
        let mut server = open_on(&database.url());
        ready(&server).await;
        server.signal(Signal::TERM);
        assert_eq!(server.exit_code().await, Some(0));
        assert_eq!(place(), "kubeagents_go");
    };
    succeeds(
        "restore-go-tables",
        "there are no tables of the Go server to restore",
    );
    succeeds(
        "drop-go-tables",
        "there are no tables of the Go server to drop",
    );
    assert_eq!(place(), "public");

    convert().await;
    database.psql("CREATE TABLE agents (x int)");
    let (code, log) = run("restore-go-tables");
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("agents"), "{log}");
    assert_eq!(place(), "kubeagents_go");
    database.psql("DROP TABLE agents");
    succeeds("restore-go-tables", "the Go server's tables are back");
    assert_eq!(place(), "public");

    convert().await;
    succeeds("drop-go-tables", "the Go server's tables are dropped");
    assert_eq!(place(), "");
    succeeds(
        "restore-go-tables",
        "there are no tables of the Go server to restore",
    );
}

#[test]
fn every_ssl_mode_means_what_it_means_to_libpq() {
    const PLAIN: Result<&str, &str> = Ok("f");
    const ENCRYPTED: Result<&str, &str> = Ok("t");
    let cluster = Cluster::start(&[("fsync", "off")]);
    let port = cluster.port().to_string();
    let connections = || {
        cluster.psql(
            "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
             WHERE application_name = 'kubeagents'",
        )
    };
    let check = |mode: &str, host: &str, root: Option<&str>, expected: Result<&str, &str>| {
        let mut variables = vec![
            ("DB_HOST", host),
            ("DB_PORT", &port),
            ("DB_USER", USER),
            ("DB_PASSWORD", PASSWORD),
            ("DB_NAME", "postgres"),
            ("DB_SSLMODE", mode),
        ];
        variables.extend(root.map(|root| ("PGSSLROOTCERT", root)));
        match expected {
            Ok(encrypted) => {
                let server = Server::start(&variables);
                assert_eq!(connections(), encrypted, "{mode} to {host}");
                drop(server);
                wait_for("its connections to end", || connections().is_empty());
            }
            Err(reason) => {
                let (code, log) = ends_with(&variables);
                assert_eq!(code, Some(2), "{mode} to {host}: {log}");
                assert!(log.contains(reason), "{mode} to {host}: {log}");
            }
        }
    };

    check("prefer", "127.0.0.1", None, PLAIN);
    check("require", "127.0.0.1", None, Err("DB_SSLMODE"));

    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = cluster.write("server.crt", &cert.pem());
    let key = cluster.write("server.key", &signing_key.serialize_pem());
    for (setting, value) in [
        ("ssl_cert_file", certificate.to_str().unwrap()),
        ("ssl_key_file", key.to_str().unwrap()),
        ("ssl", "on"),
    ] {
        cluster.psql(&format!("ALTER SYSTEM SET {setting} = '{value}'"));
    }
    cluster.psql("SELECT pg_reload_conf()");
    wait_for("the server to offer TLS", || {
        cluster.psql("SHOW ssl") == "on"
    });
    let root = certificate.to_str();
    check("disable", "127.0.0.1", None, PLAIN);
    check("allow", "127.0.0.1", None, PLAIN);
    check("prefer", "127.0.0.1", None, ENCRYPTED);
    check("require", "127.0.0.1", None, ENCRYPTED);
    check("verify-ca", "127.0.0.1", None, Err("DB_SSLMODE"));
    check("verify-ca", "127.0.0.1", root, ENCRYPTED);
    check("verify-full", "127.0.0.1", root, Err("DB_SSLMODE"));
    check("verify-full", "localhost", root, ENCRYPTED);
    check(
        "verify-full",
        "localhost",
        Some("/missing"),
        Err("PGSSLROOTCERT"),
    );

    cluster.write(
        "data/pg_hba.conf",
        "local all all trust\nhostssl all all all scram-sha-256\n",
    );
    cluster.psql("SELECT pg_reload_conf()");
    check("disable", "127.0.0.1", None, Err("no encryption"));
    check("allow", "127.0.0.1", None, ENCRYPTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_clients_than_connections_are_served() {
    let database = database();
    let url = database.url();
    let server = Arc::new(Server::start(&[
        ("DATABASE_URL", &url),
        ("AUTH_MODE", "open"),
        ("DB_MAX_OPEN_CONNS", "1"),
    ]));
    let reports: Vec<_> = (0..100)
        .map(|topic| {
            let server = server.clone();
            tokio::spawn(async move { server.report(&format!("topic {topic}"), "running").await })
        })
        .collect();
    for report in reports {
        report.await.unwrap();
    }
    assert_eq!(
        database.psql("SELECT count(*) FROM kubeagents_data.statuses"),
        "100"
    );
}

/// Backends that are stopped until this is dropped: their server does not end without them.
struct Stopped(Vec<Pid>);

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_whose_backends_hang_give_their_places_to_others() {
    let cluster = Cluster::start(&[("fsync", "off")]);
    let database = cluster.database();
    let server = Arc::new(Server::start(&[
        ("DATABASE_URL", &database.url()),
        ("AUTH_MODE", "open"),
        ("DB_MAX_OPEN_CONNS", "2"),
        ("DB_MAX_IDLE_CONNS", "2"),
    ]));
    server.report("before", "running").await;
    // Both connections are in the midst of a statement when their backends stop.
    let mut blocker = PgConnection::connect(&database.url()).await.unwrap();
    let mut transaction = blocker.begin().await.unwrap();
    sqlx::query("LOCK TABLE kubeagents_data.agents")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let waiting = "SELECT string_agg(pid::text, ',') FROM pg_stat_activity \
        WHERE application_name = 'kubeagents' AND wait_event_type = 'Lock'";
    let reading = Arc::clone(&server);
    tokio::spawn(async move { reading.get("/api/agents").await });
    let reporting = Arc::clone(&server);
    tokio::spawn(async move {
        reporting
            .post("/webhook/status", &report("hung", "running"))
            .await
    });
    let hung = eventually("both statements to wait", || {
        let pids = database.psql(waiting);
        let pids: Vec<Pid> = pids
            .split(',')
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            .collect();
        (pids.len() == 2).then_some(pids)
    })
    .await;
    for pid in &hung {
        kill_process(*pid, Signal::STOP).unwrap();
    }
    let _hung = Stopped(hung);
    transaction.rollback().await.unwrap();
    ready(&server).await;
    server.report("after", "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_storage_is_made_ready_the_process_is_alive_and_serves_nothing_else() {
    let database = database();
    let url = database.url();
    let variables = [("DATABASE_URL", url.as_str()), ("AUTH_MODE", "open")];
    // Whoever changes the schema holds this lock.
    let mut migrating = PgConnection::connect(&url).await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(7743203321898820974)")
        .execute(&mut migrating)
        .await
        .unwrap();
    let server = Server::starting(&variables);
    let mut stopped = Server::starting(&variables);
    assert_eq!(server.get("/health").await.status, StatusCode::OK);
    let port = server.address.port().to_string();
    let check = command(&[("PORT", &port)]).arg("health").status().unwrap();
    assert!(check.success());
    for answer in [
        server.get("/ready").await,
        server.get("/api/agents").await,
        server
            .post("/webhook/status", &report("early", "running"))
            .await,
    ] {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers["retry-after"], "1");
        assert_eq!(answer.body["code"], "unavailable");
        assert_eq!(answer.body["message"], "the server is starting, try again");
        assert!(answer.headers.contains_key("x-request-id"));
    }
    // That is no error of any request: it is said once.
    server.logged(&["only /health is served"]).await;
    let lines = server.process.log().lines();
    let failed = lines.iter().find(|line| line.contains("request failed"));
    assert_eq!(failed, None);
    stopped.signal(Signal::TERM);
    assert_eq!(stopped.exit_code().await, Some(0));
    migrating.close().await.unwrap();
    ready(&server).await;
    server.report("late", "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_is_not_ready_and_is_waited_for() {
    let database = database();
    let url = database.url();
    let read_only = |whether: &str| {
        database.psql(&format!(
            "SET TRANSACTION READ WRITE; \
             ALTER DATABASE {} SET default_transaction_read_only = {whether}",
            database.name()
        ))
    };
    read_only("on");
    let (code, log) = ends_with(&[("DATABASE_URL", &url), ("DB_CONNECT_TIMEOUT_SECONDS", "1")]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("PostgreSQL is read-only"), "{log}");

    let server = Server::starting(&[("DATABASE_URL", &url), ("AUTH_MODE", "open")]);
    server
        .logged(&["waiting for PostgreSQL", "read-only"])
        .await;
    read_only("off");
    ready(&server).await;
    server.report("before", "running").await;

    read_only("on");
    database.psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'kubeagents'",
    );
    let refused = eventually_refused(&server).await;
    assert_eq!(refused.headers["retry-after"], "1");
    let id = refused.headers["x-request-id"].to_str().unwrap();
    server
        .logged(&[id, "path=\"/ready\"", "read-only transaction"])
        .await;
    read_only("off");
    ready(&server).await;
    server.report("after", "running").await;
}

/// The answer of `/ready` as soon as it is 503 for more than a connection that has just been cut.
async fn eventually_refused(server: &Server) -> Answer {
    let start = std::time::Instant::now();
    let mut refused = 0;
    loop {
        let answer = server.get("/ready").await;
        refused = match answer.status {
            StatusCode::SERVICE_UNAVAILABLE => refused + 1,
            _ => 0,
        };
        if refused == 5 {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "the server stays ready");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_may_keep_connections_for_its_clients_and_not_change_them() {
    let cluster = Cluster::start(&[("fsync", "off")]);
    let database = cluster.database();
    let session = PgBouncer::start(&cluster, "session");
    let server = open_on(&session.url(&database));
    for number in 0..10 {
        server.report(&format!("topic {number}"), "running").await;
    }
    let sessions = server.get("/api/agents/agent/sessions").await.body;
    assert_eq!(sessions["sessions"].as_array().map(Vec::len), Some(10));
    let limited = "SELECT count(*) > 0 FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name = 'kubeagents'";
    assert_eq!(database.psql(limited), "t");
    drop(server);

    let transaction = PgBouncer::start(&cluster, "transaction");
    for _ in 0..2 {
        let (code, log) = ends_with(&[("DATABASE_URL", &transaction.url(&database))]);
        assert_eq!(code, Some(2), "{log}");
        assert!(
            log.contains("DATABASE_URL") && log.contains("pool_mode = session"),
            "{log}"
        );
    }
}
