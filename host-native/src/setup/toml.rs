//! TOML files of agents, comments and layout included.

use std::path::Path;

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value, value};

use super::file::{BOM, Refusal, read};
use super::json::SERVER;
use super::{MCP, Place, Plan, Wish, program_name, runs_mcp};

/// Parses a file's text.
///
/// # Errors
/// What is wrong with the text, and in which line.
pub(super) fn parse(text: &str) -> Result<DocumentMut, String> {
    let text = text.strip_prefix(BOM).unwrap_or(text);
    text.parse().map_err(|error: toml_edit::TomlError| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.matches('\n').count() + 1);
        format!("{} on line {line}", error.message())
    })
}

/// Adds to a plan what makes the servers in a file hold ours, for a removal not.
pub(super) fn add_server(
    plan: &mut Plan,
    place: &Place,
    path: &Path,
    wish: Wish,
) -> Result<(), Refusal> {
    let text = read(path)?.unwrap_or_default();
    let document = parse(&text).map_err(|problem| Refusal::new(path, problem))?;
    if wish == Wish::Install && has_foreign_server(&document) {
        plan.note_foreign_server(path);
    }
    let program = place.mcp_program();
    plan.add(place.text(path, "", wish, &|text, wish| {
        let mut document = parse(text)?;
        set_server(&mut document, Some(&program), wish)?;
        Ok(document.to_string())
    })?);
    Ok(())
}

/// Checks whether a server's table is just `kubeagents mcp`.
fn is_our_server(server: &Item) -> bool {
    let Some(server) = server.as_table_like() else {
        return false;
    };
    let program = server.get("command").and_then(Item::as_str);
    program.is_some_and(|program| program_name(Path::new(program)))
        && runs_mcp(&arguments(server))
        && !server.contains_key("env")
}

/// The arguments in a server's table.
fn arguments(server: &dyn TableLike) -> Vec<&str> {
    let args = server.get("args").and_then(Item::as_array);
    args.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Checks whether there is a server of our name that is somebody else's.
pub(super) fn has_foreign_server(document: &DocumentMut) -> bool {
    let servers = document.get("mcp_servers").and_then(Item::as_table_like);
    let server = servers.and_then(|servers| servers.get(SERVER));
    server.is_some_and(|server| !is_our_server(server))
}

/// Makes the servers hold ours, for a removal, or where there is no program to name, not.
pub(super) fn set_server(
    document: &mut DocumentMut,
    program: Option<&str>,
    wish: Wish,
) -> Result<(), String> {
    if has_foreign_server(document) {
        return Ok(());
    }
    let install = program.filter(|_| wish == Wish::Install);
    if install.is_some() && !document.contains_key("mcp_servers") {
        let mut servers = Table::new();
        servers.set_implicit(true);
        document.insert("mcp_servers", Item::Table(servers));
    }
    let Some(servers) = document.get_mut("mcp_servers") else {
        return Ok(());
    };
    let servers = servers
        .as_table_like_mut()
        .ok_or("mcp_servers must be a table")?;
    match install {
        None => {
            if servers.remove(SERVER).is_some() && servers.is_empty() {
                document.remove("mcp_servers");
            }
        }
        Some(program) => match servers.get_mut(SERVER).and_then(Item::as_table_like_mut) {
            Some(server) => {
                if server.get("command").and_then(Item::as_str) != Some(program) {
                    server.insert("command", value(program));
                }
                if arguments(server) != MCP {
                    server.insert("args", value(Array::from_iter(MCP)));
                }
            }
            None => {
                let mut server = Table::new();
                server.insert("command", value(program));
                server.insert("args", value(Array::from_iter(MCP)));
                servers.insert(SERVER, Item::Table(server));
            }
        },
    }
    Ok(())
}
