//! JSON for programs, as [Standard Webhooks](https://www.standardwebhooks.com) has it.

use bytes::Bytes;
use chrono::SecondsFormat;
use http::{HeaderName, HeaderValue, Request};
use serde_json::{Value, json};

use super::message::Message;
use super::{Happening, hmac_base64};
use crate::Timestamp;
use crate::channel::signing_keys;
use crate::hook::Detail;

/// The size in bytes below which a body stays.
const LIMIT: usize = 20_000;

/// What of a session's context goes out.
const CONTEXT: [&str; 8] = [
    "branch", "cwd", "host", "model", "parent", "pr", "repo", "tool",
];

pub(super) fn body(happening: &Happening, message: &Message, detail: Detail) -> Value {
    let mut data = json!({
        "agent_id": happening.agent_id,
        "session_topic": happening.session_topic,
        "status": happening.status.as_str(),
    });
    let mut give = |field: &str, value: Value| {
        if !matches!(value.as_str(), Some("")) && !value.is_null() {
            data[field] = value;
        }
    };
    give("reason", json!(happening.reason));
    give("duration_seconds", json!(happening.ran_seconds));
    give("url", json!(message.link));
    if detail > Detail::None {
        give("agent_name", json!(happening.agent_name));
        give("title", json!(happening.title));
        let context = happening.context.iter();
        let context: serde_json::Map<String, Value> = context
            .filter(|(key, _)| CONTEXT.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), json!(value)))
            .collect();
        if !context.is_empty() {
            give("context", Value::Object(context));
        }
    }
    if detail == Detail::Full {
        give("message", json!(happening.message));
    }
    let mut body = json!({
        "type": format!("session.{}", happening.event.as_str()),
        "timestamp": happening.at.to_rfc3339_opts(SecondsFormat::Micros, true),
        "data": data,
    });
    // Control characters take six bytes each.
    for field in ["context", "message"] {
        if body.to_string().len() > LIMIT
            && let Some(data) = body["data"].as_object_mut()
        {
            data.remove(field);
        }
    }
    body
}

/// Adds the headers that Standard Webhooks asks for.
pub(super) fn sign(request: &mut Request<Bytes>, id: &str, secret: &str, now: Timestamp) {
    let timestamp = now.timestamp().to_string();
    let signed = [id, ".", &timestamp, "."].concat();
    let signed = [signed.as_bytes(), request.body()].concat();
    let keys = signing_keys(secret).unwrap_or_default();
    let signatures = keys
        .iter()
        .map(|key| format!("v1,{}", hmac_base64(key, &signed)));
    let headers = [
        ("webhook-timestamp", timestamp),
        (
            "webhook-signature",
            signatures.collect::<Vec<_>>().join(" "),
        ),
    ];
    for (name, value) in headers.into_iter().filter(|(_, value)| !value.is_empty()) {
        // Numbers and base64 are ASCII.
        if let Ok(value) = HeaderValue::try_from(value) {
            let name = HeaderName::from_static(name);
            request.headers_mut().insert(name, value);
        }
    }
}
