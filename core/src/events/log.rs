//! The newest events of a workspace, one a session.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::SessionName;

/// The most sessions whose events are kept: a reader that has missed more is told to load the lists
/// again.
pub const MAX_SESSIONS: usize = 1_000;

/// The most bytes of events that are kept, beyond which only the newest one may go.
const MAX_BYTES: usize = 4 << 20;

/// The events of a workspace, each at a place of its own: the newest of every session, for the
/// sessions that changed last.
///
/// A reader is a place: what is behind it is still to be sent. It costs nothing to keep a slow one,
/// and what it has not taken yet is merged by itself.
#[derive(Debug)]
pub struct Log {
    events: BTreeMap<u64, Event>,
    places: HashMap<Arc<SessionName>, u64>,
    bytes: usize,
    /// The most sessions whose events are kept.
    room: usize,
    /// A reader at this place or behind it has missed nothing.
    complete_from: u64,
    /// The newest place.
    end: u64,
}

#[derive(Debug)]
struct Event {
    name: Arc<SessionName>,
    text: Bytes,
}

/// A reader's place is too old: what it has missed is not known any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed;

impl Log {
    /// A log that begins after this place.
    pub fn new(place: u64) -> Self {
        Self {
            events: BTreeMap::new(),
            places: HashMap::new(),
            bytes: 0,
            room: MAX_SESSIONS,
            complete_from: place,
            end: place,
        }
    }

    /// The newest place.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Checks whether all that came after this place is known.
    pub fn covers(&self, place: u64) -> bool {
        (self.complete_from..=self.end).contains(&place)
    }

    /// Adds the event of a session, instead of the one before. `text` makes it for its place.
    pub fn push(&mut self, name: SessionName, text: impl FnOnce(u64) -> Bytes) {
        let before = self.places.remove_entry(&name);
        let name = match before {
            Some((name, place)) => {
                self.take(place);
                name
            }
            None => Arc::new(name),
        };
        self.end += 1;
        let text = text(self.end);
        self.bytes += text.len();
        self.places.insert(Arc::clone(&name), self.end);
        self.events.insert(self.end, Event { name, text });
        while self.events.len() > self.room || self.bytes > MAX_BYTES && self.events.len() > 1 {
            let Some((&place, event)) = self.events.first_key_value() else {
                break;
            };
            self.places.remove(&event.name);
            self.take(place);
            self.complete_from = place;
        }
    }

    fn take(&mut self, place: u64) {
        if let Some(event) = self.events.remove(&place) {
            self.bytes -= event.text.len();
        }
    }

    /// Forgets everything: readers are told to load the lists again.
    pub fn clear(&mut self) {
        *self = Self {
            room: self.room,
            ..Self::new(self.end + 1)
        };
    }

    /// The events after a place, as far as they fit into `room` bytes but at least one, and the place
    /// after them; `None` where there are none.
    ///
    /// # Errors
    /// [`Missed`] when some that came after it are not known any more.
    pub fn after(&self, place: u64, room: usize) -> Result<Option<(Bytes, u64)>, Missed> {
        if !self.covers(place) {
            return Err(Missed);
        }
        let mut events = self.events.range(place + 1..);
        let Some((&first, event)) = events.next() else {
            return Ok(None);
        };
        let mut last = first;
        let mut bytes = event.text.len();
        let mut more = Vec::new();
        for (&place, event) in events {
            bytes += event.text.len();
            if bytes > room {
                break;
            }
            last = place;
            more.push(&event.text);
        }
        if more.is_empty() {
            return Ok(Some((event.text.clone(), last)));
        }
        let mut text = BytesMut::from(&event.text[..]);
        for event in more {
            text.extend_from_slice(event);
        }
        Ok(Some((text.freeze(), last)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// What happens to a log of few sessions and its readers.
    #[derive(Debug, Clone)]
    enum Step {
        Change(u16),
        Read { reader: usize, room: usize },
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            20 => (0..12u16).prop_map(Step::Change),
            6 => (0..3usize, prop_oneof![Just(0), Just(40), Just(4096)])
                .prop_map(|(reader, room)| Step::Read { reader, room }),
            1 => Just(Step::Clear),
        ];
        prop::collection::vec(step, 0..100)
    }

    /// A reader, with the newest version it knows of each session.
    #[derive(Default)]
    struct Reader {
        place: u64,
        known: HashMap<u16, u64>,
        resets: usize,
    }

    proptest! {
        #[test]
        fn every_reader_gets_the_newest_state_of_every_session_and_never_an_older_one(
            steps in steps(),
        ) {
            let mut log = Log::new(5);
            // Fewer than there are.
            log.room = 9;
            let mut newest: HashMap<u16, u64> = HashMap::new();
            let mut readers: [Reader; 3] = Default::default();
            for reader in &mut readers {
                reader.place = 5;
            }
            // A last read without an end for all of them.
            let rest = (0..3).map(|reader| Step::Read { reader, room: usize::MAX });
            for (version, step) in (1u64..).zip(steps.into_iter().chain(rest)) {
                match step {
                    Step::Change(session) => {
                        newest.insert(session, version);
                        let name = ("agent".to_owned(), session.to_string());
                        log.push(name, |_| format!("{session}={version};").into());
                    }
                    Step::Clear => log.clear(),
                    Step::Read { reader, room } => {
                        let reader = &mut readers[reader];
                        match log.after(reader.place, room) {
                            Ok(None) => prop_assert_eq!(reader.place, log.end()),
                            Ok(Some((text, place))) => {
                                prop_assert!(place > reader.place);
                                reader.place = place;
                                for change in str::from_utf8(&text).unwrap().split_terminator(';') {
                                    let (session, version) = change.split_once('=').unwrap();
                                    let session = session.parse().unwrap();
                                    let version = version.parse().unwrap();
                                    let before = reader.known.insert(session, version);
                                    prop_assert!(before.is_none_or(|before| before < version));
                                }
                            }
                            Err(Missed) => {
                                // It loads the lists.
                                reader.known = newest.clone();
                                reader.place = log.end();
                                reader.resets += 1;
                            }
                        }
                    }
                }
                prop_assert!(log.events.len() <= log.room);
                prop_assert_eq!(log.events.len(), log.places.len());
                let bytes: usize = log.events.values().map(|event| event.text.len()).sum();
                prop_assert_eq!(log.bytes, bytes);
            }
            for reader in &readers {
                prop_assert_eq!(&reader.known, &newest);
            }
        }
    }

    fn change(log: &mut Log, session: usize, bytes: usize) {
        let name = ("agent".to_owned(), session.to_string());
        log.push(name, |_| vec![b'x'; bytes].into());
    }

    #[test]
    fn a_reader_may_miss_as_many_sessions_as_are_kept_and_no_more() {
        let mut log = Log::new(0);
        for session in 0..MAX_SESSIONS {
            change(&mut log, session, 1);
            change(&mut log, session, 1);
        }
        assert!(log.after(0, usize::MAX).unwrap().is_some());
        change(&mut log, MAX_SESSIONS, 1);
        assert_eq!(log.after(0, usize::MAX), Err(Missed));
        assert_eq!(log.after(log.end() + 1, usize::MAX), Err(Missed));
    }

    #[test]
    fn large_events_are_kept_as_far_as_there_is_room() {
        let mut log = Log::new(0);
        for session in 0..5 {
            change(&mut log, session, MAX_BYTES / 4);
        }
        assert_eq!(log.events.len(), 4);
        change(&mut log, 6, 2 * MAX_BYTES);
        assert_eq!(log.events.len(), 1);
        let (text, place) = log.after(log.end() - 1, 0).unwrap().unwrap();
        assert_eq!((text.len(), place), (2 * MAX_BYTES, log.end()));
    }
}
