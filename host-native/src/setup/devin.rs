//! Devin: hooks and servers in `config.json`; in a repository hooks have a file of their own.

use kubeagents_core::hook::Tool;

use super::file::Refusal;
use super::json::Json;
use super::place::{Folder, Moved};
use super::{Agent, Place, Plan, Wish, group, handler};

pub(super) const AGENT: Agent = Agent {
    tool: Tool::Devin,
    title: "Devin",
    programs: &["devin"],
    folder: FOLDER,
    others: super::no_others,
    plan,
    warnings: super::no_warnings,
};

const FOLDER: Folder = Folder::new(".config/devin", Moved::Never);

const EVENTS: [&str; 7] = [
    "SessionStart",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PermissionRequest",
    "Stop",
    "SessionEnd",
];

/// How long a hook may take, in seconds.
const TIMEOUT: usize = 5;

fn plan(place: &Place, wish: Wish) -> Result<Plan, Refusal> {
    let mut plan = Plan {
        steps: vec!["restart running sessions of Devin"],
        ..Plan::default()
    };
    let command = place.hook_command("devin");
    let timeout = [("timeout", TIMEOUT.into())];
    let hooks = EVENTS.map(|event| (event, group(handler(command.clone(), &timeout))));
    match place.project() {
        // The events stand at the top of this file.
        Some(root) => plan.add(place.json(
            root.join(".devin/hooks.v1.json"),
            wish,
            &|json: &Json, wish| json.set_hooks(&[], "devin", &hooks, wish),
        )?),
        None => {
            let path = place.folder(&FOLDER).join("config.json");
            super::add_hooks_and_server(&mut plan, place, &path, "devin", &hooks, wish)?;
        }
    }
    Ok(plan)
}
