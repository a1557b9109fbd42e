//! Recorded sequences of hooks, in `tests/hooks`: a file a sequence, a line a hook.
//!
//! A line is a JSON object: `tool`, the `session` that it is of, `body`, the JSON that the tool hands to
//! its hooks, `query`, what a client says beside it, and `expect`, the fields of the session afterwards:
//! `status`, `reason` (empty for none), and where it matters `title` and `message`; `null` while there is
//! no such session.

use serde::Deserialize;
use serde_json::{Map, Value};

/// A hook, and the session after it.
#[derive(Debug, Clone, Deserialize)]
pub struct Step {
    /// The tool's name.
    pub tool: String,
    /// The session's topic.
    pub session: String,
    /// What a client says in the query.
    #[serde(default)]
    pub query: Map<String, Value>,
    /// What the tool hands to its hook.
    pub body: Value,
    /// The session afterwards, by the names in this file; `None` while there is none.
    expect: Option<Map<String, Value>>,
}

/// Every sequence, by its name.
///
/// # Panics
/// When a file is not as it should be.
pub fn sequences() -> Vec<(&'static str, Vec<Step>)> {
    let read = |(name, lines): &(&'static str, &str)| {
        let steps = lines.lines().enumerate().map(|(at, line)| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}:{}: {error}", at + 1))
        });
        (*name, steps.collect())
    };
    RECORDED.iter().map(read).collect()
}

impl Step {
    /// Compares what is expected with a session as the API shows it.
    ///
    /// # Panics
    /// When they differ.
    pub fn check(&self, place: &str, session: Option<&Value>) {
        match (&self.expect, session) {
            (None, None) => {}
            (None, Some(session)) => panic!("{place}: there is a session: {session}"),
            (Some(_), None) => panic!("{place}: there is no session {}", self.session),
            (Some(expected), Some(session)) => {
                for (field, value) in expected {
                    let name = match field.as_str() {
                        "status" => "current_status",
                        other => other,
                    };
                    let shown = session[name].as_str().unwrap_or_default();
                    assert_eq!(shown, value, "{place}: {field} of {session}");
                }
            }
        }
    }
}

macro_rules! recorded {
    ($($name:literal),+ $(,)?) => {
        const RECORDED: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../hooks/", $name, ".jsonl"))),)+
        ];
    };
}

recorded! {
    "claude-code-interrupts-and-failures",
    "claude-code-not-copilot",
    "claude-code-out-of-order",
    "claude-code-questions",
    "claude-code-session",
    "claude-code-set-up-late",
    "claude-code-subagents",
    "claude-code-two-sessions",
    "claude-code-two-waits",
    "codex-notify",
    "codex-session",
    "copilot-session",
    "cursor-session",
    "droid-session",
    "gemini-session",
    "goose-session",
    "grok-session",
    "opencode-session",
    "qwen-session",
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_file_is_in_the_list() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/hooks")).unwrap();
        let mut files: Vec<String> = folder
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let listed: Vec<String> = super::sequences()
            .iter()
            .map(|(name, _)| format!("{name}.jsonl"))
            .collect();
        assert_eq!(files, listed);
    }
}
