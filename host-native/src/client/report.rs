//! `kubeagents report`: reports once, for scripts.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::io::{self, Read};
use std::process::ExitCode;

use bytes::Bytes;
use chrono::SecondsFormat;
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use http::{Method, StatusCode};
use kubeagents_core::ports::Clock;
use serde_json::{Value, json};

use super::outlet::settings;
use super::server::Server;
use super::tail::{Tail, first, last};
use super::{NOT_DONE, NOT_UNDERSTOOD, blocking, surroundings};
use crate::ports::SystemClock;

/// The longest texts that the server takes, in characters.
const MAX_CONTENT: usize = 10_000;
const MAX_MESSAGE: usize = 1000;
const MAX_TITLE: usize = 200;

/// The arguments. `status` comes first, as it is what differs.
pub(super) fn arguments() -> Vec<Arg> {
    let text = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help);
    // What people read is taken as far as it is a text.
    let words = |name, help| text(name, help).value_parser(value_parser!(OsString));
    let statuses = PossibleValuesParser::new(["running", "pending", "success", "failed"]);
    vec![
        Arg::new("status")
            .required(true)
            .value_parser(statuses)
            .help("What the work is"),
        text("topic", "The task").required(true),
        text("agent", "Who works [default: script at this machine]"),
        words(
            "message",
            "What happens, in a line; of what is too long the beginning counts",
        ),
        words(
            "content",
            "A longer text, of which the end counts; - reads it from standard input",
        ),
        words("title", "What people see instead of the topic"),
        text(
            "reason",
            "Why the status is what it is, such as permission or question",
        ),
        text("name", "The agent's name for people"),
        text("source", "The program that the agent is"),
        text(
            "ttl",
            "For how many minutes the report lasts, from 1 to 1440",
        )
        .value_parser(value_parser!(u32).range(1..=1440)),
        text(
            "context",
            "Where and with what, as KEY=VALUE; may be repeated",
        )
        .action(ArgAction::Append),
    ]
}

/// Reports what the arguments say.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    match report(matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, problem)) => {
            eprintln!("kubeagents: {problem}");
            ExitCode::from(code)
        }
    }
}

fn report(matches: &ArgMatches) -> Result<(), (u8, String)> {
    let wrong = |problem: String| (NOT_UNDERSTOOD, problem);
    let settings = settings().map_err(|error| wrong(error.to_string()))?;
    settings.tell_problems();
    let values = settings.values;
    let folder = env::current_dir().unwrap_or_default();
    let surroundings = surroundings::context(&folder, values.host, values.hook_detail);
    let mut context: BTreeMap<&str, &str> = surroundings
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    for pair in matches.get_many::<String>("context").into_iter().flatten() {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| wrong(format!("--context must be KEY=VALUE, not {pair:?}")))?;
        context.insert(key, value);
    }
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let words = |name: &str| {
        let words = matches.get_one::<OsString>(name)?;
        Some(words.to_string_lossy().into_owned())
    };
    let content = match words("content").as_deref() {
        Some("-") => {
            let read = read_end(std::io::stdin().lock());
            Some(read.map_err(|error| wrong(format!("standard input: {error}")))?)
        }
        content => content.map(str::to_owned),
    };
    let content = content.as_deref().map(|content| last(content, MAX_CONTENT));
    let host = context.get("host").copied().unwrap_or_default();
    let mut body = json!({
        "agent_id": text("agent").unwrap_or_else(|| format!("script@{host}")),
        "timestamp": SystemClock.now().to_rfc3339_opts(SecondsFormat::Micros, true),
        "ttl_minutes": matches.get_one::<u32>("ttl"),
        "context": context,
        "content": content,
    });
    for (field, name) in [
        ("session_topic", "topic"),
        ("status", "status"),
        ("reason", "reason"),
        ("agent_name", "name"),
        ("agent_source", "source"),
    ] {
        body[field] = Value::from(text(name));
    }
    for (field, name, most) in [
        ("message", "message", MAX_MESSAGE),
        ("session_title", "title", MAX_TITLE),
    ] {
        body[field] = Value::from(words(name).map(|text| first(&text, most).to_owned()));
    }
    let failed = |problem: String| (NOT_DONE, problem);
    let server = Server::new(values.server_url, values.api_key);
    let server = server.map_err(|error| failed(error.to_string()))?;
    let body = Bytes::from(body.to_string());
    let asked = blocking(server.ask(Method::POST, "/webhook/status", body));
    let answer = asked.map_err(failed)?;
    let answer = answer.map_err(|error| failed(server.no_answer(&error)))?;
    match (answer.status, answer.own_of_report()) {
        (StatusCode::OK, Some(own)) if own.get("success") == Some(&Value::Bool(true)) => Ok(()),
        (StatusCode::BAD_REQUEST, Some(_)) => Err(wrong(server.trouble(&answer))),
        _ => Err(failed(server.trouble(&answer))),
    }
}

/// The end of what can be read, as far as it may count.
fn read_end(mut input: impl Read) -> io::Result<String> {
    const LONGEST_CHARACTER: usize = 4;
    let mut tail = Tail::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(tail.text()),
            Ok(length) => tail.push(&buffer[..length], MAX_CONTENT * LONGEST_CHARACTER),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
