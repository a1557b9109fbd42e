//! What is said of a head that hyper cannot read. It answers by itself, with a status and no word.

use serde_json::json;

/// The beginning of each of its answers, and what is meant.
const REFUSALS: [(&[u8], &str, &str); 2] = [
    (b"HTTP/1.1 400 ", "bad_request", "this is no valid HTTP"),
    (
        b"HTTP/1.1 431 ",
        "too_large",
        "the head of a request must not be larger than 32 KiB or have more than 100 headers",
    ),
];

/// How it says that there is no body.
const NO_BODY: &str = "\r\ncontent-length: 0\r\n";

/// The answer to send instead of this one, if it is one of those.
pub(super) fn in_words(answer: &[u8]) -> Option<Vec<u8>> {
    let (_, code, message) = REFUSALS
        .into_iter()
        .find(|(begin, ..)| answer.starts_with(begin))?;
    let (before, after) = str::from_utf8(answer).ok()?.split_once(NO_BODY)?;
    let after = after.strip_suffix("\r\n")?;
    let body = json!({"error": code, "message": message, "code": code}).to_string();
    let length = body.len();
    let answer = format!(
        "{before}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{after}\r\n{body}"
    );
    Some(answer.into_bytes())
}
