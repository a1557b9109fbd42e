//! `kubeagents hook TOOL`: takes what a coding agent tells its hooks, and leaves at once.
//!
//! An agent waits for its hooks and takes what they print for something to read. So this prints nothing,
//! or what the tool demands; ends with 0 whatever happens; and has the watcher send what it takes.

use std::env;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use kubeagents_core::hook::{Detail, Moment, Reduced, Tool, reduce};
use serde_json::{Map, Value, json};
use url::form_urlencoded::Serializer;

use super::outlet::{Outlet, settings};
use super::process::Process;
use super::spool::{Event, Message, Watched};
use super::surroundings::{self, Context, is_agent, is_headless};

/// The most of a payload that is read, in bytes.
const MAX_PAYLOAD: u64 = 32 << 20;

/// How long nothing may come on standard input until what has come is all: where it is whole, and where it
/// is not.
const PAUSE: Duration = Duration::from_millis(50);
const SILENCE: Duration = Duration::from_secs(1);

/// How long the end of a session is waited for: what this process leaves behind may end with it.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Does everything that the command does, with the arguments behind `hook`.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    // Nothing but the answer may be printed, and nothing may fail.
    std::panic::set_hook(Box::new(|_| {}));
    let _ = std::panic::catch_unwind(|| take(arguments));
    ExitCode::SUCCESS
}

/// Takes an event; `None` where there is nothing to send or no way to.
fn take(arguments: &[OsString]) -> Option<()> {
    // An agent that writes to a closed pipe may fail, so what it writes is read in any case.
    let payload = match arguments.iter().skip(1).next_back() {
        Some(payload) => payload.to_str()?.as_bytes().to_owned(),
        None => read_input(),
    };
    let tool = Tool::parse(arguments.first()?.to_str()?)?;
    // Devin runs the hooks of Claude Code too, and has hooks of its own.
    if tool == Tool::ClaudeCode && env::var_os("DEVIN_PROJECT_DIR").is_some() {
        return None;
    }
    if let Some(answer) = answer(tool, &payload) {
        // The agent may not have waited for it.
        let _ = std::io::stdout().write_all(answer.as_bytes());
    }
    let settings = settings().ok()?;
    let values = &settings.values;
    // What works in a pipeline is told only where the pipeline says to whom.
    if is_set("CI") && env::var_os("KUBEAGENTS_SERVER_URL").is_none() {
        return None;
    }
    let reduced = reduce(tool, &payload, values.hook_detail)?;
    let agent = Process::agent();
    let context = context(
        tool,
        &reduced,
        agent.as_ref(),
        values.host.clone(),
        values.hook_detail,
    );
    let outlet = Outlet::new(&settings);
    let moment = reduced.moment;
    let is_headless = context.contains_key("mode");
    let event = event(tool, reduced, agent, &context, values.hook_detail, &outlet)?;
    let taken = outlet.take(&event).ok()?;
    if moment == Moment::Ended || moment == Moment::TurnOver && is_headless {
        taken.wait(LAST_WORD);
    }
    Some(())
}

/// What comes on standard input. Some agents do not close it.
pub(super) fn read_input() -> Vec<u8> {
    let (sender, chunks) = channel();
    thread::spawn(move || {
        let mut input = std::io::stdin().lock().take(MAX_PAYLOAD);
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = input.read(&mut buffer) {
            if sender.send(buffer[..length].to_owned()).is_err() {
                break;
            }
        }
    });
    let mut payload = Vec::new();
    let mut last = Instant::now();
    let mut is_looked_at = false;
    loop {
        match chunks.recv_timeout(PAUSE) {
            Ok(chunk) => {
                payload.extend(chunk);
                (last, is_looked_at) = (Instant::now(), false);
            }
            Err(RecvTimeoutError::Disconnected) => return payload,
            Err(RecvTimeoutError::Timeout) => {
                let is_whole =
                    !is_looked_at && serde_json::from_slice::<Map<String, Value>>(&payload).is_ok();
                is_looked_at = true;
                if is_whole || last.elapsed() >= SILENCE {
                    return payload;
                }
            }
        }
    }
}

/// What a tool wants to read.
fn answer(tool: Tool, payload: &[u8]) -> Option<&'static str> {
    match tool {
        Tool::Gemini => Some("{}\n"),
        Tool::Cursor => {
            let payload: Value = serde_json::from_slice(payload).ok()?;
            let is_prompt = payload.get("hook_event_name")? == "beforeSubmitPrompt";
            is_prompt.then_some("{\"continue\":true}\n")
        }
        _ => None,
    }
}

fn is_set(variable: &str) -> bool {
    env::var(variable).is_ok_and(|text| !matches!(text.as_str(), "" | "0" | "false"))
}

/// Where the agent works, on what, for whom.
fn context(
    tool: Tool,
    reduced: &Reduced,
    agent: Option<&Process>,
    host: Option<String>,
    detail: Detail,
) -> Context {
    let told = reduced.cwd.as_ref().map(PathBuf::from);
    let folder = told.filter(|folder| folder.is_absolute());
    let folder = folder.or_else(|| env::current_dir().ok());
    let mut context = surroundings::context(&folder.unwrap_or_default(), host, detail);
    let model = reduced.model.clone().filter(|_| detail > Detail::None);
    context.extend(model.map(|model| ("model", model)));
    let parents = ["CLAUDE_CODE_SESSION_ID", "CODEX_THREAD_ID"];
    let mut parents = parents.iter().filter_map(|name| env::var(name).ok());
    let parent = parents.find(|parent| !parent.is_empty() && *parent != reduced.session);
    context.extend(parent.map(|parent| ("parent", parent)));
    let words = agent.map(Process::words).unwrap_or_default();
    let entry_point = env::var("CLAUDE_CODE_ENTRYPOINT").ok();
    if is_headless(tool, &words, entry_point.as_deref()) {
        context.insert("mode", "headless".into());
    }
    context
}

fn event(
    tool: Tool,
    reduced: Reduced,
    agent: Option<Process>,
    context: &Context,
    detail: Detail,
    outlet: &Outlet,
) -> Option<Event> {
    let body: Value = serde_json::from_str(&reduced.json).ok()?;
    let opening = match reduced.moment {
        Moment::Started => ["model", "session_title"].as_slice(),
        _ => &[],
    };
    let opening = opening
        .iter()
        .filter_map(|field| Some(((*field).to_owned(), body.get(*field)?.clone())));
    let host = context.get("host").map_or("", String::as_str);
    let agent_id = agent_id(tool, host);
    let mut query = Serializer::new(String::new());
    query
        .append_pair("agent_id", &agent_id)
        .append_pair("detail", detail.as_str());
    // A report of another machine's name would count as another machine's.
    let path = |query: String| format!("/hooks/{}?{query}", tool.name());
    let made_up = |name: &str| Message {
        path: path(query_of_host(&agent_id, host)),
        body: json!({"hook_event_name": name, "session_id": reduced.session}),
    };
    let watched = agent.map(|process| Watched {
        is_settled: is_agent(tool, &process.words()) || process.is_settled(),
        process,
        renewal: Some(made_up("kubeagents.renew")),
        farewell: made_up("kubeagents.exited"),
    });
    let session = format!("{agent_id}\n{}", reduced.session);
    Some(Event {
        to: outlet.to.clone(),
        opening: opening.collect(),
        message: Message {
            path: path(query.extend_pairs(context).finish()),
            body,
        },
        session,
        stage: reduced.moment.into(),
        watched,
    })
}

/// The agent that a tool is on a machine.
pub(super) fn agent_id(tool: Tool, host: &str) -> String {
    let id = format!("{}@{host}", tool.name());
    id.chars().take(100).collect()
}

fn query_of_host(agent_id: &str, host: &str) -> String {
    let mut query = Serializer::new(String::new());
    query
        .append_pair("agent_id", agent_id)
        .append_pair("host", host);
    query.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_tool_demands_is_printed() {
        let prompt = br#"{"hook_event_name": "beforeSubmitPrompt", "conversation_id": "c"}"#;
        assert_eq!(answer(Tool::Cursor, prompt), Some("{\"continue\":true}\n"));
        assert_eq!(
            answer(Tool::Cursor, br#"{"hook_event_name": "stop"}"#),
            None
        );
        assert_eq!(answer(Tool::Gemini, b"no JSON"), Some("{}\n"));
        assert_eq!(answer(Tool::ClaudeCode, prompt), None);
    }
}
