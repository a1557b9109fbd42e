//! The shape of hooks that Claude Code introduced and most tools took over: one event a call, named in
//! one field, with the same meaning wherever it occurs.

use serde_json::Value;

use super::event::{Answer, Call, Ending, Event, Happening, MAX_MESSAGE, Wait, id, normalised};
use super::payload::Payload;
use super::text::{self, is_code, line, reason};

/// The names of fields with a tool, and what sets its events apart.
pub(super) struct Shape {
    /// The name of the event.
    pub(super) event: &'static [&'static str],
    /// The session's id.
    pub(super) session: &'static [&'static str],
    /// The subagent's id.
    pub(super) subagent: &'static [&'static str],
    /// The tool's name.
    pub(super) tool: &'static [&'static str],
    /// The tool's input.
    pub(super) input: &'static [&'static str],
    /// The id of the tool call.
    pub(super) call: &'static [&'static str],
    /// The kind of a notification.
    pub(super) notification: &'static [&'static str],
    /// What the agent said last.
    pub(super) answer: &'static [&'static str],
    /// True where a permission request is a person's to answer: elsewhere the event comes before the
    /// tool's own rules, or not at all.
    pub(super) permission_requests: bool,
}

/// The shape as Claude Code has it.
pub(super) const CLAUDE: Shape = Shape {
    event: &["hook_event_name"],
    session: &["session_id"],
    subagent: &["agent_id"],
    tool: &["tool_name"],
    input: &["tool_input"],
    call: &["tool_use_id"],
    notification: &["notification_type"],
    answer: &["last_assistant_message"],
    permission_requests: true,
};

impl Shape {
    /// Reads an event; `None` when it says nothing.
    pub(super) fn read(&self, payload: &Payload) -> Option<Event> {
        self.read_named(payload, payload.text(self.event)?)
    }

    /// Reads an event whose name is known.
    pub(super) fn read_named(&self, payload: &Payload, name: &str) -> Option<Event> {
        let session = payload.text(self.session)?;
        let name = normalised(name);
        let (happening, message) = self.happening(payload, &name)?;
        let mut event = Event::new(session, happening, message).with_surroundings(payload);
        event.title = payload
            .text(&["session_title"])
            .map(|title| line(title, 200));
        event.subagent = payload
            .text(self.subagent)
            .map(id)
            .filter(|agent| *agent != event.session);
        if event.subagent.is_none() && name.starts_with("subagent") {
            // Which one it was is not said; the main thread it was not.
            event.subagent = Some(name);
        } else if matches!(event.happening, Happening::Prompted) && is_given(payload) {
            event = event.with_heading(payload.text(&["prompt"]));
        }
        Some(event)
    }

    /// What happened, and a line for people.
    fn happening(&self, payload: &Payload, name: &str) -> Option<(Happening, String)> {
        let call = || Call::read(payload, self.tool, self.input, self.call, payload.cwd());
        let said = |names: &[&str]| {
            let text = payload.text(names);
            text.map_or_else(String::new, |text| line(text, MAX_MESSAGE))
        };
        let silently = |happening| (happening, String::new());
        let failed = || {
            let reason = error_code(payload).unwrap_or_else(|| "error".into());
            (Happening::Failed { reason }, error_message(payload))
        };
        Some(match name {
            "sessionstart" => silently(Happening::Started),
            "userpromptsubmit" | "userpromptsubmitted" | "beforesubmitprompt" | "beforeagent" => {
                let prompt = payload.text(&["prompt"]).filter(|_| is_given(payload));
                let message = prompt.and_then(text::prompt).unwrap_or_default();
                (Happening::Prompted, message)
            }
            "pretooluse" | "beforetool" => {
                let (call, argument) = call();
                match Wait::of_tool(&call.tool) {
                    Some(wait) => asked(wait, call, argument),
                    None => used(call.beginning(), argument),
                }
            }
            "posttoolusefailure" if payload.is_true(&["is_interrupt"]) => {
                let (call, argument) = call();
                (Happening::Interrupted, call.message(argument))
            }
            "posttooluse" | "aftertool" | "posttoolusefailure" | "permissiondenied" => {
                let (call, argument) = call();
                used(call, argument)
            }
            "permissionrequest" if self.permission_requests => {
                let (call, argument) = call();
                let wait = Wait::of_tool(&call.tool).unwrap_or(Wait::Permission);
                asked(wait, call, argument)
            }
            "notification" => match normalised(payload.text(self.notification)?).as_str() {
                "permissionprompt" | "workerpermissionprompt" | "toolpermission" => {
                    (notified(Wait::Permission), said(&["message"]))
                }
                "elicitationdialog" | "elicitationurldialog" | "agentneedsinput" => {
                    (notified(Wait::Input), said(&["message"]))
                }
                "elicitationcomplete" | "elicitationresponse" => {
                    silently(Happening::Answered(Answer::For(Wait::Input)))
                }
                "idleprompt" => silently(Happening::Idle),
                _ => return None,
            },
            "elicitation" => (notified(Wait::Input), said(&["message"])),
            "elicitationresult" => silently(Happening::Answered(Answer::For(Wait::Input))),
            // What a person compacts between turns is no turn, and has no end that is told.
            "precompact" | "precompress" | "postcompact"
                if payload.text(&["trigger"]) == Some("manual") =>
            {
                return None;
            }
            "precompact" | "precompress" => (Happening::Busy, "Compacting".into()),
            "postcompact" | "subagentstart" => silently(Happening::Busy),
            "subagentstop" => silently(Happening::SubagentOver),
            "interrupt" => silently(Happening::Interrupted),
            "stop" | "afteragent" | "agentstop" => {
                match payload.text(&["status"]).map(normalised).as_deref() {
                    Some("aborted") => silently(Happening::Interrupted),
                    Some("error") => failed(),
                    _ => {
                        let background = payload.is_filled(&["background_tasks", "session_crons"]);
                        let over = Happening::TurnOver {
                            background,
                            after_error: false,
                        };
                        (over, said(self.answer))
                    }
                }
            }
            "stopfailure" => failed(),
            "erroroccurred" if payload.get(&["recoverable"]) == Some(&Value::Bool(false)) => {
                failed()
            }
            "sessionend" => silently(Happening::Ended(ending(payload))),
            _ => return None,
        })
    }
}

/// A tool that runs or has run.
pub(super) fn used(call: Call, argument: Option<String>) -> (Happening, String) {
    let message = call.message(argument);
    (Happening::Tool(call), message)
}

fn asked(wait: Wait, call: Call, argument: Option<String>) -> (Happening, String) {
    let message = match wait {
        Wait::Question | Wait::Plan => argument.unwrap_or_default(),
        Wait::Permission | Wait::Input => call.message(argument),
    };
    let asked = Happening::Asked {
        wait,
        call,
        request: None,
    };
    (asked, message)
}

/// A wait of which the tool does not say what call it is about.
fn notified(wait: Wait) -> Happening {
    Happening::Asked {
        wait,
        call: Call::default(),
        request: None,
    }
}

/// Checks whether a person or a program gave the prompt, and not the agent itself.
fn is_given(payload: &Payload) -> bool {
    payload
        .text(&["source"])
        .is_none_or(|source| matches!(source, "user" | "sdk"))
}

/// What the tool calls its error.
fn error_code(payload: &Payload) -> Option<String> {
    let details = payload.object(&["error"]);
    let code = payload.text(&["error", "error_type", "error_code"]);
    let code = code.or_else(|| details.as_ref()?.text(&["code", "type", "name"]));
    let code = code.or_else(|| payload.text(&["error_context", "errorContext"]));
    Some(reason(code.filter(|code| is_code(code))?)).filter(|reason| !reason.is_empty())
}

/// What the tool says of its error.
fn error_message(payload: &Payload) -> String {
    let details = payload.object(&["error"]);
    let sentence = payload.text(&["error"]).filter(|error| !is_code(error));
    let text = payload.text(&["error_details", "errorDetails", "error_message"]);
    let text = text
        .or(sentence)
        .or_else(|| details.as_ref()?.text(&["message"]));
    let text = text.or_else(|| payload.text(&["last_assistant_message"]));
    text.map_or_else(String::new, |text| line(text, MAX_MESSAGE))
}

fn ending(payload: &Payload) -> Ending {
    let words = ["reason", "final_status", "finalStatus"].map(|name| payload.text(&[name]));
    let words = words.map(|word| word.map(normalised).unwrap_or_default());
    let is = |word: &&str| words.iter().any(|said| said == word);
    match ["error", "timeout"].iter().copied().find(|word| is(word)) {
        Some(failure) => Ending::Failed(failure.to_owned()),
        None if ["complete", "completed"].iter().any(is) => Ending::Complete,
        None => Ending::Closed,
    }
}
