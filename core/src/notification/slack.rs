//! Incoming webhooks of Slack.

use serde_json::{Value, json};

use super::message::Message;
use super::text::{characters, fit, html};

/// The longest text of a section, in characters.
const LIMIT: usize = 3000;

pub(super) fn body(message: &Message) -> Value {
    let text = fit(&message.text(), LIMIT, characters, html);
    json!({
        "text": fit(&message.headline, LIMIT, characters, html),
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}}],
    })
}
