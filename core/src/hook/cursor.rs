//! Cursor.

use super::claude_shape::{CLAUDE, Shape};
use super::event::Event;
use super::payload::Payload;

const CURSOR: Shape = Shape {
    session: &["parent_conversation_id", "conversation_id", "session_id"],
    subagent: &["subagent_id", "agent_id"],
    permission_requests: false,
    ..CLAUDE
};

/// Reads an event. There is none for a wait for approval.
pub(super) fn read(payload: &Payload) -> Option<Event> {
    CURSOR.read(payload)
}
