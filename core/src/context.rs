//! What a session says about where it runs: keys that people group and search by.

use std::collections::BTreeMap;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::validation::{InvalidField, Rule, STORABLE, storable};

/// Where a session runs, by key (`host`, `repo`, `branch`, `tool`…).
pub type Context = BTreeMap<String, String>;

/// The key of the machine that a session runs on.
pub(crate) const HOST: &str = "host";

/// The key of the person whose agent works on a session, where a workspace has several people.
pub(crate) const USER: &str = "user";

/// Checks whether nobody sits in front of a session.
pub(crate) fn is_headless(context: &Context) -> bool {
    context.get("mode").is_some_and(|mode| mode == "headless")
}

/// The most keys of a session's context.
pub(crate) const MAX_KEYS: usize = 20;

/// The longest key, in characters.
const MAX_KEY: usize = 40;

/// The longest value, in characters.
const MAX_VALUE: usize = 200;

/// The form of a patch, as JSON Schema writes it.
pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["object", "null"],
        "propertyNames": {"pattern": format!("^[a-z0-9_.-]{{1,{MAX_KEY}}}$")},
        "additionalProperties": {"type": "string", "maxLength": MAX_VALUE, "pattern": STORABLE},
    })
}

/// Checks a patch as it comes in. The number of its keys counts only once it is merged.
pub(crate) fn patch(value: Option<Value>) -> Result<Context, InvalidField> {
    let broken = |rule: Rule| rule.broken_by("context");
    let fields = match value {
        None | Some(Value::Null) => return Ok(Context::new()),
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err(broken(Rule::ObjectOfStrings)),
    };
    let text = |(key, value)| match value {
        Value::String(text) => Ok((key, text)),
        _ => Err(broken(Rule::ObjectOfStrings)),
    };
    let patch: Context = fields.into_iter().map(text).collect::<Result<_, _>>()?;
    if !patch.keys().all(|key| is_key(key)) {
        return Err(broken(Rule::Keys(MAX_KEY)));
    }
    if patch.values().any(|text| text.chars().count() > MAX_VALUE) {
        return Err(broken(Rule::Values(MAX_VALUE)));
    }
    for text in patch.values() {
        storable("context", text)?;
    }
    Ok(patch)
}

fn is_key(text: &str) -> bool {
    let in_key = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-');
    (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(in_key)
}

/// The context after a patch, in which an empty value removes its key. What is new is added in the
/// order of its keys, as far as `room` keys in all allow.
pub(crate) fn merged(context: &Context, patch: &Context, room: usize) -> Context {
    let mut merged = context.clone();
    merged.retain(|key, _| patch.get(key).is_none_or(|text| !text.is_empty()));
    for (key, text) in patch.iter().filter(|(_, text)| !text.is_empty()) {
        if merged.len() < room || merged.contains_key(key) {
            merged.insert(key.clone(), text.clone());
        }
    }
    merged
}

/// The context of a session that this person's agent reports on. Where there is no room, the last of the
/// other keys makes some, but for the machine's.
pub(crate) fn of_user(mut context: Context, user: &str) -> Context {
    let value = user.chars().take(MAX_VALUE).collect();
    context.insert(USER.to_owned(), value);
    while context.len() > MAX_KEYS {
        let mut others = context.keys().rev();
        let Some(last) = others
            .find(|key| ![USER, HOST].contains(&key.as_str()))
            .cloned()
        else {
            break;
        };
        context.remove(&last);
    }
    context
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn context<const N: usize>(pairs: [(&str, &str); N]) -> Context {
        pairs
            .map(|(key, text)| (key.to_owned(), text.to_owned()))
            .into()
    }

    #[test]
    fn a_patch_is_an_object_of_short_strings_under_plain_keys() {
        let objects = "context must be an object of strings";
        let keys = "context keys must be 1-40 of a-z, 0-9, _, . and -";
        let values = "context values must be 0-200 characters";
        for (value, message) in [
            (json!([]), objects),
            (json!("host"), objects),
            (json!(5), objects),
            (json!({"host": 5}), objects),
            (json!({"host": null}), objects),
            (json!({"Host": 5}), objects),
            (json!({"": "x"}), keys),
            (json!({"Host": "x"}), keys),
            (json!({"a b": "x"}), keys),
            (json!({"é": "x"}), keys),
            (json!({"x".repeat(41): "x"}), keys),
            (json!({"Host": "中".repeat(201)}), keys),
            (json!({"host": "中".repeat(201)}), values),
            (json!({"host": "\0"}), "context must not contain U+0000"),
        ] {
            let error = patch(Some(value.clone())).unwrap_err();
            assert_eq!(error.to_string(), message, "{value}");
        }
        for value in [
            json!({}),
            json!({"host": "", "a_b.c-9": "中".repeat(200), "x".repeat(40): "\n"}),
        ] {
            assert_eq!(json!(patch(Some(value.clone())).unwrap()), value);
        }
        assert_eq!(patch(Some(Value::Null)), Ok(Context::new()));
        assert_eq!(patch(None), Ok(Context::new()));
    }

    #[test]
    fn a_patch_replaces_adds_and_removes() {
        let before = context([("branch", "main"), ("host", "a"), ("repo", "r")]);
        let patch = context([("branch", "fix"), ("host", ""), ("model", "m"), ("pr", "")]);
        let after = context([("branch", "fix"), ("model", "m"), ("repo", "r")]);
        assert_eq!(merged(&before, &patch, 20), after);
    }

    #[test]
    fn room_is_for_new_keys_only_and_what_is_removed_makes_some() {
        let before = context([("a", "1"), ("z", "1")]);
        for (patch, room, after) in [
            (
                context([("b", "2"), ("z", "2")]),
                2,
                context([("a", "1"), ("z", "2")]),
            ),
            (
                context([("b", "2"), ("z", "")]),
                2,
                context([("a", "1"), ("b", "2")]),
            ),
            (
                context([("b", "2"), ("c", "2")]),
                3,
                context([("a", "1"), ("b", "2"), ("z", "1")]),
            ),
        ] {
            assert_eq!(merged(&before, &patch, room), after);
        }
    }
}
