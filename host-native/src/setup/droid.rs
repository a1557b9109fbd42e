//! Factory's Droid: hooks in `settings.json`, or in `hooks.json` where there is one, since the first is
//! passed over then; servers in `mcp.json`.

use jsonc_parser::cst::CstInputValue;
use kubeagents_core::hook::Tool;

use super::file::Refusal;
use super::json::Json;
use super::place::{Folder, Moved};
use super::{Agent, Place, Plan, Wish, group, handler, server};

pub(super) const AGENT: Agent = Agent {
    tool: Tool::Droid,
    title: "Factory Droid",
    programs: &["droid"],
    folder: FOLDER,
    others: super::no_others,
    plan,
    warnings: super::no_warnings,
};

const FOLDER: Folder = Folder::new(".factory", Moved::WithHome("FACTORY_HOME_OVERRIDE"));

const EVENTS: [&str; 9] = [
    "SessionStart",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "Notification",
    "SubagentStop",
    "PreCompact",
    "Stop",
    "SessionEnd",
];

/// How long a hook may take, in seconds.
const TIMEOUT: usize = 5;

fn plan(place: &Place, wish: Wish) -> Result<Plan, Refusal> {
    let mut plan = Plan {
        steps: vec!["restart running sessions of Droid"],
        ..Plan::default()
    };
    let command = place.hook_command("droid");
    let timeout: [(&str, CstInputValue); 1] = [("timeout", TIMEOUT.into())];
    let hooks = EVENTS.map(|event| (event, group(handler(command.clone(), &timeout))));
    let own = place.file(&FOLDER, "hooks.json");
    let settings = place.file(&FOLDER, "settings.json");
    let set_hooks = |json: &Json, wish| json.set_hooks(&["hooks"], "droid", &hooks, wish);
    let set_own = |json: &Json, wish| {
        // The events stand at the top of this file, or, as in the other, under `hooks`.
        match json.value().get("hooks") {
            Some(_) => json.set_hooks(&["hooks"], "droid", &hooks, wish),
            None => json.set_hooks(&[], "droid", &hooks, wish),
        }
    };
    match own.exists() {
        true => {
            plan.add(place.json(own, wish, &set_own)?);
            plan.add(place.json(settings, Wish::Remove, &set_hooks)?);
        }
        false => plan.add(place.json(settings, wish, &set_hooks)?),
    }
    if !place.is_project() {
        let path = place.file(&FOLDER, "mcp.json");
        super::add_server(&mut plan, place, &path, "mcpServers", wish, &|| {
            server(place, &[("type", "stdio")])
        })?;
    }
    Ok(plan)
}
