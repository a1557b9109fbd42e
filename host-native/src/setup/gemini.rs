//! Gemini CLI: hooks and servers in `settings.json`.

use jsonc_parser::cst::CstInputValue;
use kubeagents_core::hook::Tool;

use super::file::Refusal;
use super::place::{Folder, Moved};
use super::{Agent, Place, Plan, Wish, group, handler};

pub(super) const AGENT: Agent = Agent {
    tool: Tool::Gemini,
    title: "Gemini CLI",
    programs: &["gemini"],
    folder: FOLDER,
    others: super::no_others,
    plan,
    warnings: super::no_warnings,
};

const FOLDER: Folder = Folder::new(".gemini", Moved::WithHome("GEMINI_CLI_HOME"));

const EVENTS: [&str; 7] = [
    "SessionStart",
    "BeforeAgent",
    "BeforeTool",
    "AfterTool",
    "AfterAgent",
    "Notification",
    "SessionEnd",
];

/// How long a hook may take, in milliseconds.
const TIMEOUT: usize = 5000;

fn plan(place: &Place, wish: Wish) -> Result<Plan, Refusal> {
    let mut plan = Plan {
        steps: vec!["restart running sessions of Gemini CLI"],
        ..Plan::default()
    };
    let command = place.hook_command("gemini");
    let more: [(&str, CstInputValue); 2] =
        [("name", "kubeagents".into()), ("timeout", TIMEOUT.into())];
    let hooks = EVENTS.map(|event| (event, group(handler(command.clone(), &more))));
    let path = place.file(&FOLDER, "settings.json");
    super::add_hooks_and_server(&mut plan, place, &path, "gemini", &hooks, wish)?;
    Ok(plan)
}
