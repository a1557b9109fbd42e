//! Webhooks of Discord.

use chrono::SecondsFormat;
use serde_json::{Value, json};

use super::message::Message;
use super::text::{fit, markdown, utf16};
use crate::Event;

const TITLE_LIMIT: usize = 256;
const DESCRIPTION_LIMIT: usize = 4096;

pub(super) fn body(message: &Message) -> Value {
    let lines: Vec<&str> = message.lines().collect();
    let color = match message.event {
        Event::Failed | Event::Silent => 0xd0_3b_3b,
        Event::Waiting => 0xe0_a0_30,
        Event::Started => 0x50_80_d0,
        Event::Finished | Event::Recovered => 0x3b_a5_5d,
    };
    let mut embed = json!({
        "title": fit(&message.headline, TITLE_LIMIT, utf16, markdown),
        "description": fit(&lines.join("\n"), DESCRIPTION_LIMIT, utf16, markdown),
        "color": color,
        "timestamp": message.at.to_rfc3339_opts(SecondsFormat::Millis, true),
    });
    if let Some(link) = &message.link {
        embed["url"] = json!(link);
    }
    json!({"username": "kubeagents", "embeds": [embed], "allowed_mentions": {"parse": []}})
}
