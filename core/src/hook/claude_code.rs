//! Claude Code, and the tools whose hooks have its events and fields.

use super::claude_shape::{CLAUDE, Shape};
use super::event::Event;
use super::payload::Payload;

/// Reads an event of Claude Code.
///
/// Copilot runs the hooks in a repository's `.claude/settings.json` too. Its sessions are no sessions of
/// Claude Code: its payloads carry a time, and Claude Code's the path of a transcript.
pub(super) fn read(payload: &Payload) -> Option<Event> {
    let is_copilot =
        payload.has("sessionId") || payload.has("timestamp") && !payload.has("transcript_path");
    if is_copilot {
        return None;
    }
    CLAUDE.read(payload)
}

/// Reads an event of a tool with the same hooks. `permission_requests` says whether its permission
/// requests are a person's to answer.
pub(super) fn read_as(permission_requests: bool, payload: &Payload) -> Option<Event> {
    let shape = Shape {
        permission_requests,
        ..CLAUDE
    };
    shape.read(payload)
}
