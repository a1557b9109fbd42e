//! Live events: what `GET /api/events` sends, and what a host keeps so that any number of readers
//! follow at their own speed.
//!
//! An event is the state of a session after a change, never the difference. So a session that changes
//! twice before a reader takes the first needs one event, and an event that comes twice does no harm.
//!
//! A host keeps a [`Log`] for each workspace that somebody follows. A reader is a place in it.

mod expiries;
mod id;
mod log;
mod recent;

use bytes::Bytes;

pub use expiries::Expiries;
pub use id::{EventId, Scope};
pub use log::{Log, MAX_SESSIONS, Missed};
pub use recent::{changed_since, expired_since, expiring};

use crate::{NamedSession, Timestamp};

/// What names a session within its workspace: the agent, and the topic.
pub type SessionName = (String, String);

/// The name of a session within its workspace.
pub fn name_of(named: &NamedSession) -> SessionName {
    let session = &named.session;
    (session.agent_id.clone(), session.session_topic.clone())
}

/// What a stream begins with, so that its reader knows that it is followed from now on: a comment,
/// and the pause before a reader comes back that has lost the stream.
pub const OPENING: Bytes = Bytes::from_static(b": kubeagents\nretry: 2000\n\n");

/// A comment, which shows that the stream is alive.
pub const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// The place from which a reader goes on, without an event.
pub fn place(id: &str) -> Bytes {
    Bytes::from(format!("id: {id}\n\n"))
}

/// The event of a session in its state at `now`.
pub fn changed(id: &str, named: &NamedSession, now: Timestamp) -> Bytes {
    match serde_json::to_string(&named.view(now)) {
        // JSON has no line breaks of its own.
        Ok(json) => Bytes::from(format!("id: {id}\nevent: session\ndata: {json}\n\n")),
        Err(error) => {
            tracing::error!(%error, "an event could not be serialised");
            reset(id)
        }
    }
}

/// The event that tells a reader to load the lists again.
pub fn reset(id: &str) -> Bytes {
    Bytes::from(format!("id: {id}\nevent: reset\ndata: {{}}\n\n"))
}
