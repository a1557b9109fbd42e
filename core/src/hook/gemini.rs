//! Gemini CLI.

use super::claude_shape::{CLAUDE, Shape};
use super::event::Event;
use super::payload::Payload;

const GEMINI: Shape = Shape {
    answer: &["prompt_response"],
    permission_requests: false,
    ..CLAUDE
};

/// Reads an event. Its `BeforeTool` comes after the person's leave, so it ends the wait that a
/// notification began.
pub(super) fn read(payload: &Payload) -> Option<Event> {
    GEMINI.read(payload)
}
