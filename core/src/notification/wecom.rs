//! Bots of WeCom groups.

use serde_json::{Value, json};

use super::message::Message;
use super::text::{chat, fit};

/// The longest text, in bytes.
const LIMIT: usize = 2048;

pub(super) fn body(message: &Message) -> Value {
    let text = fit(&message.text(), LIMIT, str::len, chat);
    json!({"msgtype": "text", "text": {"content": text}})
}
