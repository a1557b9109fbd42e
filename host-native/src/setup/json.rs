//! JSON files of agents, comments and layout included.

use std::path::Path;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::cst::{CstInputValue, CstNode, CstObject, CstRootNode};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::{Map, Value};

use super::file::BOM;
use super::{Wish, program_name, runs_hook, runs_mcp};

/// What there is of a file that is missing.
pub(super) const BLANK: &str = "{}\n";

/// The name of our entry among the servers of the Model Context Protocol.
pub(super) const SERVER: &str = "kubeagents";

/// Comments and trailing commas, which several agents allow, and nothing else beyond JSON.
const OPTIONS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_loose_object_property_names: false,
    allow_trailing_commas: true,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// A JSON file that is being changed.
pub(super) struct Json(CstRootNode);

impl Json {
    /// # Errors
    /// What is wrong with the text, and in which line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix(BOM).unwrap_or(text);
        let text = match text.trim().is_empty() {
            true => BLANK,
            false => text,
        };
        let root = CstRootNode::parse(text, &OPTIONS).map_err(|error| error.to_string())?;
        check_names(text)?;
        match root.object_value() {
            Some(_) => Ok(Self(root)),
            None => Err("must hold an object on line 1".into()),
        }
    }

    /// The values, without comments.
    pub(super) fn value(&self) -> Value {
        self.0.to_serde_value().unwrap_or_default()
    }

    pub(super) fn text(&self) -> String {
        self.0.to_string()
    }

    /// The object at a place, made where it is missing and `makes` says so.
    pub(super) fn object(&self, place: &[&str], makes: bool) -> Result<Option<CstObject>, String> {
        let mut object = self.0.object_value_or_set();
        for name in place {
            let inner = match (object.get(name), makes) {
                (Some(property), _) => property
                    .object_value()
                    .ok_or_else(|| format!("{} must be an object", place.join(".")))?,
                (None, true) => object.object_value_or_set(name),
                (None, false) => return Ok(None),
            };
            object = inner;
        }
        Ok(Some(object))
    }

    /// Removes the objects at a place that hold nothing, the innermost first.
    fn remove_empty(&self, place: &[&str]) -> Result<(), String> {
        for length in (1..=place.len()).rev() {
            let (outer, name) = (&place[..length - 1], place[length - 1]);
            let inner = self.object(&place[..length], false)?;
            if !inner.is_some_and(|object| is_empty(object.children())) {
                break;
            }
            let outer = self.object(outer, false)?;
            if let Some(property) = outer.and_then(|outer| outer.get(name)) {
                property.remove();
            }
        }
        Ok(())
    }

    /// Sets a property where it is missing.
    pub(super) fn default(&self, name: &str, value: CstInputValue) {
        let root = self.0.object_value_or_set();
        if root.get(name).is_none() {
            root.insert(0, name, value);
        }
    }

    /// Sets texts, or removes a set of just these names.
    pub(super) fn set_texts(&self, texts: &[(&str, &str)], wish: Wish) {
        let root = self.0.object_value_or_set();
        for (name, text) in texts {
            match (root.get(name), wish) {
                (Some(property), Wish::Remove) => property.remove(),
                (Some(property), Wish::Install) => {
                    if property.to_serde_value() != Some(Value::from(*text)) {
                        property.set_value((*text).into());
                    }
                }
                (None, Wish::Remove) => {}
                (None, Wish::Install) => {
                    root.append(name, (*text).into());
                }
            }
        }
    }

    /// Makes the lists of hooks at a place hold these of `tool` and no others of it, for a removal none.
    ///
    /// # Errors
    /// What has another shape than the agent documents.
    pub(super) fn set_hooks(
        &self,
        place: &[&str],
        tool: &str,
        hooks: &[(&str, CstInputValue)],
        wish: Wish,
    ) -> Result<(), String> {
        let wanted: &[_] = match wish {
            Wish::Install => hooks,
            Wish::Remove => &[],
        };
        let Some(events) = self.object(place, !wanted.is_empty())? else {
            return Ok(());
        };
        let mut removed = false;
        for property in events.properties() {
            let Some(event) = property.decoded_name() else {
                continue;
            };
            let wanted = wanted.iter().find(|(name, _)| *name == event);
            let Some(list) = property.array_value() else {
                match wanted {
                    Some(_) => return Err(format!("{}.{event} must be a list", place.join("."))),
                    None => continue,
                }
            };
            let mut is_there = false;
            for element in list.elements() {
                let value = element.to_serde_value().unwrap_or_default();
                if !handlers(&value).any(|handler| is_ours(handler, tool)) {
                    continue;
                }
                if !is_there && wanted.is_some_and(|(_, wanted)| plain(wanted) == value) {
                    is_there = true;
                    continue;
                }
                removed = true;
                let inner = element
                    .as_object()
                    .and_then(|group| group.array_value("hooks"));
                match inner {
                    Some(inner) if !handlers(&value).all(|handler| is_ours(handler, tool)) => {
                        for handler in inner.elements() {
                            if is_ours(&handler.to_serde_value().unwrap_or_default(), tool) {
                                handler.remove();
                            }
                        }
                    }
                    _ => element.remove(),
                }
            }
            match wanted {
                Some((_, wanted)) if !is_there => {
                    list.append(wanted.clone());
                }
                None if removed && is_empty(list.children()) => property.remove(),
                _ => {}
            }
        }
        for (event, hook) in wanted {
            if events.get(event).is_none() {
                events.append(event, CstInputValue::Array(vec![hook.clone()]));
            }
        }
        match removed {
            true => self.remove_empty(place),
            false => Ok(()),
        }
    }

    /// Removes the version of a file that says nothing else.
    pub(super) fn remove_version_if_alone(&self) {
        let root = self.0.object_value_or_set();
        if let [property] = &root.properties()[..]
            && property.decoded_name().as_deref() == Some("version")
        {
            property.clone().remove();
        }
    }

    /// Checks whether a list of servers has one of our name that is somebody else's.
    pub(super) fn has_foreign_server(&self, list: &str) -> bool {
        let value = self.value();
        let server = value[list].get(SERVER);
        server.is_some_and(|server| !is_our_server(server))
    }

    /// Makes the servers at a place hold ours, for a removal not. One of the same name that is somebody
    /// else's stays as it is.
    ///
    /// # Errors
    /// What has another shape than the agent documents.
    pub(super) fn set_server(
        &self,
        place: &[&str],
        server: CstInputValue,
        wish: Wish,
    ) -> Result<(), String> {
        let Some(servers) = self.object(place, wish == Wish::Install)? else {
            return Ok(());
        };
        match (servers.get(SERVER), wish) {
            (None, Wish::Remove) => {}
            (None, Wish::Install) => {
                servers.append(SERVER, server);
            }
            (Some(there), wish) => {
                let value = there.to_serde_value().unwrap_or_default();
                if !is_our_server(&value) {
                    return Ok(());
                }
                match wish {
                    Wish::Remove => {
                        there.remove();
                        self.remove_empty(place)?;
                    }
                    Wish::Install if value != plain(&server) => there.set_value(server),
                    Wish::Install => {}
                }
            }
        }
        Ok(())
    }
}

/// Names of the file that are changed, and whose names are.
const CHANGED: [&str; 4] = ["hooks", "mcpServers", "mcp", "statusLine"];

/// Checks that no name occurs twice where something is changed: which of both counts is the agent's
/// choice.
///
/// # Errors
/// The name, and its lines.
fn check_names(text: &str) -> Result<(), String> {
    let parsed = parse_to_ast(text, &CollectOptions::default(), &OPTIONS);
    let Ok(Some(ast::Value::Object(root))) = parsed.map(|parsed| parsed.value) else {
        return Ok(());
    };
    let line = |property: &ast::ObjectProp<'_>| {
        let before = text.get(..property.start()).unwrap_or_default();
        before.matches('\n').count() + 1
    };
    let check = |object: &ast::Object<'_>, place: &str, names: Option<&[&str]>| {
        for (index, property) in object.properties.iter().enumerate() {
            let name = property.name.as_str();
            let earlier = object.properties[..index]
                .iter()
                .find(|earlier| earlier.name.as_str() == name);
            let counts = names.is_none_or(|names| names.contains(&name));
            if let Some(earlier) = earlier.filter(|_| counts) {
                return Err(format!(
                    "{place}{name} is there twice, on line {} and on line {}: make one of them",
                    line(earlier),
                    line(property)
                ));
            }
        }
        Ok(())
    };
    check(&root, "", Some(&CHANGED))?;
    for name in CHANGED {
        if let Some(inner) = root.get_object(name) {
            check(inner, &format!("{name}."), None)?;
        }
    }
    Ok(())
}

/// Checks whether a list or an object holds nothing, not even a comment, by its children.
fn is_empty(children: Vec<CstNode>) -> bool {
    let is_layout =
        |child: &CstNode| child.is_token() || child.is_whitespace() || child.is_newline();
    children.iter().all(is_layout)
}

/// The handlers of an entry in a list of hooks: of a group, or itself.
fn handlers(entry: &Value) -> impl Iterator<Item = &Value> {
    let group = entry["hooks"].as_array();
    let itself = group.is_none().then_some(entry);
    group.into_iter().flatten().chain(itself)
}

/// Checks whether a handler runs `kubeagents hook` for a tool.
fn is_ours(handler: &Value, tool: &str) -> bool {
    let words = |field: &str| handler[field].as_str().unwrap_or_default();
    let args = handler["args"].as_array().into_iter().flatten();
    let args: Vec<&str> = args.filter_map(Value::as_str).collect();
    ["command", "bash", "exec"].iter().any(|field| {
        let command = words(field);
        runs_hook(command, tool) || (program_name(Path::new(command)) && args == ["hook", tool])
    })
}

/// Checks whether a server's entry is just `kubeagents mcp`, as it is set up here.
fn is_our_server(server: &Value) -> bool {
    let (program, args) = match &server["command"] {
        Value::Array(words) => match words.split_first() {
            Some((program, args)) => (program, args),
            None => return false,
        },
        program => (
            program,
            server["args"].as_array().map_or(&[][..], |args| args),
        ),
    };
    let args: Option<Vec<&str>> = args.iter().map(Value::as_str).collect();
    let has = |field: &str| server.get(field).is_some();
    program
        .as_str()
        .is_some_and(|it| program_name(Path::new(it)))
        && args.is_some_and(|args| runs_mcp(&args))
        && !["env", "environment", "url", "headers"]
            .into_iter()
            .any(has)
}

/// The value that is written for an input.
fn plain(input: &CstInputValue) -> Value {
    match input {
        CstInputValue::Null => Value::Null,
        CstInputValue::Bool(value) => Value::Bool(*value),
        CstInputValue::Number(digits) => digits.parse().map_or(Value::Null, Value::Number),
        CstInputValue::String(text) => Value::String(text.clone()),
        CstInputValue::Array(items) => items.iter().map(plain).collect(),
        CstInputValue::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.clone(), plain(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
    }
}
