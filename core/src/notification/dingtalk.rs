//! Custom bots of DingTalk.

use serde_json::{Value, json};
use url::Url;

use super::hmac_base64;
use super::message::Message;
use super::text::{chat, fit};
use crate::Timestamp;

/// The longest text, in bytes: a request may take 20 KB.
const LIMIT: usize = 8000;

pub(super) fn body(message: &Message) -> Value {
    let text = fit(&message.text(), LIMIT, str::len, chat);
    json!({"msgtype": "text", "text": {"content": text}, "at": {"isAtAll": false}})
}

/// Signs a request, in its URL.
pub(super) fn sign(url: &mut Url, secret: &str, now: Timestamp) {
    let timestamp = now.timestamp_millis().to_string();
    let sign = hmac_base64(
        secret.as_bytes(),
        format!("{timestamp}\n{secret}").as_bytes(),
    );
    let mut query = url.query_pairs_mut();
    query
        .append_pair("timestamp", &timestamp)
        .append_pair("sign", &sign);
}
