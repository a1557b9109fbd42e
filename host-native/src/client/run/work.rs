//! What is reported of a command.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chrono::SecondsFormat;
use kubeagents_core::StatusKind;
use kubeagents_core::hook::{Detail, redact};
use kubeagents_core::ports::Clock;
use serde_json::{Map, Value, json};

use crate::client::outlet::{Outlet, Taken, settings};
use crate::client::process::Process;
use crate::client::spool::{Event, Message, Stage, Watched};
use crate::client::surroundings::{self, Context, file_name};
use crate::ports::SystemClock;

/// For how long a report lasts. The next comes after a third of that.
const TTL_MINUTES: u32 = 60;
const HEARTBEAT: Duration = Duration::from_secs(TTL_MINUTES as u64 * 60 / 3);

/// How long the last report is waited for: in a container whatever is left behind ends with this process.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What is said of a command whose end nobody has seen.
const UNKNOWN: &str = "kubeagents run was killed: how the command ended is not known";

/// A command as it is reported.
pub(super) struct Work {
    outlet: Outlet,
    agent: String,
    topic: String,
    /// The command line, as far as it is told.
    line: String,
    context: Context,
    detail: Detail,
}

/// How a command ended.
pub(super) struct Ended {
    pub(super) is_success: bool,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) content: String,
}

impl Ended {
    pub(super) fn failed(message: String) -> Self {
        Self {
            is_success: false,
            reason: String::new(),
            message,
            content: String::new(),
        }
    }
}

/// A command that is being reported.
pub(super) struct Begun {
    end: Sender<Ended>,
    thread: JoinHandle<()>,
}

impl Work {
    /// The command of these words.
    ///
    /// # Errors
    /// Why it cannot be reported, for a person.
    pub(super) fn new(
        words: &[OsString],
        agent: Option<String>,
        topic: Option<String>,
    ) -> Result<Self, String> {
        let settings = settings().map_err(|error| error.to_string())?;
        settings.tell_problems();
        let outlet = Outlet::new(&settings);
        let values = &settings.values;
        let detail = values.hook_detail;
        let folder = env::current_dir().unwrap_or_default();
        let context = surroundings::context(&folder, values.host.clone(), detail);
        let program = words.first().map(Path::new).and_then(file_name);
        let program = program.unwrap_or_default();
        let line = match detail {
            Detail::Full => {
                let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
                redact(&words.join(" ")).into_owned()
            }
            Detail::Title | Detail::None => program.clone(),
        };
        let host = context.get("host").map_or("", String::as_str);
        let agent = agent.unwrap_or_else(|| format!("{program}@{host}"));
        Ok(Self {
            agent: cut(&agent, 100),
            topic: cut(&topic.unwrap_or_else(|| line.clone()), 500),
            outlet,
            line: cut(&line, 1000),
            context,
            detail,
        })
    }

    /// Reports that it runs, and goes on to do so, beside whatever else happens.
    pub(super) fn begin(self) -> Begun {
        let (end, ended) = channel();
        let thread = thread::spawn(move || self.report_until(&ended));
        Begun { end, thread }
    }

    fn report_until(self, ended: &Receiver<Ended>) {
        let process = Process::of(std::process::id());
        let watched = process.map(|process| Watched {
            process,
            is_settled: true,
            renewal: None,
            farewell: self.message(StatusKind::Failed, "crashed", UNKNOWN, ""),
        });
        loop {
            let message = self.message(StatusKind::Running, "", &self.line, "");
            self.take(message, Stage::Prompted, watched.clone());
            match ended.recv_timeout(HEARTBEAT) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(ended) => {
                    let is_told = self.detail == Detail::Full;
                    let told = |text: String| {
                        if is_told {
                            redact(&text).into_owned()
                        } else {
                            String::new()
                        }
                    };
                    let status = match ended.is_success {
                        true => StatusKind::Success,
                        false => StatusKind::Failed,
                    };
                    let (message, content) = (told(ended.message), told(ended.content));
                    let message = self.message(status, &ended.reason, &message, &content);
                    if let Some(taken) = self.take(message, Stage::Ended, None) {
                        taken.wait(LAST_WORD);
                    }
                    return;
                }
            }
        }
    }

    fn take(&self, message: Message, stage: Stage, watched: Option<Watched>) -> Option<Taken> {
        let event = Event {
            to: self.outlet.to.clone(),
            message,
            session: format!("{}\n{}", self.agent, self.topic),
            stage,
            watched,
            opening: Map::new(),
        };
        // The command matters more.
        self.outlet.take(&event).ok()
    }

    fn message(&self, status: StatusKind, reason: &str, message: &str, content: &str) -> Message {
        let mut body = json!({
            "agent_id": self.agent,
            "session_topic": self.topic,
            "status": status.as_str(),
            "timestamp": SystemClock.now().to_rfc3339_opts(SecondsFormat::Micros, true),
            "message": cut(message, 1000),
            "reason": reason,
            "ttl_minutes": TTL_MINUTES,
            "context": self.context,
        });
        if !content.is_empty() {
            body["content"] = Value::from(cut(content, 10_000));
        }
        Message {
            path: "/webhook/status".into(),
            body,
        }
    }
}

impl Begun {
    /// Reports the end, and waits a little for the report to arrive.
    pub(super) fn end(self, ended: Ended) {
        // Both fail only where the thread has, and then nothing can be reported.
        let _ = self.end.send(ended);
        let _ = self.thread.join();
    }
}

fn cut(text: &str, characters: usize) -> String {
    text.chars()
        .filter(|c| *c != '\0')
        .take(characters)
        .collect()
}
