//! Kimi Code: hooks in `config.toml`, servers in `mcp.json`.

use kubeagents_core::hook::Tool;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::file::{Refusal, read};
use super::place::{Folder, Moved};
use super::{Agent, Place, Plan, Wish, runs_hook, server, toml};

pub(super) const AGENT: Agent = Agent {
    tool: Tool::Kimi,
    title: "Kimi Code",
    programs: &["kimi"],
    folder: FOLDER,
    others: super::no_others,
    plan,
    warnings: super::no_warnings,
};

const FOLDER: Folder = Folder::new(".kimi-code", Moved::Itself("KIMI_CODE_HOME"));

/// The events. Of others the whole file would be refused.
const EVENTS: [&str; 14] = [
    "SessionStart",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "PermissionRequest",
    "Interrupt",
    "SubagentStart",
    "SubagentStop",
    "PreCompact",
    "PostCompact",
    "Stop",
    "StopFailure",
    "SessionEnd",
];

/// How long a hook may take, in seconds.
const TIMEOUT: i64 = 5;

fn plan(place: &Place, wish: Wish) -> Result<Plan, Refusal> {
    let mut plan = Plan {
        steps: vec!["restart running sessions of Kimi Code"],
        ..Plan::default()
    };
    let path = place.folder(&FOLDER).join("config.toml");
    if place.is_project() {
        plan.notes
            .push("Kimi Code reads hooks from the user's own files only".into());
        return Ok(plan);
    }
    let command = place.hook_command("kimi");
    // Whatever it holds else must be understood first.
    let text = read(&path)?.unwrap_or_default();
    toml::parse(&text).map_err(|problem| Refusal::new(&path, problem))?;
    plan.add(place.text(&path, "", wish, &|text, wish| {
        let mut document = toml::parse(text)?;
        set_hooks(&mut document, &command, wish)?;
        Ok(document.to_string())
    })?);
    let path = place.folder(&FOLDER).join("mcp.json");
    super::add_server(&mut plan, place, &path, "mcpServers", wish, &|| {
        server(place, &[])
    })?;
    Ok(plan)
}

/// Makes the list of hooks hold ours, for a removal none of ours.
fn set_hooks(document: &mut DocumentMut, command: &str, wish: Wish) -> Result<(), String> {
    const NAME: &str = "hooks";
    let hooks = match document.get_mut(NAME) {
        Some(Item::ArrayOfTables(hooks)) => hooks,
        Some(Item::Value(hooks)) if hooks.as_array().is_some_and(toml_edit::Array::is_empty) => {
            document.insert(NAME, Item::ArrayOfTables(ArrayOfTables::new()));
            return set_hooks(document, command, wish);
        }
        Some(_) if wish == Wish::Install => {
            return Err("hooks must be given as tables: [[hooks]]".into());
        }
        None if wish == Wish::Install => {
            document.insert(NAME, Item::ArrayOfTables(ArrayOfTables::new()));
            return set_hooks(document, command, wish);
        }
        _ => return Ok(()),
    };
    let text = |hook: &Table, name: &str| {
        let text = hook.get(name).and_then(Item::as_str);
        text.unwrap_or_default().to_owned()
    };
    let mut missing = match wish {
        Wish::Install => EVENTS.to_vec(),
        Wish::Remove => Vec::new(),
    };
    hooks.retain(|hook| {
        if !runs_hook(&text(hook, "command"), "kimi") {
            return true;
        }
        let event = text(hook, "event");
        let place = missing.iter().position(|missing| *missing == event);
        let is_current = text(hook, "command") == command && hook.get("matcher").is_none();
        match place.filter(|_| is_current) {
            Some(place) => {
                missing.remove(place);
                true
            }
            None => false,
        }
    });
    for event in missing {
        let mut hook = Table::new();
        hook.insert("event", value(event));
        hook.insert("command", value(command));
        hook.insert("timeout", value(TIMEOUT));
        hooks.push(hook);
    }
    if hooks.is_empty() {
        document.remove(NAME);
    }
    Ok(())
}
