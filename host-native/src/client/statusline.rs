//! `kubeagents statusline -- COMMAND…`: stands between Claude Code and the command of its status line, and
//! reports what that one is told: model, cost, tokens, pull request.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;

use kubeagents_core::hook::{Detail, Tool};
use serde_json::{Map, Value, json};
use url::form_urlencoded::Serializer;

use super::hook::{agent_id, read_input};
use super::outlet::{Outlet, settings};
use super::run::code;
use super::spool::{Event, Message, Stage};
use super::surroundings;

/// Does everything that the command does, with the arguments behind `statusline`.
pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    // What is printed is shown.
    std::panic::set_hook(Box::new(|_| {}));
    let command = match arguments {
        [first, command @ ..] if first == "--" => command,
        command => command,
    };
    let payload = read_input();
    let shown = command
        .split_first()
        .map(|(program, arguments)| show(program, arguments, payload.clone()));
    let _ = std::panic::catch_unwind(|| report(&payload));
    match shown {
        None => ExitCode::SUCCESS,
        Some(child) => match child.and_then(|mut child| child.wait()) {
            Ok(ended) => ExitCode::from(code(ended)),
            Err(_) => ExitCode::FAILURE,
        },
    }
}

/// Starts the command that prints the line.
fn show(program: &OsString, arguments: &[OsString], payload: Vec<u8>) -> std::io::Result<Child> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // It need not read.
        thread::spawn(move || input.write_all(&payload));
    }
    Ok(child)
}

/// Reports what is new; `None` where nothing is, or it cannot be reported.
fn report(payload: &[u8]) -> Option<()> {
    let payload: Value = serde_json::from_slice(payload).ok()?;
    let session = payload.get("session_id")?.as_str()?;
    let settings = settings().ok()?;
    let detail = settings.values.hook_detail;
    let told = told(&payload);
    if detail == Detail::None || told.is_empty() {
        return None;
    }
    let folder = payload.get("cwd").and_then(Value::as_str);
    let folder = Path::new(folder.unwrap_or_default());
    let host = surroundings::host(settings.values.host.clone(), folder);
    let agent_id = agent_id(Tool::ClaudeCode, &host);
    let mut query = Serializer::new(String::new());
    query
        .append_pair("agent_id", &agent_id)
        .append_pair("host", &host)
        .append_pair("detail", detail.as_str())
        .extend_pairs(told);
    let query = query.finish();
    let outlet = Outlet::new(&settings);
    let event = Event {
        to: outlet.to.clone(),
        message: Message {
            path: format!("/hooks/{}?{query}", Tool::ClaudeCode.name()),
            body: json!({"hook_event_name": "kubeagents.context", "session_id": session}),
        },
        session: format!("{agent_id}\n{session}"),
        stage: Stage::Renewed,
        watched: None,
        opening: Map::new(),
    };
    match outlet.spool()?.is_due(&event).ok()? {
        true => outlet.take(&event).ok().map(drop),
        false => None,
    }
}

/// What a status line is told that belongs to a session's context.
fn told(payload: &Value) -> Vec<(&'static str, String)> {
    let text = |path: &str| payload.pointer(path)?.as_str().map(str::to_owned);
    let number = |path: &str| payload.pointer(path)?.as_f64();
    let whole = |path: &str| Some(format!("{:.0}", number(path)?));
    let fields = [
        (
            "model",
            text("/model/id").or_else(|| text("/model/display_name")),
        ),
        (
            "cost_usd",
            number("/cost/total_cost_usd").map(|cost| format!("{cost:.2}")),
        ),
        ("tokens_in", whole("/context_window/total_input_tokens")),
        ("tokens_out", whole("/context_window/total_output_tokens")),
        ("context_percent", whole("/context_window/used_percentage")),
        ("pr", text("/pr/url").or_else(|| whole("/pr/number"))),
        ("branch", text("/worktree/branch")),
    ];
    let fields = fields.into_iter();
    fields
        .filter_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_line_is_told_is_context() {
        let payload = json!({
            "session_id": "s", "model": {"id": "opus-4", "display_name": "Opus"},
            "cost": {"total_cost_usd": 1.2345}, "pr": {"number": 7, "url": "https://x/7"},
            "context_window": {"used_percentage": 41.6, "total_input_tokens": 1200, "total_output_tokens": null},
            "worktree": {"branch": ""},
        });
        let told: Vec<String> = told(&payload)
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(
            told,
            [
                "model=opus-4",
                "cost_usd=1.23",
                "tokens_in=1200",
                "context_percent=42",
                "pr=https://x/7"
            ]
        );
        assert!(super::told(&json!([])).is_empty());
    }
}
