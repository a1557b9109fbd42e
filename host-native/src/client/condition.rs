//! The condition of what hooks leave behind: whether it can be kept, what waits, and whether somebody sends
//! it.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::outlet::Place;
use super::spool::Spool;

/// The condition at one moment.
pub(crate) struct Condition {
    /// The folder that everything is kept in.
    pub(crate) state: PathBuf,
    /// Why nothing can be kept, so that each event is sent at once or lost.
    pub(crate) problem: Option<io::Error>,
    /// How many events wait to be sent.
    pub(crate) waiting: usize,
    /// When the oldest of them happened.
    pub(crate) oldest: Option<DateTime<Utc>>,
    /// Whether the watcher runs, which sends them.
    pub(crate) is_watched: bool,
}

impl Condition {
    /// Looks; `None` without a home.
    pub(crate) fn find() -> Option<Self> {
        let place = Place::find()?;
        let spool = Spool::below(&place.state);
        let numbers = spool.numbers().unwrap_or_default();
        // Whoever is connected to says nothing, so it is not woken.
        let is_watched = UnixDatagram::unbound()
            .and_then(|socket| socket.connect(&place.socket))
            .is_ok();
        let oldest = numbers.first().and_then(|number| {
            let microseconds = i64::try_from(*number).ok()?;
            DateTime::from_timestamp_micros(microseconds)
        });
        Some(Self {
            problem: spool.check().err(),
            state: place.state,
            waiting: numbers.len(),
            oldest,
            is_watched,
        })
    }
}
