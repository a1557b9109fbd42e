//! The events of one workspace.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kubeagents_core::events::{
    EventId, Expiries, Log, Missed as Lost, Scope, SessionName, changed, name_of, reset,
};
use kubeagents_core::{NamedSession, SessionKey, Timestamp, Workspace};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{PIECE, now};

/// How long a topic is kept when its last reader has gone: most come back, as when a page is loaded
/// again.
const KEPT: Duration = Duration::from_secs(30);

/// How often readers are told at most that sessions were removed.
const BETWEEN_EVICTIONS: Duration = Duration::from_secs(10);

/// The events of a workspace that is followed.
pub(super) struct Topic {
    workspace: Workspace,
    scope: Scope,
    process: String,
    state: Mutex<State>,
    end: watch::Sender<u64>,
    /// Whether what is stored from now on will be published.
    ready: watch::Sender<bool>,
    /// What the last reader had missed that came from elsewhere.
    missed: tokio::sync::Mutex<Option<Missed>>,
}

/// What readers get that go on after an event which the log does not know.
pub(super) struct Missed {
    /// The event's id.
    pub(super) since: String,
    pub(super) text: Bytes,
    /// Where they go on in the log.
    pub(super) place: u64,
}

struct State {
    log: Log,
    readers: usize,
    /// When the last reader went.
    forsaken: Option<Instant>,
    marks: Marks,
    /// When sessions expire; `None` until it is read.
    expiries: Option<Expiries>,
    followed_since: Timestamp,
    /// What is known of storage at the end of the log.
    known_at: Timestamp,
    known_state: Option<String>,
    evictions: Evictions,
}

/// The sessions that were removed to make room, of which no event tells: readers load the lists again,
/// though not too often where that goes on.
#[derive(Default)]
struct Evictions {
    /// The last that readers know of.
    known: Option<Timestamp>,
    /// When they were told.
    told: Option<Instant>,
}

/// What is to be read and published.
#[derive(Default)]
pub(super) struct Marks {
    pub(super) sessions: HashSet<SessionName>,
    /// Agents that have got another name.
    pub(super) agents: HashSet<String>,
}

impl Marks {
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.agents.is_empty()
    }
}

impl Topic {
    pub(super) fn new(workspace: Workspace, secret: &str, process: &str) -> Self {
        let now = now();
        // No place in the log of a topic that was forgotten is one in this.
        let start = u64::try_from(now.timestamp_micros()).unwrap_or(0);
        Self {
            scope: Scope::new(secret, &workspace),
            workspace,
            process: process.to_owned(),
            state: Mutex::new(State {
                log: Log::new(start),
                readers: 0,
                forsaken: None,
                marks: Marks::default(),
                expiries: None,
                followed_since: now,
                known_at: now,
                known_state: None,
                evictions: Evictions::default(),
            }),
            end: watch::Sender::new(start),
            ready: watch::Sender::new(false),
            missed: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock leaves the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn join(&self) {
        let mut state = self.state();
        state.readers += 1;
        state.forsaken = None;
    }

    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.readers -= 1;
        if state.readers == 0 {
            state.forsaken = Some(Instant::now());
        }
    }

    /// Whether nobody has followed it for a while.
    pub(super) fn is_forsaken(&self) -> bool {
        let forsaken = self.state().forsaken;
        forsaken.is_some_and(|since| since.elapsed() >= KEPT)
    }

    pub(super) fn readers(&self) -> usize {
        self.state().readers
    }

    /// Waits until what is stored from then on will be published.
    pub(super) async fn ready(&self) {
        // The sender is not dropped before this.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Begins, where that has not been done, at a moment of storage.
    pub(super) fn begin(&self, moment: Option<&str>) {
        self.ready.send_if_modified(|ready| {
            if *ready {
                return false;
            }
            self.state().known_state = moment.map(str::to_owned);
            *ready = true;
            true
        });
    }

    /// The moment of storage that is known at the end of the log.
    pub(super) fn moment(&self) -> Option<String> {
        self.state().known_state.clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// What the last reader from elsewhere had missed. Who holds it reads from storage alone: what was
    /// read before must not be published after it.
    pub(super) fn missed(&self) -> &tokio::sync::Mutex<Option<Missed>> {
        &self.missed
    }

    pub(super) fn mark(&self, key: &SessionKey, renamed: bool) {
        let mut state = self.state();
        let name = (key.agent_id.clone(), key.session_topic.clone());
        state.marks.sessions.insert(name);
        if renamed {
            state.marks.agents.insert(key.agent_id.clone());
        }
    }

    /// Takes what is to be published at `now`: what was marked, unless storage itself says what has
    /// changed, and what has expired.
    pub(super) fn take_marks(&self, now: Timestamp, storage_tells: bool) -> Marks {
        let mut state = self.state();
        let mut marks = std::mem::take(&mut state.marks);
        if storage_tells {
            marks = Marks::default();
        }
        if let Some(expiries) = &mut state.expiries {
            marks.sessions.extend(expiries.due(now));
        }
        marks
    }

    /// Gives back what could not be read.
    pub(super) fn give_back(&self, marks: Marks) {
        let mut state = self.state();
        state.marks.sessions.extend(marks.sessions);
        state.marks.agents.extend(marks.agents);
    }

    /// The instant from which on it is to be read when sessions expire, if that is not known.
    pub(super) fn expiries_missing_from(&self, now: Timestamp) -> Option<Timestamp> {
        let state = self.state();
        match &state.expiries {
            Some(expiries) => expiries.missing_from(now),
            None => Some(state.followed_since),
        }
    }

    /// Takes over when sessions expire.
    pub(super) fn set_expiries(&self, expiries: Expiries, now: Timestamp) {
        let mut state = self.state();
        let before = state.expiries.replace(expiries);
        let due = before.map(|mut before| before.due(now));
        state.marks.sessions.extend(due.into_iter().flatten());
    }

    /// When the next session expires.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.state().expiries.as_ref()?.next()
    }

    /// Adds sessions as they were read from storage, all that was stored before `known_at` being
    /// known then.
    pub(super) fn publish(
        &self,
        sessions: impl IntoIterator<Item = NamedSession>,
        known_at: Timestamp,
        known_state: Option<String>,
    ) {
        let mut state = self.state();
        let state = &mut *state;
        let mut sessions = sessions.into_iter().peekable();
        let now = now();
        while let Some(named) = sessions.next() {
            if sessions.peek().is_none() {
                // Who has the last has all.
                state.known_at = known_at;
                state.known_state.clone_from(&known_state);
            }
            if let Some(expiries) = &mut state.expiries
                && !named.session.is_expired(now)
            {
                expiries.set(name_of(&named), named.session.expires_at());
            }
            let id = |place| self.id(place, state.known_at, &state.known_state);
            state
                .log
                .push(name_of(&named), |place| changed(&id(place), &named, now));
        }
        self.end.send_replace(state.log.end());
    }

    /// Tells all readers to load the lists again if sessions were removed to make room, the last at this
    /// instant. Returns true if it did.
    pub(super) fn tell_evictions(&self, evicted_at: Option<Timestamp>) -> bool {
        let mut state = self.state();
        let since = state.followed_since;
        let Evictions { known, told } = &mut state.evictions;
        let is_new = evicted_at.is_some_and(|at| at >= since) && *known != evicted_at;
        if !is_new || told.is_some_and(|told| told.elapsed() < BETWEEN_EVICTIONS) {
            return false;
        }
        (*known, *told) = (evicted_at, Some(Instant::now()));
        drop(state);
        self.clear();
        true
    }

    /// Tells all readers to load the lists again.
    pub(super) fn clear(&self) {
        let mut state = self.state();
        state.log.clear();
        self.end.send_replace(state.log.end());
    }

    fn id(&self, place: u64, known_at: Timestamp, known_state: &Option<String>) -> String {
        let id = EventId {
            scope: self.scope.clone(),
            process: self.process.clone(),
            place,
            known_at,
            state: known_state.clone(),
        };
        id.to_string()
    }

    /// The end of the log and its id.
    pub(super) fn end(&self) -> (String, u64) {
        let state = self.state();
        let end = state.log.end();
        (self.id(end, state.known_at, &state.known_state), end)
    }

    /// Checks whether all that came after this place is known.
    pub(super) fn covers(&self, place: u64) -> bool {
        self.state().log.covers(place)
    }

    /// What a reader gets that must load the lists again, and its place.
    pub(super) fn reset(&self) -> (Bytes, u64) {
        let (id, end) = self.end();
        (reset(&id), end)
    }

    /// What comes after a reader's place, and its next place.
    pub(super) fn after(&self, place: u64) -> Option<(Bytes, u64)> {
        let after = self.state().log.after(place, PIECE);
        after.unwrap_or_else(|Lost| Some(self.reset()))
    }
}

/// The names of sessions, as the keys that storage takes.
pub(super) fn keys(workspace: &Workspace, names: &HashSet<SessionName>) -> Vec<SessionKey> {
    let key = |(agent_id, session_topic): &SessionName| SessionKey {
        workspace: workspace.clone(),
        agent_id: agent_id.clone(),
        session_topic: session_topic.clone(),
    };
    names.iter().map(key).collect()
}
