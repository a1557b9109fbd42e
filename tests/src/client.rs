use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pretty_assertions::assert_eq;
use regex::Regex;
use serde_json::{Value, json};

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Password hashes queue up behind each other on a machine with few cores.
const ANSWER_DEADLINE: Duration = Duration::from_secs(120);

/// Sends requests as they are: nothing is normalised or followed.
#[derive(Clone)]
pub(crate) struct Client {
    connections: Arc<Connections>,
    authorization: Option<String>,
}

struct Connections {
    http: hyper_util::client::legacy::Client<HttpConnector, Body>,
    urls: Vec<String>,
    turn: AtomicUsize,
}

impl Client {
    /// A client without credentials that sends its requests to `urls` in turn.
    pub(crate) fn new(urls: Vec<String>) -> Self {
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            // Shorter than any server's patience with an idle connection.
            .pool_idle_timeout(Duration::from_secs(1))
            .build_http();
        let turn = AtomicUsize::new(0);
        Self {
            connections: Arc::new(Connections { http, urls, turn }),
            authorization: None,
        }
    }

    /// The same client with `token` as its bearer token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        self.with_authorization(&format!("Bearer {token}"))
    }

    /// The same client with this `Authorization`.
    pub(crate) fn with_authorization(&self, authorization: &str) -> Self {
        Self {
            authorization: Some(authorization.to_owned()),
            ..self.clone()
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> Request {
        Request {
            client: self.clone(),
            method,
            path: path.to_owned(),
            headers: Vec::new(),
            body: Full::default().boxed_unsync(),
            refused: None,
        }
    }

    pub(crate) fn get(&self, path: &str) -> Request {
        self.request(Method::GET, path)
    }

    pub(crate) fn delete(&self, path: &str) -> Request {
        self.request(Method::DELETE, path)
    }

    pub(crate) fn options(&self, path: &str) -> Request {
        self.request(Method::OPTIONS, path)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Request {
        self.request(Method::POST, path).json(body)
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Request {
        self.request(Method::PUT, path).json(body)
    }

    /// Sends a report that must be accepted.
    pub(crate) async fn report(&self, report: &Value) {
        let answer = self.post("/webhook/status", report).await;
        assert_eq!(
            answer.ok(),
            json!({"success": true, "message": "Status reported successfully"})
        );
    }
}

/// A request that is sent when it is awaited.
pub(crate) struct Request {
    client: Client,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Body,
    /// The body again, where it is too large for any server to take.
    refused: Option<Bytes>,
}

/// The size in bytes beyond which no server takes a body.
const REFUSED: usize = 1 << 20;

/// How often a request that cannot be accepted is sent again when its answer was lost.
const ATTEMPTS: usize = 5;

impl Request {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body with its length declared.
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        self.refused = (body.len() > REFUSED).then(|| body.clone());
        self.body = Full::new(body).boxed_unsync();
        self
    }

    /// A body without a declared length.
    pub(crate) fn chunked(mut self, body: impl Into<Bytes>) -> Self {
        let chunks = body.into();
        let chunks: Vec<_> = chunks
            .chunks(64 * 1024)
            .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))))
            .collect();
        self.body = StreamBody::new(futures_util::stream::iter(chunks)).boxed_unsync();
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    /// Sends it and hands over the answer's body as it comes.
    pub(crate) async fn open(self) -> Response<Incoming> {
        let Self {
            client,
            method,
            path,
            headers,
            body,
            ..
        } = self;
        let Connections { http, urls, turn } = &*client.connections;
        let url = &urls[turn.fetch_add(1, Ordering::Relaxed) % urls.len()];
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{url}{path}"));
        if let Some(authorization) = &client.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        let answer = http.request(request.body(body).expect("a request"));
        let answer = tokio::time::timeout(ANSWER_DEADLINE, answer).await;
        answer.expect("an answer in time").expect("an answer")
    }

    async fn send(self) -> Answer {
        let Self {
            client,
            method,
            path,
            headers,
            body,
            refused,
        } = self;
        let Connections { http, urls, turn } = &*client.connections;
        let url = &urls[turn.fetch_add(1, Ordering::Relaxed) % urls.len()];
        let uri: Uri = format!("{url}{path}").parse().expect("a URI");
        let request = |body: Body| {
            let mut request = http::Request::builder()
                .method(method.clone())
                .uri(uri.clone());
            if let Some(authorization) = &client.authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            for (name, value) in &headers {
                request = request.header(name, value);
            }
            request.body(body).expect("a request")
        };
        let exchange = async {
            let mut answer = http.request(request(body)).await;
            // A server may answer and close before it has read such a body, and the client then
            // cannot read the answer for certain.
            for _ in 1..ATTEMPTS {
                let (Err(_), Some(body)) = (&answer, &refused) else {
                    break;
                };
                let body = Full::new(body.clone()).boxed_unsync();
                answer = http.request(request(body)).await;
            }
            let answer = answer.unwrap_or_else(|e| panic!("{method} {path}: {e:?}"));
            let (parts, body) = answer.into_parts();
            let body = body.collect().await;
            let body = body.unwrap_or_else(|e| panic!("{method} {path}: {e:?}"));
            (parts, body.to_bytes())
        };
        let (parts, body) = tokio::time::timeout(ANSWER_DEADLINE, exchange)
            .await
            .unwrap_or_else(|_| panic!("{method} {path}: no answer"));
        Answer {
            method,
            path,
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }
}

impl IntoFuture for Request {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// An answer of the server.
#[derive(Debug)]
pub(crate) struct Answer {
    method: Method,
    path: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The one value of a header. Several headers of one name count as a list.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values = self.headers.get_all(name).iter();
        let values: Vec<_> = values.map(|v| v.to_str().expect("a text header")).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The elements of a header that is a list, in lower case.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        self.header(name)
            .unwrap_or_default()
            .split(',')
            .map(|element| element.trim().to_lowercase())
            .filter(|element| !element.is_empty())
            .collect()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self}");
        self
    }

    /// The body of a 200.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        self.expect(200).json()
    }

    /// The body, checked against what the contract says of every body.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let content_type = self.header("content-type").unwrap_or_default();
        assert!(content_type.starts_with("application/json"), "{self}");
        let Ok(body) = serde_json::from_slice(&self.body) else {
            panic!("no JSON: {self}");
        };
        self.check_conventions(&body);
        if body.get("access_token").is_some() || body.get("key").is_some() {
            let kept = self.header("cache-control");
            assert_eq!(kept.as_deref(), Some("no-store"), "{self}");
        }
        body
    }

    /// Times have six digits, and optional fields that are empty are left out.
    #[track_caller]
    fn check_conventions(&self, body: &Value) {
        match body {
            Value::Array(elements) => elements.iter().for_each(|e| self.check_conventions(e)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.check_conventions(value);
                    let shows_null = ["expires_at", "last_used_at"].contains(&name.as_str())
                        && self.path.starts_with("/api/apikeys");
                    assert!(shows_null || !value.is_null(), "{name} is null: {self}");
                    let shows_empty = self.path == "/api/auth/register";
                    if OPTIONAL.contains(&name.as_str()) && !shows_empty {
                        assert_ne!(value, "", "{name} is empty: {self}");
                    }
                    if let (true, Some(time)) = (TIMES.contains(&name.as_str()), value.as_str()) {
                        assert!(is_time(time), "{name} has another form: {self}");
                    }
                }
            }
            _ => {}
        }
    }

    /// An error in the form that the route's clients expect.
    #[track_caller]
    pub(crate) fn error(self, status: u16, code: &str, message: &str) {
        let body = self.expect(status).error_body(code);
        assert_eq!(body["message"], message);
    }

    /// An error whose message the contract does not fix.
    #[track_caller]
    pub(crate) fn error_code(self, status: u16, code: &str) {
        self.expect(status).error_body(code);
    }

    /// An error with the given start of its message.
    #[track_caller]
    pub(crate) fn error_starting(self, status: u16, code: &str, message: &str) {
        let body = self.expect(status).error_body(code);
        let found = body["message"].as_str().unwrap_or_default();
        assert!(found.starts_with(message), "{found:?} is no {message:?}…");
        assert!(found.len() > message.len(), "{found:?} gives no reason");
    }

    #[track_caller]
    fn error_body(&self, code: &str) -> Value {
        let body = self.json();
        let message = body["message"].clone();
        assert!(
            message.as_str().is_some_and(|m| !m.is_empty()),
            "an error without a message: {self}"
        );
        let repeats_message = self.status == StatusCode::UNAUTHORIZED
            || self.path.starts_with("/api/auth")
            || self.path.starts_with("/api/apikeys");
        let error = if repeats_message {
            message.clone()
        } else {
            json!(code)
        };
        assert_eq!(
            body,
            json!({"error": error, "message": message, "code": code}),
            "{} {}",
            self.method,
            self.path
        );
        if self.status == StatusCode::UNAUTHORIZED && !self.is_sign_in() {
            let challenge = self.header("www-authenticate").unwrap_or_default();
            let scheme = challenge.split(' ').next();
            assert_eq!(scheme, Some("Bearer"), "{self}");
        }
        body
    }

    /// Returns whether a 401 concerns the credentials in the body, not those in the header.
    fn is_sign_in(&self) -> bool {
        ["/api/auth/login", "/api/auth/refresh"].contains(&self.path.as_str())
    }

    /// Renders status, the headers that the contract covers, and the body, with times and each of
    /// `names` replaced.
    pub(crate) fn redacted(&self, names: &[(&str, &str)]) -> String {
        const SHOWN: [&str; 3] = ["allow", "link", "www-authenticate"];
        let mut text = format!("{}\n", self.status);
        for name in SHOWN {
            if let Some(value) = self.header(name) {
                text.push_str(&format!("{name}: {value}\n"));
            }
        }
        if !self.body.is_empty() {
            text.push_str(&format!("\n{:#}", self.json()));
        }
        for (value, name) in names {
            text = text.replace(value, name);
        }
        TIME.replace_all(&text, "[time]").into_owned()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        let body: String = body.chars().take(2000).collect();
        writeln!(f, "{} {} → {}", self.method, self.path, self.status)?;
        writeln!(f, "{:?}\n{body}", self.headers)
    }
}

static TIME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z\b").unwrap());

const TIMES: [&str; 10] = [
    "created",
    "created_at",
    "expired_at",
    "expires_at",
    "last_seen",
    "last_updated",
    "last_used_at",
    "registered",
    "timestamp",
    "updated_at",
];

const OPTIONAL: [&str; 6] = [
    "name",
    "source",
    "message",
    "content",
    "expired_at",
    "notification_webhook_url",
];

fn is_time(text: &str) -> bool {
    TIME.find(text).is_some_and(|time| time.as_str() == text)
}
