//! Claude Code: hooks and the status line in `settings.json`, servers in `.claude.json`. A plugin brings
//! hooks and servers.

use std::path::Path;

use jsonc_parser::cst::CstInputValue;
use kubeagents_core::hook::Tool;
use serde_json::Value;

use super::file::{Refusal, read};
use super::json::Json;
use super::place::{self, Folder, Moved, quoted, unquoted};
use super::{Agent, Place, Plan, Wish, group, handler, program_name, server};

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
    let by_plugin = has_plugin(&settings)? || has_plugin(&user_settings)?;
    plan.is_left_to_plugin = by_plugin && wish == Wish::Install;
    let ours = match by_plugin {
        true => Wish::Remove,
        false => wish,
    };
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
    let line = LineProgram(quoted(&place.mcp_program()));
    let has_line = !place.is_project()
        && (place.has_status_line()
            || parsed(&settings)?.is_some_and(|json| LineProgram::is_in(&json)));
    // No plugin brings a status line.
    let change = match has_line {
        true => wish,
        false => ours,
    };
    plan.add(place.json(settings, change, &|json, wish| {
        let hooks_wish = match by_plugin {
            true => Wish::Remove,
            false => wish,
        };
        json.set_hooks(&["hooks"], "claude-code", &hooks, hooks_wish)?;
        match has_line {
            true => line.set(json, wish),
            false => Ok(()),
        }
    })?);

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

/// The settings in a file; `None` where there is none.
fn parsed(path: &Path) -> Result<Option<Json>, Refusal> {
    let json = read(path)?.map(|text| Json::parse(&text));
    json.transpose()
        .map_err(|problem| Refusal::new(path, problem))
}

/// This program as a shell's word, which stands before the command of a status line.
struct LineProgram(String);

impl LineProgram {
    const COMMAND: &str = " statusline";
    const SHELL: &str = " -- sh -c ";

    /// The program of a command that is ours, and the command that it stands before.
    fn split(command: &str) -> Option<(&str, Option<String>)> {
        let mut places = command.match_indices(Self::COMMAND);
        let (program, rest) = places.find_map(|(place, _)| {
            let (program, rest) = command.split_at(place);
            let is_ours = unquoted(program).is_some_and(|word| program_name(Path::new(&word)));
            is_ours.then_some((program, &rest[Self::COMMAND.len()..]))
        })?;
        let by_shell = rest.strip_prefix(Self::SHELL).and_then(unquoted);
        match by_shell.or_else(|| rest.strip_prefix(" -- ").map(str::to_owned)) {
            Some(inner) => Some((program, Some(inner))),
            None => rest.is_empty().then_some((program, None)),
        }
    }

    fn is_in(json: &Json) -> bool {
        let value = json.value();
        let command = value["statusLine"]["command"].as_str();
        command.and_then(Self::split).is_some()
    }

    /// Makes a status line's command stand behind this program, for a removal as it was.
    fn set(&self, json: &Json, wish: Wish) -> Result<(), String> {
        const LINE: &str = "statusLine";
        let value = json.value();
        let settings = json.object(&[], true)?.ok_or("must hold an object")?;
        let line = settings.get(LINE);
        let command = value[LINE]["command"].as_str();
        let command = command.filter(|command| !command.trim().is_empty());
        let inner = match command.and_then(Self::split) {
            Some((program, _)) if wish == Wish::Install && program == self.0 => return Ok(()),
            Some((_, inner)) => inner,
            None if wish == Wish::Remove => return Ok(()),
            None => command.map(str::to_owned),
        };
        let own = || format!("{}{}", self.0, Self::COMMAND);
        let new = match (wish, inner) {
            (Wish::Remove, inner) => inner,
            (Wish::Install, None) => Some(own()),
            (Wish::Install, Some(inner)) => {
                Some(format!("{}{}{}", own(), Self::SHELL, quoted(&inner)))
            }
        };
        match (line, new) {
            (Some(line), None) => line.remove(),
            (None, Some(new)) => {
                let fields = [("type", "command".into()), ("command", new.into())];
                let fields =
                    fields.map(|(name, value): (&str, CstInputValue)| (name.into(), value));
                settings.append(LINE, CstInputValue::Object(fields.into()));
            }
            (Some(_), Some(new)) => {
                let line = json.object(&[LINE], false)?;
                let command = line.and_then(|line| line.get("command"));
                match command.filter(|_| value[LINE]["type"] == "command") {
                    Some(command) => command.set_value(new.into()),
                    None => {
                        return Err("statusLine must be of the type command, with a command".into());
                    }
                }
            }
            (None, None) => {}
        }
        Ok(())
    }
}

/// Checks whether settings enable our plugin.
fn has_plugin(path: &Path) -> Result<bool, Refusal> {
    let Some(json) = parsed(path)? else {
        return Ok(false);
    };
    let value = json.value();
    let plugins = value["enabledPlugins"].as_object();
    Ok(plugins.into_iter().flatten().any(|(name, enabled)| {
        name.split('@').next() == Some("kubeagents") && *enabled != Value::Bool(false)
    }))
}
