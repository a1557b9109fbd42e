//! Codex CLI: hooks in `hooks.json` or in `config.toml`, servers in `config.toml`.

mod trust;

use std::path::Path;

use jsonc_parser::cst::CstInputValue;
use kubeagents_core::hook::Tool;
use toml_edit::{
    Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value, value,
};

use super::file::{Refusal, read};
use super::json::Json;
use super::place::{Folder, Moved};
use super::toml::{has_foreign_server, parse, set_server};
use super::{Agent, Place, Plan, Warning, Wish, group, handler, program_name, runs_hook};

pub(super) const AGENT: Agent = Agent {
    tool: Tool::Codex,
    title: "Codex CLI",
    programs: &["codex"],
    folder: FOLDER,
    others: super::no_others,
    plan,
    warnings,
};

const FOLDER: Folder = Folder::new(".codex", Moved::Itself("CODEX_HOME"));

const EVENTS: [&str; 12] = [
    "SessionStart",
    "UserPromptSubmit",
    "PreToolUse",
    "PostToolUse",
    "PermissionRequest",
    "PreCompact",
    "PostCompact",
    "SubagentStart",
    "SubagentStop",
    "Stop",
    "Interrupt",
    "SessionEnd",
];

/// How long a hook may take, in seconds. Some events allow no more.
const TIMEOUT: u32 = 3;

fn plan(place: &Place, wish: Wish) -> Result<Plan, Refusal> {
    let mut plan = Plan {
        steps: vec![
            "start codex and trust the hooks in /hooks: until then they do not run, and `codex exec` \
             passes them over without a word",
        ],
        ..Plan::default()
    };
    let hooks = place.file(&FOLDER, "hooks.json");
    let config = place.file(&FOLDER, "config.toml");
    let command = place.hook_command("codex");

    let text = read(&config)?.unwrap_or_default();
    let document = parse(&text).map_err(|problem| Refusal::new(&config, problem))?;
    // Two files with hooks in one folder are warned of.
    let in_toml = has_hooks(&document) && !hooks.exists();
    let wish_in = |is_here: bool| match is_here {
        true => wish,
        false => Wish::Remove,
    };

    let timeout: [(&str, CstInputValue); 1] = [("timeout", (TIMEOUT as usize).into())];
    let entries = EVENTS.map(|event| (event, group(handler(command.clone(), &timeout))));
    plan.add(place.json(hooks, wish_in(!in_toml), &|json: &Json, wish| {
        json.set_hooks(&["hooks"], "codex", &entries, wish)
    })?);

    let server = (!place.is_project()).then(|| place.mcp_program());
    if wish == Wish::Install && server.is_some() && has_foreign_server(&document) {
        plan.note_foreign_server(&config);
    }
    let notify = document
        .get("notify")
        .is_some_and(|notify| !is_our_notify(notify));
    if wish == Wish::Install && notify {
        plan.notes
            .push("notify in config.toml stays as it is".into());
    }
    plan.add(place.text(&config, "", wish, &|text, wish| {
        let mut document = parse(text)?;
        let hooks = match in_toml {
            true => wish,
            false => Wish::Remove,
        };
        set_hooks(&mut document, &command, hooks)?;
        // Together with hooks it would tell of each turn's end twice.
        if document.get("notify").is_some_and(is_our_notify) {
            document.remove("notify");
        }
        set_server(&mut document, server.as_deref(), wish)?;
        Ok(document.to_string())
    })?);
    Ok(plan)
}

/// Warns of hooks that are switched off, and of those that are not trusted as they are.
fn warnings(place: &Place) -> Vec<Warning> {
    let config = place.file(&FOLDER, "config.toml");
    let text = read(&config).ok().flatten().unwrap_or_default();
    let Ok(document) = parse(&text) else {
        return Vec::new();
    };
    let document = plain(document.as_item());
    let mut warnings = Vec::new();
    if document["features"]["hooks"] == false {
        warnings.push(Warning {
            problem: "hooks are switched off".into(),
            advice: format!("remove hooks = false from {}", config.display()),
        });
    }
    let file = place.file(&FOLDER, "hooks.json");
    let text = read(&file).ok().flatten();
    let in_json = text.and_then(|text| Some(Json::parse(&text).ok()?.value()));
    let (file, hooks) = match &in_json {
        Some(json) => (file, json),
        None => (config, &document),
    };
    let state = &document["hooks"]["state"];
    warnings.extend(trust::warnings(&file, &hooks["hooks"], state));
    warnings
}

/// The values of an item, without their layout.
fn plain(item: &Item) -> serde_json::Value {
    let table = |table: &dyn TableLike| {
        let entries = table
            .iter()
            .map(|(key, item)| (key.to_owned(), plain(item)));
        serde_json::Value::Object(entries.collect())
    };
    match item {
        Item::None => serde_json::Value::Null,
        Item::Table(entries) => table(entries),
        Item::Value(Value::InlineTable(entries)) => table(entries),
        Item::ArrayOfTables(tables) => tables.iter().map(|entries| table(entries)).collect(),
        Item::Value(Value::Array(values)) => {
            let values = values.iter().cloned().map(Item::Value);
            values.map(|item| plain(&item)).collect()
        }
        Item::Value(Value::String(text)) => text.value().as_str().into(),
        Item::Value(Value::Integer(number)) => (*number.value()).into(),
        Item::Value(Value::Float(number)) => (*number.value()).into(),
        Item::Value(Value::Boolean(truth)) => (*truth.value()).into(),
        Item::Value(Value::Datetime(time)) => time.value().to_string().into(),
    }
}

/// Checks whether there are hooks: Codex keeps there too which hooks are trusted.
fn has_hooks(document: &DocumentMut) -> bool {
    let hooks = document.get("hooks").and_then(Item::as_table_like);
    hooks.is_some_and(|hooks| hooks.iter().any(|(event, _)| event != "state"))
}

/// Checks whether an item is our older way to be told of a turn's end.
fn is_our_notify(notify: &Item) -> bool {
    let words = notify.as_array().into_iter().flatten();
    let words: Vec<&str> = words.filter_map(Value::as_str).collect();
    matches!(words[..], [program, "hook", "codex-notify"] if program_name(Path::new(program)))
}

/// Makes the tables of hooks hold ours, for a removal none of ours.
fn set_hooks(document: &mut DocumentMut, command: &str, wish: Wish) -> Result<(), String> {
    if wish == Wish::Install && !document.contains_key("hooks") {
        let mut hooks = Table::new();
        hooks.set_implicit(true);
        document.insert("hooks", Item::Table(hooks));
    }
    let Some(hooks) = document.get_mut("hooks") else {
        return Ok(());
    };
    let hooks = hooks.as_table_like_mut().ok_or("hooks must be a table")?;
    let mut emptied = Vec::new();
    let events: Vec<String> = hooks.iter().map(|(event, _)| event.to_owned()).collect();
    for event in events.iter().filter(|event| *event != "state") {
        let Some(item) = hooks.get_mut(event) else {
            continue;
        };
        let keeps = wish == Wish::Install && EVENTS.contains(&event.as_str());
        let is_empty = match item {
            Item::ArrayOfTables(groups) => {
                let mut is_kept = false;
                groups.retain(|group| {
                    let is_ours = is_our_group(group.get("hooks"));
                    let keeps = keeps && !is_kept && is_current(group.get("hooks"), command);
                    is_kept |= is_ours && keeps;
                    !is_ours || keeps
                });
                if keeps && !is_kept {
                    groups.push(table_group(command));
                }
                groups.is_empty()
            }
            Item::Value(Value::Array(groups)) => {
                let ours = |group: &Value| {
                    let hooks = group.as_inline_table().and_then(|group| group.get("hooks"));
                    hooks.cloned().map(Item::Value)
                };
                let mut is_kept = false;
                groups.retain(|group| {
                    let hooks = ours(group);
                    let is_ours = is_our_group(hooks.as_ref());
                    let keeps = keeps && !is_kept && is_current(hooks.as_ref(), command);
                    is_kept |= is_ours && keeps;
                    !is_ours || keeps
                });
                if keeps && !is_kept {
                    groups.push(inline_group(command));
                }
                groups.is_empty()
            }
            _ if keeps => return Err(format!("hooks.{event} must be a list")),
            _ => continue,
        };
        if is_empty {
            emptied.push(event.clone());
        }
    }
    for event in &emptied {
        hooks.remove(event);
    }
    if wish == Wish::Install {
        let missing = EVENTS.iter().filter(|event| !hooks.contains_key(event));
        for event in missing.copied().collect::<Vec<_>>() {
            let mut groups = ArrayOfTables::new();
            groups.push(table_group(command));
            hooks.insert(event, Item::ArrayOfTables(groups));
        }
    }
    if !emptied.is_empty() && hooks.is_empty() {
        document.remove("hooks");
    }
    Ok(())
}

/// The command lines of a group's handlers.
fn commands(handlers: Option<&Item>) -> Vec<String> {
    let text = |command: Option<&str>| command.unwrap_or_default().to_owned();
    match handlers {
        Some(Item::ArrayOfTables(handlers)) => handlers
            .iter()
            .map(|handler| text(handler.get("command").and_then(Item::as_str)))
            .collect(),
        Some(Item::Value(Value::Array(handlers))) => handlers
            .iter()
            .map(|handler| {
                let handler = handler.as_inline_table();
                text(handler.and_then(|handler| handler.get("command")?.as_str()))
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Checks whether a group has no handlers but ours. One that was mixed by hand is its owner's.
fn is_our_group(handlers: Option<&Item>) -> bool {
    let commands = commands(handlers);
    !commands.is_empty() && commands.iter().all(|command| runs_hook(command, "codex"))
}

fn is_current(handlers: Option<&Item>, command: &str) -> bool {
    commands(handlers) == [command]
}

fn table_group(command: &str) -> Table {
    let mut handler = Table::new();
    handler.insert("type", value("command"));
    handler.insert("command", value(command));
    handler.insert("timeout", value(i64::from(TIMEOUT)));
    let mut handlers = ArrayOfTables::new();
    handlers.push(handler);
    let mut group = Table::new();
    group.insert("hooks", Item::ArrayOfTables(handlers));
    group
}

fn inline_group(command: &str) -> Value {
    let mut handler = InlineTable::new();
    handler.insert("type", "command".into());
    handler.insert("command", command.into());
    handler.insert("timeout", i64::from(TIMEOUT).into());
    let mut group = InlineTable::new();
    group.insert("hooks", Value::Array(Array::from_iter([handler])));
    Value::InlineTable(group)
}
