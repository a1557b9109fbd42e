//! Which of our hooks Codex runs: those that were trusted as they are now.

use std::collections::BTreeMap;
use std::path::Path;

use kubeagents_core::sha256_hex;
use serde::Serialize;
use serde_json::Value;

use super::super::Warning;
use super::runs_hook;

/// How long a hook may take that says nothing of it, in seconds.
const DEFAULT_TIMEOUT: u64 = 600;

/// Why a hook does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    Changed,
    Untrusted,
    SwitchedOff,
}

/// What Codex takes the hash of, with its fields in the order of their names.
#[derive(Serialize)]
struct Identity<'a> {
    event_name: &'a str,
    hooks: [Handler<'a>; 1],
}

#[derive(Serialize)]
struct Handler<'a> {
    r#async: bool,
    command: &'a str,
    #[serde(rename = "statusMessage", skip_serializing_if = "Option::is_none")]
    status_message: Option<&'a str>,
    timeout: u64,
    r#type: &'a str,
}

/// The hash by which Codex knows a handler at an event, in the form in which it keeps it. Groups with a
/// matcher have another.
fn hash(event: &str, handler: &Value) -> Option<String> {
    let timeout = handler["timeout"].as_u64().unwrap_or(DEFAULT_TIMEOUT);
    let identity = Identity {
        event_name: event,
        hooks: [Handler {
            r#async: handler["async"].as_bool().unwrap_or_default(),
            command: handler["command"].as_str()?,
            status_message: handler["statusMessage"].as_str(),
            timeout: timeout.max(1),
            r#type: "command",
        }],
    };
    let identity = serde_json::to_vec(&identity).ok()?;
    Some(format!("sha256:{}", sha256_hex(identity)))
}

/// Warns of our hooks in a file that Codex does not run. `events`: the hooks of the file, by their event.
/// `state`: what Codex keeps of hooks, by their place.
pub(super) fn warnings(file: &Path, events: &Value, state: &Value) -> Vec<Warning> {
    let mut obstacles = BTreeMap::<Obstacle, Vec<&str>>::new();
    let mut trusts_any = false;
    for (event, groups) in events.as_object().into_iter().flatten() {
        for (group, handler, hook) in ours(groups) {
            let name = label(event);
            let place = |file: &Path| format!("{}:{name}:{group}:{handler}", file.display());
            // A folder that CODEX_HOME names is known by its real name.
            let real = file.canonicalize().ok();
            let kept = [Some(file), real.as_deref()]
                .into_iter()
                .flatten()
                .find_map(|file| state.get(place(file)))
                .unwrap_or(&Value::Null);
            let trusted = kept["trusted_hash"].as_str();
            trusts_any |= trusted.is_some();
            let obstacle = match (trusted, hash(&name, hook)) {
                _ if kept["enabled"] == false => Obstacle::SwitchedOff,
                (None, _) => Obstacle::Untrusted,
                (Some(trusted), Some(hash)) if trusted != hash => Obstacle::Changed,
                _ => continue,
            };
            obstacles.entry(obstacle).or_default().push(event);
        }
    }
    let trust = "start codex, open /hooks, and trust them";
    if !trusts_any {
        return vec![Warning {
            problem: "no hook is trusted, so none runs".into(),
            advice: trust.into(),
        }];
    }
    let warnings = obstacles.into_iter().map(|(obstacle, events)| {
        let (problem, advice) = match obstacle {
            Obstacle::Changed => (
                "these hooks have changed since you trusted them, and do not run",
                trust,
            ),
            Obstacle::Untrusted => ("these hooks are not trusted, and do not run", trust),
            Obstacle::SwitchedOff => (
                "these hooks are switched off",
                "start codex, open /hooks, and switch them on",
            ),
        };
        Warning {
            problem: format!("{problem}: {}", events.join(", ")),
            advice: advice.into(),
        }
    });
    warnings.collect()
}

/// Our handlers at an event, each with the place of its group and its own.
fn ours(groups: &Value) -> impl Iterator<Item = (usize, usize, &Value)> {
    let groups = groups.as_array().into_iter().flatten().enumerate();
    let groups = groups.filter(|(_, group)| group.get("matcher").is_none());
    groups.flat_map(|(group, hooks)| {
        let handlers = hooks["hooks"].as_array().into_iter().flatten().enumerate();
        let ours = handlers.filter(|(_, handler)| {
            let command = handler["command"].as_str();
            command.is_some_and(|command| runs_hook(command, "codex"))
        });
        ours.map(move |(handler, hook)| (group, handler, hook))
    })
}

/// An event's name as Codex writes it where it keeps what it knows of hooks: `pre_tool_use`.
fn label(event: &str) -> String {
    let mut label = String::new();
    for letter in event.chars() {
        if letter.is_uppercase() && !label.is_empty() {
            label.push('_');
        }
        label.push(letter.to_ascii_lowercase());
    }
    label
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What Codex 0.171 says of such hooks itself, asked for `hooks/list`.
    #[test]
    fn hooks_have_the_hashes_that_codex_gives_them() {
        let handler = json!({"type": "command", "command": "kubeagents hook codex", "timeout": 3});
        for (event, expected) in [
            (
                "PreToolUse",
                "a1d88b185a7120b4fa7f61118cc8d7f3528f062884a5496d76660a69689fa696",
            ),
            (
                "Stop",
                "883704d52456a7264b13be412207b63ebcb14680e0df521ebfe1dc938dfff245",
            ),
        ] {
            let hash = hash(&label(event), &handler);
            assert_eq!(hash, Some(format!("sha256:{expected}")), "{event}");
        }
    }
}
