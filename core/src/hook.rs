//! What the hooks of coding agents say: from the JSON that an agent hands to its hooks to what becomes of
//! its session.
//!
//! An agent that must be asked to call a tool forgets to; its hooks run whatever the model does. A hook's
//! JSON is [`reduced`](reduce()) by the client on the spot, so that no prompt and no secret leaves it, and
//! read by the server: each tool has a file here that turns its JSON into an event in common terms. What
//! an event means depends on what the session was doing, so it is resolved where a report is decided.
//!
//! Nothing that a payload can hold is an error: what cannot be understood says nothing.

mod claude_code;
mod claude_shape;
mod codex;
mod copilot;
mod cursor;
mod event;
mod gemini;
mod goose;
mod grok;
mod intent;
mod opencode;
mod payload;
mod reduce;
mod resolve;
mod secrets;
mod state;
mod text;

pub(crate) use intent::CONTEXT;
pub use intent::{Intent, NotAnObject, Sender};

use schemars::JsonSchema;
use serde::Serialize;

use crate::validation::words;
use event::{Event, Happening};
use payload::Payload;
pub use secrets::redact;

/// A coding agent whose hooks are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tool {
    /// Claude Code.
    ClaudeCode,
    /// Codex CLI.
    Codex,
    /// Cursor.
    Cursor,
    /// Gemini CLI.
    Gemini,
    /// Copilot CLI.
    Copilot,
    /// OpenCode.
    OpenCode,
    /// Qwen Code.
    Qwen,
    /// Kimi Code.
    Kimi,
    /// Devin.
    Devin,
    /// Factory's Droid.
    Droid,
    /// Grok CLI.
    Grok,
    /// Goose.
    Goose,
    /// Junie.
    Junie,
    /// Deep Agents.
    DeepAgents,
}

impl Tool {
    /// Every tool.
    pub const ALL: [Self; 14] = [
        Self::ClaudeCode,
        Self::Codex,
        Self::Cursor,
        Self::Gemini,
        Self::Copilot,
        Self::OpenCode,
        Self::Qwen,
        Self::Kimi,
        Self::Devin,
        Self::Droid,
        Self::Grok,
        Self::Goose,
        Self::Junie,
        Self::DeepAgents,
    ];

    /// The name in commands and in the path of `/hooks/{tool}`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::Cursor => "cursor",
            Self::Gemini => "gemini",
            Self::Copilot => "copilot",
            Self::OpenCode => "opencode",
            Self::Qwen => "qwen",
            Self::Kimi => "kimi",
            Self::Devin => "devin",
            Self::Droid => "droid",
            Self::Grok => "grok",
            Self::Goose => "goose",
            Self::Junie => "junie",
            Self::DeepAgents => "deepagents",
        }
    }

    /// The tool of a name, or of the longer one that it has elsewhere. `codex-notify` is Codex' older
    /// way to tell of a turn's end.
    pub fn parse(name: &str) -> Option<Self> {
        let name = match name {
            "codex-cli" | "codex-notify" => "codex",
            "copilot-cli" => "copilot",
            "deep-agents" => "deepagents",
            "factory-droid" => "droid",
            "gemini-cli" => "gemini",
            "grok-cli" => "grok",
            "kimi-code" => "kimi",
            "qwen-code" => "qwen",
            name => name,
        };
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// Parses a payload; `None` when the bytes are no JSON object.
    fn payload(self, body: &[u8]) -> Option<Payload> {
        let payload = Payload::parse(body)?;
        Some(match self {
            Self::Grok => grok::translated(payload),
            Self::Goose => goose::translated(payload),
            _ => payload,
        })
    }

    /// Reads an event; `None` when the payload says nothing.
    fn read(self, payload: &Payload) -> Option<Event> {
        if let Some(event) = synthetic(payload) {
            return Some(event);
        }
        let event = match self {
            Self::ClaudeCode => claude_code::read(payload),
            Self::Codex => codex::read(payload),
            Self::Cursor => cursor::read(payload),
            Self::Gemini => gemini::read(payload),
            Self::Copilot => copilot::read(payload),
            Self::OpenCode => opencode::read(payload),
            Self::Grok => grok::read(payload),
            Self::Goose => goose::read(payload),
            Self::Qwen | Self::Kimi | Self::Devin | Self::DeepAgents => {
                claude_code::read_as(true, payload)
            }
            Self::Droid | Self::Junie => claude_code::read_as(false, payload),
        };
        event.filter(|event| !event.session.is_empty())
    }
}

/// Reads an event that the client makes up, in the same form for every tool:
/// `{"hook_event_name": "kubeagents.renew", "session_id": …}` while the agent's process lives,
/// `"kubeagents.context"` where only the session's context may be news, and
/// `{"hook_event_name": "kubeagents.exited", "session_id": …, "exit": …}` when it is gone.
fn synthetic(payload: &Payload) -> Option<Event> {
    let happening = match payload.text(&["hook_event_name"])? {
        "kubeagents.renew" => Happening::Renewed,
        "kubeagents.context" => Happening::Started,
        "kubeagents.exited" => Happening::Exited {
            code: payload.get(&["exit"]).and_then(serde_json::Value::as_i64),
        },
        _ => return None,
    };
    let event = Event::new(payload.text(&["session_id"])?, happening, String::new());
    Some(event).filter(|event| !event.session.is_empty())
}

/// How much of what an agent does is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// Status and reason only.
    None,
    /// Titles too, but no arguments and no messages.
    Title,
    /// Everything but secrets.
    #[default]
    Full,
}

impl Detail {
    /// Every level, from the least.
    pub const ALL: [Self; 3] = [Self::None, Self::Title, Self::Full];

    /// The word of each.
    pub(crate) const WORDS: [&str; Self::ALL.len()] = words!(Self);

    /// The word of a setting.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Title => "title",
            Self::Full => "full",
        }
    }

    /// The detail of a word; `None` when it is none of the three.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|detail| detail.as_str() == word)
    }
}

/// What is left of a hook's JSON for the server to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduced {
    /// The JSON to post to `/hooks/{tool}`: in the tool's own form, a few KiB at most, without secrets
    /// and without whatever the detail leaves out.
    pub json: String,
    /// The session's id with the tool, which is the topic of its reports.
    pub session: String,
    /// What happened, as far as a client needs to know.
    pub moment: Moment,
    /// The folder that the agent works in, where the payload says it.
    pub cwd: Option<String>,
    /// The model, where the payload says it. Some tools say it only when a session starts.
    pub model: Option<String>,
}

/// A moment in the life of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The session was opened.
    Started,
    /// The agent was given something to do.
    Prompted,
    /// Something goes on.
    Working,
    /// The agent, or a subagent of it, waits for a person.
    Waiting,
    /// A turn is over, has failed or was interrupted.
    TurnOver,
    /// The session was closed.
    Ended,
}

/// Reduces a hook's JSON to what the server reads of it; `None` when it says nothing, so that there is
/// nothing to send.
pub fn reduce(tool: Tool, payload: &[u8], detail: Detail) -> Option<Reduced> {
    let payload = tool.payload(payload)?;
    let event = tool.read(&payload)?;
    let json = reduce::reduce(tool, &payload, detail);
    let is_main = event.subagent.is_none();
    Some(Reduced {
        json: serde_json::Value::Object(json).to_string(),
        session: event.session,
        moment: match event.happening {
            Happening::Started => Moment::Started,
            Happening::Prompted if is_main => Moment::Prompted,
            Happening::Asked { .. } => Moment::Waiting,
            Happening::TurnOver { .. } | Happening::Failed { .. } | Happening::Interrupted
                if is_main =>
            {
                Moment::TurnOver
            }
            Happening::Ended(_) | Happening::Exited { .. } if is_main => Moment::Ended,
            _ => Moment::Working,
        },
        cwd: event.cwd,
        model: event.model,
    })
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reduced_is_read_as_the_whole_was() {
        let command = "cargo test --token abc ".to_owned() + &"x".repeat(5000);
        let whole = serde_json::json!({
            "hook_event_name": "PostToolUse", "session_id": "s", "transcript_path": "/t", "cwd": "/work",
            "tool_name": "Bash", "tool_input": {"command": command}, "tool_response": "y".repeat(1 << 20),
            "tool_use_id": "u1",
        })
        .to_string();
        let reduced = reduce(Tool::ClaudeCode, whole.as_bytes(), Detail::Full).unwrap();
        assert!(reduced.json.len() < 1000, "{}", reduced.json);
        assert_eq!(
            (reduced.session.as_str(), reduced.moment),
            ("s", Moment::Working)
        );
        assert_eq!(reduced.cwd.as_deref(), Some("/work"));
        let read = |json: &[u8]| Tool::ClaudeCode.read(&Payload::parse(json).unwrap());
        assert_eq!(read(reduced.json.as_bytes()), read(whole.as_bytes()));
    }

    #[test]
    fn an_error_that_is_named_by_a_secret_is_an_error_without_a_name() {
        for field in ["type", "code", "name"] {
            let whole = serde_json::json!({
                "hook_event_name": "StopFailure", "session_id": "s",
                "error": {field: "ghp_0123456789abcdefghij0123456789abcdef"},
            })
            .to_string();
            let reduced = reduce(Tool::ClaudeCode, whole.as_bytes(), Detail::Full).unwrap();
            let read = |json: &[u8]| Tool::ClaudeCode.read(&Payload::parse(json).unwrap());
            assert_eq!(read(reduced.json.as_bytes()), read(whole.as_bytes()));
        }
    }

    #[test]
    fn names_are_parsed_back() {
        for tool in Tool::ALL {
            assert_eq!(Tool::parse(tool.name()), Some(tool));
        }
        assert_eq!(Tool::parse("emacs"), None);
        for detail in [Detail::None, Detail::Title, Detail::Full] {
            assert_eq!(Detail::parse(detail.as_str()), Some(detail));
        }
    }
}
