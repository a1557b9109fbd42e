//! What an event means for its session, by what the session was doing.

use chrono::TimeDelta;

use super::event::{Ending, Event, Happening};
use super::state::{Behind, Open, State, agent_hash, name_hash};
use super::text::line;
use crate::{Context, StatusKind, Timestamp};

/// How soon after a history entry another `running` of the same reason leaves none.
const REPEAT: TimeDelta = TimeDelta::seconds(5);

/// What a session was before the event.
#[derive(Debug, Clone)]
pub(super) struct Known<'s> {
    pub(super) status: StatusKind,
    pub(super) reason: &'s str,
    pub(super) title: &'s str,
    pub(super) message: &'s str,
    pub(super) context: &'s Context,
    /// The time of the newest history entry.
    pub(super) noted_at: Timestamp,
    pub(super) is_expired: bool,
    /// The text of a [`State`].
    pub(super) state: &'s str,
}

impl Known<'_> {
    /// Checks whether the session has ended: a turn's end is no end of it.
    fn has_ended(&self) -> bool {
        self.status.is_final() && self.reason != "turn"
    }
}

/// What an event makes of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) status: StatusKind,
    pub(super) reason: String,
    pub(super) message: String,
    /// A new title.
    pub(super) title: Option<String>,
    /// What changes of the context.
    pub(super) context: Context,
    /// True if the history gets an entry.
    pub(super) is_noted: bool,
    pub(super) state: String,
}

/// What is told of a session.
enum Next {
    /// What it was. It is renewed.
    Same,
    /// What it was, where the title or the context changes; else nothing is stored.
    Surroundings,
    /// This status, reason and message.
    Told(StatusKind, String, String),
}

/// Works out what an event makes of its session; `None` when it changes nothing. `context` is what else
/// is known of where the agent works.
pub(super) fn resolve(
    event: &Event,
    context: &Context,
    known: Option<&Known<'_>>,
    now: Timestamp,
) -> Option<Resolved> {
    let mut state = known.map_or_else(State::default, |known| State::parse(known.state));
    let stand_in = std::mem::take(&mut state.stand_in);
    if known.is_none_or(|known| known.status != StatusKind::Pending) {
        // Somebody else has reported meanwhile.
        state.waits.clear();
    }
    // Hooks that run beside the one of the end come late, whenever they say that they began.
    if state.closed && event.happening != Happening::Prompted {
        return None;
    }
    let context = patch(context, known);
    let is_headless = crate::context::is_headless;
    let session = Session {
        event,
        known,
        is_headless: is_headless(&context) || known.is_some_and(|known| is_headless(known.context)),
        now,
    };
    let next = match &event.subagent {
        Some(subagent) => session.of_subagent(&agent_hash(Some(subagent)), &mut state)?,
        None => session.of_main_thread(&mut state)?,
    };
    let old = known.map(|known| known.title).unwrap_or_default();
    let has_own = !old.is_empty() && name_hash(old) != stand_in;
    let given = given_title(event, has_own).or_else(|| {
        if has_own {
            return None;
        }
        let place = place(&context, known);
        state.stand_in = name_hash(&place);
        Some(place)
    });
    let title = given.filter(|title| title != old);
    let (status, reason, message, is_noted) = match (next, known) {
        (Next::Told(status, reason, message), _) => {
            let is_repeat = known.is_some_and(|known| {
                let is_same = known.status == status && known.reason == reason;
                is_same
                    && match status {
                        StatusKind::Running => now - known.noted_at < REPEAT,
                        _ => known.message == message,
                    }
            });
            (status, reason, message, !is_repeat)
        }
        (Next::Surroundings, Some(_)) if title.is_none() && context.is_empty() => return None,
        (_, Some(known)) => (
            known.status,
            known.reason.to_owned(),
            known.message.to_owned(),
            false,
        ),
        (_, None) => return None,
    };
    Some(Resolved {
        status,
        reason,
        message,
        title,
        context,
        is_noted,
        state: state.text(),
    })
}

/// A session at an event.
struct Session<'s> {
    event: &'s Event,
    known: Option<&'s Known<'s>>,
    is_headless: bool,
    now: Timestamp,
}

impl Session<'_> {
    /// Checks whether the session is in this state.
    fn is(&self, status: StatusKind, reason: &str) -> bool {
        self.known
            .is_some_and(|known| known.status == status && known.reason == reason)
    }

    fn has(&self, status: StatusKind) -> bool {
        self.known.is_some_and(|known| known.status == status)
    }

    /// Checks whether the turn is over, be it that something still runs.
    fn has_finished_turn(&self) -> bool {
        self.is(StatusKind::Success, "turn") || self.is(StatusKind::Running, "background")
    }

    /// The event's message, else the last one.
    fn message(&self) -> String {
        let last = self.known.map(|known| known.message).unwrap_or_default();
        match self.event.message.is_empty() {
            true => last.to_owned(),
            false => self.event.message.clone(),
        }
    }

    fn running(&self, reason: &str) -> Next {
        // What a session was told while it waited is no news of its work.
        let message = match self.has(StatusKind::Running) {
            true => self.message(),
            false => self.event.message.clone(),
        };
        Next::Told(StatusKind::Running, reason.into(), message)
    }

    /// What the newest open wait tells.
    fn waiting(&self, state: &State) -> Option<Next> {
        let open = state.waits.last()?;
        let reason = open.wait.reason().to_owned();
        Some(Next::Told(
            StatusKind::Pending,
            reason,
            open.message.clone(),
        ))
    }

    fn told(&self, status: StatusKind, reason: impl Into<String>) -> Option<Next> {
        Some(Next::Told(status, reason.into(), self.message()))
    }

    fn of_main_thread(&self, state: &mut State) -> Option<Next> {
        match &self.event.happening {
            Happening::Started => {
                let known = self.known.filter(|known| !known.is_expired)?;
                (!known.has_ended()).then_some(Next::Surroundings)
            }
            Happening::Prompted => {
                *state = State::default();
                Some(self.running(""))
            }
            Happening::Tool(call) => {
                let any = state.end_by_call("", call, self.now);
                self.after_waits(state, any)
            }
            Happening::Busy => self.after_waits(state, false),
            Happening::Asked { .. } => self.asked("", state),
            Happening::Answered(answer) => {
                let any = state.end_by_answer(answer);
                any.then(|| self.after_waits(state, any)).flatten()
            }
            Happening::Interrupted => {
                // Where nothing goes on, there is nothing to interrupt.
                let is_over = self.known.is_some_and(|known| known.status.is_final());
                if is_over || self.is(StatusKind::Pending, "interrupted") {
                    return None;
                }
                *state = State::default();
                self.told(StatusKind::Pending, "interrupted")
            }
            Happening::TurnOver {
                background,
                after_error,
            } => self.turn_over(*background, *after_error, state),
            Happening::Failed { reason } => {
                *state = State::default();
                Some(Next::Told(
                    StatusKind::Failed,
                    reason.clone(),
                    self.event.message.clone(),
                ))
            }
            Happening::Ended(ending) => self.ended(ending, state),
            // Only a subagent is over without its session.
            Happening::SubagentOver => None,
            Happening::Idle => {
                let is_working =
                    self.has(StatusKind::Running) && !self.is(StatusKind::Running, "background");
                if !is_working && state.waits.is_empty() {
                    return None;
                }
                *state = State::default();
                self.told(StatusKind::Pending, "interrupted")
            }
            Happening::Renewed => {
                let known = self.known?;
                (!known.has_ended()).then_some(Next::Same)
            }
            Happening::Exited { code } => self.exited(*code, state),
        }
    }

    /// What the main thread's work tells, beside open waits or without.
    fn after_waits(&self, state: &mut State, any_ended: bool) -> Option<Next> {
        match self.waiting(state) {
            Some(waiting) if any_ended => Some(waiting),
            Some(_) => Some(Next::Same),
            None => {
                state.behind = None;
                Some(self.running(""))
            }
        }
    }

    fn asked(&self, agent: &str, state: &mut State) -> Option<Next> {
        let Happening::Asked {
            wait,
            call,
            request,
        } = &self.event.happening
        else {
            return None;
        };
        let open = Open::new(
            *wait,
            agent,
            call,
            request.as_deref(),
            &self.event.message,
            self.now,
        );
        if state.waits.is_empty() {
            state.behind = match () {
                () if self.is(StatusKind::Success, "turn") => Some(Behind::Turn),
                () if self.is(StatusKind::Running, "background") => Some(Behind::Background),
                () => None,
            };
        }
        // Repeated, it renews the session and is no news.
        match state.open(open) {
            true => self.waiting(state),
            false => Some(Next::Same),
        }
    }

    fn turn_over(&self, background: bool, after_error: bool, state: &mut State) -> Option<Next> {
        let has_stopped = self.has(StatusKind::Failed)
            || self.is(StatusKind::Pending, "interrupted")
            || self.is(StatusKind::Success, "closed");
        if after_error && (has_stopped || self.known.is_none()) {
            return None;
        }
        if background {
            // A subagent may wait while the main thread does not.
            state.waits.retain(|open| !open.agent.is_empty());
            state.behind = Some(Behind::Background);
            if let Some(waiting) = self.waiting(state) {
                return Some(waiting);
            }
        }
        *state = State::default();
        let (status, reason) = match background {
            true => (StatusKind::Running, "background"),
            false => (StatusKind::Success, "turn"),
        };
        Some(Next::Told(
            status,
            reason.into(),
            self.event.message.clone(),
        ))
    }

    fn ended(&self, ending: &Ending, state: &mut State) -> Option<Next> {
        let known = self.known?;
        if known.has_ended() {
            return None;
        }
        *state = State {
            closed: true,
            ..State::default()
        };
        match ending {
            Ending::Failed(reason) => self.told(StatusKind::Failed, reason.clone()),
            Ending::Complete => self.told(StatusKind::Success, "closed"),
            Ending::Closed if self.has_finished_turn() => self.told(StatusKind::Success, "closed"),
            // Nobody was there to stop it.
            Ending::Closed if self.is_headless => self.told(StatusKind::Failed, "incomplete"),
            Ending::Closed => self.told(StatusKind::Failed, "stopped"),
        }
    }

    fn exited(&self, code: Option<i64>, state: &mut State) -> Option<Next> {
        let known = self.known?;
        if known.has_ended() {
            return None;
        }
        let (status, reason) = match code {
            _ if self.has_finished_turn() => (StatusKind::Success, "closed"),
            Some(0) if self.is_headless => (StatusKind::Success, "closed"),
            Some(0) => (StatusKind::Failed, "stopped"),
            _ => (StatusKind::Failed, "crashed"),
        };
        *state = State {
            // Where it was taken for dead by mistake, it is heard of again.
            closed: reason != "crashed",
            ..State::default()
        };
        self.told(status, reason)
    }

    fn of_subagent(&self, agent: &str, state: &mut State) -> Option<Next> {
        let any_ended = match &self.event.happening {
            Happening::Asked { .. } if self.known.is_some_and(Known::has_ended) => return None,
            Happening::Asked { .. } => return self.asked(agent, state),
            Happening::Tool(call) => state.end_by_call(agent, call, self.now),
            Happening::Answered(answer) => state.end_by_answer(answer),
            Happening::SubagentOver => state.end_of(agent),
            _ => false,
        };
        let known = self.known?;
        match known.status {
            StatusKind::Running => Some(self.running(known.reason)),
            StatusKind::Pending if any_ended => match (self.waiting(state), state.behind.take()) {
                (Some(waiting), behind) => {
                    state.behind = behind;
                    Some(waiting)
                }
                (None, None) => Some(self.running("")),
                (None, Some(Behind::Background)) => Some(self.running("background")),
                (None, Some(Behind::Turn)) => Some(Next::Told(
                    StatusKind::Success,
                    "turn".into(),
                    String::new(),
                )),
            },
            StatusKind::Pending if !state.waits.is_empty() => Some(Next::Same),
            _ => None,
        }
    }
}

/// The title that the event gives a session, which has one that was given to it or not.
fn given_title(event: &Event, has_own: bool) -> Option<String> {
    let title = event.title.as_ref().filter(|title| !title.is_empty());
    let heading = event.heading.as_ref().filter(|_| !has_own);
    title.or(heading).cloned()
}

/// What people know a session by that has no title: its repository and branch, else its folder, else the
/// tool.
fn place(context: &Context, known: Option<&Known<'_>>) -> String {
    let entry = |key: &str| {
        let old = || known?.context.get(key);
        let entry = context.get(key).or_else(old);
        entry.map(String::as_str).filter(|entry| !entry.is_empty())
    };
    let repository = entry("repo").map(|repository| match entry("branch") {
        Some(branch) => format!("{repository}@{branch}"),
        None => repository.to_owned(),
    });
    let folder = || {
        entry("cwd")?
            .rsplit(['/', '\\'])
            .find(|part| !part.is_empty())
    };
    let place = repository.or_else(|| Some(folder()?.to_owned()));
    let place = place.map(|place| line(&place, 200));
    // What is left of a UUID says nothing.
    let place = place.filter(|place| place.chars().any(char::is_alphanumeric));
    place.unwrap_or_else(|| entry("tool").unwrap_or_default().to_owned())
}

/// What changes of the context.
fn patch(context: &Context, known: Option<&Known<'_>>) -> Context {
    let changes = context.iter().filter(|(key, value)| {
        let old = known.and_then(|known| known.context.get(*key));
        old.map_or("", String::as_str) != *value
    });
    changes
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
