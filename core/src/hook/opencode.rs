//! OpenCode: the events of its bus, `{"type": …, "properties": {…}}`, as a plugin passes them on.
//!
//! The plugin adds `parentID` beside `type` where the event is of a session that another one started:
//! a subagent. `tool.execute.before` and `tool.execute.after`, which are calls of the plugin and no
//! events, come in the same form, with the properties `sessionID`, `callID`, `tool` and `args`; so does
//! `chat.message`, with `sessionID` and `prompt`.

use super::event::{
    Answer, Call, Ending, Event, Happening, MAX_MESSAGE, Wait, id, normalised, questions,
};
use super::payload::Payload;
use super::text::{self, is_code, line, reason};

/// Reads an event.
pub(super) fn read(payload: &Payload) -> Option<Event> {
    let event = payload.object(&["event"]);
    let event = event.as_ref().unwrap_or(payload);
    let properties = event.object(&["properties"])?;
    let info = properties.object(&["info"]);
    let told = |names: &[&str]| {
        let told = properties.text(names);
        told.or_else(|| info.as_ref()?.text(names))
            .map(str::to_owned)
    };
    let name = normalised(event.text(&["type"])?);
    let is_of_session = name.starts_with("session");
    let session = told(&["sessionID"]).or_else(|| told(&["id"]).filter(|_| is_of_session))?;
    let parent = payload
        .text(&["parentID"])
        .map(str::to_owned)
        .or_else(|| told(&["parentID"]));

    let happening = happening(&name, &properties)?;
    let mut read = match &parent {
        Some(parent) => Event::new(parent, happening),
        None => Event::new(&session, happening),
    }
    .with_surroundings(payload);
    read.subagent = parent.map(|_| id(&session));
    if read.subagent.is_none() {
        read = read.with_heading(properties.text(&["prompt"]));
        read.title = info.and_then(|info| title(info.text(&["title"])?));
    } else if matches!(
        read.happening,
        Happening::TurnOver { .. } | Happening::Ended(_)
    ) {
        read.happening = Happening::SubagentOver;
    }
    Some(read)
}

/// A session's title, once it has a real one.
fn title(text: &str) -> Option<String> {
    let is_placeholder = ["New session - ", "Child session - "]
        .iter()
        .any(|start| text.starts_with(start));
    (!is_placeholder).then(|| line(text, 200))
}

fn happening(name: &str, properties: &Payload) -> Option<Happening> {
    let busy = |message: String| Happening::Busy { message };
    Some(match name {
        "sessioncreated" | "sessionupdated" => Happening::Started,
        "chatmessage" => Happening::Prompted {
            message: properties
                .text(&["prompt"])
                .and_then(text::prompt)
                .unwrap_or_default(),
        },
        "sessionstatus" => {
            let status = properties.object(&["status"])?;
            match status.text(&["type"])? {
                "busy" => busy(String::new()),
                "retry" => busy(
                    status
                        .text(&["message"])
                        .map_or_else(String::new, |text| line(text, MAX_MESSAGE)),
                ),
                "idle" => idle(),
                _ => return None,
            }
        }
        "sessionidle" => idle(),
        "sessioncompacted" => busy(String::new()),
        "toolexecutebefore" => Happening::Tool(call(properties).beginning()),
        "toolexecuteafter" => Happening::Tool(call(properties)),
        "permissionasked" | "permissionupdated" => permission(properties),
        "questionasked" => {
            let asked = properties.get(&["questions"]).and_then(questions);
            Happening::Asked {
                wait: Wait::Question,
                call: asking("question"),
                request: properties.text(&["id"]).map(id),
                message: asked.map_or_else(String::new, |text| line(&text, MAX_MESSAGE)),
            }
        }
        "permissionreplied" | "questionreplied" | "questionrejected" => {
            let request = properties.text(&["requestID", "permissionID", "id"])?;
            Happening::Answered(Answer::To(id(request)))
        }
        "sessionerror" => return error(properties),
        "sessiondeleted" => Happening::Ended(Ending::Closed),
        _ => return None,
    })
}

/// The end of a turn, which is told after an error too.
fn idle() -> Happening {
    Happening::TurnOver {
        message: String::new(),
        background: false,
        after_error: true,
    }
}

fn call(properties: &Payload) -> Call {
    Call::read(properties, &["tool"], &["args", "input"], &["callID"])
}

fn asking(tool: &str) -> Call {
    Call {
        tool: line(tool, 100),
        ..Call::default()
    }
}

fn permission(properties: &Payload) -> Happening {
    let tool = properties
        .text(&["permission", "type", "action"])
        .unwrap_or_default();
    let patterns = properties.get(&["patterns", "pattern", "resources"]);
    let pattern =
        patterns.and_then(|patterns| patterns.as_str().or_else(|| patterns.get(0)?.as_str()));
    let details = properties.object(&["metadata"]);
    let details = details
        .as_ref()
        .and_then(|details| details.text(&["command", "filepath", "url"]));
    let mut call = asking(tool);
    let argument = details.or(pattern).or_else(|| properties.text(&["title"]));
    call.argument = argument.map(|text| line(text, MAX_MESSAGE));
    Happening::Asked {
        wait: Wait::Permission,
        message: call.message(),
        request: properties.text(&["id"]).map(id),
        call,
    }
}

fn error(properties: &Payload) -> Option<Happening> {
    let error = properties.object(&["error"])?;
    let data = error.object(&["data"]);
    let message = data.as_ref().and_then(|data| data.text(&["message"]));
    let message = message.or_else(|| error.text(&["message"]));
    let message = message.map_or_else(String::new, |text| line(text, MAX_MESSAGE));
    let name = error.text(&["name", "type"]).unwrap_or_default();
    Some(match name {
        "MessageAbortedError" => Happening::Interrupted,
        // It compacts the conversation and goes on.
        "ContextOverflowError" => Happening::Busy { message },
        _ => {
            let code = Some(name).filter(|name| is_code(name));
            Happening::Failed {
                reason: code
                    .map(reason)
                    .filter(|reason| !reason.is_empty())
                    .unwrap_or_else(|| "error".into()),
                message,
            }
        }
    })
}
