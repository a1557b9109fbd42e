//! Reducing a hook's JSON to what an event is read from: what a client keeps and sends.

use serde_json::{Map, Value, json};

use super::event::{INPUT_HASH, MAX_MESSAGE, MAX_NAME, chosen_argument, id, input_hash, questions};
use super::payload::{Payload, first_text};
use super::secrets::redact;
use super::text::{self, is_code, is_command, line};
use super::{Detail, Tool};

/// What becomes of a field.
enum Keep {
    /// An id, a name, an integer: it stays.
    AsItIs,
    /// The name of an error or a kind: it stays, unless it holds a secret.
    Word,
    /// The name of a tool.
    Name,
    /// A text for people.
    Text,
    /// Texts for people: the first.
    Texts,
    /// A title of the session.
    Title,
    /// Where the agent works, and with what.
    Surroundings,
    /// A prompt: its first line.
    Prompt,
    /// Prompts: the first line of the first.
    Prompts,
    /// An error: its code, or a text for people.
    Error,
    /// A tool's input: a hash, and the argument that tells most.
    Input,
    /// Questions to a person.
    Questions,
    /// A list of which only counts whether it is empty.
    Presence,
    /// An object with such fields.
    Within,
}

/// What becomes of the fields that events are read from. Others go.
fn keep(name: &str) -> Option<Keep> {
    Some(match name {
        "hook_event_name"
        | "hookEventName"
        | "hookName"
        | "session_id"
        | "sessionId"
        | "sessionID"
        | "conversation_id"
        | "parent_conversation_id"
        | "thread-id"
        | "thread_id"
        | "parentID"
        | "id"
        | "requestID"
        | "permissionID"
        | "callID"
        | "agent_id"
        | "agentId"
        | "subagent_id"
        | "permission"
        | "tool_use_id"
        | "toolUseId"
        | "toolCallId"
        | "source"
        | "reason"
        | "final_status"
        | "finalStatus"
        | "notification_type"
        | "notificationType"
        | "is_interrupt"
        | "recoverable"
        | "action"
        | "exit" => Keep::AsItIs,
        "type" | "error_type" | "error_code" | "error_context" | "errorContext" | "code"
        | "name" => Keep::Word,
        "tool_name" | "toolName" | "tool" => Keep::Name,
        "message"
        | "last_assistant_message"
        | "last-assistant-message"
        | "prompt_response"
        | "error_details"
        | "errorDetails"
        | "error_message"
        | "command"
        | "filepath"
        | "url" => Keep::Text,
        "pattern" | "patterns" | "resources" => Keep::Texts,
        "session_title" | "title" => Keep::Title,
        "prompt" => Keep::Prompt,
        "input-messages" | "input_messages" => Keep::Prompts,
        "error" => Keep::Error,
        "tool_input" | "toolArgs" | "toolInput" | "args" | "input" => Keep::Input,
        "questions" => Keep::Questions,
        "background_tasks" | "session_crons" => Keep::Presence,
        "event" | "properties" | "info" | "data" | "metadata" | "status" => Keep::Within,
        "cwd" | "directory" | "workspace_roots" | "model" | "cursor_version" | "version" => {
            Keep::Surroundings
        }
        _ => return None,
    })
}

/// The payload with only what the event is read from, short and without secrets.
pub(super) fn reduce(tool: Tool, payload: &Payload, detail: Detail) -> Map<String, Value> {
    let mut reduced = fields(payload.fields(), payload.cwd(), detail, 0);
    if tool == Tool::Copilot
        && let Some(name) = super::copilot::name(payload)
    {
        reduced.insert("hook_event_name".into(), name.into());
    }
    reduced
}

fn fields(
    of: &Map<String, Value>,
    cwd: Option<&str>,
    detail: Detail,
    depth: usize,
) -> Map<String, Value> {
    // `null` and an absent field are the same.
    let given = of.iter().filter(|(_, value)| !value.is_null());
    let kept = given.filter_map(|(name, value)| {
        let value = field(name, value, cwd, detail, depth)?;
        Some((name.clone(), value))
    });
    kept.collect()
}

fn field(
    name: &str,
    value: &Value,
    cwd: Option<&str>,
    detail: Detail,
    depth: usize,
) -> Option<Value> {
    /// The deepest object that events are read from.
    const MAX_DEPTH: usize = 4;
    let is_full = detail == Detail::Full;
    let short = |text: &str| Some(Value::from(line(text, MAX_MESSAGE))).filter(|_| is_full);
    match keep(name)? {
        Keep::AsItIs => match value {
            Value::String(text) => Some(id(text).into()),
            Value::Bool(_) => Some(value.clone()),
            Value::Number(number) if !number.is_f64() => Some(value.clone()),
            _ => None,
        },
        Keep::Word => match value {
            Value::String(text) => Some(id(text).into()).filter(|_| redact(text) == *text),
            Value::Number(number) if !number.is_f64() => Some(value.clone()),
            _ => None,
        },
        Keep::Name => Some(line(value.as_str()?, MAX_NAME).into()),
        Keep::Text => short(value.as_str()?),
        Keep::Texts => short(first_text(value)?),
        Keep::Title => Some(line(value.as_str()?, 200).into()).filter(|_| detail != Detail::None),
        Keep::Surroundings => {
            Some(line(first_text(value)?, 200).into()).filter(|_| detail != Detail::None)
        }
        Keep::Prompt => prompt(value.as_str()?, detail),
        Keep::Prompts => Some(json!([prompt(first_text(value)?, detail)?])),
        Keep::Error => match value {
            Value::Object(of) if depth < MAX_DEPTH => {
                Some(fields(of, cwd, detail, depth + 1).into())
            }
            Value::String(text) if is_code(text) => Some(text.clone().into()),
            value => short(value.as_str()?),
        },
        Keep::Input => Some(input(value, cwd, is_full)),
        Keep::Questions => short(&questions(value)?),
        Keep::Presence => Some(match value {
            Value::Array(items) if !items.is_empty() => json!([true]),
            Value::Object(fields) if !fields.is_empty() => json!([true]),
            _ => json!([]),
        }),
        Keep::Within => match value {
            Value::Object(of) if depth < MAX_DEPTH => {
                Some(fields(of, cwd, detail, depth + 1).into())
            }
            Value::String(text) => Some(id(text).into()),
            _ => None,
        },
    }
}

fn prompt(text: &str, detail: Detail) -> Option<Value> {
    let first = text::prompt(text)?;
    match detail {
        Detail::Full => Some(first.into()),
        Detail::Title => Some(first.into()).filter(|_| !is_command(text)),
        Detail::None => None,
    }
}

fn input(value: &Value, cwd: Option<&str>, is_full: bool) -> Value {
    let mut reduced = Map::from_iter([(INPUT_HASH.to_owned(), Value::from(input_hash(value)))]);
    if let Some((name, text)) = chosen_argument(value, cwd).filter(|_| is_full) {
        reduced.insert(name.to_owned(), text.into());
    }
    reduced.into()
}
