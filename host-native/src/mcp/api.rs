//! The server that reports go to, over HTTP.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use chrono::SecondsFormat;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::GaiResolver;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kubeagents_core::Report;
use kubeagents_core::mcp::{Call, GetSession, ListAgents, ListSessions};
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::outbox::{Attempt, Made, Sender};
use crate::causes;
use crate::delivery::{tcp, tls_config};

/// How long the server may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How large its answer may be, in bytes.
const ANSWER_BYTES: usize = 16 << 20;

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(15);

/// A kubeagents server and the credentials for it. Clones share their connections.
#[derive(Clone)]
pub(super) struct Api {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base_url: String,
    /// `base_url` as it may be shown, without a password.
    shown_url: String,
    /// The name of this machine.
    host: String,
    authorization: Option<HeaderValue>,
}

/// Why there is no answer. The text follows the server's address.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("is no address that can be asked")]
    Request(#[from] http::Error),
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("does not speak TLS: should KUBEAGENTS_SERVER_URL begin with http:// instead?")]
    NotTls,
    #[error("does not speak HTTP: should KUBEAGENTS_SERVER_URL begin with https:// instead?")]
    NotHttp,
    #[error("breaks off in its answer")]
    Body(#[source] Box<dyn Error + Send + Sync>),
    #[error("does not answer in time")]
    Late,
}

impl From<hyper_util::client::legacy::Error> for NoAnswer {
    fn from(error: hyper_util::client::legacy::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            if let Some(rustls::Error::InvalidMessage(_)) = error.downcast_ref() {
                return Self::NotTls;
            }
            if error.downcast_ref().is_some_and(hyper::Error::is_parse) {
                return Self::NotHttp;
            }
            // An I/O error that wraps another passes it over as its source.
            let wrapped = error.downcast_ref().and_then(std::io::Error::get_ref);
            cause = match wrapped {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
        Self::Unreachable(reason(&error))
    }
}

/// Why a request failed, without the client's own name for the step that did.
fn reason(error: &hyper_util::client::legacy::Error) -> String {
    error.source().map_or_else(|| causes(error), causes)
}

/// Where reports go.
const WEBHOOK: &str = "/webhook/status";

/// What a server answers.
struct Answer {
    status: StatusCode,
    /// Where a redirect points.
    location: Option<String>,
    body: Bytes,
}

impl Api {
    /// The server at `base_url`, which has no slash at its end. `host` names this machine, if its own
    /// name is not the one to report.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn new(
        base_url: String,
        authorization: Option<HeaderValue>,
        host: Option<String>,
    ) -> Result<Self, rustls::Error> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp(GaiResolver::new(), TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self {
            client,
            shown_url: shown(&base_url),
            base_url,
            host: host.unwrap_or_else(|| {
                let name = rustix::system::uname();
                name.nodename().to_string_lossy().into()
            }),
            authorization,
        })
    }

    /// What a reading tool shows, as the REST API answers. A report shows nothing.
    ///
    /// # Errors
    /// The message for the agent.
    pub(super) async fn read(&self, call: &Call) -> Result<Value, String> {
        let path = match call {
            Call::ListAgents(call) => agents_path(call),
            Call::ListSessions(call) => sessions_path(call),
            Call::GetSession(call) => session_path(call),
            Call::Report(_) => return Ok(Value::Null),
        };
        let answer = self.ask(Method::GET, &path, Bytes::new()).await;
        let answer = answer.map_err(|error| self.no_answer(&error))?;
        match answer.own() {
            Some(rows) if answer.status == StatusCode::OK => Ok(rows.into()),
            Some(error) => Err(self.refusal(answer.status, &error)),
            None => Err(self.foreign(&answer)),
        }
    }

    /// Why reports would not be stored now, in whole sentences; `None` when they would be, as far
    /// as the server says within `patience`.
    pub(super) async fn trouble(&self, patience: Duration) -> Option<String> {
        // Of a report without any field a server says that it is broken when credentials and scope
        // are right, and stores nothing.
        let asked = self.ask(Method::POST, WEBHOOK, Bytes::from_static(b"{}"));
        let trouble = match timeout(patience, asked).await {
            Err(_) => self.no_answer(&NoAnswer::Late),
            Ok(Err(error)) => self.no_answer(&error),
            Ok(Ok(answer)) => match answer.own_of_report() {
                Some(_) if answer.status == StatusCode::BAD_REQUEST => return None,
                Some(error) => self.refusal(answer.status, &error),
                None => self.foreign(&answer),
            },
        };
        Some(format!(
            "Reports do not arrive at present: {trouble}. Tell your user."
        ))
    }

    fn no_answer(&self, error: &NoAnswer) -> String {
        format!("{} {}", self.shown_url, causes(error))
    }

    /// What an error of the server means here.
    fn refusal(&self, status: StatusCode, error: &Map<String, Value>) -> String {
        let message = message(error).unwrap_or_default();
        match (status, &self.authorization) {
            (StatusCode::UNAUTHORIZED, None) => format!(
                "{} wants an API key, and KUBEAGENTS_API_KEY is not set ({message})",
                self.shown_url
            ),
            (StatusCode::UNAUTHORIZED, Some(_)) => format!(
                "{} does not accept KUBEAGENTS_API_KEY ({message})",
                self.shown_url
            ),
            _ => message.to_owned(),
        }
    }

    /// What to say of an answer that no kubeagents server gives.
    fn foreign(&self, answer: &Answer) -> String {
        let place = match &answer.location {
            Some(location) => format!(", pointing to {location}"),
            None => String::new(),
        };
        format!(
            "{} answers {}{place}, but not as kubeagents does: is KUBEAGENTS_SERVER_URL right?",
            self.shown_url, answer.status
        )
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, NoAnswer> {
        let url = format!("{}{path}", self.base_url);
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(ACCEPT, "application/json")
            .header(
                USER_AGENT,
                concat!("kubeagents/", env!("CARGO_PKG_VERSION")),
            );
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(body))?;
        timeout(TIMEOUT, async {
            let response = self.client.request(request).await?;
            let status = response.status();
            let location = response.headers().get(LOCATION);
            let location = location.and_then(|to| Some(to.to_str().ok()?.to_owned()));
            let body = Limited::new(response.into_body(), ANSWER_BYTES);
            let body = body.collect().await.map_err(NoAnswer::Body)?.to_bytes();
            Ok(Answer {
                status,
                location,
                body,
            })
        })
        .await
        .map_err(|_| NoAnswer::Late)?
    }
}

impl Sender for Api {
    async fn send(&self, report: &Report, made: Made) -> Attempt {
        let body = Bytes::from(webhook_body(report, made, &self.host).to_string());
        let answer = match self.ask(Method::POST, WEBHOOK, body).await {
            Err(error) => return Attempt::Unavailable(self.no_answer(&error)),
            Ok(answer) => answer,
        };
        // What stands between may answer anything, also that all is well.
        let Some(own) = answer.own_of_report() else {
            return Attempt::Unavailable(self.foreign(&answer));
        };
        if answer.status == StatusCode::OK && own.get("success") == Some(&Value::Bool(true)) {
            return Attempt::Accepted;
        }
        if message(&own).is_none() {
            return Attempt::Unavailable(self.foreign(&answer));
        }
        let refusal = self.refusal(answer.status, &own);
        match answer.is_passing() {
            true => Attempt::Unavailable(refusal),
            false => Attempt::Refused(refusal),
        }
    }
}

impl Answer {
    /// Checks whether the same request may be answered otherwise later.
    fn is_passing(&self) -> bool {
        !self.status.is_client_error()
            || matches!(
                self.status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
            )
    }

    /// The body, if it is one of a kubeagents server: an object, and in an error a message.
    fn own(&self) -> Option<Map<String, Value>> {
        let body: Map<String, Value> = serde_json::from_slice(&self.body).ok()?;
        (self.status == StatusCode::OK || message(&body).is_some()).then_some(body)
    }

    /// The same of an answer to a report, which every kubeagents server knows the place of.
    fn own_of_report(&self) -> Option<Map<String, Value>> {
        let is_known = !matches!(
            self.status,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
        );
        self.own().filter(|_| is_known)
    }
}

/// What an error says.
fn message(error: &Map<String, Value>) -> Option<&str> {
    ["message", "error"]
        .iter()
        .find_map(|field| error.get(*field)?.as_str())
}

/// A URL without what must not be shown of it.
fn shown(url: &str) -> String {
    let Ok(mut url) = url::Url::parse(url) else {
        return "the server".into();
    };
    // Both fail only where a URL has no host, and then it has neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.as_str().trim_end_matches('/').to_owned()
}

fn agents_path(call: &ListAgents) -> String {
    let status = call.status.map(|status| status.as_str().to_owned());
    let query = query([
        ("search", call.search.clone()),
        ("status", status),
        ("limit", Some(call.limit.to_string())),
        ("cursor", call.cursor.clone()),
    ]);
    format!("/api/agents?{query}")
}

fn sessions_path(call: &ListSessions) -> String {
    let query = query([
        ("limit", Some(call.limit.to_string())),
        ("cursor", call.cursor.clone()),
    ]);
    format!("/api/agents/{}/sessions?{query}", encoded(&call.agent_id))
}

fn session_path(call: &GetSession) -> String {
    let query = query([
        ("limit", Some(call.limit.to_string())),
        ("cursor", call.cursor.clone()),
    ]);
    let (agent_id, topic) = (encoded(&call.agent_id), encoded(&call.session_topic));
    format!("/api/agents/{agent_id}/sessions/{topic}?{query}")
}

fn encoded(segment: &str) -> PercentEncode<'_> {
    utf8_percent_encode(segment, NON_ALPHANUMERIC)
}

/// A query of the parameters that have a value.
fn query<const N: usize>(parameters: [(&str, Option<String>); N]) -> String {
    let given = parameters
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?)));
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(given)
        .finish()
}

/// A report from the machine `host`, as `POST /webhook/status` takes it.
fn webhook_body(report: &Report, made: Made, host: &str) -> Value {
    let mut body = Map::new();
    let timestamp = made.at.to_rfc3339_opts(SecondsFormat::Micros, true);
    for (field, value) in [
        ("agent_id", Some(&report.agent_id)),
        ("agent_name", report.agent_name.as_ref()),
        ("agent_source", report.agent_source.as_ref()),
        ("session_topic", Some(&report.session_topic)),
        ("timestamp", Some(&timestamp)),
        ("message", Some(&report.message)),
        ("content", Some(&report.content)),
        ("session_title", report.session_title.as_ref()),
        ("reason", Some(&report.reason)),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            body.insert(field.into(), value.as_str().into());
        }
    }
    body.insert("status".into(), report.status.as_str().into());
    if let Some(minutes) = report.ttl_minutes {
        body.insert("ttl_minutes".into(), minutes.into());
    }
    body.insert("sequence".into(), made.sequence.into());
    // Sequences of one machine do not compare with another's.
    body.insert("context".into(), json!({"host": host}));
    Value::Object(body)
}
