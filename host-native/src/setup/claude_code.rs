//! Claude Code: hooks in `settings.json`, servers in `.claude.json`. A plugin brings both.

use kubeagents_core::hook::Tool;
use serde_json::Value;

use super::file::{Refusal, read};
use super::json::Json;
use super::place::{self, Folder, Moved};
use super::{Agent, Place, Plan, Wish, group, handler, server};

pub(super) const AGENT: Agent = Agent {
    tool: Tool::ClaudeCode,
    title: "Claude Code",
    programs: &["claude"],
    folder: FOLDER,
    others: super::no_others,
    plan,
    warnings: |place| super::disabled(&place.file(&FOLDER, "settings.json")),
};

const FOLDER: Folder = Folder::new(".claude", Moved::Itself("CLAUDE_CONFIG_DIR"));

/// The events, and whether Claude Code goes on without waiting for the hook. What is said last is waited
/// for: after it the process may end. `WorktreeCreate` is none, since its hook must answer with a path.
pub(super) const EVENTS: [(&str, bool); 17] = [
    ("SessionStart", true),
    ("UserPromptSubmit", true),
    ("PreToolUse", true),
    ("PostToolUse", true),
    ("PostToolUseFailure", true),
    ("PermissionRequest", true),
    ("PermissionDenied", true),
    ("Notification", true),
    ("Elicitation", true),
    ("ElicitationResult", true),
    ("SubagentStart", true),
    ("SubagentStop", true),
    ("PreCompact", true),
    ("PostCompact", true),
    ("Stop", false),
    ("StopFailure", false),
    ("SessionEnd", false),
];

/// How long a hook may take, in seconds.
const TIMEOUT: usize = 5;

fn plan(place: &Place, wish: Wish) -> Result<Plan, Refusal> {
    let settings = place.file(&FOLDER, "settings.json");
    let mut plan = Plan {
        steps: vec!["restart running sessions of Claude Code"],
        ..Plan::default()
    };
    let user_settings = place.folder(&FOLDER).join("settings.json");
    let mut ours = wish;
    for path in [&settings, &user_settings] {
        if wish == Wish::Install && has_plugin(path)? {
            plan.is_left_to_plugin = true;
            ours = Wish::Remove;
        }
    }
    if plan.is_left_to_plugin {
        plan.notes
            .push("The plugin kubeagents is enabled, and brings hooks and MCP server".into());
    }

    // A shell's line, and not a program with `args`: an older version, or another agent that reads this
    // file, would pass over `args` and start a server.
    let command = place.hook_command("claude-code");
    let hooks = EVENTS.map(|(event, is_async)| {
        let mut more = vec![("timeout", TIMEOUT.into())];
        if is_async {
            more.push(("async", true.into()));
        }
        (event, group(handler(command.clone(), &more)))
    });
    let set_hooks = |json: &Json, wish| json.set_hooks(&["hooks"], "claude-code", &hooks, wish);
    plan.add(place.json(settings, ours, &set_hooks)?);

    if !place.is_project() {
        let folder = place.folder(&FOLDER);
        // Its older place counts where there is one.
        let older = folder.join(".config.json");
        let servers = match (older.exists(), place::moved("CLAUDE_CONFIG_DIR")) {
            (true, _) => older,
            (false, Some(_)) => folder.join(".claude.json"),
            (false, None) => place.home().join(".claude.json"),
        };
        super::add_server(&mut plan, place, &servers, "mcpServers", ours, &|| {
            server(place, &[("type", "stdio")])
        })?;
    }
    Ok(plan)
}

/// Checks whether settings enable our plugin.
fn has_plugin(path: &std::path::Path) -> Result<bool, Refusal> {
    let Some(text) = read(path)? else {
        return Ok(false);
    };
    let json = Json::parse(&text).map_err(|problem| Refusal::new(path, problem))?;
    let value = json.value();
    let plugins = value["enabledPlugins"].as_object();
    Ok(plugins.into_iter().flatten().any(|(name, enabled)| {
        name.split('@').next() == Some("kubeagents") && *enabled != Value::Bool(false)
    }))
}
