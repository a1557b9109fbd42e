//! Deep Agents Code: hooks in `hooks.json`, servers in `.mcp.json`.

use kubeagents_core::hook::Tool;

use super::file::Refusal;
use super::json::Json;
use super::place::{Folder, Moved};
use super::{Agent, Place, Plan, Wish, group, handler, server};

pub(super) const AGENT: Agent = Agent {
    tool: Tool::DeepAgents,
    title: "Deep Agents Code",
    programs: &["dcode", "deepagents-code"],
    folder: FOLDER,
    others: super::no_others,
    plan,
    warnings: super::no_warnings,
};

const FOLDER: Folder = Folder::new(".deepagents", Moved::Itself("DEEPAGENTS_HOME"));

const EVENTS: [&str; 12] = [
    "SessionStart",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "PermissionRequest",
    "Notification",
    "SubagentStart",
    "SubagentStop",
    "PreCompact",
    "Stop",
    "SessionEnd",
];

/// How long a hook may take, in seconds.
const TIMEOUT: usize = 5;

fn plan(place: &Place, wish: Wish) -> Result<Plan, Refusal> {
    let mut plan = Plan {
        steps: vec!["restart running sessions of Deep Agents Code"],
        ..Plan::default()
    };
    let command = place.hook_command("deepagents");
    let timeout = [("timeout", TIMEOUT.into())];
    let hooks = EVENTS.map(|event| (event, group(handler(command.clone(), &timeout))));
    let path = place.file(&FOLDER, "hooks.json");
    plan.add(place.json(&path, wish, &|json: &Json, wish| {
        // A list was the form of versions before 0.2, which say what becomes of it.
        if wish == Wish::Install && json.value()["hooks"].is_array() {
            return Err(
                "hooks is a list, the form of older versions: give it the newer one".into(),
            );
        }
        json.set_hooks(&["hooks"], "deepagents", &hooks, wish)
    })?);
    if !place.is_project() {
        let path = place.file(&FOLDER, ".mcp.json");
        super::add_server(&mut plan, place, &path, "mcpServers", wish, &|| {
            server(place, &[])
        })?;
    }
    Ok(plan)
}
