//! Grok CLI: a file of hooks of our own, servers in `config.toml`.

use kubeagents_core::hook::Tool;

use super::file::Refusal;
use super::json::Json;
use super::place::{Folder, Moved};
use super::{Agent, Place, Plan, Wish, group, handler, toml};

pub(super) const AGENT: Agent = Agent {
    tool: Tool::Grok,
    title: "Grok CLI",
    programs: &["grok"],
    folder: FOLDER,
    others: super::no_others,
    plan,
    warnings: super::no_warnings,
};

const FOLDER: Folder = Folder::new(".grok", Moved::Itself("GROK_HOME"));

const EVENTS: [&str; 14] = [
    "SessionStart",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "PermissionDenied",
    "Notification",
    "SubagentStart",
    "SubagentStop",
    "PreCompact",
    "PostCompact",
    "Stop",
    "StopFailure",
    "SessionEnd",
];

/// How long a hook may take, in seconds.
const TIMEOUT: usize = 5;

fn plan(place: &Place, wish: Wish) -> Result<Plan, Refusal> {
    let mut plan = Plan {
        steps: match place.is_project() {
            true => vec!["start grok in the repository and trust its hooks: /hooks-trust"],
            false => vec!["restart running sessions of Grok CLI"],
        },
        ..Plan::default()
    };
    let command = place.hook_command("grok");
    let timeout = [("timeout", TIMEOUT.into())];
    let hooks = EVENTS.map(|event| (event, group(handler(command.clone(), &timeout))));
    let path = place.file(&FOLDER, "hooks/kubeagents.json");
    plan.add(place.json(&path, wish, &|json: &Json, wish| {
        json.set_hooks(&["hooks"], "grok", &hooks, wish)
    })?);
    if !place.is_project() {
        let path = place.folder(&FOLDER).join("config.toml");
        toml::add_server(&mut plan, place, &path, wish)?;
    }
    Ok(plan)
}
