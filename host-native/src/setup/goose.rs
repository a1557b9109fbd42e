//! Goose: a plugin of our own, in the folder of plugins that several agents share.

use jsonc_parser::cst::CstInputValue;
use kubeagents_core::hook::Tool;

use super::file::Refusal;
use super::json::Json;
use super::place::{Folder, Moved};
use super::{Agent, Place, Plan, Wish, group, handler};

pub(super) const AGENT: Agent = Agent {
    tool: Tool::Goose,
    title: "Goose",
    programs: &["goose"],
    folder: Folder::new(".config/goose", Moved::WithConfiguration),
    others: super::no_others,
    plan,
    warnings: super::no_warnings,
};

const PLUGIN: Folder = Folder::new(".agents/plugins/kubeagents", Moved::Never);

const EVENTS: [&str; 7] = [
    "SessionStart",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "Stop",
    "SessionEnd",
];

/// How long a hook may take, in seconds.
const TIMEOUT: usize = 5;

fn plan(place: &Place, wish: Wish) -> Result<Plan, Refusal> {
    let mut plan = Plan {
        steps: vec![
            "restart running sessions of Goose, and add the MCP server, if you want it, by: goose configure",
        ],
        ..Plan::default()
    };
    let manifest = [
        ("name", "kubeagents"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("description", "Reports what Goose does to kubeagents"),
    ];
    plan.add(place.json(
        place.file(&PLUGIN, "plugin.json"),
        wish,
        &|json: &Json, wish| {
            json.set_texts(&manifest, wish);
            Ok(())
        },
    )?);
    let command = place.hook_command("goose");
    let timeout: [(&str, CstInputValue); 1] = [("timeout", TIMEOUT.into())];
    let hooks = EVENTS.map(|event| (event, group(handler(command.clone(), &timeout))));
    let path = place.file(&PLUGIN, "hooks/hooks.json");
    plan.add(place.json(&path, wish, &|json: &Json, wish| {
        json.set_hooks(&["hooks"], "goose", &hooks, wish)
    })?);
    Ok(plan)
}
