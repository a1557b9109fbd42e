//! Services of PagerDuty, by its Events API v2. An incident is opened when a session fails, falls
//! silent or waits, and resolved when it goes on or is over.

use serde_json::{Value, json};

use super::Happening;
use super::message::Message;
use super::text::{characters, fit, plain};
use crate::{Channel, Event, sha256_hex};

const SUMMARY_LIMIT: usize = 1024;

pub(super) fn body(message: &Message, happening: &Happening, channel: &Channel) -> Value {
    let severity = match happening.event {
        Event::Failed => "error",
        Event::Silent => "warning",
        _ => "info",
    };
    let action = match happening.event {
        Event::Finished | Event::Recovered => "resolve",
        _ => "trigger",
    };
    let names = [&*channel.id, &happening.agent_id, &happening.session_topic];
    let source = happening
        .context
        .get("host")
        .filter(|host| !host.is_empty());
    let mut body = json!({
        "routing_key": channel.secret,
        "event_action": action,
        "dedup_key": sha256_hex(names.join("\0")),
        "payload": {
            "summary": fit(&message.headline, SUMMARY_LIMIT, characters, plain),
            "source": source.map_or("kubeagents", String::as_str),
            "severity": severity,
            "custom_details": {"text": message.lines().collect::<Vec<_>>().join("\n")},
        },
    });
    if let Some(link) = &message.link {
        body["links"] = json!([{"href": link, "text": "kubeagents"}]);
    }
    body
}
