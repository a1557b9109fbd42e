use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::future::pending;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kubeagents_contract::Process;
use kubeagents_test_postgres::found_or_installed;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How long to wait for what must happen; longer than any of the server's own limits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The server's binary with these variables and no others.
pub(crate) fn command(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubeagents"));
    command.env_clear().envs(variables.iter().copied());
    command
}

/// A command whose process sees the time that it will be in a minute.
pub(crate) fn a_minute_ahead(mut command: Command) -> Command {
    let find = || {
        let asked = Command::new("faketime")
            .args(["-m", "-f", "+60s", "printenv", "LD_PRELOAD"])
            .output()
            .ok()?;
        let library = String::from_utf8(asked.stdout).unwrap();
        asked.status.success().then(|| library.trim().to_owned())
    };
    let script = "apt-get update && apt-get install -y --no-install-recommends faketime";
    // The program of that name would stay in between, and outlive it when the server is killed.
    let library = found_or_installed("faketime", find, script);
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME", "+60s")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

/// A running server.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Server {
    /// Starts a server with these variables on a free port.
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        let mut command = command(variables);
        if !variables.iter().any(|(name, _)| *name == "PORT") {
            command.env("PORT", "0");
        }
        Self::of(&mut command)
    }

    /// Starts a server by this command.
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::when(command, "listening")
    }

    /// Starts a server whose storage takes a while to be ready, with these variables.
    pub(crate) fn starting(variables: &[(&str, &str)]) -> Self {
        Self::when(
            command(variables).env("PORT", "0"),
            "only /health is served",
        )
    }

    /// Starts a server by this command, and waits for a line with its address and these words.
    fn when(command: &mut Command, words: &str) -> Self {
        let process = Process::start(command).unwrap();
        let line = process
            .log()
            .wait_for(PATIENCE, |line| line.contains(words));
        let (_, address) = line.split_once("address").unwrap();
        let (_, address) = address.split_once("://").unwrap();
        let end = address.find([' ', '"']).unwrap_or(address.len());
        let port = address[..end].rsplit(':').next().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
        Self { process, address }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> Answer {
        self.try_send(method, path, token, body).await.unwrap()
    }

    /// Sends a request to a server that may end meanwhile.
    async fn try_send(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = match body {
            Value::Null => Bytes::new(),
            body => body.to_string().into(),
        };
        self.exchange(request.body(Full::new(body)).unwrap()).await
    }

    /// Sends a request, whatever it is, and reads the answer.
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.request(request);
        let answer = tokio::time::timeout(PATIENCE, answer)
            .await
            .expect("an answer in time")?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None, &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, None, body).await
    }

    /// Reports a status, which must be accepted.
    pub(crate) async fn report(&self, topic: &str, status: &str) {
        let answer = self.post("/webhook/status", &report(topic, status)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }

    /// Reports a run and its end: one transition, and so a notification to each receiver.
    pub(crate) async fn finish(&self, topic: &str) {
        self.report(topic, "running").await;
        self.report(topic, "success").await;
    }

    /// Registers and verifies an account, and returns the answer with its tokens.
    pub(crate) async fn account(&self, email: &str) -> Value {
        let answer = self.post("/api/auth/register", &registration(email)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        let token = self.verification_token(email).await;
        let answer = self.get(&format!("/api/auth/verify?token={token}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.body
    }

    /// The token of the verification link that the log holds for an address.
    pub(crate) async fn verification_token(&self, email: &str) -> String {
        self.link_token("verify", email).await
    }

    /// The token of the link to a page that the log holds for an address.
    pub(crate) async fn link_token(&self, page: &str, email: &str) -> String {
        let link = format!("/{page}?token=");
        let find = |line: &String| {
            let (_, rest) = line.split_once(&link)?;
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_=.~%".contains(c));
            line.contains(email)
                .then(|| rest[..end.unwrap_or(rest.len())].to_owned())
        };
        eventually("a link", || {
            self.process.log().lines().iter().find_map(find)
        })
        .await
    }

    /// Waits for a line in the log that contains all of these.
    pub(crate) async fn logged(&self, parts: &[&str]) -> String {
        eventually(&format!("{parts:?} in the log"), || {
            let lines = self.process.log().lines();
            lines
                .into_iter()
                .find(|line| parts.iter().all(|part| line.contains(part)))
        })
        .await
    }

    /// The code with which the process ends, as soon as it does.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        let status = eventually("the end of the server", || {
            self.process.exit_status().unwrap()
        });
        status.await.code()
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }
}

pub(crate) fn report(topic: &str, status: &str) -> Value {
    json!({
        "agent_id": "agent",
        "session_topic": topic,
        "status": status,
        "timestamp": "2026-01-01T00:00:00Z",
    })
}

pub(crate) fn registration(email: &str) -> Value {
    json!({"email": email, "password": "correct horse"})
}

/// The exit code and the log of a server that does not start with these variables.
pub(crate) fn ends_with(variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = command(variables).env("PORT", "0").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

/// Waits until a server is ready.
pub(crate) async fn ready(server: &Server) {
    let start = Instant::now();
    while server.get("/ready").await.status != StatusCode::OK {
        assert!(start.elapsed() < PATIENCE, "the server does not recover");
    }
}

/// A report whose message no other has.
pub(crate) fn numbered(topic: &str, number: usize) -> Value {
    let mut body = report(topic, "running");
    body["message"] = json!(format!("{topic} {number}"));
    body
}

/// Reports to a session until told to stop, or the server dies; the messages of what was answered
/// 200.
pub(crate) async fn load(server: Arc<Server>, topic: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut stored = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let body = numbered(&topic, number);
        let answer = server.try_send(Method::POST, "/webhook/status", None, &body);
        let Ok(answer) = answer.await else {
            break;
        };
        match answer.status {
            StatusCode::OK => stored.push(body["message"].as_str().unwrap().to_owned()),
            status => {
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
                assert_eq!(answer.headers["retry-after"], "1");
            }
        }
    }
    stored
}

/// All of these are there, and nothing is there twice.
pub(crate) fn assert_stored_once(found: &[String], answered: &[String]) {
    let once: HashSet<&String> = found.iter().collect();
    assert_eq!(once.len(), found.len(), "something is stored twice");
    for message in answered {
        assert!(once.contains(message), "{message} is lost");
    }
}

/// What `look` finds, as soon as it finds something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a receiver of notifications does with one.
#[derive(Clone, Copy)]
pub(crate) enum Reply {
    Status(u16),
    /// 429, and the wait that is asked for.
    Busy(&'static str),
    /// 302 to this address.
    Redirect(SocketAddr),
    /// No answer at all.
    Hang,
}

/// A receiver of notifications on a port of its own.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<ReceiverState>>,
}

#[derive(Default)]
struct ReceiverState {
    deliveries: Vec<Delivery>,
    in_flight: usize,
    most_in_flight: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) id: String,
    pub(crate) at: Instant,
    pub(crate) headers: HeaderMap,
    pub(crate) path: String,
    /// The text of a plain webhook.
    pub(crate) text: String,
    pub(crate) body: String,
}

impl Delivery {
    /// The body of what a channel is told.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Receiver {
    /// Starts a receiver. `reply` is told how many attempts came before, at whatever.
    pub(crate) async fn start(
        reply: impl Fn(usize) -> Reply + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
        };
        let running = receiver.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (receiver, reply) = (running.clone(), reply.clone());
                let service = service_fn(move |request| {
                    let (receiver, reply) = (receiver.clone(), reply.clone());
                    async move { receiver.receive(request, reply).await }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        receiver
    }

    async fn receive(
        &self,
        request: Request<Incoming>,
        reply: impl Fn(usize) -> Reply,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (parts, body) = request.into_parts();
        let body = String::from_utf8(body.collect().await?.to_bytes().into()).unwrap();
        let json: Value = serde_json::from_str(&body).unwrap();
        let before = {
            let mut state = self.state.lock().unwrap();
            state.deliveries.push(Delivery {
                at: Instant::now(),
                id: parts.headers["webhook-id"].to_str().unwrap().to_owned(),
                path: parts.uri.to_string(),
                headers: parts.headers,
                text: json["content"]["text"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                body,
            });
            state.in_flight += 1;
            state.most_in_flight = state.most_in_flight.max(state.in_flight);
            state.deliveries.len() - 1
        };
        let _ending = Ending(self.clone());
        let mut response = Response::new(Full::default());
        match reply(before) {
            Reply::Status(status) => *response.status_mut() = StatusCode::from_u16(status).unwrap(),
            Reply::Busy(wait) => {
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                let wait = HeaderValue::from_static(wait);
                response.headers_mut().insert("retry-after", wait);
            }
            Reply::Redirect(target) => {
                *response.status_mut() = StatusCode::FOUND;
                let target = format!("http://{target}/").parse().unwrap();
                response.headers_mut().insert("location", target);
            }
            Reply::Hang => pending().await,
        }
        Ok(response)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.state.lock().unwrap().deliveries.clone()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.state.lock().unwrap().in_flight
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.state.lock().unwrap().most_in_flight
    }

    /// What has arrived, as soon as it is this many attempts.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Delivery> {
        eventually(&format!("{count} deliveries"), || {
            Some(self.deliveries()).filter(|deliveries| deliveries.len() >= count)
        })
        .await
    }

    /// How many attempts there were at each notification.
    pub(crate) fn attempts(&self) -> BTreeMap<String, usize> {
        let mut attempts = BTreeMap::new();
        for delivery in self.deliveries() {
            *attempts.entry(delivery.id).or_default() += 1;
        }
        attempts
    }
}

/// An attempt that ends, be it by the sender's hanging up.
struct Ending(Receiver);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().in_flight -= 1;
    }
}
