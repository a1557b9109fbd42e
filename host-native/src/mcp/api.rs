//! The server that reports go to, over HTTP.

use std::time::Duration;

use bytes::Bytes;
use chrono::SecondsFormat;
use http::{HeaderValue, Method, StatusCode};
use kubeagents_core::Report;
use kubeagents_core::mcp::{Call, GetSession, ListAgents, ListSessions};
use kubeagents_core::ports::CallerTrace;
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::outbox::{Attempt, Made, Reported, Sender};
use crate::client::server::{NoAnswer, Server, full_stop, message};

/// A kubeagents server, and what this machine is called there. Clones share their connections.
#[derive(Clone)]
pub(super) struct Api {
    server: Server,
    /// The name of this machine.
    host: String,
}

/// Where reports go.
const WEBHOOK: &str = "/webhook/status";

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
        Ok(Self {
            server: Server::new(base_url, authorization)?,
            host: host.unwrap_or_else(|| {
                let name = rustix::system::uname();
                name.nodename().to_string_lossy().into()
            }),
        })
    }

    /// What a reading tool shows, as the REST API answers. A report shows nothing.
    ///
    /// # Errors
    /// The message for the agent.
    pub(super) async fn read(
        &self,
        call: &Call,
        caller: Option<&CallerTrace>,
    ) -> Result<Value, String> {
        let (path, field) = match call {
            Call::ListAgents(call) => (agents_path(call), "agents"),
            Call::ListSessions(call) => (sessions_path(call), "sessions"),
            Call::GetSession(call) => (session_path(call), "session"),
            Call::Report(_) => return Ok(Value::Null),
        };
        let server = self.server.within(caller);
        let answer = server.ask(Method::GET, &path, Bytes::new()).await;
        let answer = answer.map_err(|error| server.no_answer(&error))?;
        match answer.own() {
            Some(rows) if answer.status == StatusCode::OK && rows.contains_key(field) => {
                Ok(rows.into())
            }
            _ => Err(server.trouble(&answer)),
        }
    }

    /// Why reports would not be stored now, in whole sentences; `None` when they would be, as far
    /// as the server says within `patience`.
    pub(super) async fn trouble(&self, patience: Duration) -> Option<String> {
        // Of a report without any field a server says that it is broken when credentials and scope
        // are right, and stores nothing.
        let server = &self.server;
        let asked = server.ask(Method::POST, WEBHOOK, Bytes::from_static(b"{}"));
        let trouble = match timeout(patience, asked).await {
            Err(_) => server.no_answer(&NoAnswer::Late),
            Ok(Err(error)) => server.no_answer(&error),
            Ok(Ok(answer)) => match answer.own_of_report() {
                Some(_) if answer.status == StatusCode::BAD_REQUEST => return None,
                Some(error) => server.refusal(answer.status, &error),
                None => server.foreign(&answer),
            },
        };
        let end = full_stop(&trouble);
        Some(format!(
            "Reports do not arrive at present: {trouble}{end} Tell your user."
        ))
    }
}

impl Sender for Api {
    async fn send(&self, reported: &Reported, made: Made) -> Attempt {
        let body = Bytes::from(webhook_body(&reported.report, made, &self.host).to_string());
        let server = self.server.within(reported.caller.as_ref());
        let answer = match server.ask(Method::POST, WEBHOOK, body).await {
            Err(error) => return Attempt::Unavailable(server.no_answer(&error)),
            Ok(answer) => answer,
        };
        // What stands between may answer anything, also that all is well.
        let Some(own) = answer.own_of_report() else {
            return Attempt::Unavailable(server.foreign(&answer));
        };
        if answer.status == StatusCode::OK && own.get("success") == Some(&Value::Bool(true)) {
            return Attempt::Accepted;
        }
        if message(&own).is_none() {
            return Attempt::Unavailable(server.foreign(&answer));
        }
        let refusal = server.refusal(answer.status, &own);
        match answer.is_passing() {
            true => Attempt::Unavailable(refusal),
            false => Attempt::Refused(refusal),
        }
    }
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
