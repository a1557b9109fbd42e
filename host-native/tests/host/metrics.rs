//! Metrics, and what is made of them: alerts and a dashboard.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use kubeagents_contract::succeed;
use kubeagents_test_postgres::{database, found_or_installed};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{PATIENCE, Receiver, Reply, Server, ends_with, report, root};

/// Prometheus's own tool, which checks what its server would read.
fn promtool() -> Command {
    let find = || {
        let found = Command::new("promtool").arg("--version").output().ok()?;
        found.status.success().then_some(())
    };
    // The package would also start a server.
    let script = "cd \"$(mktemp -d)\" && apt-get update && apt-get download prometheus && \
                  dpkg-deb -x prometheus_*.deb . && \
                  install usr/bin/promtool /usr/local/bin/ && rm -r \"$PWD\"";
    found_or_installed("promtool", find, script);
    Command::new("promtool")
}

/// Where a server serves its metrics.
async fn address(server: &Server) -> SocketAddr {
    let line = server.logged(&["metrics are served"]).await;
    let (_, rest) = line.split_once("metrics=http://").unwrap();
    rest.split_once("/metrics").unwrap().0.parse().unwrap()
}

async fn ask(address: SocketAddr, method: Method, path: &str) -> (StatusCode, HeaderMap, String) {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"))
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = tokio::time::timeout(PATIENCE, client.request(request));
    let (parts, body) = answer.await.unwrap().unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.into()).unwrap();
    (parts.status, parts.headers, body)
}

async fn scrape(address: SocketAddr) -> String {
    let (status, headers, text) = ask(address, Method::GET, "/metrics").await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert_eq!(headers["content-type"], "text/plain; version=0.0.4");
    text
}

/// Scrapes until this line is there.
async fn until(address: SocketAddr, line: &str) -> String {
    let start = Instant::now();
    loop {
        let text = scrape(address).await;
        if text.lines().any(|found| found == line) {
            return text;
        }
        assert!(start.elapsed() < PATIENCE, "no {line} in\n{text}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// The metrics in the guide, with their types.
fn documented() -> BTreeSet<(String, String)> {
    let guide = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let rows = guide.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let kind = rest.split(" | ").next()?;
        let is_metric = ["counter", "gauge", "histogram"].contains(&kind);
        is_metric.then(|| (name.to_owned(), kind.to_owned()))
    });
    let documented: BTreeSet<_> = rows.collect();
    assert!(documented.len() > 20, "{documented:?}");
    documented
}

/// The names of the samples that the documented metrics have.
fn samples() -> BTreeSet<String> {
    let of_kind = |(name, kind): (String, String)| match kind.as_str() {
        "histogram" => ["bucket", "sum", "count"]
            .map(|part| format!("{name}_{part}"))
            .to_vec(),
        _ => vec![name],
    };
    documented().into_iter().flat_map(of_kind).collect()
}

/// The names of metrics in an expression, or in whatever holds some.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric());
    let names = words.filter(|word| {
        ["kubeagents_", "process_"]
            .iter()
            .any(|prefix| word.len() > prefix.len() && word.starts_with(prefix))
    });
    names.map(str::to_owned).collect()
}

#[tokio::test]
async fn every_documented_metric_appears_after_some_traffic_and_no_other() {
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let server = Server::start(&[
        ("METRICS_ADDRESS", "127.0.0.1:0"),
        ("NOTIFICATION_WEBHOOK_URL", &receiver.url()),
    ]);
    let metrics = address(&server).await;
    server.finish("a topic of mine").await;
    receiver.wait_for(1).await;
    let log_in = json!({"email": "somebody@example.com", "password": "a wrong one"});
    let refused = server.post("/api/auth/login", &log_in).await.status;
    assert_eq!(refused, StatusCode::UNAUTHORIZED);
    for path in ["/api/agents/a-name-of-mine", "/a-path-of-mine", "/"] {
        server.get(path).await;
    }

    let delivered = r#"kubeagents_notifications_total{format="plain",outcome="delivered"} 1"#;
    until(metrics, delivered).await;
    let text = until(metrics, r#"kubeagents_sessions{state="ended"} 1"#).await;
    for line in [
        r#"kubeagents_http_request_duration_seconds_count{endpoint="report",status="200"} 2"#,
        r#"kubeagents_http_request_duration_seconds_count{endpoint="login",status="401"} 1"#,
        r#"kubeagents_http_request_duration_seconds_count{endpoint="none",status="404"} 1"#,
        r#"kubeagents_http_request_duration_seconds_count{endpoint="page",status="200"} 1"#,
        r#"kubeagents_http_requests_in_flight 0"#,
        r#"kubeagents_log_ins_total{outcome="refused"} 1"#,
        r#"kubeagents_log_ins_total{outcome="success"} 0"#,
        r#"kubeagents_limit_hits_total{limit="logins"} 0"#,
        r#"kubeagents_reports_total{outcome="stored"} 2"#,
        r#"kubeagents_report_group_size_sum 2"#,
        r#"kubeagents_report_conflicts_total 0"#,
        r#"kubeagents_store_operation_duration_seconds_count{operation="commit"} 2"#,
        r#"kubeagents_store_errors_total{error="unavailable"} 0"#,
        r#"kubeagents_sessions{state="active"} 0"#,
        r#"kubeagents_notifications_waiting 0"#,
        r#"kubeagents_notifications_without_room 0"#,
        r#"kubeagents_event_streams 0"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(
        !text.contains("of-mine") && !text.contains("of mine"),
        "{text}"
    );

    let found = text.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name.to_owned(), kind.to_owned()))
    });
    assert_eq!(found.collect::<BTreeSet<_>>(), documented());
    check(&text);
}

/// Checks a text as Prometheus reads it, and its names and helps as it wants them.
fn check(text: &str) {
    let mut promtool = promtool()
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[tokio::test]
async fn requests_refused_for_a_limit_are_counted_by_its_name() {
    let server = Server::start(&[
        ("METRICS_ADDRESS", "127.0.0.1:0"),
        ("LOGIN_ATTEMPTS_PER_MINUTE", "1"),
    ]);
    let metrics = address(&server).await;
    let log_in = json!({"email": "somebody@example.com", "password": "a wrong one"});
    for status in [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS] {
        let answer = server.post("/api/auth/login", &log_in).await;
        assert_eq!(answer.status, status);
    }
    let text = scrape(metrics).await;
    for line in [
        r#"kubeagents_limit_hits_total{limit="logins"} 1"#,
        r#"kubeagents_log_ins_total{outcome="refused"} 1"#,
        r#"kubeagents_log_ins_total{outcome="limited"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn what_is_refused_within_an_answer_that_is_none_is_counted_too() {
    let server = Server::start(&[
        ("METRICS_ADDRESS", "127.0.0.1:0"),
        ("VERIFICATION_MAILS_PER_HOUR", "1"),
        ("MAX_AGENTS", "1"),
    ]);
    let metrics = address(&server).await;
    let call = |agent: &str| {
        let arguments = json!({"agent_id": agent, "session_topic": "t"});
        let params = json!({"name": "start_session", "arguments": arguments});
        json!({"jsonrpc": "2.0", "id": agent, "method": "tools/call", "params": params})
    };
    let calls = json!([call("a"), call("b"), call("c")]);
    let answer = server.post("/mcp", &calls).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");

    server.account("alice@example.com").await;
    for email in ["alice@example.com", "nobody@example.com"] {
        let forgotten = server
            .post("/api/auth/forgot", &json!({"email": email}))
            .await;
        assert_eq!(forgotten.status, StatusCode::OK, "{forgotten:?}");
    }
    let text = scrape(metrics).await;
    for line in [
        r#"kubeagents_limit_hits_total{limit="agents"} 2"#,
        r#"kubeagents_limit_hits_total{limit="mails"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn a_database_has_its_connections_and_sessions_counted() {
    let database = database();
    let directory = TempDir::new().unwrap();
    let file = format!("sqlite:{}", directory.path().join("state.db").display());
    for (storage, url, most) in [("postgres", database.url(), 3), ("sqlite", file, 7)] {
        let server = Server::start(&[
            ("METRICS_ADDRESS", "localhost:0"),
            ("DATABASE_URL", &url),
            ("DB_MAX_OPEN_CONNS", "3"),
            ("AUTH_MODE", "open"),
        ]);
        let metrics = address(&server).await;
        server.report("one", "running").await;
        server.report("two", "pending").await;
        server.report("three", "failed").await;
        until(metrics, r#"kubeagents_sessions{state="active"} 2"#).await;
        let text = until(metrics, r#"kubeagents_sessions{state="ended"} 1"#).await;
        let lines = [
            format!("kubeagents_store_connections_max {most}"),
            "kubeagents_report_group_size_sum 3".to_owned(),
        ];
        for line in lines {
            assert!(text.lines().any(|found| *found == line), "{line}\n{text}");
        }
        let storage = format!("storage=\"{storage}\"");
        assert!(text.contains(&storage), "{storage}\n{text}");
        let open = |state: &str| -> usize {
            let start = format!("kubeagents_store_connections{{state=\"{state}\"}} ");
            let count = text.lines().find_map(|line| line.strip_prefix(&start));
            count.unwrap().parse().unwrap()
        };
        assert!(
            (1..=most).contains(&(open("in_use") + open("idle"))),
            "{text}"
        );
        check(&text);
    }
}

#[tokio::test]
async fn only_the_metrics_are_served_on_their_address_and_nowhere_else() {
    let server = Server::start(&[("METRICS_ADDRESS", "127.0.0.1:0")]);
    let metrics = address(&server).await;
    let (status, headers, text) = ask(metrics, Method::HEAD, "/metrics").await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, ""));
    let length: usize = headers["content-length"].to_str().unwrap().parse().unwrap();
    assert!(length > 1000);
    let (status, headers, _) = ask(metrics, Method::POST, "/metrics").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(headers["allow"], "GET, HEAD");
    for path in ["/", "/health", "/api/agents", "/metrics/"] {
        let (status, ..) = ask(metrics, Method::GET, path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
    let elsewhere = server.get("/metrics").await.status;
    assert_eq!(elsewhere, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn clients_that_read_no_metrics_harm_nobody() {
    let server = Server::start(&[("METRICS_ADDRESS", "127.0.0.1:0")]);
    let metrics = address(&server).await;
    // More than there are places.
    let mut stuck = Vec::new();
    for _ in 0..40 {
        let mut client = TcpStream::connect(metrics).await.unwrap();
        client
            .write_all(b"GET /metrics HTTP/1.1\r\n")
            .await
            .unwrap();
        stuck.push(client);
    }
    server.report("meanwhile", "running").await;
    assert_eq!(server.get("/ready").await.status, StatusCode::OK);
    drop(stuck);
    until(metrics, r#"kubeagents_reports_total{outcome="stored"} 1"#).await;
}

#[tokio::test]
async fn metrics_are_served_until_the_end() {
    let server = Server::start(&[
        ("METRICS_ADDRESS", "127.0.0.1:0"),
        ("SHUTDOWN_DELAY_SECONDS", "300"),
    ]);
    let metrics = address(&server).await;
    server.signal(Signal::TERM);
    let start = Instant::now();
    while server.get("/ready").await.status == StatusCode::OK {
        assert!(start.elapsed() < PATIENCE, "the server does not stop");
    }
    scrape(metrics).await;
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_on_is_named() {
    for text in ["9090", "somewhere:9090", "127.0.0.1"] {
        let (code, log) = ends_with(&[("METRICS_ADDRESS", text)]);
        assert_eq!(code, Some(2), "{log}");
        assert!(
            log.contains("METRICS_ADDRESS must be an address and a port"),
            "{log}"
        );
    }
    let server = Server::start(&[("METRICS_ADDRESS", "127.0.0.1:0")]);
    let taken = address(&server).await.to_string();
    let (code, log) = ends_with(&[("METRICS_ADDRESS", &taken)]);
    assert_eq!(code, Some(1), "{log}");
    let problem = format!("cannot listen on {taken} (METRICS_ADDRESS)");
    assert!(log.contains(&problem), "{log}");
    // The port is free again for who comes after.
    assert_eq!(
        server
            .post("/webhook/status", &report("a", "running"))
            .await
            .status,
        StatusCode::OK
    );
}

#[test]
fn each_alert_is_documented_and_fires_on_what_it_is_for() {
    let rules = root().join("deploy/prometheus/alerts.yaml");
    let tests = root().join("tests/prometheus/alerts.test.yaml");
    succeed(promtool().args(["check", "rules"]).arg(&rules));
    succeed(promtool().args(["test", "rules"]).arg(&tests));
    let (rules, tests) = (
        fs::read_to_string(rules).unwrap(),
        fs::read_to_string(tests).unwrap(),
    );
    let guide = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in alerts {
        let is_tested = tests.contains(&format!("alertname=\"{alert}\""))
            || tests.contains(&format!("alertname: {alert}\n"));
        assert!(is_tested, "{alert} has no test");
        assert!(guide.contains(&format!("| `{alert}` |")), "{alert}");
    }
    known(&rules);
    known(&tests);
}

#[test]
fn the_dashboard_shows_metrics_that_exist() {
    let file = root().join("deploy/grafana/kubeagents.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let shown: String = targets
        .map(|target| format!("{}\n", target["expr"].as_str().unwrap()))
        .collect();
    known(&shown);
    // Whether the expressions are well-formed is seen where rules are made of them.
    let variable = |text: &str| {
        text.replace("$__rate_interval", "5m")
            .replace("$job", "kubeagents")
            .replace("$instance", ".*")
    };
    let rules: Vec<Value> = shown
        .lines()
        .enumerate()
        .map(|(n, expr)| json!({"record": format!("shown:{n}"), "expr": variable(expr)}))
        .collect();
    assert!(rules.len() > 20);
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("rules.yaml");
    let groups = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    fs::write(&file, groups.to_string()).unwrap();
    succeed(promtool().args(["check", "rules"]).arg(&file));

    let names = names_in(&shown);
    let missing = samples().into_iter().filter(|sample| {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| sample.strip_suffix(part));
        let family = family.unwrap_or(sample);
        !names.iter().any(|name| name.starts_with(family))
            && family != "process_virtual_memory_bytes"
    });
    assert_eq!(
        missing.collect::<Vec<_>>(),
        Vec::<String>::new(),
        "not shown"
    );
}

/// All metrics in this text are documented.
fn known(text: &str) {
    let samples = samples();
    let names = names_in(text);
    assert!(!names.is_empty());
    let unknown: Vec<&String> = names.difference(&samples).collect();
    assert!(unknown.is_empty(), "{unknown:?} is no metric");
}
