//! OpenCode: a plugin of our own, servers in `opencode.json`.

use jsonc_parser::cst::CstInputValue;
use kubeagents_core::hook::Tool;
use serde_json::Value;

use super::file::Refusal;
use super::place::{self, Folder, Moved};
use super::{Agent, Place, Plan, Wish};

pub(super) const AGENT: Agent = Agent {
    tool: Tool::OpenCode,
    title: "OpenCode",
    programs: &["opencode"],
    folder: FOLDER,
    others: |place| {
        let own = |variable| place::moved(variable);
        let mut others = vec![place.home().join(".opencode")];
        others.extend(
            ["OPENCODE_CONFIG_DIR", "OPENCODE_CONFIG"]
                .into_iter()
                .filter_map(own),
        );
        others
    },
    plan,
    warnings: super::no_warnings,
};

/// Read wherever other variables say that there is more configuration.
const FOLDER: Folder = Folder::new(".config/opencode", Moved::WithConfiguration);

/// The plugin, with a place for this program's path.
const PLUGIN: &str = include_str!("opencode.js");

/// How a file begins that this command wrote.
const MARK: &str = "// Written by `kubeagents setup`";

fn plan(place: &Place, wish: Wish) -> Result<Plan, Refusal> {
    let mut plan = Plan {
        steps: vec!["restart OpenCode"],
        ..Plan::default()
    };
    let folder = match place.project() {
        Some(root) => root.join(".opencode"),
        None => place.folder(&FOLDER),
    };
    // Both names are read: the one that is there is used.
    let plugins = match folder.join("plugin").is_dir() && !folder.join("plugins").is_dir() {
        true => folder.join("plugin"),
        false => folder.join("plugins"),
    };
    let program = match place.is_project() {
        true => "kubeagents".to_owned(),
        false => place.mcp_program(),
    };
    let program = Value::from(program).to_string();
    let plugin = PLUGIN.replace("\"@PROGRAM@\"", &program);
    let is_ours = |text: &str| text.is_empty() || text.starts_with(MARK);
    plan.add(super::Change::plan(
        plugins.join("kubeagents.js"),
        "",
        wish,
        false,
        &|text, wish| match wish {
            _ if !is_ours(text) => Err("was not written by this command".into()),
            Wish::Install => Ok(plugin.clone()),
            Wish::Remove => Ok(String::new()),
        },
    )?);
    if !place.is_project() {
        let commented = folder.join("opencode.jsonc");
        let path = match commented.exists() {
            true => commented,
            false => folder.join("opencode.json"),
        };
        super::add_server(&mut plan, place, &path, "mcp", wish, &|| {
            let mut command: Vec<CstInputValue> = vec![place.mcp_program().into()];
            command.extend(super::MCP.map(CstInputValue::from));
            CstInputValue::Object(vec![
                ("type".into(), "local".into()),
                ("command".into(), CstInputValue::Array(command)),
                ("enabled".into(), true.into()),
            ])
        })?;
    }
    Ok(plan)
}
