//! The Model Context Protocol: official clients against `/mcp` and `kubeagents mcp`, and what the
//! command does when its server or its client is away.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use kubeagents_contract::mcp_clients;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

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
    /// Starts the command in front of the server at this port.
    fn start(port: u16, variables: &[(&str, &str)]) -> Self {
        let url = format!("http://127.0.0.1:{port}");
        let mut process = command(variables)
            .arg("mcp")
            .env("KUBEAGENTS_SERVER_URL", url)
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
        let mut agent = Self {
            input: process.stdin.take(),
            process,
            answers,
            calls: 0,
        };
        let client = json!({"name": "test", "version": "1"});
        let hello =
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client});
        let agreed = agent.ask("initialize", hello);
        assert_eq!(agreed["protocolVersion"], "2025-06-18");
        agent.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        agent
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.input.as_mut().unwrap(), "{message}").unwrap();
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        let answer = self.answers.recv_timeout(PATIENCE).unwrap();
        assert_eq!(answer["id"], id, "{answer}");
        answer["result"].clone()
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
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
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
        assert!(
            text.starts_with("Queued, not yet delivered: the server cannot be reached"),
            "{text}"
        );
    }
    let (is_error, text) = agent.call("get_session", "t", json!({}));
    assert!(
        is_error && text.starts_with("the server cannot be reached"),
        "{text}"
    );

    let server = Server::start(&[("AUTH_MODE", "open"), ("PORT", &port.to_string())]);
    let mut messages = Vec::new();
    let start = Instant::now();
    while messages.len() < 3 {
        assert!(start.elapsed() < PATIENCE, "only {messages:?} arrived");
        let detail = server.get("/api/agents/agent/sessions/t").await.body;
        messages = detail["status_history"]
            .as_array()
            .map_or(Vec::new(), |history| {
                history
                    .iter()
                    .map(|status| status["message"].clone())
                    .collect()
            });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(messages, ["3", "2", "1"]);
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
    let mut agent = Agent::start(
        server.address.port(),
        &[("KUBEAGENTS_API_KEY", "no key of this server")],
    );
    for (tool, arguments, text) in [
        ("start_session", json!({}), "invalid or expired token"),
        ("get_session", json!({}), "invalid or expired token"),
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
}
