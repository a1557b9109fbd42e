use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::scenario::RUNTIME;

/// A receiver of notifications on a loopback address, which keeps every request.
///
/// It answers 200, unless a scenario asks for something else for an agent of its own.
#[derive(Clone, Debug)]
pub struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    deliveries: Mutex<Vec<Delivery>>,
    replies: Mutex<HashMap<String, Reply>>,
    answers: Mutex<HashMap<String, Answer>>,
    held: watch::Sender<HashSet<String>>,
    abandoned: Mutex<Vec<String>>,
}

/// The receiver's answer to an attempt at a notification.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// Fail this many attempts at each notification, then succeed.
    FailFirst(usize),
    /// Redirect to [`ELSEWHERE`].
    Redirect,
}

/// What the receiver answers at a path.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `Retry-After`; empty for none.
    pub(crate) retry_after: &'static str,
    pub(crate) body: &'static str,
}

/// One request that the receiver got.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The path that only a redirect leads to.
pub(crate) const ELSEWHERE: &str = "/elsewhere";

/// The path of the instance's own URL.
pub(crate) const INSTANCE: &str = "/instance";

impl Receiver {
    /// Starts a receiver on a free port of 127.0.0.1, for the rest of the process.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket of its own");
        let receiver = Self {
            address: listener.local_addr().expect("a bound address"),
            state: Arc::default(),
        };
        let _context = RUNTIME.enter();
        let listener = TcpListener::from_std(listener).expect("a running runtime");
        let this = receiver.clone();
        RUNTIME.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = this.clone();
                let service = service_fn(move |request| this.clone().receive(request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        receiver
    }

    /// The URL to give a server as its `NOTIFICATION_WEBHOOK_URL`.
    pub fn instance_url(&self) -> String {
        self.url(INSTANCE)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers requests for `agent` with `reply` from now on.
    pub(crate) fn reply(&self, agent: &str, reply: Reply) {
        let mut replies = self.state.replies.lock().unwrap();
        replies.insert(agent.to_owned(), reply);
    }

    /// Answers requests to `path` so from now on.
    pub(crate) fn answer(
        &self,
        path: &str,
        status: u16,
        retry_after: &'static str,
        body: &'static str,
    ) {
        let mut answers = self.state.answers.lock().unwrap();
        let answer = Answer {
            status,
            retry_after,
            body,
        };
        answers.insert(path.to_owned(), answer);
    }

    /// Every request to `path`, oldest first.
    pub(crate) fn requests(&self, path: &str) -> Vec<Delivery> {
        let deliveries = self.state.deliveries.lock().unwrap();
        let wanted = deliveries.iter().filter(|d| d.path == path);
        wanted.cloned().collect()
    }

    /// Leaves requests for `agent` unanswered until [`Receiver::release`].
    pub(crate) fn hold(&self, agent: &str) {
        self.state.held.send_modify(|held| {
            held.insert(agent.to_owned());
        });
    }

    /// Answers the requests held for `agent`.
    pub(crate) fn release(&self, agent: &str) {
        self.state.held.send_modify(|held| {
            held.remove(agent);
        });
    }

    /// Counts the requests for `agent` that the server gave up while they were held.
    pub(crate) fn abandoned(&self, agent: &str) -> usize {
        let abandoned = self.state.abandoned.lock().unwrap();
        abandoned.iter().filter(|a| *a == agent).count()
    }

    /// The requests to `path` for `agent`, oldest first.
    pub(crate) fn received(&self, path: &str, agent: &str) -> Vec<Delivery> {
        let deliveries = self.state.deliveries.lock().unwrap();
        let wanted = deliveries
            .iter()
            .filter(|d| d.path == path && d.agent() == agent);
        wanted.cloned().collect()
    }

    async fn receive(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes());
        let delivery = Delivery {
            method: parts.method,
            query: parts.uri.query().unwrap_or_default().to_owned(),
            path: parts.uri.path().to_owned(),
            headers: parts.headers,
            body: body.unwrap_or_default(),
        };
        let agent = delivery.agent();
        let reply = self.state.replies.lock().unwrap().get(&agent).copied();
        let answer = self
            .state
            .answers
            .lock()
            .unwrap()
            .get(&delivery.path)
            .cloned();
        let before = {
            let mut deliveries = self.state.deliveries.lock().unwrap();
            let id = delivery.webhook_id().map(str::to_owned);
            let same = |d: &&Delivery| d.path == delivery.path && d.webhook_id() == id.as_deref();
            let before = deliveries.iter().filter(same).count();
            deliveries.push(delivery);
            before
        };

        let mut waiting = Waiting {
            state: &self.state,
            agent: Some(agent),
        };
        let mut held = self.state.held.subscribe();
        let agent = waiting.agent.clone().unwrap_or_default();
        // The sender is part of the state, so it cannot be gone.
        drop(held.wait_for(|held| !held.contains(&agent)).await);
        waiting.agent = None;

        let mut response = Response::new(Full::default());
        if let Some(Answer {
            status,
            retry_after,
            body,
        }) = answer
        {
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            *response.body_mut() = Full::from(body);
            if !retry_after.is_empty() {
                let wait = header::HeaderValue::from_static(retry_after);
                response.headers_mut().insert(header::RETRY_AFTER, wait);
            }
        }
        match reply {
            Some(Reply::FailFirst(failures)) if before < failures => {
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            Some(Reply::Redirect) => {
                *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
                let location = self.url(ELSEWHERE).parse().expect("a header value");
                response.headers_mut().insert(header::LOCATION, location);
            }
            Some(Reply::FailFirst(_)) | None => {}
        }
        Ok(response)
    }
}

/// Notes when the other side goes away before it has been answered.
struct Waiting<'a> {
    state: &'a State,
    agent: Option<String>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(agent) = self.agent.take() {
            self.state.abandoned.lock().unwrap().push(agent);
        }
    }
}

impl Delivery {
    /// The body, JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a body in JSON")
    }

    /// The notification's text for people.
    pub(crate) fn text(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["content"]["text"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The rest of the line that begins with `label: `, where there is one.
    pub(crate) fn line(&self, label: &str) -> Option<String> {
        let text = self.text();
        let mut rests = text
            .lines()
            .filter_map(|l| l.strip_prefix(label)?.strip_prefix(": "));
        rests.next().map(str::to_owned)
    }

    fn agent(&self) -> String {
        self.line("Agent ID").unwrap_or_default()
    }

    /// The notification's `Webhook-Id`.
    pub(crate) fn webhook_id(&self) -> Option<&str> {
        self.headers.get("webhook-id")?.to_str().ok()
    }
}
