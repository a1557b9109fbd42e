//! The sessions whose agents' processes are watched, written down so that another watcher can go on.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tempfile::NamedTempFile;

use super::Name;
use crate::client::process::Process;
use crate::client::spool::{Event, Stage, Watched};

/// How long a process must have been gone: its last words may be on their way.
const GRACE: Duration = Duration::from_secs(2);

/// How long a process must have lived after it was first heard of, where it was neither old then nor is
/// heard of again. One that ends sooner was started for a hook, so its end says nothing.
const SETTLED: Duration = Duration::from_secs(1);

/// How often sessions are renewed whose time to live is not known: often enough for 15 minutes.
const RENEWAL: Duration = Duration::from_secs(5 * 60);

/// The sessions that have not ended.
pub(super) struct Sessions {
    file: PathBuf,
    sessions: HashMap<Name, Session>,
    /// What is written down, so that the same is not written again.
    written: Vec<u8>,
}

/// A session, and the process of its agent.
#[derive(Clone, Serialize, Deserialize)]
struct Session {
    watched: Watched,
    /// When the process was first heard of.
    since: SystemTime,
    /// True once the process is known to stay.
    is_settled: bool,
    /// When the server was last told something.
    renewed: SystemTime,
    /// For how long that lasts, where the server has said so.
    ttl_minutes: Option<u64>,
    /// What the session was opened with, while the server does not know it.
    #[serde(default)]
    opening: Map<String, Value>,
    /// Since when the process is gone.
    #[serde(skip)]
    gone: Option<Instant>,
}

impl Session {
    /// How long after a report to renew it.
    fn renewal(&self) -> Duration {
        match self.ttl_minutes {
            Some(minutes) => Duration::from_secs(minutes * 60 / 3),
            None => RENEWAL,
        }
    }
}

/// The time since then; `None` where the clock has been set back.
fn since(time: SystemTime) -> Option<Duration> {
    SystemTime::now().duration_since(time).ok()
}

impl Sessions {
    /// Reads what an earlier watcher has written down in this folder.
    pub(super) fn read(folder: &Path) -> Self {
        let file = folder.join("sessions.json");
        let written = fs::read(&file).unwrap_or_default();
        let sessions: Vec<(Name, Session)> = serde_json::from_slice(&written).unwrap_or_default();
        Self {
            file,
            sessions: sessions.into_iter().collect(),
            written,
        }
    }

    /// Checks whether nothing is watched.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Takes note of an event.
    pub(super) fn note(
        &mut self,
        name: &Name,
        stage: Stage,
        watched: Option<Watched>,
        opening: Map<String, Value>,
    ) {
        if stage == Stage::Ended {
            self.sessions.remove(name);
        } else if let Some(watched) = watched {
            let now = SystemTime::now();
            let known = self.sessions.remove(name);
            let is_same = known
                .as_ref()
                .is_some_and(|known| known.watched.process == watched.process);
            let mut session = known.unwrap_or_else(|| Session {
                watched: watched.clone(),
                since: now,
                is_settled: false,
                renewed: now,
                ttl_minutes: None,
                opening: Map::new(),
                gone: None,
            });
            if !is_same {
                (session.since, session.renewed) = (now, now);
            }
            // What is started for a hook starts no second one.
            session.is_settled = is_same || watched.is_settled;
            session.watched = watched;
            session.gone = None;
            if !opening.is_empty() {
                session.opening = opening;
            }
            self.sessions.insert(name.clone(), session);
        } else {
            return;
        }
        self.write();
    }

    /// Looks at every process: what is to be said of their sessions now. `is_busy`: whether something of
    /// a session is on its way, which renews it.
    pub(super) fn look(&mut self, is_busy: impl Fn(&Name) -> bool) -> Vec<Event> {
        let mut alive: HashMap<Process, bool> = HashMap::new();
        let mut due = Vec::new();
        let mut strangers = Vec::new();
        for (name, session) in &mut self.sessions {
            let process = &session.watched.process;
            let is_alive = *alive
                .entry(process.clone())
                .or_insert_with(|| process.is_alive());
            let say = |message, stage| Event {
                to: name.0.clone(),
                message,
                session: name.1.clone(),
                stage,
                watched: None,
                opening: Map::new(),
            };
            if is_alive {
                session.gone = None;
                session.is_settled |= since(session.since) > Some(SETTLED);
                let is_due = since(session.renewed).is_none_or(|since| since >= session.renewal());
                let renewal = session.watched.renewal.clone();
                if let Some(renewal) = renewal.filter(|_| is_due && !is_busy(name)) {
                    due.push(say(renewal, Stage::Renewed));
                }
            } else if session.gone.get_or_insert_with(Instant::now).elapsed() >= GRACE {
                match session.is_settled {
                    true => due.push(say(session.watched.farewell.clone(), Stage::Ended)),
                    false => strangers.push(name.clone()),
                }
            }
        }
        for name in strangers {
            self.sessions.remove(&name);
        }
        self.write();
        due
    }

    /// Takes note of what [`Sessions::look`] wanted to be said.
    pub(super) fn told(&mut self, name: &Name, stage: Stage) {
        match stage {
            Stage::Ended => self.note(name, stage, None, Map::new()),
            _ => self.renewed(name),
        }
    }

    /// Takes note that the server was told something.
    fn renewed(&mut self, name: &Name) {
        if let Some(session) = self.sessions.get_mut(name) {
            session.renewed = SystemTime::now();
        }
    }

    /// What a session was opened with that the server does not know.
    pub(super) fn opening(&self, name: &Name) -> Option<&Map<String, Value>> {
        let opening = &self.sessions.get(name)?.opening;
        (!opening.is_empty()).then_some(opening)
    }

    /// Takes note that an event is stored: for how long that lasts, and whether it told what the session
    /// was opened with.
    pub(super) fn stored(&mut self, name: &Name, ttl_minutes: Option<u64>, has_opening: bool) {
        self.renewed(name);
        if let Some(session) = self.sessions.get_mut(name) {
            let known = session.ttl_minutes;
            session.ttl_minutes = ttl_minutes.or(known);
            if has_opening {
                session.opening.clear();
            }
            if has_opening || session.ttl_minutes != known {
                self.write();
            }
        }
    }

    /// Writes down what is watched. When that fails, a later watcher knows less.
    fn write(&mut self) {
        let sessions: Vec<_> = self.sessions.iter().collect();
        let Ok(text) = serde_json::to_vec(&sessions) else {
            return;
        };
        if text == self.written {
            return;
        }
        let written = || {
            let folder = self.file.parent()?;
            let mut file = NamedTempFile::new_in(folder).ok()?;
            file.write_all(&text).ok()?;
            file.persist(&self.file).ok()
        };
        if written().is_some() {
            self.written = text;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::client::spool::{Destination, Message};

    const HOUR: Duration = Duration::from_secs(3600);

    fn name() -> Name {
        let to = Destination {
            url: "http://localhost:1".into(),
            key: None,
        };
        (to, "s".into())
    }

    /// A process of this id, or another one that had it before.
    fn watched(is_this: bool, is_settled: bool) -> Watched {
        let mut process = serde_json::to_value(Process::of(std::process::id()).unwrap()).unwrap();
        if !is_this {
            process["start"] = json!("1 of another boot");
        }
        let message = |path: &str| Message {
            path: path.into(),
            body: Value::Null,
        };
        Watched {
            process: serde_json::from_value(process).unwrap(),
            is_settled,
            renewal: Some(message("/renewal")),
            farewell: message("/farewell"),
        }
    }

    fn told(sessions: &mut Sessions) -> Vec<String> {
        let due = sessions.look(|_| false);
        due.into_iter().map(|event| event.message.path).collect()
    }

    fn shift(sessions: &mut Sessions, into_past: bool) {
        for session in sessions.sessions.values_mut() {
            session.renewed = match into_past {
                true => session.renewed - HOUR,
                false => session.renewed + HOUR,
            };
        }
    }

    #[test]
    fn a_session_is_renewed_when_it_is_due_also_after_a_sleep_and_when_the_clock_is_set() {
        let folder = tempfile::tempdir().unwrap();
        let mut sessions = Sessions::read(folder.path());
        sessions.note(
            &name(),
            Stage::Prompted,
            Some(watched(true, true)),
            Map::new(),
        );
        assert!(told(&mut sessions).is_empty());
        for into_past in [true, false] {
            shift(&mut sessions, into_past);
            assert!(
                sessions.look(|_| true).is_empty(),
                "something is on its way"
            );
            assert_eq!(told(&mut sessions), ["/renewal"]);
            sessions.told(&name(), Stage::Renewed);
            assert!(told(&mut sessions).is_empty());
        }
        // A third of three hours has not passed after an hour.
        sessions.stored(&name(), Some(200), false);
        shift(&mut sessions, true);
        assert!(told(&mut sessions).is_empty());
        sessions.note(&name(), Stage::Ended, None, Map::new());
        assert!(sessions.is_empty());
    }

    #[test]
    fn a_process_whose_id_is_used_again_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut sessions = Sessions::read(folder.path());
        sessions.note(
            &name(),
            Stage::Prompted,
            Some(watched(false, true)),
            Map::new(),
        );
        assert!(
            told(&mut sessions).is_empty(),
            "its last words may be on their way"
        );
        let mut later = Sessions::read(folder.path());
        for sessions in [&mut sessions, &mut later] {
            let begin = Instant::now();
            let told = loop {
                let told = told(sessions);
                if !told.is_empty() {
                    break told;
                }
                assert!(begin.elapsed() < 30 * GRACE, "nothing is told");
                std::thread::yield_now();
            };
            assert_eq!(told, ["/farewell"], "also by the next watcher");
        }
    }

    #[test]
    fn the_end_of_what_was_started_for_a_moment_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut sessions = Sessions::read(folder.path());
        sessions.note(
            &name(),
            Stage::Prompted,
            Some(watched(false, false)),
            Map::new(),
        );
        let begin = Instant::now();
        while !sessions.is_empty() {
            assert!(told(&mut sessions).is_empty());
            assert!(begin.elapsed() < 30 * GRACE, "it is still watched");
            std::thread::yield_now();
        }
    }
}
