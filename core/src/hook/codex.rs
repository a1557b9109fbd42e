//! Codex CLI: hooks in the shape of Claude Code's, or its older `notify` command.

use super::claude_shape::CLAUDE;
use super::event::{Event, Happening, MAX_MESSAGE, normalised};
use super::payload::Payload;
use super::text::line;

/// Reads an event.
pub(super) fn read(payload: &Payload) -> Option<Event> {
    match payload.text(&["type"]) {
        Some(kind) if !payload.has("hook_event_name") => notified(payload, kind),
        _ => CLAUDE.read(payload),
    }
}

/// What the `notify` command is told: that a turn is over, and nothing else.
fn notified(payload: &Payload, kind: &str) -> Option<Event> {
    if normalised(kind) != "agentturncomplete" {
        return None;
    }
    let session = payload.text(&["thread-id", "thread_id"])?;
    let answer = payload.text(&["last-assistant-message", "last_assistant_message"]);
    let message = answer.map_or_else(String::new, |text| line(text, MAX_MESSAGE));
    let over = Happening::TurnOver {
        background: false,
        after_error: false,
    };
    let prompt = payload.some_text(&["input-messages", "input_messages"]);
    let event = Event::new(session, over, message).with_surroundings(payload);
    Some(event.with_heading(prompt))
}
