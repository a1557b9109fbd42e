//! Copilot CLI. Hooks under names like `agentStop` get payloads in camel case that do not say which event
//! it is: what they hold tells.

use super::claude_shape::{CLAUDE, Shape};
use super::event::Event;
use super::payload::Payload;

const COPILOT: Shape = Shape {
    event: &["hook_event_name", "hookEventName", "hookName"],
    session: &["sessionId", "session_id"],
    subagent: &["agentId", "agent_id"],
    tool: &["toolName", "tool_name"],
    input: &["toolArgs", "toolInput", "tool_input"],
    call: &["toolUseId", "toolCallId", "tool_use_id"],
    notification: &["notification_type", "notificationType"],
    permission_requests: false,
    ..CLAUDE
};

/// Reads an event. A permission request comes before the tool's own rules, so it is no wait.
pub(super) fn read(payload: &Payload) -> Option<Event> {
    COPILOT.read_named(payload, name(payload)?)
}

/// The name of the event.
pub(super) fn name(payload: &Payload) -> Option<&str> {
    if let Some(name) = payload.text(COPILOT.event) {
        return Some(name);
    }
    let has = |name: &str| payload.has(name);
    Some(match () {
        () if has("notification_type") || has("notificationType") => "notification",
        () if has("permissionSuggestions") => "permissionRequest",
        () if has("toolName") && has("toolResult") => "postToolUse",
        () if has("toolName") && has("error") => "postToolUseFailure",
        () if has("toolName") => "preToolUse",
        () if has("recoverable") || has("errorContext") => "errorOccurred",
        () if has("transformedPrompt") => return None,
        () if has("prompt") => "userPromptSubmitted",
        () if has("agentName") && has("stopReason") => "subagentStop",
        () if has("agentName") => "subagentStart",
        () if has("stopReason") => "agentStop",
        () if has("trigger") => "preCompact",
        () if has("initialPrompt") || has("source") => "sessionStart",
        () if has("reason") => "sessionEnd",
        () => return None,
    })
}
