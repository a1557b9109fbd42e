//! Qwen Code: hooks and servers in `settings.json`.

use jsonc_parser::cst::CstInputValue;
use kubeagents_core::hook::Tool;

use super::file::Refusal;
use super::json::Json;
use super::{Agent, Place, Plan, Wish, group, handler, server};

pub(super) const AGENT: Agent = Agent {
    tool: Tool::Qwen,
    title: "Qwen Code",
    programs: &["qwen"],
    folder: ".qwen",
    plan,
    warnings: |place| super::disabled(&place.file(None, ".qwen", "settings.json")),
};

const EVENTS: [&str; 13] = [
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
    "StopFailure",
    "SessionEnd",
];

fn plan(place: &Place, wish: Wish) -> Result<Plan, Refusal> {
    let mut plan = Plan {
        steps: vec!["restart running sessions of Qwen Code"],
        ..Plan::default()
    };
    // No time-out: some versions take seconds, others milliseconds.
    let name: [(&str, CstInputValue); 1] = [("name", "kubeagents".into())];
    let command = place.hook_command("qwen");
    let hooks = EVENTS.map(|event| (event, group(handler(command.clone(), &name))));
    let path = place.file(None, ".qwen", "settings.json");
    let change = place.json(&path, wish, &|json: &Json, wish| {
        json.set_hooks(&["hooks"], "qwen", &hooks, wish)?;
        if !place.is_project() {
            json.set_server(&["mcpServers"], server(place, &[]), wish)?;
        }
        Ok(())
    })?;
    super::note_foreign_server(&mut plan, &path, "mcpServers")?;
    plan.add(change);
    Ok(plan)
}
