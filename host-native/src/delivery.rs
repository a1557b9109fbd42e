//! Delivering the outbox in the background.

mod address;
mod client;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kubeagents_core::delivery::{
    Attempt, MAX_IN_FLIGHT, MAX_IN_FLIGHT_PER_HOST, Next, QUICK_RETRIES, after_failure,
    lease_duration,
};
use kubeagents_core::ports::{Clock, Notifier};
use kubeagents_core::store::{LeaseRequest, LeasedNotification};
use kubeagents_core::{Notification, Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::causes;
use crate::ports::{SystemClock, random_u32};
pub(crate) use client::tls_config;
use client::{PostError, Receiver, WebhookClient};

/// How often a durable outbox is looked into unasked: pauses end, and other hosts die or fill it.
const POLL: Duration = Duration::from_secs(2);

/// How many places are kept for receivers to which nothing is under way.
const RESERVED: usize = MAX_IN_FLIGHT / 4;

/// How long to leave storage alone when it has failed.
const STORAGE_PAUSE: Duration = Duration::from_secs(1);

/// Tells the deliverer that there is something to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waker(Arc<Notify>);

impl Notifier for Waker {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// How notifications are delivered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryPolicy {
    /// How long one attempt may take.
    pub(crate) timeout: Duration,
    /// Whether private and loopback addresses may be connected to.
    pub(crate) allow_private: bool,
}

/// Takes notifications from a store's outbox and posts them.
pub(crate) struct Deliverer<S> {
    store: S,
    waker: Waker,
    client: WebhookClient,
    lease: Duration,
}

impl<S: Store> Deliverer<S> {
    /// # Errors
    /// When TLS cannot be set up.
    pub(crate) fn new(
        store: S,
        waker: Waker,
        policy: DeliveryPolicy,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            store,
            waker,
            client: WebhookClient::new(policy.timeout, policy.allow_private)?,
            lease: lease_duration(policy.timeout),
        })
    }

    /// Delivers until `stop` turns true and nothing is left that could be delivered now.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut under_way = FuturesUnordered::new();
        let mut hosts = HostsUnderWay::default();
        loop {
            let room = MAX_IN_FLIGHT - under_way.len();
            // The last places go to receivers that have none, lest a few that hang take them all.
            let per_host = match room > RESERVED {
                true => MAX_IN_FLIGHT_PER_HOST,
                false => 1,
            };
            let mut leasing = pin!(self.lease(room, hosts.busy(per_host)));
            let mut released = false;
            let leased = loop {
                tokio::select! {
                    leased = &mut leasing => break leased,
                    Some(host) = under_way.next() => {
                        hosts.release(host);
                        released = true;
                    }
                }
            };
            let may_lease_more = released || !leased.is_empty();
            for leased in leased {
                hosts.take(&leased.notification.host);
                under_way.push(self.deliver(leased));
            }
            if may_lease_more {
                continue;
            }
            let stopping = *stop.borrow();
            if stopping && under_way.is_empty() {
                return;
            }
            tokio::select! {
                Some(host) = under_way.next() => hosts.release(host),
                () = self.waker.0.notified() => {}
                () = sleep(POLL), if S::DURABLE => {}
                _ = stop.wait_for(|stop| *stop), if !stopping => {}
            }
        }
    }

    async fn lease(&self, limit: usize, busy_hosts: Vec<String>) -> Vec<LeasedNotification> {
        if limit == 0 {
            return Vec::new();
        }
        let request = LeaseRequest {
            now: SystemClock.now(),
            duration: self.lease,
            limit,
            busy_hosts,
        };
        match self.store.lease_notifications(&request).await {
            Ok(leased) => leased,
            Err(error) => {
                tracing::warn!(causes = %causes(&error), "notifications cannot be leased");
                sleep(STORAGE_PAUSE).await;
                Vec::new()
            }
        }
    }

    /// Tries to deliver a notification, and returns its receiving host.
    async fn deliver(&self, leased: LeasedNotification) -> String {
        let LeasedNotification {
            notification,
            round,
        } = leased;
        let mut outcome = self.client.post(&notification).await;
        for pause in QUICK_RETRIES {
            let attempt = attempt(&outcome);
            if attempt.is_success() || attempt.is_final() {
                break;
            }
            sleep(pause).await;
            outcome = self.client.post(&notification).await;
        }
        if let Err(error) = self.settle(&notification, round, &outcome).await {
            let id = &notification.id;
            tracing::warn!(%id, causes = %causes(&error), "what became of a notification is not stored");
        }
        notification.host
    }

    async fn settle(
        &self,
        notification: &Notification,
        round: u32,
        outcome: &Result<u16, PostError>,
    ) -> Result<(), StoreError> {
        let id = notification.id.as_str();
        let receiver = Receiver(&notification.url);
        let attempt = attempt(outcome);
        if attempt.is_success() {
            tracing::debug!(%id, %receiver, "notification delivered");
            return self.store.notification_delivered(id).await;
        }
        let reason = match outcome {
            Ok(status) => format!("answered {status}"),
            Err(error) => causes(error),
        };
        let now = SystemClock.now();
        let created = notification.created_at;
        match after_failure(attempt, round, created, now, S::DURABLE, random_u32()) {
            Next::After(pause) => {
                tracing::warn!(%id, %receiver, %reason, ?pause, "notification failed, will be tried again");
                self.store.notification_failed(id, now, pause).await
            }
            Next::Abandon => {
                tracing::error!(%id, %receiver, %reason, "notification failed and is given up");
                self.store.notification_abandoned(id).await
            }
        }
    }
}

fn attempt(outcome: &Result<u16, PostError>) -> Attempt {
    match outcome {
        Ok(status) => Attempt::Answered(*status),
        Err(error) if error.is_forbidden() => Attempt::Forbidden,
        Err(_) => Attempt::Failed,
    }
}

/// How many deliveries are under way to each receiving host.
#[derive(Debug, Default)]
struct HostsUnderWay(HashMap<String, usize>);

impl HostsUnderWay {
    fn take(&mut self, host: &str) {
        *self.0.entry(host.to_owned()).or_default() += 1;
    }

    fn release(&mut self, host: String) {
        if let Some(count) = self.0.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&host);
            }
        }
    }

    /// The hosts that have this many or more.
    fn busy(&self, limit: usize) -> Vec<String> {
        self.0
            .iter()
            .filter(|(_, count)| **count >= limit)
            .map(|(host, _)| host.clone())
            .collect()
    }
}
