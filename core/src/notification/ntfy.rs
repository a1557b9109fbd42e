//! Topics of ntfy.

use serde_json::{Value, json};
use url::Url;

use super::message::Message;
use super::text::{fit, plain};
use crate::Event;
use crate::channel::topic;

/// The longest message and title, in bytes.
const LIMIT: usize = 4096;
const TITLE_LIMIT: usize = 250;

pub(super) fn body(message: &Message, url: &Url) -> Value {
    let lines: Vec<&str> = message.lines().collect();
    let (priority, tag) = match message.event {
        Event::Failed => (4, "x"),
        Event::Waiting => (4, "hourglass_flowing_sand"),
        Event::Silent => (4, "mute"),
        Event::Finished => (3, "white_check_mark"),
        Event::Recovered => (3, "green_heart"),
        Event::Started => (2, "arrow_forward"),
    };
    // The tag is shown as the headline's icon.
    let title = message
        .headline
        .split_once(' ')
        .map_or("", |(_, title)| title);
    let mut body = json!({
        "topic": topic(url),
        "title": fit(title, TITLE_LIMIT, str::len, plain),
        "message": fit(&lines.join("\n"), LIMIT, str::len, plain),
        "tags": [tag],
        "priority": priority,
    });
    if let Some(link) = &message.link {
        body["click"] = json!(link);
    }
    body
}

/// The server's root, where messages in JSON go. A query may hold what admits them (`auth=`).
pub(super) fn root(url: &mut Url) {
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop().pop_if_empty();
    }
}
