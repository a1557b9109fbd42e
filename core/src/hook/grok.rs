//! Grok CLI: the events of Claude Code with the names of their fields in camel case.

use super::claude_code;
use super::event::Event;
use super::payload::Payload;

/// The names of fields, and those of Claude Code.
const NAMES: [(&str, &str); 15] = [
    ("hookEventName", "hook_event_name"),
    ("sessionId", "session_id"),
    ("subagentId", "agent_id"),
    ("workspaceRoot", "cwd"),
    ("toolName", "tool_name"),
    ("toolInput", "tool_input"),
    ("toolUseId", "tool_use_id"),
    ("notificationType", "notification_type"),
    ("lastAssistantMessage", "last_assistant_message"),
    ("errorDetails", "error_details"),
    ("backgroundTasks", "background_tasks"),
    ("sessionCrons", "session_crons"),
    ("isInterrupt", "is_interrupt"),
    ("sessionTitle", "session_title"),
    ("modelId", "model"),
];

/// The payload under the names that it is read by.
pub(super) fn translated(payload: Payload) -> Payload {
    payload.renamed(&NAMES)
}

/// Reads an event. A session that ends stops once more, which is no turn's end.
pub(super) fn read(payload: &Payload) -> Option<Event> {
    let is_stop = payload.text(&["hook_event_name"]) == Some("stop");
    let is_end = payload.text(&["reason"]).is_some_and(|it| it != "end_turn");
    match is_stop && is_end {
        true => None,
        false => claude_code::read_as(false, payload),
    }
}
