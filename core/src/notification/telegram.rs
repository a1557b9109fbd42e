//! Bots of Telegram.

use serde_json::{Value, json};
use url::Url;

use super::message::Message;
use super::text::{fit, html, utf16};
use crate::channel::chat_id;

/// The longest text, escaped or not.
const LIMIT: usize = 4096;

pub(super) fn body(message: &Message, url: &Url) -> Value {
    let mut body = json!({
        "chat_id": chat_id(url),
        "text": fit(&message.text(), LIMIT, utf16, html),
        "parse_mode": "HTML",
        "link_preview_options": {"is_disabled": true},
    });
    let mut pairs = url.query_pairs();
    let thread = pairs.find(|(name, _)| name == "message_thread_id");
    if let Some(Ok(thread)) = thread.map(|(_, thread)| thread.parse::<i64>()) {
        body["message_thread_id"] = json!(thread);
    }
    body
}

/// The address of the method: a channel's URL names the bot, the method or not, the chat, and perhaps a topic of it.
pub(super) fn method(url: &mut Url) {
    url.set_query(None);
    if !url.path().ends_with("/sendMessage") {
        let path = format!("{}/sendMessage", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
}
