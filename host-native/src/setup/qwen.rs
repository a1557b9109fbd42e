//! Qwen Code: hooks and servers in `settings.json`.

use jsonc_parser::cst::CstInputValue;
use kubeagents_core::hook::Tool;

use super::file::Refusal;
use super::place::{Folder, Moved};
use super::{Agent, Place, Plan, Wish, group, handler};

pub(super) const AGENT: Agent = Agent {
    tool: Tool::Qwen,
    title: "Qwen Code",
    programs: &["qwen"],
    folder: FOLDER,
    others: super::no_others,
    plan,
    warnings: |place| super::disabled(&place.file(&FOLDER, "settings.json")),
};

const FOLDER: Folder = Folder::new(".qwen", Moved::Itself("QWEN_HOME"));

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
    let path = place.file(&FOLDER, "settings.json");
    super::add_hooks_and_server(&mut plan, place, &path, "qwen", &hooks, wish)?;
    Ok(plan)
}
