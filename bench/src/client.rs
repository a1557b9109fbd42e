//! Requests that make ready what is measured.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use http::Request;
use kubeagents_contract::Log;
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery staple";

/// How long a server may take to log a verification link.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of one server.
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
}

impl Client {
    pub(crate) fn new(url: &str) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        Self {
            agent: config.build().new_agent(),
            url: url.to_owned(),
        }
    }

    /// Sends a request, and returns the body of a 2xx answer. `body`: null for a GET.
    pub(crate) fn send(&self, path: &str, key: Option<&str>, body: &Value) -> Result<Value> {
        let mut request = Request::builder().uri(format!("{}{path}", self.url));
        if let Some(key) = key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let answer = match body {
            Value::Null => self.agent.run(request.body(())?),
            body => {
                let request = request.method("POST");
                let request = request.header("Content-Type", "application/json");
                self.agent.run(request.body(body.to_string())?)
            }
        };
        let mut answer = answer.with_context(|| path.to_owned())?;
        let text = answer.body_mut().read_to_string()?;
        ensure!(
            answer.status().is_success(),
            "{path}: {} {text}",
            answer.status()
        );
        Ok(serde_json::from_str(&text)?)
    }

    /// Reports on a session as wrk does.
    pub(crate) fn report(&self, key: Option<&str>, agent: &str, topic: &str) -> Result<()> {
        let body = json!({
            "agent_id": agent,
            "agent_name": "Agent",
            "session_topic": topic,
            "status": "running",
            "timestamp": "2026-01-01T00:00:00Z",
            "message": "still at it ".repeat(5),
            "content": "content, ".repeat(22),
        });
        self.send("/webhook/status", key, &body)?;
        Ok(())
    }

    /// Registers an account and makes API keys of it.
    pub(crate) fn account(&self, log: &Log, number: usize, keys: usize) -> Result<Vec<String>> {
        let email = format!("person{number}@example.com");
        let body = json!({"email": email, "password": PASSWORD});
        self.send("/api/auth/register", None, &body)?;
        let path = format!("/api/auth/verify?token={}", link_token(log, &email)?);
        let tokens = self.send(&path, None, &Value::Null)?;
        let access = tokens["access_token"].as_str().context("no access token")?;
        let make = |number| {
            let body = json!({"name": format!("key {number}"), "scopes": ["report", "read"]});
            let key = self.send("/api/apikeys", Some(access), &body)?;
            Ok(key["key"].as_str().context("no key")?.to_owned())
        };
        (0..keys).map(make).collect()
    }

    /// Reads an answer as it comes, head and body.
    pub(crate) fn raw(&self, request: &str) -> Result<Vec<u8>> {
        let address = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        ensure!(
            answer.starts_with(b"HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        Ok(answer)
    }
}

/// The token of the link that was logged for an address.
fn link_token(log: &Log, email: &str) -> Result<String> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let lines = log.lines();
        let mut links = lines.iter().filter(|line| line.contains(email));
        if let Some((_, token)) = links.find_map(|line| line.split_once("/verify?token=")) {
            let is_part = |c: &char| c.is_ascii_alphanumeric() || "-_".contains(*c);
            return Ok(token.chars().take_while(is_part).collect());
        }
        sleep(Duration::from_millis(20));
    }
    bail!("no link is logged for {email}")
}

/// Writes API keys to a file, for wrk.
pub(crate) fn write_keys(file: &Path, keys: &[String]) -> Result<()> {
    std::fs::write(file, keys.join("\n"))?;
    Ok(())
}
