//! How much there is in a store, for whoever operates it.

use super::StoreError;
use crate::{SessionState, StatusKind, Timestamp};

/// What a store holds, of all workspaces together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Sessions in the state [`Active`](SessionState::Active).
    pub active: u64,
    /// Sessions in the state [`Idle`](SessionState::Idle).
    pub idle: u64,
    /// Sessions in the state [`Ended`](SessionState::Ended).
    pub ended: u64,
    /// Sessions in the state [`Expired`](SessionState::Expired).
    pub expired: u64,
    /// Notifications in the outbox.
    pub waiting: u64,
    /// When the oldest of these was made.
    pub oldest: Option<Timestamp>,
    /// Notifications that found no room, and no message has counted yet. Messages of channels count them.
    pub without_room: u64,
}

impl Counts {
    /// Counts sessions whose newest report has this status and reason.
    pub fn add(&mut self, sessions: u64, status: StatusKind, reason: &str, is_expired: bool) {
        *match SessionState::of(status, reason, is_expired) {
            SessionState::Active => &mut self.active,
            SessionState::Idle => &mut self.idle,
            SessionState::Ended => &mut self.ended,
            SessionState::Expired => &mut self.expired,
        } += sessions;
    }
}

/// Counting what a store holds, where an index has all that it takes.
pub trait Census {
    /// Counts. The cost grows with the number of sessions, so a caller must not ask often. Sessions
    /// that are reported on meanwhile may be missed.
    fn census(&self, now: Timestamp) -> impl Future<Output = Result<Counts, StoreError>>;
}
