//! Custom bots of Feishu and Lark.

use serde_json::{Value, json};

use super::hmac_base64;
use super::message::Message;
use super::text::{chat, fit};
use crate::Timestamp;

/// The longest text, in bytes: a request may take 20 KB.
const LIMIT: usize = 8000;

pub(super) fn body(message: &Message, secret: &str, now: Timestamp) -> Value {
    let text = fit(&message.text(), LIMIT, str::len, chat);
    let mut body = json!({"msg_type": "text", "content": {"text": text}});
    if !secret.is_empty() {
        let timestamp = now.timestamp().to_string();
        let key = format!("{timestamp}\n{secret}");
        body["sign"] = json!(hmac_base64(key.as_bytes(), b""));
        body["timestamp"] = json!(timestamp);
    }
    body
}
