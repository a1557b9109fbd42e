//! The process that hooks leave behind, one for each user: it sends what they take, in order within a
//! session, and watches the agents' processes.
//!
//! Everything that must outlive it is in files: what waits is in the spool, and whom it watches is written
//! down. It ends when there is nothing left to do.

mod bell;
mod sessions;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::HeaderValue;
use kubeagents_core::ports::random_u32;
use serde_json::Value;
use tokio::time::sleep;

use super::outlet::{Note, Place, fingerprint};
use super::sending::{Outcome, authorization, send, stored_key};
use super::server::Server;
use super::spool::{self, Destination, Event, Spool, Stage, news};
use crate::ports::SystemEntropy;
use bell::Bell;
use sessions::Sessions;

/// How often processes are looked at, and the spool without being told.
const LOOK: Duration = Duration::from_secs(2);

/// How long it stays without anything to do.
const IDLE: Duration = Duration::from_secs(30);

/// How many sessions' events are under way at once to one server.
const UNDER_WAY: usize = 4;

/// The pause after a first failure, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// After how long an event is no news any more where something newer waits behind it.
const OLD: Duration = Duration::from_secs(60);

/// After how long an event is of no use to anybody: its session has expired.
const USELESS: Duration = Duration::from_secs(24 * 3600);

/// The most keys that are kept which are not stored.
const MAX_KEYS: usize = 64;

/// Does everything that the process is there for. The lock that makes it the only one is its standard
/// input.
pub(crate) fn run() -> ExitCode {
    // So that it does not end with the terminal or the agent that it was started from.
    let _ = rustix::process::setsid();
    let Some(watcher) = Watcher::start() else {
        return ExitCode::FAILURE;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            runtime.block_on(watcher.watch());
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// The session of an event, at its server.
type Name = (Destination, String);

/// An event that waits.
struct Waiting {
    name: Name,
    stage: Stage,
}

/// A server that events go to, with credentials.
#[derive(Default)]
struct Link {
    /// `None` while the key is not known, which the next hook brings.
    server: Option<Server>,
    authorization: Option<HeaderValue>,
    failures: u32,
    /// Until when it is left alone.
    away_until: Option<Instant>,
}

struct Sent {
    number: u64,
    name: Name,
    outcome: Outcome,
    /// True if it told what the session was opened with.
    has_opening: bool,
}

struct Watcher {
    place: Place,
    spool: Spool,
    sessions: Sessions,
    waiting: BTreeMap<u64, Waiting>,
    under_way: HashSet<Name>,
    links: HashMap<Destination, Link>,
    keys: HashMap<Destination, HeaderValue>,
    idle_since: Option<Instant>,
    /// True once another version of the program is there: its own watcher is to take over.
    is_outdated: bool,
}

impl Watcher {
    fn start() -> Option<Self> {
        let place = Place::find()?;
        if !bell::is_locked_by_input(&place.lock) {
            return None;
        }
        let spool = Spool::below(&place.state);
        spool.tidy();
        let mut watcher = Self {
            spool,
            sessions: Sessions::read(&place.state),
            place,
            waiting: BTreeMap::new(),
            under_way: HashSet::new(),
            links: HashMap::new(),
            keys: HashMap::new(),
            idle_since: None,
            is_outdated: false,
        };
        let given = ["KUBEAGENTS_SERVER_URL", "KUBEAGENTS_API_KEY"].map(std::env::var);
        if let [Ok(url), Ok(key)] = given {
            watcher.keep_key(url, &key);
        }
        Some(watcher)
    }

    async fn watch(mut self) {
        let mut bell = Bell::hang(&self.place.socket);
        let mut sending = FuturesUnordered::new();
        let mut looked_at = None;
        loop {
            self.scan();
            if looked_at.is_none_or(|at: Instant| at.elapsed() >= LOOK) {
                // Without its files, as when the home is gone, it is of no use.
                if !bell::is_locked_by_input(&self.place.lock) {
                    return;
                }
                self.look();
                looked_at = Some(Instant::now());
            }
            while let Some(send) = self.next() {
                sending.push(send);
            }
            if self.may_leave() {
                bell.take_down();
                // What came while the bell still hung is in the spool by now; who comes later finds no
                // bell, and no lock.
                if self
                    .spool
                    .numbers()
                    .map_or(true, |numbers| numbers.is_empty())
                {
                    return;
                }
                match Bell::lock_again() {
                    true => bell = Bell::hang(&self.place.socket),
                    false => return,
                }
            }
            tokio::select! {
                note = bell.rung() => self.read(&note),
                Some(sent) = sending.next(), if !sending.is_empty() => self.settle(sent),
                () = sleep(self.pause()) => {}
            }
        }
    }

    /// How long there is nothing to do unless something happens.
    fn pause(&self) -> Duration {
        let now = Instant::now();
        let ready = self.links.values().filter_map(|link| link.away_until);
        let pauses = ready.filter(|ready| *ready > now).map(|ready| ready - now);
        pauses.min().unwrap_or(LOOK).min(LOOK)
    }

    /// Learns from whoever wakes it.
    fn read(&mut self, note: &[u8]) {
        let Ok(note) = serde_json::from_slice::<Note>(note) else {
            return;
        };
        self.is_outdated |= note.version != env!("CARGO_PKG_VERSION");
        if let Some((url, key)) = note.key {
            self.keep_key(url, &key);
        }
    }

    fn keep_key(&mut self, url: String, key: &str) {
        let Some(authorization) = authorization(key) else {
            return;
        };
        if self.keys.len() >= MAX_KEYS {
            self.keys.clear();
        }
        let to = Destination {
            url,
            key: Some(fingerprint(key)),
        };
        if let Some(link) = self.links.get_mut(&to) {
            link.away_until = None;
        }
        self.keys.insert(to, authorization);
    }

    /// Reads what is new in the spool.
    fn scan(&mut self) {
        let Ok(numbers) = self.spool.numbers() else {
            return;
        };
        // What is too much goes without the watcher's doing.
        self.waiting
            .retain(|number, _| numbers.binary_search(number).is_ok());
        for number in numbers {
            if self.waiting.contains_key(&number) {
                continue;
            }
            let event = self.spool.event(number);
            match event.filter(|_| age(number) < USELESS) {
                Some(event) => self.add(number, event),
                // It is not to be understood, as by another version.
                None => drop(self.spool.remove(number)),
            }
        }
        if self
            .waiting
            .first_key_value()
            .is_some_and(|(number, _)| age(*number) > OLD)
        {
            self.forget_old_news(|_, oldest| age(oldest) > OLD);
        }
    }

    fn add(&mut self, number: u64, event: Event) {
        let name = (event.to, event.session);
        self.sessions
            .note(&name, event.stage, event.watched, event.opening);
        if matches!(event.stage, Stage::Ended | Stage::TurnOver)
            && let Some(link) = self.links.get_mut(&name.0)
        {
            // Somebody may wait for this one to be sent.
            link.away_until = None;
        }
        let stage = event.stage;
        self.waiting.insert(number, Waiting { name, stage });
    }

    /// Forgets what is no news any more of sessions, by server and oldest event.
    fn forget_old_news(&mut self, is_old: impl Fn(&Destination, u64) -> bool) {
        let mut sessions: HashMap<&Name, Vec<(u64, Stage)>> = HashMap::new();
        for (number, waiting) in &self.waiting {
            let events = sessions.entry(&waiting.name).or_default();
            events.push((*number, waiting.stage));
        }
        let mut forgotten = Vec::new();
        for (name, events) in sessions {
            let is_under_way = self.under_way.contains(name);
            if !is_under_way && is_old(&name.0, events[0].0) {
                let kept = news(&events);
                let gone = events.iter().map(|(number, _)| *number);
                forgotten.extend(gone.filter(|number| !kept.contains(number)));
            }
        }
        for number in forgotten {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: u64) {
        // What cannot be removed is sent again, which the server recognises.
        if self.spool.remove(number).is_ok() {
            self.waiting.remove(&number);
        }
    }

    /// Looks at the agents' processes.
    fn look(&mut self) {
        let busy: HashSet<&Name> = self.waiting.values().map(|waiting| &waiting.name).collect();
        let due = self.sessions.look(|name| busy.contains(name));
        for event in due.into_iter().chain(self.spool.due()) {
            // What cannot be written now is due again at the next look.
            if self.spool.take(&event).is_ok() {
                self.sessions.told(&(event.to, event.session), event.stage);
            }
        }
        self.scan();
    }

    /// The next attempt that may be made now.
    fn next(&mut self) -> Option<BoxFuture<'static, Sent>> {
        let mut behind = HashSet::new();
        let now = Instant::now();
        let number = self
            .waiting
            .iter()
            .find_map(|(number, Waiting { name, .. })| {
                let to = &name.0;
                let is_away = self
                    .links
                    .get(to)
                    .and_then(|link| link.away_until)
                    .is_some_and(|until| until > now);
                let under_way = || self.under_way.iter().filter(|name| name.0 == *to).count();
                let is_first = behind.insert(name) && !self.under_way.contains(name);
                (is_first && !is_away && under_way() < UNDER_WAY).then_some(*number)
            })?;
        let name = self.waiting.get(&number)?.name.clone();
        let Some(mut event) = self.spool.event(number) else {
            self.forget(number);
            return self.next();
        };
        let opening = self.sessions.opening(&name);
        let opening = opening.filter(|_| event.stage != Stage::Renewed && event.opening.is_empty());
        if let (Some(opening), Value::Object(body)) = (opening, &mut event.message.body) {
            for (field, value) in opening {
                body.entry(field).or_insert_with(|| value.clone());
            }
        }
        let has_opening = opening.is_some();
        self.under_way.insert(name.clone());
        let server = self.server(&name.0);
        Some(Box::pin(async move {
            let outcome = match server {
                Some(server) => send(&server, event, number).await,
                None => Outcome::Unavailable,
            };
            Sent {
                number,
                name,
                outcome,
                has_opening,
            }
        }))
    }

    /// The way to a server; `None` while its key is not known.
    fn server(&mut self, to: &Destination) -> Option<Server> {
        let authorization = match to.key.as_deref() {
            None => stored_key(&to.url),
            Some(_) => self.keys.get(to).cloned(),
        };
        let link = self.links.entry(to.clone()).or_default();
        let is_unknown = to.key.is_some() && authorization.is_none();
        if link.authorization != authorization || is_unknown {
            link.server = None;
        }
        if link.server.is_none() && !is_unknown {
            link.authorization.clone_from(&authorization);
            link.server = Server::new(to.url.clone(), authorization).ok();
        }
        link.server.clone()
    }

    fn settle(&mut self, sent: Sent) {
        self.under_way.remove(&sent.name);
        match sent.outcome {
            Outcome::Stored { .. } | Outcome::Refused => {
                if let Some(link) = self.links.get_mut(&sent.name.0) {
                    link.failures = 0;
                    link.away_until = None;
                }
                if let Outcome::Stored { ttl_minutes } = sent.outcome {
                    self.sessions
                        .stored(&sent.name, ttl_minutes, sent.has_opening);
                }
                self.forget(sent.number);
            }
            Outcome::Unavailable => {
                if let Some(link) = self.links.get_mut(&sent.name.0) {
                    let pause = FIRST_PAUSE * 2_u32.saturating_pow(link.failures.min(10));
                    // Out of step with other machines.
                    let jitter = 0.5 + f64::from(random_u32(&SystemEntropy) % 1000) / 1000.0;
                    link.failures += 1;
                    let pause = pause.min(LONGEST_PAUSE).mul_f64(jitter);
                    link.away_until = Some(Instant::now() + pause);
                }
                self.forget_old_news(|to, _| *to == sent.name.0);
            }
        }
    }

    /// Checks whether there has been nothing to do for long enough.
    fn may_leave(&mut self) -> bool {
        if !self.waiting.is_empty() || !self.under_way.is_empty() {
            self.idle_since = None;
            return false;
        }
        if self.is_outdated {
            return true;
        }
        if !self.sessions.is_empty() {
            self.idle_since = None;
            return false;
        }
        let since = *self.idle_since.get_or_insert_with(Instant::now);
        since.elapsed() >= IDLE
    }
}

/// The time since an event, by its number.
fn age(number: u64) -> Duration {
    Duration::from_micros(spool::now().saturating_sub(number))
}
