//! Goose: the events of Claude Code under names of its own.

use super::claude_code;
use super::event::{Event, normalised};
use super::payload::Payload;

/// The names of fields, and those of Claude Code.
const NAMES: [(&str, &str); 3] = [
    ("event", "hook_event_name"),
    ("working_dir", "cwd"),
    ("tool_call_id", "tool_use_id"),
];

/// The payload under the names that it is read by. A prompt is called a message.
pub(super) fn translated(payload: Payload) -> Payload {
    let payload = payload.renamed(&NAMES);
    let name = payload.text(&["hook_event_name"]).map(normalised);
    match name.as_deref() {
        Some("userpromptsubmit") => payload.renamed(&[("message", "prompt")]),
        _ => payload,
    }
}

/// Reads an event.
pub(super) fn read(payload: &Payload) -> Option<Event> {
    claude_code::read_as(false, payload)
}
