//! What a hook says happened, in the same terms for every tool. What it means for the session depends
//! on the session's state, see [`resolve`](super::resolve).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Detail;
use super::payload::{Payload, start};
use super::secrets::redact;
use super::text::{self, line};
use crate::sha256_hex;

/// The longest message that is made of a tool call or of what an agent said, in characters.
pub(super) const MAX_MESSAGE: usize = 300;

/// The longest argument of a tool call in a message, in characters.
const MAX_ARGUMENT: usize = 120;

/// The longest name of a tool, in characters.
pub(super) const MAX_NAME: usize = 100;

/// The longest id that is kept, in characters.
const MAX_ID: usize = 500;

/// The field of a reduced input that holds the hash of the whole one.
pub(super) const INPUT_HASH: &str = "kubeagents_input";

/// What happened, where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// The session's id with the tool.
    pub(super) session: String,
    /// The subagent that it happened in; `None` for the main thread.
    pub(super) subagent: Option<String>,
    /// What happened.
    pub(super) happening: Happening,
    /// A line for people; may be empty.
    pub(super) message: String,
    /// The title that the tool gives the session.
    pub(super) title: Option<String>,
    /// The first line of a prompt, which is the title of a session that has none.
    pub(super) heading: Option<String>,
    /// Where the agent works.
    pub(super) cwd: Option<String>,
    /// The model.
    pub(super) model: Option<String>,
    /// The tool's version.
    pub(super) version: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Happening {
    /// A session was opened, which is no work yet.
    Started,
    /// The agent was given something to do.
    Prompted,
    /// A tool is about to run, or has run.
    Tool(Call),
    /// The agent works otherwise.
    Busy,
    /// The agent waits for a person.
    Asked {
        /// What it waits for.
        wait: Wait,
        /// The tool call that waits. Without a tool: it is not known.
        call: Call,
        /// The id of the request, where the tool names it in its reply: then nothing else of the same
        /// agent ends the wait.
        request: Option<String>,
    },
    /// A person has answered.
    Answered(Answer),
    /// A person has interrupted the agent.
    Interrupted,
    /// The turn is over.
    TurnOver {
        /// True while something that the agent started still runs.
        background: bool,
        /// True where the tool says so after an error or an interrupt too.
        after_error: bool,
    },
    /// The turn has failed.
    Failed {
        /// The tool's code of the error.
        reason: String,
    },
    /// The session was closed.
    Ended(Ending),
    /// A subagent is done.
    SubagentOver,
    /// The agent has waited for its next prompt for a while.
    Idle,
    /// The agent's process lives.
    Renewed,
    /// The agent's process is gone.
    Exited {
        /// Its exit code, where it is known.
        code: Option<i64>,
    },
}

/// What a person has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The request of this id.
    To(String),
    /// What was waited for for this reason.
    For(Wait),
}

/// How a session was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// The tool does not say whether the work was done.
    Closed,
    /// The work was done.
    Complete,
    /// It failed; the tool's reason.
    Failed(String),
}

/// What an agent waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Wait {
    /// Leave to run a tool.
    #[default]
    Permission,
    /// An answer to a question.
    Question,
    /// Approval of a plan.
    Plan,
    /// Something else.
    Input,
}

impl Wait {
    /// The reason of a report.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Permission => "permission",
            Self::Question => "question",
            Self::Plan => "plan",
            Self::Input => "input",
        }
    }

    /// The wait that is the whole purpose of a tool.
    pub(super) fn of_tool(tool: &str) -> Option<Self> {
        match normalised(tool).as_str() {
            "askuserquestion" | "askquestion" | "askuser" | "requestuserinput" => {
                Some(Self::Question)
            }
            "exitplanmode" => Some(Self::Plan),
            _ => None,
        }
    }
}

/// A call of a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Call {
    /// The tool's name; empty when it is not known.
    pub(super) tool: String,
    /// A hash of the input; `None` when it is not known.
    pub(super) input: Option<String>,
    /// The id of the call, where the tool gives it one.
    pub(super) id: Option<String>,
    /// True before the tool runs, false afterwards.
    pub(super) begins: bool,
}

impl Call {
    /// Reads a call from a payload that has these fields, and the argument that tells a person most:
    /// a path as seen from the working folder.
    pub(super) fn read(
        payload: &Payload,
        tool: &[&str],
        input: &[&str],
        id: &[&str],
        cwd: Option<&str>,
    ) -> (Self, Option<String>) {
        let input = payload.get(input);
        let call = Self {
            tool: payload
                .text(tool)
                .map_or_else(String::new, |tool| line(tool, MAX_NAME)),
            input: input.map(input_hash),
            id: payload.text(id).map(self::id),
            begins: false,
        };
        let argument = input.and_then(|input| chosen_argument(input, cwd));
        (call, argument.map(|(_, text)| text))
    }

    /// A line for people: the tool and its argument.
    pub(super) fn message(&self, argument: Option<String>) -> String {
        match argument {
            Some(argument) if !self.tool.is_empty() => format!("{}: {argument}", self.tool),
            Some(argument) => argument,
            None => self.tool.clone(),
        }
    }

    /// The same call as it is about to begin.
    pub(super) fn beginning(self) -> Self {
        Self {
            begins: true,
            ..self
        }
    }
}

/// An id or a name as it is kept: one that holds a secret is hashed, so that it still tells apart.
pub(super) fn id(text: &str) -> String {
    let id: String = text
        .trim()
        .chars()
        .filter(|c| *c != '\0')
        .take(MAX_ID)
        .collect();
    let id = id.trim();
    match redact(id) == id {
        true => id.to_owned(),
        false => short_hash(id),
    }
}

/// A name without case and separators: `PostToolUse`, `post_tool_use` and `post.tool.use` are one.
pub(super) fn normalised(name: &str) -> String {
    let letters = start(name, MAX_ID).chars();
    let letters = letters.filter(|c| !matches!(c, '-' | '_' | '.' | ' '));
    letters.flat_map(char::to_lowercase).collect()
}

/// A tool's input. Some tools hand it over as the text of a JSON object.
fn input_object(input: &Value) -> Cow<'_, Value> {
    let parse = |text: &str| serde_json::from_str::<Map<String, Value>>(text).ok();
    match input.as_str().and_then(parse) {
        Some(fields) => Cow::Owned(fields.into()),
        None => Cow::Borrowed(input),
    }
}

/// A hash of a tool's input, by which calls of one tool are told apart.
pub(super) fn input_hash(input: &Value) -> String {
    let input = input_object(input);
    let reduced = input.get(INPUT_HASH).and_then(Value::as_str);
    match reduced {
        Some(hash) => start(hash, 16).to_owned(),
        None => short_hash(&input.to_string()),
    }
}

/// A hash that is long enough to tell apart what one session holds.
pub(super) fn short_hash(text: &str) -> String {
    let mut hash = sha256_hex(text);
    hash.truncate(16);
    hash
}

/// Arguments of tools, those first that tell a person most.
const ARGUMENTS: &[&str] = &[
    "command",
    "cmd",
    "file_path",
    "filePath",
    "absolute_path",
    "notebook_path",
    "path",
    "pattern",
    "query",
    "url",
    "question",
    "questions",
    "plan",
    "skill",
    "description",
    "subject",
    "prompt",
    "name",
    "input",
];

/// The field of a tool's input that tells a person most, with its text on one line.
pub(super) fn chosen_argument(input: &Value, cwd: Option<&str>) -> Option<(&'static str, String)> {
    let input = input_object(input);
    if let Value::String(text) = &*input {
        let text = first_line(text, MAX_ARGUMENT);
        return (!text.is_empty()).then_some(("input", text));
    }
    let fields = input.as_object()?;
    ARGUMENTS.iter().find_map(|name| {
        let value = fields.get(*name)?;
        let (text, longest) = match *name {
            "questions" => (questions(value)?, MAX_MESSAGE),
            "question" => (value.as_str()?.to_owned(), MAX_MESSAGE),
            "plan" => (
                value
                    .as_str()?
                    .trim_start_matches(['#', ' ', '\n'])
                    .to_owned(),
                MAX_ARGUMENT,
            ),
            "command" | "cmd" => (command(value)?, MAX_ARGUMENT),
            _ => (within(value.as_str()?, cwd).to_owned(), MAX_ARGUMENT),
        };
        let text = first_line(&text, longest);
        (!text.is_empty()).then_some((*name, text))
    })
}

/// The first line that is not empty.
fn first_line(text: &str, characters: usize) -> String {
    let redacted = redact(start(text, 4 << 10));
    let mut lines = redacted.lines().map(|text| line(text, characters));
    lines.find(|line| !line.is_empty()).unwrap_or_default()
}

/// A command line; of `["bash", "-lc", "…"]` what the shell is to run.
fn command(value: &Value) -> Option<String> {
    let Value::Array(words) = value else {
        return Some(value.as_str()?.to_owned());
    };
    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
    match words.as_slice() {
        [_, flag, script] if flag.starts_with('-') && flag.ends_with('c') => {
            Some((*script).to_owned())
        }
        words => Some(words.join(" ")),
    }
}

/// The questions, one after the other.
pub(super) fn questions(value: &Value) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let asked = value.as_array()?.iter().filter_map(|question| {
        let text = question
            .as_str()
            .or_else(|| question.get("question")?.as_str())?;
        Some(line(text, MAX_MESSAGE))
    });
    Some(asked.take(4).collect::<Vec<_>>().join(" "))
}

/// A path as seen from the working folder.
fn within<'t>(text: &'t str, cwd: Option<&str>) -> &'t str {
    let below = cwd.and_then(|cwd| {
        text.strip_prefix(cwd.trim_end_matches('/'))?
            .strip_prefix('/')
    });
    below.filter(|path| !path.is_empty()).unwrap_or(text)
}

impl Event {
    /// An event of the main thread.
    pub(super) fn new(session: &str, happening: Happening, message: String) -> Self {
        Self {
            session: id(session),
            subagent: None,
            happening,
            message,
            title: None,
            heading: None,
            cwd: None,
            model: None,
            version: None,
        }
    }

    /// The same, with what most tools tell beside an event.
    pub(super) fn with_surroundings(mut self, payload: &Payload) -> Self {
        let cwd = payload.cwd();
        let model = payload.some_text(&["model"]);
        let version = payload.some_text(&["cursor_version", "version"]);
        self.cwd = cwd.map(|cwd| line(cwd, 200)).filter(|cwd| !cwd.is_empty());
        self.model = model.map(|model| line(model, 100));
        self.version = version.map(|version| line(version, 50));
        self
    }

    /// The same, with only as much as this detail allows.
    pub(super) fn with_detail(mut self, detail: Detail) -> Self {
        if detail < Detail::Full {
            self.message.clear();
        }
        if detail < Detail::Title {
            (self.title, self.heading) = (None, None);
            (self.cwd, self.model, self.version) = (None, None, None);
        }
        self
    }

    /// The same, with a prompt that may become the title.
    pub(super) fn with_heading(mut self, prompt: Option<&str>) -> Self {
        let first = prompt.and_then(text::prompt);
        self.heading = first.filter(|line| !text::is_command(line));
        self
    }
}
