//! Copilot CLI: a file of hooks of our own, servers in `mcp-config.json`.

use jsonc_parser::cst::CstInputValue;
use kubeagents_core::hook::Tool;

use super::file::Refusal;
use super::json::Json;
use super::place::{Folder, Moved};
use super::{Agent, Place, Plan, Wish, server};

pub(super) const AGENT: Agent = Agent {
    tool: Tool::Copilot,
    title: "Copilot CLI",
    programs: &["copilot"],
    folder: FOLDER,
    others: super::no_others,
    plan,
    warnings: super::no_warnings,
};

const FOLDER: Folder = Folder::new(".copilot", Moved::Itself("COPILOT_HOME"));

/// The events. A failing hook of `preToolUse` denies the tool, and `permissionRequest` comes before the
/// rules that answer it.
const EVENTS: [&str; 7] = [
    "sessionStart",
    "userPromptSubmitted",
    "postToolUse",
    "notification",
    "agentStop",
    "errorOccurred",
    "sessionEnd",
];

/// How long a hook may take, in seconds.
const TIMEOUT: usize = 5;

fn plan(place: &Place, wish: Wish) -> Result<Plan, Refusal> {
    let mut plan = Plan {
        steps: vec!["restart running sessions of Copilot CLI"],
        ..Plan::default()
    };
    let path = match place.project() {
        Some(root) => root.join(".github/hooks/kubeagents.json"),
        None => place.folder(&FOLDER).join("hooks/kubeagents.json"),
    };
    let command = place.hook_command("copilot");
    let hooks = EVENTS.map(|event| {
        let mut handler: Vec<(String, CstInputValue)> = vec![
            ("type".into(), "command".into()),
            ("bash".into(), command.clone().into()),
        ];
        if place.is_project() {
            let powershell = "if (Get-Command kubeagents -ErrorAction SilentlyContinue) \
                              { kubeagents hook copilot }";
            handler.push(("powershell".into(), powershell.into()));
        }
        handler.push(("timeoutSec".into(), TIMEOUT.into()));
        (event, CstInputValue::Object(handler))
    });
    plan.add(place.json(path, wish, &|json: &Json, wish| {
        super::versioned(json, wish, &|| {
            json.set_hooks(&["hooks"], "copilot", &hooks, wish)
        })
    })?);
    if !place.is_project() {
        let path = place.folder(&FOLDER).join("mcp-config.json");
        super::add_server(&mut plan, place, &path, "mcpServers", wish, &|| {
            let mut entry = server(place, &[("type", "local")]);
            if let CstInputValue::Object(fields) = &mut entry {
                fields.push(("tools".into(), CstInputValue::Array(vec!["*".into()])));
            }
            entry
        })?;
    }
    Ok(plan)
}
