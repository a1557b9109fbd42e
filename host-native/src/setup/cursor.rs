//! Cursor: hooks in `hooks.json`, servers in `mcp.json`.

use jsonc_parser::cst::CstInputValue;
use kubeagents_core::hook::Tool;

use super::file::Refusal;
use super::json::Json;
use super::place::{self, Folder, Moved};
use super::{Agent, Place, Plan, Wish};

pub(super) const AGENT: Agent = Agent {
    tool: Tool::Cursor,
    title: "Cursor",
    programs: &["cursor", "cursor-agent"],
    folder: FOLDER,
    others: |place| {
        // The settings of the desktop, and those of the command.
        let configuration = place.folder(&Folder::new(".config", Moved::Itself("XDG_CONFIG_HOME")));
        let mut others = vec![configuration.join("Cursor"), configuration.join("cursor")];
        others.extend(place::moved("CURSOR_CONFIG_DIR"));
        others
    },
    plan,
    warnings: super::no_warnings,
};

const FOLDER: Folder = Folder::new(".cursor", Moved::Never);

const EVENTS: [&str; 8] = [
    "sessionStart",
    "beforeSubmitPrompt",
    "preToolUse",
    "postToolUse",
    "subagentStart",
    "subagentStop",
    "stop",
    "sessionEnd",
];

/// How long a hook may take, in seconds.
const TIMEOUT: usize = 5;

fn plan(place: &Place, wish: Wish) -> Result<Plan, Refusal> {
    let mut plan = Plan {
        steps: vec!["restart Cursor"],
        ..Plan::default()
    };
    let command = place.hook_command_by_path("cursor");
    let hooks = EVENTS.map(|event| {
        let handler = vec![
            ("command".to_owned(), command.clone().into()),
            ("timeout".to_owned(), TIMEOUT.into()),
        ];
        (event, CstInputValue::Object(handler))
    });
    let path = place.file(&FOLDER, "hooks.json");
    plan.add(place.json(path, wish, &|json: &Json, wish| {
        super::versioned(json, wish, &|| {
            json.set_hooks(&["hooks"], "cursor", &hooks, wish)
        })
    })?);
    if !place.is_project() {
        let path = place.file(&FOLDER, "mcp.json");
        super::add_server(&mut plan, place, &path, "mcpServers", wish, &|| {
            CstInputValue::Object(vec![
                ("command".into(), place.program().into()),
                ("args".into(), super::MCP.to_vec().into()),
            ])
        })?;
    }
    Ok(plan)
}
