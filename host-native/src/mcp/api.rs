//! The server that reports go to, over HTTP.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use chrono::SecondsFormat;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kubeagents_core::mcp::{GetSession, ListAgents};
use kubeagents_core::{Report, Timestamp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::outbox::{Attempt, Sender};
use crate::causes;
use crate::delivery::tls_config;

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
    authorization: Option<HeaderValue>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("the server's address cannot be asked")]
    Request(#[from] http::Error),
    #[error("the server cannot be reached")]
    Client(#[from] hyper_util::client::legacy::Error),
    #[error("the server's answer breaks off")]
    Body(#[source] Box<dyn Error + Send + Sync>),
    #[error("the server does not answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
}

/// What the server answers.
struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Api {
    /// The server at `base_url`, which has no slash at its end.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn new(
        base_url: String,
        authorization: Option<HeaderValue>,
    ) -> Result<Self, rustls::Error> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self {
            client,
            base_url,
            authorization,
        })
    }

    /// Lists agents, as `GET /api/agents` answers.
    ///
    /// # Errors
    /// The message for the agent.
    pub(super) async fn list_agents(&self, call: &ListAgents) -> Result<Value, String> {
        let status = call.status.map(|status| status.as_str().to_owned());
        let query = query([
            ("search", call.search.clone()),
            ("status", status),
            ("limit", Some(call.limit.to_string())),
            ("cursor", call.cursor.clone()),
        ]);
        self.read(&format!("/api/agents?{query}")).await
    }

    /// Shows a session, as `GET /api/agents/{agent_id}/sessions/{session_topic}` answers.
    ///
    /// # Errors
    /// The message for the agent.
    pub(super) async fn get_session(&self, call: &GetSession) -> Result<Value, String> {
        let agent_id = utf8_percent_encode(&call.agent_id, NON_ALPHANUMERIC);
        let session_topic = utf8_percent_encode(&call.session_topic, NON_ALPHANUMERIC);
        let query = query([
            ("limit", Some(call.limit.to_string())),
            ("cursor", call.cursor.clone()),
        ]);
        self.read(&format!(
            "/api/agents/{agent_id}/sessions/{session_topic}?{query}"
        ))
        .await
    }

    async fn read(&self, path: &str) -> Result<Value, String> {
        let answer = self.ask(Method::GET, path, Bytes::new()).await;
        let answer = answer.map_err(|error| causes(&error))?;
        if !answer.status.is_success() {
            return Err(answer.message());
        }
        serde_json::from_slice(&answer.body)
            .ok()
            .filter(Value::is_object)
            .ok_or_else(|| "the server's answer is not JSON: is it kubeagents?".into())
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
            let body = Limited::new(response.into_body(), ANSWER_BYTES);
            let body = body.collect().await.map_err(NoAnswer::Body)?.to_bytes();
            Ok(Answer { status, body })
        })
        .await?
    }
}

impl Sender for Api {
    async fn send(&self, report: &Report, made: Timestamp) -> Attempt {
        let body = Bytes::from(webhook_body(report, made).to_string());
        match self.ask(Method::POST, "/webhook/status", body).await {
            Err(error) => Attempt::Unavailable(causes(&error)),
            Ok(answer) if answer.status.is_success() => Attempt::Accepted,
            Ok(answer) if answer.is_passing() => Attempt::Unavailable(answer.message()),
            Ok(answer) => Attempt::Refused(answer.message()),
        }
    }
}

impl Answer {
    /// Whether the same request may be answered otherwise later.
    fn is_passing(&self) -> bool {
        self.status.is_server_error()
            || matches!(
                self.status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
            )
    }

    /// What the server says of an error.
    fn message(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        ["message", "error"]
            .iter()
            .find_map(|field| Some(body.get(field)?.as_str()?.to_owned()))
            .unwrap_or_else(|| format!("the server answers {}", self.status))
    }
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

/// A report as `POST /webhook/status` takes it.
fn webhook_body(report: &Report, made: Timestamp) -> Value {
    let mut body = Map::new();
    let timestamp = made.to_rfc3339_opts(SecondsFormat::Micros, true);
    for (field, value) in [
        ("agent_id", Some(&report.agent_id)),
        ("agent_name", report.agent_name.as_ref()),
        ("agent_source", report.agent_source.as_ref()),
        ("session_topic", Some(&report.session_topic)),
        ("timestamp", Some(&timestamp)),
        ("message", Some(&report.message)),
        ("content", Some(&report.content)),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            body.insert(field.into(), value.as_str().into());
        }
    }
    body.insert("status".into(), report.status.as_str().into());
    if let Some(minutes) = report.ttl_minutes {
        body.insert("ttl_minutes".into(), minutes.into());
    }
    Value::Object(body)
}
