//! What is kept of a session between its hooks: which waits are open, and what stands behind them.
//!
//! Stores keep it as an opaque text of at most [`MAX_BYTES`] and never read it.

use serde::{Deserialize, Serialize};

use super::event::{Answer, Call, Wait, short_hash};
use super::payload::start;
use crate::Timestamp;

/// The longest text that a state takes, in bytes.
pub(crate) const MAX_BYTES: usize = 4 << 10;

/// The most waits that are kept. Of more, the oldest are forgotten.
const MAX_WAITS: usize = 16;

/// The longest message of a wait, in bytes.
const MAX_MESSAGE: usize = 300;

/// How long after a wait began another tool of the same agent shows that it is over: what runs beside a
/// waiting call began with it, and a person who says no and what to do instead leaves no other trace.
const BESIDE_SECONDS: i64 = 10;

/// What is kept of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// The open waits, oldest first.
    #[serde(rename = "w", skip_serializing_if = "Vec::is_empty")]
    pub(super) waits: Vec<Open>,
    /// What the session goes back to when a subagent's last wait is over.
    #[serde(rename = "b", skip_serializing_if = "Option::is_none")]
    pub(super) behind: Option<Behind>,
    /// True once the session was closed: what comes late does not open it again.
    #[serde(rename = "c", skip_serializing_if = "std::ops::Not::not")]
    pub(super) closed: bool,
    /// The hash of the title that stands in for one that nobody gave; empty where somebody did.
    #[serde(rename = "t", skip_serializing_if = "String::is_empty")]
    pub(super) stand_in: String,
}

/// What a session did when its first open wait began, where its main thread did not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Behind {
    /// The turn was over.
    Turn,
    /// The turn was over, and something still ran.
    Background,
}

/// An open wait. Names are hashed, so that their length is bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Open {
    #[serde(rename = "r")]
    pub(super) wait: Wait,
    /// The subagent; empty for the main thread.
    #[serde(rename = "a", skip_serializing_if = "String::is_empty")]
    pub(super) agent: String,
    #[serde(rename = "t", skip_serializing_if = "String::is_empty")]
    tool: String,
    #[serde(rename = "i", skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    call: Option<String>,
    #[serde(rename = "q", skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    /// When it began, in seconds.
    #[serde(rename = "s")]
    since: i64,
    #[serde(rename = "m", skip_serializing_if = "String::is_empty")]
    pub(super) message: String,
}

/// The hash that stands for a name in a state.
pub(super) fn name_hash(name: &str) -> String {
    match name.is_empty() {
        true => String::new(),
        false => start(&short_hash(name), 8).to_owned(),
    }
}

/// The hash that stands for a subagent; empty for the main thread.
pub(super) fn agent_hash(subagent: Option<&str>) -> String {
    subagent.map_or_else(String::new, name_hash)
}

impl Open {
    /// A wait that begins now.
    pub(super) fn new(
        wait: Wait,
        agent: &str,
        call: &Call,
        request: Option<&str>,
        message: &str,
        now: Timestamp,
    ) -> Self {
        Self {
            wait,
            agent: agent.to_owned(),
            tool: name_hash(&call.tool),
            input: call.input.clone(),
            call: call.id.as_deref().map(name_hash),
            request: request.map(name_hash),
            since: now.timestamp(),
            message: start(message, MAX_MESSAGE).to_owned(),
        }
    }

    /// Checks whether it is not known which call waits.
    fn is_vague(&self) -> bool {
        self.tool.is_empty() && self.request.is_none()
    }

    /// Checks whether an agent's tool call shows that this wait is over.
    fn is_ended_by(&self, agent: &str, call: &Call, now: Timestamp) -> bool {
        if self.agent != agent || self.request.is_some() {
            return false;
        }
        if self.tool.is_empty() || self.input.is_none() {
            return true;
        }
        if self.tool != name_hash(&call.tool) {
            return call.begins && now.timestamp() - self.since >= BESIDE_SECONDS;
        }
        let id = call.id.as_deref().map(name_hash);
        match (&self.call, &id) {
            (Some(mine), Some(other)) => mine == other,
            // An answer joins the input of the question that it answers.
            _ if matches!(self.wait, Wait::Question | Wait::Plan) => true,
            _ if call.input.is_none() || call.input == self.input => true,
            _ => call.begins && now.timestamp() - self.since >= BESIDE_SECONDS,
        }
    }
}

impl State {
    /// Reads what [`State::text`] wrote; the state of a new session where the text is none.
    pub(super) fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// The text that a store keeps; empty for the state of a new session.
    pub(super) fn text(&self) -> String {
        if *self == Self::default() {
            return String::new();
        }
        let write = |state: &Self| serde_json::to_string(state).unwrap_or_default();
        let mut short = self.clone();
        let mut text = write(&short);
        while text.len() > MAX_BYTES {
            let Some(open) = short.waits.iter_mut().find(|open| !open.message.is_empty()) else {
                return String::new();
            };
            open.message.clear();
            text = write(&short);
        }
        text
    }

    /// Adds a wait; `false` when it is open already, or something that says more is.
    pub(super) fn open(&mut self, wait: Open) -> bool {
        let is_known = self.waits.iter().any(|open| {
            let is_same_call =
                open.agent == wait.agent && open.tool == wait.tool && open.input == wait.input;
            match () {
                () if wait.request.is_some() || open.request.is_some() => {
                    wait.request == open.request
                }
                () if wait.is_vague() => wait.wait == Wait::Permission || open.wait == wait.wait,
                () => is_same_call && !open.is_vague(),
            }
        });
        if is_known {
            return false;
        }
        // Now it is known which call waits, or the agent asks something else.
        let is_replaced = |open: &Open| {
            let is_dialog = matches!(wait.wait, Wait::Question | Wait::Plan)
                && open.tool == wait.tool
                && open.request.is_none();
            open.agent == wait.agent
                && open.wait == wait.wait
                && !wait.is_vague()
                && (open.is_vague() || is_dialog)
        };
        self.waits.retain(|open| !is_replaced(open));
        if self.waits.len() >= MAX_WAITS {
            self.waits.remove(0);
        }
        self.waits.push(wait);
        true
    }

    /// Ends the waits that an agent's tool call shows to be over; `true` when there were any.
    pub(super) fn end_by_call(&mut self, agent: &str, call: &Call, now: Timestamp) -> bool {
        self.end(|open| open.is_ended_by(agent, call, now))
    }

    /// Ends the waits that a person has answered; `true` when there were any.
    pub(super) fn end_by_answer(&mut self, answer: &Answer) -> bool {
        match answer {
            Answer::To(id) => {
                let request = Some(name_hash(id));
                self.end(|open| open.request == request)
            }
            Answer::For(wait) => self.end(|open| open.wait == *wait),
        }
    }

    /// Ends the waits of a subagent; `true` when there were any.
    pub(super) fn end_of(&mut self, agent: &str) -> bool {
        self.end(|open| open.agent == agent)
    }

    fn end(&mut self, is_over: impl Fn(&Open) -> bool) -> bool {
        let before = self.waits.len();
        self.waits.retain(|open| !is_over(open));
        self.waits.len() < before
    }
}
