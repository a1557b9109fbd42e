//! Ids of events: where a reader goes on. Clients hand them back unchanged.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use chrono::DateTime;

use crate::{Timestamp, Workspace, sha256_hex};

/// The longest id, in bytes: it stands with every event, and comes back in a header.
const MAX_BYTES: usize = 512;

/// What ids are good for: one workspace in one storage. An id of another is a foreign one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(String);

impl Scope {
    /// The scope of a workspace in the storage that keeps this secret.
    pub fn new(secret: &str, workspace: &Workspace) -> Self {
        let hash = sha256_hex(format!("events of {}: {secret}", workspace.key()));
        Self(hash[..12].to_owned())
    }
}

/// Where a reader goes on: in the log of the process that sent the event, else in storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventId {
    /// The workspace and the storage.
    pub scope: Scope,
    /// The process. Hexadecimal digits.
    pub process: String,
    /// The place in its log.
    pub place: u64,
    /// An instant before which everything that was stored is known to the reader.
    pub known_at: Timestamp,
    /// What the storage calls its state then, where it has a name for it: as `pg_current_snapshot()`
    /// writes it.
    pub state: Option<String>,
}

impl Display for EventId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            scope,
            process,
            place,
            known_at,
            state,
        } = self;
        let micros = known_at.timestamp_micros();
        write!(f, "{}-{process}-{place}-{micros}", scope.0)?;
        match state {
            Some(state) => write!(f, "-{state}"),
            None => Ok(()),
        }
    }
}

/// An id that no server gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no id of an event")]
pub struct InvalidEventId;

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let is_hex = |part: &&str| {
            !part.is_empty() && part.bytes().all(|byte| b"0123456789abcdef".contains(&byte))
        };
        let is_state = |part: &&str| {
            !part.is_empty() && part.bytes().all(|byte| b"0123456789:,".contains(&byte))
        };
        let read = || {
            let mut parts = text.split('-');
            let scope = parts.next().filter(is_hex)?;
            let process = parts.next().filter(is_hex)?;
            let place = parts.next()?.parse().ok()?;
            let micros = parts.next()?.parse().ok()?;
            // Far from the ends of what can be reckoned with.
            let known_at = DateTime::from_timestamp_micros(micros)
                .filter(|instant| (0..253_402_300_800).contains(&instant.timestamp()))?;
            let state = match parts.next() {
                Some(state) => Some(is_state(&state).then(|| state.to_owned())?),
                None => None,
            };
            parts.next().is_none().then(|| Self {
                scope: Scope(scope.to_owned()),
                process: process.to_owned(),
                place,
                known_at,
                state,
            })
        };
        let id = (text.len() <= MAX_BYTES).then(read).flatten();
        id.ok_or(InvalidEventId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_as_it_was_given_out() {
        for state in [None, Some("744:790:744,760".to_owned())] {
            let id = EventId {
                scope: Scope::new("secret", &Workspace::Shared),
                process: "0a1b2c3d".to_owned(),
                place: 7,
                known_at: DateTime::from_timestamp_micros(1_767_225_600_123_456).unwrap(),
                state,
            };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "-",
            "7",
            "ab-cd-1",
            "ab-cd-1-",
            "ab-cd-1-2-",
            "ab-cd-1-2-3-4",
            "ab-cd--1-2",
            "ab-cd-1-x",
            "ab-cd-1-9223372036854775807",
            "AB-cd-1-2",
            "ab-cd-1-2-1:1:'",
            "ab-cd-1-2-\n",
            "🦀",
        ] {
            assert_eq!(text.parse::<EventId>(), Err(InvalidEventId), "{text}");
        }
        let long = format!("ab-cd-1-2-{}", "1".repeat(MAX_BYTES));
        assert_eq!(long.parse::<EventId>(), Err(InvalidEventId));
    }

    #[test]
    fn ids_are_good_for_one_workspace_of_one_storage() {
        let scope = Scope::new("secret", &Workspace::Shared);
        assert_ne!(scope, Scope::new("another", &Workspace::Shared));
        let account = Workspace::from_key("b5f0".to_owned());
        assert_ne!(scope, Scope::new("secret", &account));
    }
}
