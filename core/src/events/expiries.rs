//! When the sessions of a workspace expire.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::SessionName;
use crate::Timestamp;

/// The most sessions whose expiry is kept, unless more expire at one instant.
const MAX_SESSIONS: usize = 100_000;

/// The instants at which unexpired sessions expire, soonest first. Of many sessions those are kept
/// that expire soonest; the others are to be read again when their time comes.
#[derive(Debug, Default)]
pub struct Expiries {
    by_time: BTreeSet<(Timestamp, Arc<SessionName>)>,
    by_name: HashMap<Arc<SessionName>, Timestamp>,
    /// What expires at this instant or later may be missing.
    complete_until: Option<Timestamp>,
}

impl Expiries {
    /// Notes when a session expires, instead of what was noted before.
    pub fn set(&mut self, name: SessionName, expires_at: Timestamp) {
        self.set_within(MAX_SESSIONS, name, expires_at);
    }

    fn set_within(&mut self, room: usize, name: SessionName, expires_at: Timestamp) {
        let name = match self.by_name.remove_entry(&name) {
            Some((name, before)) => {
                self.by_time.remove(&(before, Arc::clone(&name)));
                name
            }
            None => Arc::new(name),
        };
        let is_known = |until: Timestamp| expires_at < until;
        if !self.complete_until.is_none_or(is_known) {
            return;
        }
        self.by_name.insert(Arc::clone(&name), expires_at);
        self.by_time.insert((expires_at, name));
        // The soonest instant stays whole, or reading what was left out would come to no end.
        let [soonest, latest] = [self.by_time.first(), self.by_time.last()]
            .map(|place| place.map(|(instant, _)| *instant));
        if self.by_time.len() > room
            && soonest < latest
            && let Some((latest, name)) = self.by_time.pop_last()
        {
            self.by_name.remove(&name);
            self.complete_until = Some(latest);
        }
    }

    /// Takes the sessions that have expired at `now`, unless they were renewed unnoticed.
    pub fn due(&mut self, now: Timestamp) -> Vec<SessionName> {
        let mut due = Vec::new();
        while let Some((instant, _)) = self.by_time.first()
            && *instant <= now
            && let Some((_, name)) = self.by_time.pop_first()
        {
            self.by_name.remove(&name);
            due.push(Arc::unwrap_or_clone(name));
        }
        due
    }

    /// When something is to be done next: a session expires, or what was left out is to be read.
    pub fn next(&self) -> Option<Timestamp> {
        let first = self.by_time.first().map(|(instant, _)| *instant);
        first.into_iter().chain(self.complete_until).min()
    }

    /// The instant from which on what expires was left out, once it has come: then the sessions that
    /// expire at this instant or later are to be read into another.
    pub fn missing_from(&self, now: Timestamp) -> Option<Timestamp> {
        self.complete_until.filter(|until| *until <= now)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn name(session: u8) -> SessionName {
        ("agent".to_owned(), session.to_string())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    proptest! {
        #[test]
        fn every_session_is_due_at_its_newest_instant_and_not_before(
            changes in prop::collection::vec((0..12u8, 1..30i64), 0..60),
            room in prop_oneof![Just(4usize), Just(100)],
        ) {
            let mut stored: HashMap<u8, i64> = HashMap::new();
            let mut expiries = Expiries::default();
            let mut told: HashMap<u8, i64> = HashMap::new();
            for (second, (session, ttl)) in (0..).zip(changes) {
                stored.insert(session, second + ttl);
                expiries.set_within(room, name(session), at(second + ttl));
                tell(&mut expiries, room, &stored, &mut told, second)?;
            }
            for second in 60..120 {
                tell(&mut expiries, room, &stored, &mut told, second)?;
            }
            prop_assert_eq!(told, stored);
            prop_assert!(expiries.by_time.is_empty() && expiries.by_name.is_empty());
        }
    }

    #[test]
    fn more_than_there_is_room_for_expire_at_one_instant() {
        let stored = (0..9).map(|session| (session, 3)).collect();
        let (mut expiries, mut told) = (Expiries::default(), HashMap::new());
        for session in 0..9 {
            expiries.set_within(4, name(session), at(3));
        }
        expiries.set_within(4, name(9), at(2));
        assert_eq!(expiries.due(at(2)), [name(9)]);
        tell(&mut expiries, 4, &stored, &mut told, 3).unwrap();
        assert_eq!(told, stored);
    }

    /// Does what a host does every second.
    fn tell(
        expiries: &mut Expiries,
        room: usize,
        stored: &HashMap<u8, i64>,
        told: &mut HashMap<u8, i64>,
        second: i64,
    ) -> Result<(), TestCaseError> {
        let has_work = expiries.next().is_some_and(|next| next <= at(second));
        let mut due = expiries.due(at(second));
        let missing = expiries.missing_from(at(second));
        prop_assert_eq!(has_work, !due.is_empty() || missing.is_some());
        while let Some(from) = expiries.missing_from(at(second)) {
            *expiries = Expiries::default();
            for (session, expires_at) in stored {
                if at(*expires_at) >= from {
                    expiries.set_within(room, name(*session), at(*expires_at));
                }
            }
            due.extend(expiries.due(at(second)));
        }
        for name in due {
            let session = name.1.parse().unwrap();
            prop_assert!(stored[&session] <= second, "{} is due too early", session);
            told.insert(session, stored[&session]);
        }
        for (session, expires_at) in stored {
            prop_assert!(
                *expires_at > second || told.get(session) == Some(expires_at),
                "{} is not told",
                session
            );
        }
        Ok(())
    }
}
