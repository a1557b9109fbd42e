//! What waits to be sent: one file for each event, so that what a hook has taken survives whoever was to
//! send it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kubeagents_core::hook::Moment;
use kubeagents_core::ports::Clock;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tempfile::NamedTempFile;

use super::folders;
use super::outlet::fingerprint;
use super::process::Process;
use crate::ports::SystemClock;

/// The most events that wait. Beyond it the oldest goes.
const MAX_EVENTS: usize = 1000;

/// How long to wait for another process that takes a number: longer only where it is stopped.
const PATIENCE: Duration = Duration::from_secs(1);

/// The file that holds the last number, and whose lock guards it.
const NUMBER: &str = "number";

const ENDING: &str = ".json";

/// How the name of a file begins that holds the last of a session's events that may come often.
const LAST: &str = "last-";

/// How long after one of these the next is taken, in microseconds.
const PAUSE: u64 = 30_000_000;

/// Something to post.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Message {
    /// Path and query behind the server's address.
    pub(super) path: String,
    pub(super) body: Value,
}

impl Message {
    /// The same with its number, where the path takes it.
    pub(super) fn numbered(mut self, number: u64) -> Self {
        if self.path.starts_with("/hooks/") {
            self.path.push_str(&format!("&sequence={number}"));
        } else if let Value::Object(body) = &mut self.body {
            body.insert("sequence".into(), number.into());
        }
        self
    }
}

/// A server and the credentials for it, which nothing may change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Destination {
    /// The server's address.
    pub(super) url: String,
    /// What tells which key, and does not tell the key: it is not written down here. `None`: the one that is
    /// stored for this address when the event is sent, if any is.
    pub(super) key: Option<String>,
}

/// Something that happened in a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) to: Destination,
    pub(super) message: Message,
    /// The session that it is of, by which events keep their order.
    pub(super) session: String,
    pub(super) stage: Stage,
    /// The agent's process, to be watched until the session ends.
    pub(super) watched: Option<Watched>,
    /// Of an event that opens a session, what the session's first report is to tell: the server knows no
    /// session yet.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(super) opening: Map<String, Value>,
}

/// A process, and what to say of its session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Watched {
    pub(super) process: Process,
    /// True if it is known to stay: what an agent starts for a moment says nothing by its end.
    pub(super) is_settled: bool,
    /// What renews the session while the process runs.
    pub(super) renewal: Option<Message>,
    /// What is said when it has gone without saying so.
    pub(super) farewell: Message,
}

/// What an event means for those that wait before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// The session goes on.
    Working,
    /// A prompt, which makes up for whatever was before.
    Prompted,
    /// The agent waits for somebody.
    Waiting,
    /// A turn is over, which makes up for whatever was before.
    TurnOver,
    /// The session is over.
    Ended,
    /// The session is renewed; nothing has happened.
    Renewed,
}

impl From<Moment> for Stage {
    fn from(moment: Moment) -> Self {
        match moment {
            Moment::Started | Moment::Working => Self::Working,
            Moment::Prompted => Self::Prompted,
            Moment::Waiting => Self::Waiting,
            Moment::TurnOver => Self::TurnOver,
            Moment::Ended => Self::Ended,
        }
    }
}

/// The folder of what waits.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    folder: PathBuf,
}

impl Spool {
    /// The spool below this folder of ours.
    pub(super) fn below(state: &std::path::Path) -> Self {
        Self {
            folder: state.join("spool"),
        }
    }

    /// Checks whether events can be kept.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn check(&self) -> io::Result<()> {
        self.make()?;
        // A full disk still has names for files.
        NamedTempFile::new_in(&self.folder)?
            .as_file()
            .write_all(&[0; 4096])
    }

    /// Makes the folder, and the one above it, where they are missing.
    fn make(&self) -> io::Result<()> {
        if let Some(state) = self.folder.parent() {
            folders::make_own(state)?;
        }
        folders::make_own(&self.folder)
    }

    /// Takes an event. Its number is greater than that of every event before it: the time in
    /// microseconds where the clock allows.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn take(&self, event: &Event) -> io::Result<u64> {
        self.make()?;
        let event = serde_json::to_vec(event)?;
        let mut last = private()
            .read(true)
            .write(true)
            .create(true)
            .open(self.folder.join(NUMBER))?;
        lock(&last)?;
        let number = next(&mut last)?;
        let mut file = NamedTempFile::new_in(&self.folder)?;
        file.write_all(&event)?;
        file.persist(self.path(number))?;
        let numbers = self.numbers()?;
        for number in &numbers[..numbers.len().saturating_sub(MAX_EVENTS)] {
            self.remove(*number)?;
        }
        Ok(number)
    }

    /// Checks whether an event that may come often is to be taken: it says something else than the last one
    /// of its session, and not too soon after it. One that comes too soon waits for [`Spool::due`].
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn is_due(&self, event: &Event) -> io::Result<bool> {
        self.make()?;
        let name = format!("{LAST}{}", fingerprint(&event.session));
        let mut file = private()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.folder.join(name))?;
        lock(&file)?;
        let mut last = Last::read(&mut file);
        if !last.notes(event) {
            return Ok(false);
        }
        let due = last.due(now());
        last.write(&mut file)?;
        Ok(due.is_some())
    }

    /// The events that came too soon and are due now.
    pub(super) fn due(&self) -> Vec<Event> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let lasts = entries.filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().starts_with(LAST.as_bytes())
        });
        let due = lasts.filter_map(|entry| {
            let mut file = private().read(true).write(true).open(entry.path()).ok()?;
            lock(&file).ok()?;
            let mut last = Last::read(&mut file);
            let due = last.due(now())?;
            last.write(&mut file).ok()?;
            Some(due)
        });
        due.collect()
    }

    /// Removes what those have left who were killed while they took an event, and the texts of sessions
    /// that have long been over.
    pub(super) fn tidy(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let begins = |with: &str| name.as_encoded_bytes().starts_with(with.as_bytes());
            let age = entry.metadata().and_then(|metadata| metadata.modified());
            let age = age.ok().and_then(|modified| modified.elapsed().ok());
            let is_left = begins(".tmp") && age > Some(PATIENCE * 60);
            if is_left || begins(LAST) && age > Some(Duration::from_secs(24 * 3600)) {
                // Another time will do.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// The numbers of what waits, the oldest first.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn numbers(&self) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let numbers = entries.filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.strip_suffix(ENDING)?.parse().ok()
        });
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// An event; `None` when it is gone, or is none.
    pub(super) fn event(&self, number: u64) -> Option<Event> {
        serde_json::from_slice(&fs::read(self.path(number)).ok()?).ok()
    }

    /// Checks whether an event still waits.
    pub(super) fn holds(&self, number: u64) -> bool {
        self.path(number).exists()
    }

    /// Forgets an event.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn remove(&self, number: u64) -> io::Result<()> {
        match fs::remove_file(self.path(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:020}{ENDING}"))
    }
}

/// The last of a session's events that may come often.
#[derive(Default, Serialize, Deserialize)]
struct Last {
    /// What it said: the path of its message.
    path: String,
    /// When it was taken, in microseconds.
    taken: u64,
    /// A newer one, which came too soon.
    later: Option<Event>,
}

impl Last {
    /// What a file holds; what somebody has left who was killed is none.
    fn read(file: &mut File) -> Self {
        let mut text = Vec::new();
        let read = file.read_to_end(&mut text);
        read.ok()
            .and_then(|_| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    fn write(&self, file: &mut File) -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(self)?)
    }

    /// Takes note of an event, unless it says the same as the newest.
    fn notes(&mut self, event: &Event) -> bool {
        let path = &event.message.path;
        let newest = self.later.as_ref();
        let is_new = newest.map_or(&self.path, |later| &later.message.path) != path;
        if is_new {
            self.later = (self.path != *path).then(|| event.clone());
        }
        is_new
    }

    /// The newer one, if it is due now: then it is the last.
    fn due(&mut self, now: u64) -> Option<Event> {
        let is_early = self.taken <= now && now - self.taken < PAUSE;
        let due = self.later.take_if(|_| !is_early)?;
        self.path.clone_from(&due.message.path);
        self.taken = now;
        Some(due)
    }
}

/// How to open a file for this user only. A link, which may lead to anything, is not followed.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Locks a file until it is closed, unless whoever has it does not go on.
fn lock(file: &File) -> io::Result<()> {
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begin.elapsed() < PATIENCE => {
                sleep(Duration::from_micros(200));
            }
            Err(TryLockError::Error(error)) => return Err(error),
            // Numbers may then be out of order, which is better than none.
            Ok(()) | Err(TryLockError::WouldBlock) => return Ok(()),
        }
    }
}

/// The time in microseconds.
pub(super) fn now() -> u64 {
    u64::try_from(SystemClock.now().timestamp_micros()).unwrap_or_default()
}

fn next(last: &mut File) -> io::Result<u64> {
    let mut text = String::new();
    last.take(20).read_to_string(&mut text)?;
    let number = text.parse().map_or(now(), |last: u64| now().max(last + 1));
    last.rewind()?;
    last.write_all(format!("{number:020}").as_bytes())?;
    Ok(number)
}

/// What of a session's events, the oldest first, is still news when it was not sent at once: the latest
/// state, and the prompt that names the session.
pub(super) fn news(events: &[(u64, Stage)]) -> Vec<u64> {
    use Stage::{Ended, Prompted, Renewed, TurnOver, Waiting};
    let last = |stages: &[Stage]| events.iter().rposition(|(_, stage)| stages.contains(stage));
    let prompt = last(&[Prompted]);
    let turn = last(&[Prompted, TurnOver, Ended]);
    let after = &events[turn.map_or(0, |turn| turn + 1)..];
    let after: Vec<_> = after
        .iter()
        .filter(|(_, stage)| *stage != Renewed)
        .collect();
    // What comes after a wait may be what ends it.
    let kept = match after.iter().position(|(_, stage)| *stage == Waiting) {
        Some(first) => &after[first..],
        None => &after[after.len().saturating_sub(1)..],
    };
    let turns = [prompt, turn.filter(|turn| Some(*turn) != prompt)];
    let turns = turns.into_iter().flatten().map(|index| events[index].0);
    turns
        .chain(kept.iter().map(|(number, _)| *number))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use serde_json::json;

    use super::Stage::{Ended, Prompted, Renewed, TurnOver, Waiting, Working};
    use super::*;

    fn event() -> Event {
        Event {
            to: Destination {
                url: "http://localhost:1".into(),
                key: None,
            },
            message: Message {
                path: "/hooks/codex?host=h".into(),
                body: json!({}),
            },
            session: "s".into(),
            stage: Working,
            watched: None,
            opening: Map::new(),
        }
    }

    #[test]
    fn what_many_take_at_once_is_kept_under_growing_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::below(folder.path());
        let taken: Vec<u64> = thread::scope(|scope| {
            let takers: Vec<_> = (0..8)
                .map(|_| {
                    let take = || (0..10).map(|_| spool.take(&event()).unwrap()).collect();
                    scope.spawn(take)
                })
                .collect();
            takers
                .into_iter()
                .flat_map(|taker| -> Vec<u64> { taker.join().unwrap() })
                .collect()
        });
        let mut sorted = taken.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 80);
        assert_eq!(spool.numbers().unwrap(), sorted);
        assert_eq!(spool.event(sorted[0]), Some(event()));
    }

    #[test]
    fn numbers_grow_when_the_clock_goes_back() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::below(folder.path());
        spool.take(&event()).unwrap();
        let ahead = 9_000_000_000_000_000_u64;
        fs::write(spool.folder.join(NUMBER), format!("{ahead:020}")).unwrap();
        assert_eq!(spool.take(&event()).unwrap(), ahead + 1);
        assert_eq!(spool.take(&event()).unwrap(), ahead + 2);
    }

    #[test]
    fn it_is_private_and_bounded_and_keeps_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::below(&folder.path().join("state"));
        let numbers: Vec<u64> = (0..MAX_EVENTS + 3)
            .map(|_| spool.take(&event()).unwrap())
            .collect();
        assert_eq!(spool.numbers().unwrap(), numbers[3..]);
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(spool.folder.clone()), 0o700);
        assert_eq!(mode(folder.path().join("state")), 0o700);
        assert_eq!(mode(spool.path(numbers[3])), 0o600);
        assert_eq!(mode(spool.folder.join(NUMBER)), 0o600);
    }

    #[test]
    fn what_comes_too_soon_waits_and_the_newest_counts() {
        let cost = |cost: &str| Event {
            message: Message {
                path: cost.into(),
                body: json!({}),
            },
            ..event()
        };
        let mut last = Last::default();
        assert!(last.notes(&cost("1")));
        assert_eq!(last.due(9 * PAUSE), Some(cost("1")));
        assert!(!last.notes(&cost("1")), "the same");
        assert_eq!(last.due(99 * PAUSE), None);
        assert!(last.notes(&cost("2")));
        assert!(last.notes(&cost("3")));
        assert_eq!(last.due(10 * PAUSE - 1), None);
        assert_eq!(last.due(10 * PAUSE), Some(cost("3")));
        assert_eq!(last.due(99 * PAUSE), None, "once");
        assert!(last.notes(&cost("4")));
        assert!(last.notes(&cost("3")), "it has changed back");
        assert_eq!(last.due(99 * PAUSE), None);
        assert!(last.notes(&cost("5")));
        assert_eq!(last.due(PAUSE), Some(cost("5")), "the clock was set back");
    }

    #[test]
    fn of_old_news_the_latest_state_is_left() {
        let left = |stages: &[Stage]| {
            let numbered: Vec<_> = (0..).zip(stages.iter().copied()).collect();
            news(&numbered)
        };
        assert!(left(&[]).is_empty());
        assert_eq!(left(&[Prompted, Working, Working]), [0, 2]);
        assert_eq!(left(&[Prompted, Working, TurnOver]), [0, 2]);
        assert_eq!(left(&[TurnOver, Prompted, Working]), [1, 2]);
        assert_eq!(left(&[Working, Working, Renewed]), [1]);
        assert_eq!(
            left(&[Prompted, Working, Waiting, Working, Waiting]),
            [0, 2, 3, 4]
        );
        assert_eq!(
            left(&[Prompted, Waiting, Working, TurnOver, Working]),
            [0, 3, 4]
        );
        assert_eq!(left(&[Prompted, TurnOver, Ended]), [0, 2]);
    }

    #[test]
    fn a_message_carries_its_number_where_its_path_takes_it() {
        let hook = event().message.numbered(7);
        assert_eq!(hook.path, "/hooks/codex?host=h&sequence=7");
        let report = Message {
            path: "/webhook/status".into(),
            body: json!({"status": "running"}),
        };
        assert_eq!(
            report.numbered(7).body,
            json!({"status": "running", "sequence": 7})
        );
    }
}
