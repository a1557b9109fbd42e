//! Workflows of Microsoft Teams, which take an Adaptive Card.

use serde_json::{Value, json};

use super::message::Message;
use super::text::{characters, fit, markdown};

/// The longest text, in characters: with every character escaped and of four bytes, a card stays below
/// its 28 KB.
const LIMIT: usize = 3000;

pub(super) fn body(message: &Message) -> Value {
    let line = |text: &str| fit(text, LIMIT, characters, markdown);
    let lines: Vec<&str> = message.lines().collect();
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "TextBlock", "text": line(&message.headline), "wrap": true, "weight": "Bolder"},
            // A line break of its own takes two.
            {"type": "TextBlock", "text": line(&lines.join("\n\n")), "wrap": true},
        ],
    });
    if let Some(link) = &message.link {
        card["actions"] = json!([{"type": "Action.OpenUrl", "title": "Open", "url": link}]);
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": card,
        }],
    })
}
