//! Notifications that wait for delivery.

use std::time::Duration;

use super::StoreError;
use crate::{Notification, Timestamp};

/// Which notifications a delivering host takes on.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// The host's clock. Stores shared by several machines use their own clock instead.
    pub now: Timestamp,
    /// How long the others keep off what is leased.
    pub duration: Duration,
    /// At most this many, at most one to any receiving host, so that hosts take turns.
    pub limit: usize,
    /// Receiving hosts (`host:port`) that have all they can take for now.
    pub busy_hosts: Vec<String>,
}

/// A notification that this host has on lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedNotification {
    /// What to deliver.
    pub notification: Notification,
    /// Which round of attempts this is, counted from 1.
    pub round: u32,
}

/// Notifications that wait for delivery.
pub trait Outbox {
    /// Leases due notifications: those never tried or whose pause is over, and those whose lease
    /// ran out (their host died), longest due first, one to a receiving host.
    fn lease_notifications(
        &self,
        request: &LeaseRequest,
    ) -> impl Future<Output = Result<Vec<LeasedNotification>, StoreError>>;

    /// Ends a lease: delivered.
    fn notification_delivered(&self, id: &str) -> impl Future<Output = Result<(), StoreError>>;

    /// Ends a lease: not delivered, due again after `pause`.
    fn notification_failed(
        &self,
        id: &str,
        now: Timestamp,
        pause: Duration,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Ends a lease: not delivered, and given up.
    fn notification_abandoned(&self, id: &str) -> impl Future<Output = Result<(), StoreError>>;
}
