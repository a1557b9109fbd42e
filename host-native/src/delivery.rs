//! Delivering the outbox in the background.

mod client;
mod proxies;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Request;
use kubeagents_core::delivery::{Answer, ChannelRules, Fate, InFlight, PostError, Poster, deliver};
use kubeagents_core::ports::{Clock, Notifier};
use kubeagents_core::store::{LeaseRequest, LeasedNotification};
use kubeagents_core::{ChannelMail, Notification, Settings, Store, causes};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tracing::Instrument;

use crate::metrics::Metrics;
use crate::ports::{SystemClock, SystemEntropy};
pub(crate) use client::{WebhookClient, tcp};
pub(crate) use proxies::Proxies;

/// Interval at which the outbox is polled: pauses end, and other hosts die or fill it.
const POLL: Duration = Duration::from_secs(2);

/// Pause before storage is asked again after a failure.
const STORAGE_PAUSE: Duration = Duration::from_secs(1);

/// Tells the deliverer that there is something to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waker(Arc<Notify>);

impl Notifier for Waker {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// A client that notes in the metrics what becomes of notifications.
struct Noting {
    client: WebhookClient,
    metrics: Arc<Metrics>,
}

impl Poster for Noting {
    async fn post(&self, request: Request<Bytes>) -> Result<Answer, PostError> {
        self.client.post(request).await
    }

    async fn mail(&self, mail: ChannelMail) -> Result<Answer, PostError> {
        self.client.mail(mail).await
    }

    async fn sleep(&self, duration: Duration) {
        self.client.sleep(duration).await;
    }

    fn settled(&self, format: &'static str, fate: Fate) {
        self.metrics.notification(format, fate);
    }
}

/// Takes notifications from a store's outbox and posts them.
pub(crate) struct Deliverer<S> {
    store: S,
    waker: Waker,
    client: Noting,
    rules: ChannelRules,
    timeout: Duration,
}

impl<S: Store> Deliverer<S> {
    pub(crate) fn new(
        store: S,
        waker: Waker,
        client: WebhookClient,
        metrics: Arc<Metrics>,
        settings: &Settings,
    ) -> Self {
        Self {
            store,
            waker,
            client: Noting { client, metrics },
            rules: ChannelRules::new(settings),
            timeout: settings.values.notification_timeout,
        }
    }

    /// Delivers until `stop` turns true and nothing is left that could be delivered now.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut under_way = FuturesUnordered::new();
        let mut in_flight = InFlight::new(&SystemEntropy);
        loop {
            let request = in_flight.request(SystemClock.now(), self.timeout);
            let mut leasing = pin!(self.lease(request));
            let mut ended = false;
            let leased = loop {
                tokio::select! {
                    leased = &mut leasing => break leased,
                    Some::<Notification>(notification) = under_way.next() => {
                        in_flight.end(&notification);
                        ended = true;
                    }
                }
            };
            let may_lease_more = ended || leased.is_some();
            if let Some(leased) = leased {
                in_flight.begin(&leased.notification);
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
                Some::<Notification>(notification) = under_way.next() => {
                    in_flight.end(&notification);
                }
                () = self.waker.0.notified() => {}
                () = sleep(POLL) => {}
                _ = stop.wait_for(|stop| *stop), if !stopping => {}
            }
        }
    }

    async fn lease(&self, request: Option<LeaseRequest>) -> Option<LeasedNotification> {
        match self.store.lease_notification(&request?).await {
            Ok(leased) => leased,
            Err(error) => {
                tracing::warn!(causes = %causes(&error), "notifications cannot be leased");
                sleep(STORAGE_PAUSE).await;
                None
            }
        }
    }

    /// Tries to deliver a notification, and returns it.
    async fn deliver(&self, leased: LeasedNotification) -> Notification {
        let (store, client) = (&self.store, &self.client);
        let rules = &self.rules;
        let span = tracing::debug_span!("notification", id = leased.notification.id);
        deliver(store, client, &SystemClock, &SystemEntropy, rules, &leased)
            .instrument(span)
            .await;
        leased.notification
    }
}
