//! The Model Context Protocol: official clients against `/mcp` and `kubeagents mcp`, and what the
//! command does when its server or its client is away.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use kubeagents_contract::mcp_clients;
use kubeagents_test_postgres::free_port;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use crate::support::{PATIENCE, Server, command, eventually};

const KEY: &str = "a-static-key-of-the-tests";

/// A client on the standard input and output of `kubeagents mcp`.
struct Agent {
    process: Child,
    input: Option<ChildStdin>,
    answers: Receiver<Value>,
    calls: u32,
}

impl Agent {
    /// Starts the command in front of the server at this port, and agrees with it on a revision.
    fn start(port: u16, variables: &[(&str, &str)]) -> Self {
        let mut agent = Self::silent(&format!("http://127.0.0.1:{port}"), variables);
        assert_eq!(agent.initialize()["protocolVersion"], "2025-06-18");
        agent.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        agent
    }

    /// Starts the command in front of the server at this URL, and says nothing yet.
    fn silent(url: &str, variables: &[(&str, &str)]) -> Self {
        Self::of(
            command(variables)
                .arg("mcp")
                .env("KUBEAGENTS_SERVER_URL", url),
        )
    }

    fn of(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Whatever is no message does not belong here.
                if sender.send(serde_json::from_str(&line).unwrap()).is_err() {
                    break;
                }
            }
        });
        Self {
            input: process.stdin.take(),
            process,
            answers,
            calls: 0,
        }
    }

    fn initialize(&mut self) -> Value {
        let client = json!({"name": "test", "version": "1"});
        let hello =
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client});
        self.ask("initialize", hello)
    }

    fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    fn write(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn answer(&mut self) -> Value {
        self.answers.recv_timeout(PATIENCE).unwrap()
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        let answer = self.answer();
        assert_eq!(answer["id"], id, "{answer}");
        answer["result"].clone()
    }

    /// Writes calls of tools for the agent `agent` at once, and waits until all are answered.
    fn call_at_once(&mut self, calls: impl IntoIterator<Item = (&'static str, Value)>) {
        let mut lines = String::new();
        let mut count = 0;
        for (tool, mut arguments) in calls {
            arguments["agent_id"] = "agent".into();
            let params = json!({"name": tool, "arguments": arguments});
            let call =
                json!({"jsonrpc": "2.0", "id": count, "method": "tools/call", "params": params});
            lines += &format!("{call}\n");
            count += 1;
        }
        self.write(lines.as_bytes());
        for _ in 0..count {
            let answer = self.answer();
            assert_eq!(answer["result"]["isError"], false, "{answer}");
        }
    }

    /// Calls a tool for the agent `agent`; whether that was an error, and the text.
    fn call(&mut self, tool: &str, topic: &str, mut arguments: Value) -> (bool, String) {
        arguments["agent_id"] = "agent".into();
        arguments["session_topic"] = topic.into();
        let result = self.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        let text = result["content"][0]["text"].as_str().unwrap().to_owned();
        (result["isError"] == true, text)
    }

    fn begin(&mut self, topic: &str) {
        let reported = self.call("start_session", topic, json!({}));
        assert_eq!(reported, (false, "Status reported successfully".into()));
    }

    /// Closes standard input, and waits for the process to end well.
    async fn leave(mut self) {
        self.input = None;
        self.end().await;
    }

    async fn end(&mut self) {
        let status = eventually("the end of the command", || {
            self.process.try_wait().unwrap()
        });
        assert!(status.await.success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The messages of a session's history, the newest first.
async fn messages(server: &Server, topic: &str) -> Vec<String> {
    let path = format!("/api/agents/agent/sessions/{topic}");
    let detail = server.get(&path).await.body;
    let history = detail["status_history"].as_array();
    let message = |status: &Value| status["message"].as_str().unwrap_or_default().to_owned();
    history.into_iter().flatten().map(message).collect()
}

/// The messages of a session's history as soon as the newest one is this.
async fn arrived(server: &Server, topic: &str, newest: &str) -> Vec<String> {
    let start = Instant::now();
    loop {
        let messages = messages(server, topic).await;
        if messages.first().is_some_and(|message| message == newest) {
            return messages;
        }
        assert!(start.elapsed() < PATIENCE, "only {messages:?} arrived");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The next request: its head with the empty line, and its body.
fn request(stream: &TcpStream) -> (String, Vec<u8>) {
    let mut request = BufReader::new(stream);
    let mut length = 0;
    let mut head = String::new();
    let mut begin = 0;
    while request.read_line(&mut head).unwrap() > 2 {
        let field = head[begin..].to_ascii_lowercase();
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        begin = head.len();
    }
    let mut body = vec![0; length];
    request.read_exact(&mut body).unwrap();
    (head, body)
}

/// A server that takes reports as it is told.
struct Scripted {
    port: u16,
    /// The heads and bodies of requests.
    requests: Receiver<(String, Value)>,
}

impl Scripted {
    /// Starts a server that answers each report with the next of these texts, whole responses, and
    /// hangs up after each. `None` is no answer.
    fn start(answers: Vec<Option<&'static str>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let (head, body) = request(&stream);
                let body = serde_json::from_slice(&body).unwrap_or_default();
                sender.send((head, body)).unwrap();
                if let Some(answer) = answer {
                    (&stream).write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        Self { port, requests }
    }

    fn head(&self) -> String {
        self.requests.recv_timeout(PATIENCE).unwrap().0
    }

    fn report(&self) -> Value {
        self.requests.recv_timeout(PATIENCE).unwrap().1
    }
}

const INVALID: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n\
    {\"error\":\"bad_request\",\"message\":\"agent_id is required\"}";
const STORED: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\
    {\"success\":true,\"message\":\"Status reported successfully\"}";

/// What a session's history says last.
async fn last(server: &Server, topic: &str) -> (String, Value) {
    let path = format!("/api/agents/agent/sessions/{topic}");
    let newest = server.get(&path).await.body["status_history"][0].clone();
    let status = newest["status"].as_str().unwrap_or_default().to_owned();
    (status, newest["message"].clone())
}

#[test]
fn official_clients_are_served_without_credentials() {
    let server = Server::start(&[("AUTH_MODE", "open")]);
    mcp_clients::check(&format!("http://{}", server.address), None);
}

#[test]
fn official_clients_are_served_with_credentials_by_url_and_by_command() {
    let server = Server::start(&[("AUTH_MODE", "required"), ("KUBEAGENTS_API_KEY", KEY)]);
    let url = format!("http://{}", server.address);
    mcp_clients::check(&url, Some(KEY));
    let kubeagents = Path::new(env!("CARGO_BIN_EXE_kubeagents"));
    mcp_clients::check_command(kubeagents, &url, Some(KEY));
}

#[tokio::test]
async fn reports_wait_for_a_server_that_is_away_and_arrive_in_order() {
    let port = free_port();
    let away = format!("http://127.0.0.1:{port} cannot be reached");
    let mut agent = Agent::start(port, &[]);
    for (tool, arguments) in [
        ("start_session", json!({"message": "1"})),
        (
            "report_status",
            json!({"status": "running", "message": "2"}),
        ),
        ("end_session", json!({"status": "success", "message": "3"})),
    ] {
        let (is_error, text) = agent.call(tool, "t", arguments);
        assert!(!is_error, "{text}");
        let queued = format!("Queued, not yet delivered: {away}");
        assert!(text.starts_with(&queued), "{text}");
    }
    let (is_error, text) = agent.call("get_session", "t", json!({}));
    assert!(is_error && text.starts_with(&away), "{text}");

    let server = Server::start(&[("AUTH_MODE", "open"), ("PORT", &port.to_string())]);
    assert_eq!(arrived(&server, "t", "3").await, ["3", "2", "1"]);
    agent.leave().await;
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_its_open_sessions_failed_if_that_is_wanted() {
    let server = Server::start(&[("AUTH_MODE", "open")]);
    let port = server.address.port();
    let auto = [("KUBEAGENTS_AUTO_REPORT_ENABLED", "true")];

    let mut agent = Agent::start(port, &auto);
    agent.begin("left");
    agent.begin("ended");
    agent.call("end_session", "ended", json!({"status": "success"}));
    agent.leave().await;
    let failed = ("failed".to_owned(), json!("agent disconnected"));
    assert_eq!(last(&server, "left").await, failed);
    assert_eq!(last(&server, "ended").await.0, "success");

    let mut agent = Agent::start(port, &auto);
    agent.begin("terminated");
    let id = Pid::from_child(&agent.process);
    kill_process(id, Signal::TERM).unwrap();
    agent.end().await;
    assert_eq!(last(&server, "terminated").await, failed);

    let mut agent = Agent::start(port, &[]);
    agent.begin("kept");
    agent.leave().await;
    assert_eq!(last(&server, "kept").await.0, "running");
}

#[tokio::test]
async fn a_refusal_is_passed_on_in_the_words_of_the_server() {
    let server = Server::start(&[("AUTH_MODE", "open")]);
    let wrong = [("KUBEAGENTS_API_KEY", "no key of this server")];
    let mut agent = Agent::start(server.address.port(), &wrong);
    let refused = format!(
        "http://{} does not accept KUBEAGENTS_API_KEY (invalid or expired token)",
        server.address
    );
    for (tool, arguments, text) in [
        ("start_session", json!({}), refused.as_str()),
        ("get_session", json!({}), &refused),
        (
            "end_session",
            json!({"status": "done"}),
            "status must be one of: success, failed",
        ),
    ] {
        assert_eq!(agent.call(tool, "t", arguments), (true, text.into()));
    }
    agent.leave().await;
}

#[tokio::test]
async fn names_are_asked_for_exactly_as_they_were_reported() {
    let server = Server::start(&[("AUTH_MODE", "open")]);
    let mut agent = Agent::start(server.address.port(), &[("KUBEAGENTS_API_KEY", "")]);
    for topic in ["..", ".", "a/b", "50% & more?", "部署 #1"] {
        agent.begin(topic);
        let (is_error, text) = agent.call("get_session", topic, json!({}));
        assert!(!is_error, "{text}");
        let detail: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(detail["session"]["session_topic"], topic);
    }
    agent.leave().await;
}

#[tokio::test]
async fn an_environment_that_is_meant_for_others_does_no_harm() {
    let server = Server::start(&[("AUTH_MODE", "open")]);
    let environment = [("HOST", "my-machine"), ("PORT", "none"), ("AUTH_MODE", "")];
    let mut agent = Agent::start(server.address.port(), &environment);
    agent.begin("t");
    agent.leave().await;
    let url = format!("http://{}", server.address);
    let output = command(&[("KUBEAGENTS_SERVER_URL", &url)])
        .arg("mcp")
        .env("HOST", OsStr::from_bytes(b"\xff"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn reports_are_stored_in_the_order_of_their_lines() {
    let server = Server::start(&[("AUTH_MODE", "open")]);
    let mut agent = Agent::start(server.address.port(), &[]);
    for number in 0..100 {
        let topic = format!("pair-{number}");
        agent.call_at_once([
            (
                "start_session",
                json!({"session_topic": topic, "message": "start"}),
            ),
            (
                "end_session",
                json!({"session_topic": topic, "status": "success", "message": "end"}),
            ),
        ]);
        assert_eq!(messages(&server, &topic).await, ["end", "start"]);
    }
    agent.call_at_once((0..200).map(|number| {
        let message = number.to_string();
        (
            "report_status",
            json!({"session_topic": "many", "status": "running", "message": message}),
        )
    }));
    let expected: Vec<_> = (0..200).rev().map(|number| number.to_string()).collect();
    assert_eq!(messages(&server, "many").await, expected);
    agent.leave().await;
}

#[tokio::test]
async fn a_batch_is_stored_in_its_order_and_answered_as_one() {
    let server = Server::start(&[("AUTH_MODE", "open")]);
    let url = format!("http://{}", server.address);
    let mut agent = Agent::silent(&url, &[]);
    let call = |number: usize| {
        let arguments = json!({
            "agent_id": "agent", "session_topic": "t", "status": "running",
            "message": number.to_string(),
        });
        let params = json!({"name": "report_status", "arguments": arguments});
        json!({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})
    };
    let batch: Vec<_> = (0..50).map(call).collect();
    agent.send(&batch.into());
    let answers = agent.answer();
    let ids: Vec<_> = answers
        .as_array()
        .unwrap()
        .iter()
        .map(|a| &a["id"])
        .collect();
    assert_eq!(ids, (0..50).collect::<Vec<_>>());
    let expected: Vec<_> = (0..50).rev().map(|number| number.to_string()).collect();
    assert_eq!(messages(&server, "t").await, expected);
    agent.leave().await;
}

#[tokio::test]
async fn reports_keep_their_order_when_the_server_is_killed_among_them() {
    let port = free_port();
    let variables = [("AUTH_MODE", "open"), ("PORT", &port.to_string())];
    let server = Server::start(&variables);
    let mut agent = Agent::start(port, &[]);
    agent.begin("t");
    let lines: String = (0..200)
        .map(|number| {
            let arguments = json!({
                "agent_id": "agent", "session_topic": "t", "status": "running",
                "message": number.to_string(),
            });
            let params = json!({"name": "report_status", "arguments": arguments});
            let id = 1000 + number;
            let call =
                json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
            format!("{call}\n")
        })
        .collect();
    agent.write(lines.as_bytes());
    // One is answered, most are not.
    agent.answer();
    server.signal(Signal::KILL);
    drop(server);
    for _ in 1..200 {
        let answer = agent.answer();
        assert_eq!(answer["result"]["isError"], false, "{answer}");
    }
    // It has forgotten what it had, and is told the rest.
    let server = Server::start(&variables);
    let arrived = arrived(&server, "t", "199").await;
    let expected: Vec<_> = (0..200).rev().map(|number| number.to_string()).collect();
    assert_eq!(arrived, expected[..arrived.len()]);
    agent.leave().await;
}

#[test]
fn a_report_whose_answer_is_lost_is_repeated_with_its_sequence() {
    let stored = Some(STORED);
    let server = Scripted::start(vec![Some(INVALID), None, stored, stored]);
    let mut agent = Agent::start(server.port, &[]);
    server.report();
    let (is_error, text) = agent.call("start_session", "t", json!({}));
    assert!(!is_error && text.starts_with("Queued"), "{text}");
    let lost = server.report();
    assert_eq!(lost, server.report());
    assert!(lost["sequence"].as_i64().unwrap() > 1_700_000_000_000_000);
    assert!(lost["context"]["host"].is_string());
    agent.call("start_session", "t", json!({}));
    let next = server.report()["sequence"].as_i64();
    assert!(next > lost["sequence"].as_i64(), "{next:?}");
}

#[test]
fn what_a_client_says_of_its_trace_is_passed_on_with_that_call_alone() {
    let listed = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"agents\":[]}";
    let answers = [INVALID, STORED, STORED, STORED, STORED, listed].map(Some);
    let server = Scripted::start(answers.to_vec());
    let mut agent = Agent::start(server.port, &[]);
    server.head();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = json!({"traceparent": parent, "tracestate": "a=1"});
    let mut call = |tool: &str, meta: &Value| {
        let arguments = match tool {
            "list_agents" => json!({}),
            _ => json!({"agent_id": "agent", "session_topic": "t"}),
        };
        let params = json!({"name": tool, "arguments": arguments, "_meta": meta});
        let result = agent.ask("tools/call", params);
        assert_eq!(result["isError"], false, "{result}");
        server.head()
    };
    let says_so = |head: &str| {
        let lines: Vec<&str> = head.lines().collect();
        lines.contains(&"tracestate: a=1") && lines.contains(&&*format!("traceparent: {parent}"))
    };
    let head = call("start_session", &trace);
    assert!(says_so(&head), "{head}");
    for meta in [
        json!({}),
        json!({"traceparent": "00\r\nx: y"}),
        json!({"traceparent": "0".repeat(5000)}),
    ] {
        let head = call("start_session", &meta);
        assert!(!head.contains("trace") && !head.contains("x: y"), "{head}");
    }
    let head = call("list_agents", &trace);
    assert!(head.starts_with("GET ") && says_so(&head), "{head}");
}

/// A port that passes requests on to a server, but not the answers to the reports of these numbers,
/// counted from 0.
fn losing_port(server: SocketAddr, lost: &'static [usize]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for number in 0.. {
            let (stream, _) = listener.accept().unwrap();
            let (head, body) = request(&stream);
            let mut onward = TcpStream::connect(server).unwrap();
            let (first, rest) = head.split_once("\r\n").unwrap();
            write!(onward, "{first}\r\nconnection: close\r\n{rest}").unwrap();
            onward.write_all(&body).unwrap();
            let mut answer = Vec::new();
            onward.read_to_end(&mut answer).unwrap();
            if !lost.contains(&number) {
                (&stream).write_all(&answer).unwrap();
            }
        }
    });
    port
}

#[tokio::test]
async fn a_report_whose_answer_is_lost_is_stored_once() {
    let server = Server::start(&[("AUTH_MODE", "open")]);
    // The first request only asks whether reports are taken.
    let port = losing_port(server.address, &[1, 2]);
    let mut agent = Agent::start(port, &[]);
    let arguments = json!({"message": "once"});
    let (is_error, text) = agent.call("start_session", "t", arguments);
    assert!(!is_error && text.starts_with("Queued"), "{text}");
    let arguments = json!({"status": "pending", "message": "next"});
    agent.call("report_status", "t", arguments);
    assert_eq!(arrived(&server, "t", "next").await, ["next", "once"]);
    agent.leave().await;
}

#[test]
fn only_the_answer_of_a_kubeagents_server_counts() {
    let foreign = [
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<html>Welcome!</html>",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}",
        "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n{\"message\":\"no such page\"}",
        "HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: https://login.example/\r\n\r\n",
    ];
    for answer in foreign {
        let server = Scripted::start(vec![Some(INVALID), Some(answer), Some(STORED)]);
        let mut agent = Agent::start(server.port, &[]);
        server.report();
        let (is_error, text) = agent.call("start_session", "t", json!({}));
        assert!(
            !is_error && text.starts_with("Queued") && text.contains("not as kubeagents does"),
            "{text}"
        );
        assert_eq!(
            text.contains("login.example"),
            answer.contains("login.example")
        );
        assert_eq!(server.report(), server.report());
    }
}

#[test]
fn what_another_server_shows_is_no_list_of_agents() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            request(&stream);
            let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"message\":\"Welcome!\"}";
            let _ = (&stream).write_all(answer.as_bytes());
        }
    });
    let mut agent = Agent::start(port, &[]);
    for tool in ["list_agents", "list_sessions", "get_session"] {
        let (is_error, text) = agent.call(tool, "t", json!({}));
        assert!(
            is_error && text.contains("not as kubeagents does"),
            "{tool}: {text}"
        );
    }
}

#[tokio::test]
async fn every_line_that_wants_an_answer_gets_one() {
    let server = Server::start(&[("AUTH_MODE", "open")]);
    let mut agent = Agent::silent(&format!("http://{}", server.address), &[]);
    // Neither of these ends the process, nor is there an answer to them.
    agent.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    agent.send(&json!({"jsonrpc": "2.0", "id": 9, "result": {}}));
    agent.write(b"\n  \n");
    for (line, id, code) in [
        ("{", Value::Null, -32700),
        ("no JSON", Value::Null, -32700),
        ("7", Value::Null, -32600),
        (r#"{"jsonrpc":"2.0","id":1}"#, json!(1), -32600),
        (
            r#"{"jsonrpc":"2.0","id":2,"method":"no/such"}"#,
            json!(2),
            -32601,
        ),
        (
            r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"list_agents","arguments":[]}}"#,
            json!(3),
            -32602,
        ),
    ] {
        agent.write(format!("{line}\n").as_bytes());
        let answer = agent.answer();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&id, &json!(code)),
            "{line}"
        );
    }

    agent.write(&vec![b'x'; 17 << 20]);
    agent.write(b"\n");
    let answer = agent.answer();
    assert_eq!(
        answer["error"]["message"],
        "a message must not be longer than 16 MiB"
    );
    assert_eq!(agent.initialize()["serverInfo"]["name"], "kubeagents");

    let line = json!({
        "jsonrpc": "2.0", "id": 4, "method": "tools/call",
        "params": {
            "name": "start_session",
            "arguments": {"agent_id": "agent", "session_topic": "t", "message": "CUT"},
        },
    })
    .to_string();
    let (before, after) = line.split_once("CUT").unwrap();
    for piece in [&br"\ud83d"[..], b"\xf0\x9f"] {
        agent.write(&[before.as_bytes(), piece, after.as_bytes(), b"\n"].concat());
        assert_eq!(agent.answer()["result"]["isError"], false);
        assert_eq!(messages(&server, "t").await[0], "\u{fffd}");
    }
    agent.leave().await;
}

#[tokio::test]
async fn a_client_that_closes_its_end_at_once_is_answered_all_the_same() {
    let server = Server::start(&[("AUTH_MODE", "open")]);
    let mut agent = Agent::silent(&format!("http://{}", server.address), &[]);
    let arguments = json!({"agent_id": "agent", "session_topic": "t"});
    let params = json!({"name": "start_session", "arguments": arguments});
    agent.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}));
    agent.input = None;
    assert_eq!(agent.answer()["result"]["isError"], false);
    agent.end().await;
}

#[tokio::test]
async fn what_keeps_reports_from_arriving_is_said_at_the_start() {
    let said = |url: &str, variables: &[(&str, &str)]| {
        let mut agent = Agent::silent(url, variables);
        let instructions = agent.initialize()["instructions"].clone();
        instructions.as_str().unwrap().to_owned()
    };
    let away = format!("http://127.0.0.1:{}", free_port());
    let text = said(&away, &[]);
    let expected = format!("Reports do not arrive at present: {away} cannot be reached");
    assert!(text.starts_with(&expected), "{text}");

    let server = Server::start(&[("AUTH_MODE", "required"), ("KUBEAGENTS_API_KEY", KEY)]);
    let url = format!("http://{}", server.address);
    let text = said(&url, &[("KUBEAGENTS_API_KEY", KEY)]);
    assert!(text.starts_with("Call start_session"), "{text}");
    assert_eq!(server.get("/health").await.status, 200);
    let text = said(&url, &[("KUBEAGENTS_API_KEY", "wrong")]);
    assert!(
        text.contains("does not accept KUBEAGENTS_API_KEY"),
        "{text}"
    );
    let text = said(&url, &[]);
    assert!(text.contains("KUBEAGENTS_API_KEY is not set"), "{text}");
    let text = said(&format!("{url}/elsewhere"), &[("KUBEAGENTS_API_KEY", KEY)]);
    assert!(text.contains("is KUBEAGENTS_SERVER_URL right?"), "{text}");

    let text = said(&format!("https://{}", server.address), &[]);
    let question =
        "does not speak TLS: should its address begin with http:// instead? Tell your user.";
    assert!(text.contains(question), "{text}");
    let port = tls_port();
    let text = said(&format!("http://127.0.0.1:{port}"), &[]);
    assert!(text.contains("does not speak HTTP"), "{text}");
}

/// The port of a server that speaks nothing but TLS.
fn tls_port() -> u16 {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                drop(acceptor.accept(stream).await);
            }
        });
    });
    port
}

#[tokio::test]
async fn beside_hooks_the_tools_only_read() {
    let server = Server::start(&[("AUTH_MODE", "open")]);
    server.report("topic", "running").await;
    let url = format!("http://{}", server.address);
    let mut agent = Agent::of(
        command(&[])
            .args(["mcp", "--read-only"])
            .env("KUBEAGENTS_SERVER_URL", url),
    );
    let instructions = agent.initialize()["instructions"].to_string();
    assert!(instructions.contains("Hooks report"), "{instructions}");
    let tools = agent.ask("tools/list", json!({}))["tools"].clone();
    let names: Vec<_> = tools
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, ["list_agents", "list_sessions", "get_session"]);

    let (is_error, session) = agent.call("get_session", "topic", json!({}));
    assert!(!is_error && session.contains("running"), "{session}");
    for tool in ["start_session", "report_status", "end_session"] {
        let arguments = json!({"agent_id": "agent", "session_topic": "topic", "status": "failed"});
        let params = json!({"name": tool, "arguments": arguments});
        agent
            .send(&json!({"jsonrpc": "2.0", "id": tool, "method": "tools/call", "params": params}));
        let error = json!({"code": -32602, "message": format!("Unknown tool: {tool}")});
        assert_eq!(agent.answer()["error"], error);
    }
    agent.leave().await;
    assert_eq!(messages(&server, "topic").await.len(), 1);
}

#[tokio::test]
async fn an_agents_sessions_are_listed_with_their_topics() {
    let server = Server::start(&[("AUTH_MODE", "open")]);
    let mut agent = Agent::start(server.address.port(), &[]);
    for topic in ["a/b", "部署"] {
        agent.begin(topic);
    }
    let params = json!({"name": "list_sessions", "arguments": {"agent_id": "agent"}});
    let shown = agent.ask("tools/call", params)["structuredContent"].clone();
    assert_eq!(shown, server.get("/api/agents/agent/sessions").await.body);
    assert_eq!(shown["sessions"].as_array().unwrap().len(), 2);
    agent.leave().await;
}
