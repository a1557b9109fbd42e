//! Notifications that wait for delivery.

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound::Excluded;
use std::time::Duration;

use super::StoreError;
use crate::{Delivery, DeliveryState, Notification, Timestamp, Workspace};

/// The most deliveries of a channel that are listed, and kept after their end.
pub const MAX_DELIVERIES: usize = 100;

/// The most notifications that wait for one channel, and for the plain webhooks of one workspace.
/// Further ones are dropped, and a channel's deliveries say so.
///
/// The bound also keeps a lease cheap, since a lease may look at all that wait for a workspace.
pub const MAX_WAITING: usize = 1000;

/// Longer than any notification rests: than a delay, a lease, or the day's pause before a channel's last
/// attempt. One that would rest longer was timed by a clock that was ahead, and is due.
pub const LONGEST_REST: Duration = Duration::from_secs(48 * 60 * 60);

/// Why a channel's notification is dropped that finds no room.
pub const NO_ROOM: &str = "too many are waiting";

/// What is put off when it is not yet a receiver's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOff {
    /// The leased notification alone.
    Leased,
    /// And what else is due for its receiver: its workspace's channel, at its host.
    WhatIsDue,
}

/// Which notification a delivering host takes on.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// The host's clock. Stores shared by several machines use their own clock instead.
    pub now: Timestamp,
    /// How long the others keep off what is leased.
    pub duration: Duration,
    /// Workspaces take turns in the order of their [keys](Workspace::key), from the first after
    /// this text and round to it.
    pub after: String,
    /// Keys of workspaces that have all the deliveries they may have for now.
    pub busy_workspaces: HashSet<String>,
    /// Receiving hosts (`host:port`) that have all they can take for now.
    pub busy_hosts: HashSet<String>,
    /// Receiving hosts to which something is under way: a workspace's other hosts come first.
    pub used_hosts: HashSet<String>,
}

impl LeaseRequest {
    /// The keys whose turn it is, as ranges in the order of turns: between the two texts, exclusive.
    pub fn turns(&self) -> Vec<[String; 2]> {
        let busy: BTreeSet<&str> = self.busy_workspaces.iter().map(String::as_str).collect();
        let (after, last) = (self.after.as_str(), char::MAX.to_string());
        // No key has a control character, so nothing is between the text and this.
        let round_to = format!("{after}\u{1}");
        let mut turns = Vec::new();
        for (mut low, high) in [(after, last.as_str()), ("", &round_to)] {
            for busy in busy.range::<str, _>((Excluded(low), Excluded(high))) {
                turns.push([low, busy].map(str::to_owned));
                low = busy;
            }
            turns.push([low, high].map(str::to_owned));
        }
        turns
    }

    /// The place of a receiving host in its workspace's turn, the lowest first; `None` when it is
    /// busy.
    pub fn rank(&self, host: &str) -> Option<bool> {
        (!self.busy_hosts.contains(host)).then(|| self.used_hosts.contains(host))
    }
}

/// A notification that this host has on lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedNotification {
    /// What to deliver.
    pub notification: Notification,
    /// Which round of attempts this is, counted from 1.
    pub round: u32,
    /// How long its receiver, that is its workspace's channel at its host, is to be left alone.
    pub rest: Duration,
}

/// What an attempt came to that has failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    /// The status that the receiver answered with.
    pub status: Option<u16>,
    /// Why it is a failure.
    pub error: String,
    /// Whether the receiver is left alone during the pause.
    pub rests: bool,
}

/// The newest [`MAX_DELIVERIES`] of these: by when it happened, then by id. What is finished waits no
/// more.
pub fn newest(pending: Vec<Delivery>, finished: Vec<Delivery>) -> Vec<Delivery> {
    let mut deliveries = pending;
    deliveries.retain(|pending| finished.iter().all(|finished| finished.id != pending.id));
    deliveries.extend(finished);
    deliveries.sort_by(|a, b| (b.created_at, &a.id).cmp(&(a.created_at, &b.id)));
    deliveries.truncate(MAX_DELIVERIES);
    deliveries
}

/// What became of a notification that found no room; `None` for one that is not a channel's.
pub fn without_room(notification: &Notification) -> Option<Delivery> {
    Some(Delivery {
        error: NO_ROOM.to_owned(),
        state: DeliveryState::Dropped,
        finished_at: Some(notification.created_at),
        ..Delivery::pending(notification, 0)?
    })
}

/// Notifications that wait for delivery, at most [`MAX_WAITING`] for a receiver.
pub trait Outbox {
    /// Leases the notification whose turn it is: of the first workspace that has a due one for a host
    /// that is not busy, the one due longest. Due is what was never tried, whose pause is over, or
    /// whose lease ran out (its host died).
    fn lease_notification(
        &self,
        request: &LeaseRequest,
    ) -> impl Future<Output = Result<Option<LeasedNotification>, StoreError>>;

    /// Ends a lease: delivered.
    fn notification_delivered(&self, id: &str) -> impl Future<Output = Result<(), StoreError>>;

    /// Ends leases: not delivered, each due again after its pause. For a channel's, what it came to is
    /// shown meanwhile. If the receiver rests, what is leased for it meanwhile says so.
    fn notifications_failed(
        &self,
        failed: &[(&str, Duration)],
        now: Timestamp,
        failure: &Failure,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Ends a lease: not delivered, and given up.
    fn notification_abandoned(&self, id: &str) -> impl Future<Output = Result<(), StoreError>>;

    /// Leases what else is due for the channel of a leased notification, the longest first.
    fn lease_others(
        &self,
        leased: &Notification,
        now: Timestamp,
        duration: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<LeasedNotification>, StoreError>>;

    /// Ends the lease of a notification as if it had not been: it is due again after
    /// `pause`, and with [`PutOff::WhatIsDue`] so is what else is due for the receiver.
    fn put_off(
        &self,
        leased: &Notification,
        what: PutOff,
        now: Timestamp,
        pause: Duration,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Ends leases of one channel's notifications for good, and keeps what became of them: the newest
    /// [`MAX_DELIVERIES`] of the channel, and nothing once the channel is gone.
    fn finish_deliveries(
        &self,
        deliveries: &[Delivery],
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// How many of a channel's notifications found no room, and no message to it has counted yet.
    fn overflow(
        &self,
        workspace: &Workspace,
        channel: &str,
    ) -> impl Future<Output = Result<u64, StoreError>>;

    /// So many of a channel's notifications that found no room are counted by a message now.
    fn overflow_told(
        &self,
        workspace: &Workspace,
        channel: &str,
        told: u64,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// What became of what a channel was told, and what waits: the newest first, then by id, at most
    /// [`MAX_DELIVERIES`].
    fn deliveries(
        &self,
        workspace: &Workspace,
        channel: &str,
    ) -> impl Future<Output = Result<Vec<Delivery>, StoreError>>;
}

/// Logs that as many notifications as may wait for a receiver of this workspace. Stores call this when
/// the last place is taken, so that one that stays full is not logged again and again.
pub fn log_full(workspace: &Workspace) {
    tracing::warn!(
        workspace = workspace.key(),
        waiting = MAX_WAITING,
        "too many notifications wait for a receiver of a workspace: further ones are dropped"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_round_and_leave_busy_workspaces_out() {
        let turns = |after: &str, busy: &[&str]| {
            let request = LeaseRequest {
                now: Timestamp::UNIX_EPOCH,
                duration: Duration::ZERO,
                after: after.to_owned(),
                busy_workspaces: busy.iter().map(|key| (*key).to_owned()).collect(),
                busy_hosts: HashSet::new(),
                used_hosts: HashSet::new(),
            };
            let keys = ["a", "b", "c", "d", "shared"];
            let within = |[low, high]: [String; 2]| {
                keys.into_iter()
                    .filter(move |key| low.as_str() < *key && *key < high.as_str())
            };
            let turns: Vec<&str> = request.turns().into_iter().flat_map(within).collect();
            turns.join(" ")
        };
        assert_eq!(turns("", &[]), "a b c d shared");
        assert_eq!(turns("b", &[]), "c d shared a b");
        assert_eq!(turns("shared", &[]), "a b c d shared");
        assert_eq!(turns("bb", &["c", "x"]), "d shared a b");
        assert_eq!(turns("b", &["a", "b", "shared"]), "c d");
        assert_eq!(turns("b", &["a", "b", "c", "d", "shared"]), "");
    }
}
