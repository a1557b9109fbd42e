//! OpenCode: the events of its bus, `{"type": …, "properties": {…}}`, as a plugin passes them on.
//!
//! The plugin adds `parentID` beside `type` where the event is of a session that another one started:
//! a subagent. `tool.execute.before` and `tool.execute.after`, which are calls of the plugin and no
//! events, come in the same form, with the properties `sessionID`, `callID`, `tool` and `args`; so does
//! `chat.message`, with `sessionID` and `prompt`.

use super::claude_shape::used;
use super::event::{
    Answer, Call, Ending, Event, Happening, MAX_MESSAGE, MAX_NAME, Wait, id, normalised, questions,
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

    let (happening, message) = happening(&name, &properties, payload.cwd())?;
    let mut read = match &parent {
        Some(parent) => Event::new(parent, happening, message),
        None => Event::new(&session, happening, message),
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

/// What happened, and a line for people.
fn happening(name: &str, properties: &Payload, cwd: Option<&str>) -> Option<(Happening, String)> {
    let silently = |happening| (happening, String::new());
    Some(match name {
        "sessioncreated" | "sessionupdated" => silently(Happening::Started),
        "chatmessage" => {
            let prompt = properties.text(&["prompt"]).and_then(text::prompt);
            (Happening::Prompted, prompt.unwrap_or_default())
        }
        "sessionstatus" => {
            let status = properties.object(&["status"])?;
            match status.text(&["type"])? {
                "busy" => silently(Happening::Busy),
                "retry" => (Happening::Busy, said(status.text(&["message"]))),
                "idle" => silently(IDLE),
                _ => return None,
            }
        }
        "sessionidle" => silently(IDLE),
        "sessioncompacted" => silently(Happening::Busy),
        "toolexecutebefore" => {
            let (call, argument) = call(properties, cwd);
            used(call.beginning(), argument)
        }
        "toolexecuteafter" => {
            let (call, argument) = call(properties, cwd);
            used(call, argument)
        }
        "permissionasked" | "permissionupdated" => permission(properties),
        "questionasked" => {
            let asked = properties.get(&["questions"]).and_then(questions);
            let message = said(asked.as_deref());
            (asking(Wait::Question, properties, "question"), message)
        }
        "permissionreplied" | "questionreplied" | "questionrejected" => {
            let request = properties.text(&["requestID", "permissionID", "id"])?;
            silently(Happening::Answered(Answer::To(id(request))))
        }
        "sessionerror" => error(properties)?,
        "sessiondeleted" => silently(Happening::Ended(Ending::Closed)),
        _ => return None,
    })
}

/// The end of a turn, which is told after an error too.
const IDLE: Happening = Happening::TurnOver {
    background: false,
    after_error: true,
};

fn said(text: Option<&str>) -> String {
    text.map_or_else(String::new, |text| line(text, MAX_MESSAGE))
}

fn call(properties: &Payload, cwd: Option<&str>) -> (Call, Option<String>) {
    Call::read(properties, &["tool"], &["args", "input"], &["callID"], cwd)
}

/// A wait for the reply that names the request.
fn asking(wait: Wait, properties: &Payload, tool: &str) -> Happening {
    let call = Call {
        tool: line(tool, MAX_NAME),
        ..Call::default()
    };
    Happening::Asked {
        wait,
        call,
        request: properties.text(&["id"]).map(id),
    }
}

fn permission(properties: &Payload) -> (Happening, String) {
    let tool = properties.text(&["permission", "type", "action"]);
    let tool = &tool.map_or_else(String::new, id);
    let pattern = properties.some_text(&["patterns", "pattern", "resources"]);
    let details = properties.object(&["metadata"]);
    let details = details.as_ref();
    let details = details.and_then(|details| details.text(&["command", "filepath", "url"]));
    let argument = details.or(pattern);
    let argument = argument.or_else(|| properties.text(&["title"]));
    let message = match argument {
        Some(argument) => line(&format!("{tool}: {argument}"), MAX_MESSAGE),
        None => line(tool, MAX_MESSAGE),
    };
    (asking(Wait::Permission, properties, tool), message)
}

fn error(properties: &Payload) -> Option<(Happening, String)> {
    let error = properties.object(&["error"])?;
    let data = error.object(&["data"]);
    let message = data.as_ref().and_then(|data| data.text(&["message"]));
    let message = said(message.or_else(|| error.text(&["message"])));
    let name = error.text(&["name", "type"]).filter(|name| is_code(name));
    let happening = match name {
        Some("MessageAbortedError") => return Some((Happening::Interrupted, String::new())),
        // It compacts the conversation and goes on.
        Some("ContextOverflowError") => Happening::Busy,
        name => {
            let code = name.map(reason).filter(|reason| !reason.is_empty());
            let reason = code.unwrap_or_else(|| "error".into());
            Happening::Failed { reason }
        }
    };
    Some((happening, message))
}
