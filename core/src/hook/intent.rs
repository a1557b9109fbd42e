//! An event with what is known of its sender: what waits to be decided.

use super::event::Event;
use super::resolve::{Known, resolve};
use super::text::line;
use super::{Detail, Tool};
use crate::{
    Context, HookEffect, Report, SessionHead, SessionKey, Timestamp, Workspace, is_expired,
};

/// The keys of a context that say nothing of the work itself.
const ALWAYS_TOLD: &[&str] = &["host", "mode", "parent", "tool"];

/// The keys of a context that a sender may set.
pub(crate) const CONTEXT: &[&str] = &[
    "branch",
    "context_percent",
    "cost_usd",
    "cwd",
    "host",
    "mode",
    "model",
    "parent",
    "pr",
    "repo",
    "tokens_in",
    "tokens_out",
    "tool_version",
];

/// What the sender of a hook's JSON says beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sender {
    /// The agent, where the sender names one.
    pub agent_id: Option<String>,
    /// The place of the hook among those of its machine.
    pub sequence: Option<u64>,
    /// Where the agent works, by the well-known keys of a context; an empty value removes its key.
    pub context: Context,
}

/// What a hook means to do to its session, to be resolved when the session's state is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub(super) tool: Tool,
    pub(super) agent_id: String,
    pub(super) event: Event,
    pub(super) context: Context,
    pub(super) sequence: Option<u64>,
    /// Whose account it comes from, where a workspace has several people.
    pub(crate) user: Option<String>,
}

/// A hook's body that is no JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hook's body must be a JSON object")]
pub struct NotAnObject;

impl Intent {
    /// Reads a hook's JSON; `None` when it says nothing.
    ///
    /// # Errors
    /// [`NotAnObject`].
    pub fn read(
        tool: Tool,
        payload: &[u8],
        sender: Sender,
        detail: Detail,
    ) -> Result<Option<Self>, NotAnObject> {
        let payload = tool.payload(payload).ok_or(NotAnObject)?;
        let Some(event) = tool.read(&payload) else {
            return Ok(None);
        };
        let event = event.with_detail(detail);
        let mut context = context(tool, &event, sender.context);
        if detail == Detail::None {
            context.retain(|key, _| ALWAYS_TOLD.contains(&key.as_str()));
        }
        let given = sender.agent_id.map(|id| kept_name(&id, 100));
        let given = given.filter(|id| !id.trim().is_empty());
        Ok(Some(Self {
            tool,
            agent_id: given.unwrap_or_else(|| agent_id(tool, context.get("host"))),
            event,
            context,
            sequence: sender.sequence,
            user: None,
        }))
    }

    /// The session that the hook is of.
    pub(crate) fn session_key(&self, workspace: &Workspace) -> SessionKey {
        SessionKey {
            workspace: workspace.clone(),
            agent_id: self.agent_id.clone(),
            session_topic: self.event.session.clone(),
        }
    }

    /// Works out what the hook reports on a session that was in this state; `None` when it changes
    /// nothing.
    pub(crate) fn resolve(
        &self,
        head: Option<&SessionHead>,
        now: Timestamp,
    ) -> Option<(Report, HookEffect)> {
        let known = head.map(|head| Known {
            status: head.status,
            reason: &head.reason,
            title: &head.title,
            message: &head.message,
            context: &head.context,
            noted_at: head.noted_at,
            is_expired: is_expired(head.expires_at(), now),
            state: &head.hook,
        });
        let resolved = resolve(&self.event, &self.context, known.as_ref(), now)?;
        let report = Report {
            agent_id: self.agent_id.clone(),
            agent_name: None,
            agent_source: Some(self.tool.name().to_owned()),
            session_topic: self.event.session.clone(),
            status: resolved.status,
            message: resolved.message,
            content: String::new(),
            ttl_minutes: None,
            session_title: resolved.title,
            reason: resolved.reason,
            context: resolved.context,
            sequence: self.sequence,
            user: self.user.clone(),
        };
        let effect = HookEffect {
            state: resolved.state,
            noted: resolved.is_noted,
        };
        Some((report, effect))
    }
}

/// The agent's id where the sender names none: the tool on its machine.
fn agent_id(tool: Tool, host: Option<&String>) -> String {
    match host.filter(|host| !host.is_empty()) {
        Some(host) => kept_name(&format!("{}@{host}", tool.name()), 100),
        None => tool.name().to_owned(),
    }
}

/// A name as far as it can be stored.
fn kept_name(name: &str, characters: usize) -> String {
    name.chars()
        .filter(|c| *c != '\0')
        .take(characters)
        .collect()
}

fn context(tool: Tool, event: &Event, given: Context) -> Context {
    const MAX_VALUE: usize = 200;
    let given = given
        .into_iter()
        .filter(|(key, _)| CONTEXT.contains(&key.as_str()));
    let mut context: Context = given
        .map(|(key, value)| (key, line(&value, MAX_VALUE)))
        .collect();
    let told = [
        ("cwd", &event.cwd),
        ("model", &event.model),
        ("tool_version", &event.version),
    ];
    for (key, value) in told {
        if let Some(value) = value {
            context.insert(key.to_owned(), value.clone());
        }
    }
    context.insert("tool".to_owned(), tool.name().to_owned());
    context
}
