//! Delivering the outbox. Nothing runs between requests, so each request sees to some of it after
//! its own answer; what is cut off is taken up again when its lease has run out.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{Either, join_all, select};
use futures_util::lock::Mutex;
use http::Request;
use kubeagents_core::delivery::{
    Answer, HostsUnderWay, PostError, Poster, Reach, deliver, lease_duration, reach_by_name,
};
use kubeagents_core::ports::Clock;
use kubeagents_core::store::{LeaseRequest, LeasedNotification};
use kubeagents_core::{Store, causes};

use crate::Platform;
use crate::ports::{SystemEntropy, Waker, WallClock};

/// The most notifications that one request delivers.
const PER_REQUEST: usize = 4;

/// How often an instance looks into the outbox unasked: pauses end, and other instances die.
const LOOK: Duration = Duration::from_secs(1);

/// Takes notifications from a store's outbox and posts them.
pub(crate) struct Delivery<S, P> {
    store: S,
    platform: P,
    waker: Waker,
    timeout: Duration,
    looked: Cell<Option<Instant>>,
    /// Held while leasing, so that requests at once do not each take what one may.
    leasing: Mutex<()>,
    under_way: RefCell<HostsUnderWay>,
}

/// A delivery under way; ends when dropped, as when the platform cuts the request off.
struct UnderWay<'a> {
    hosts: &'a RefCell<HostsUnderWay>,
    host: String,
}

impl<'a> UnderWay<'a> {
    fn new(hosts: &'a RefCell<HostsUnderWay>, leased: &LeasedNotification) -> Self {
        let host = leased.notification.host.clone();
        hosts.borrow_mut().take(&host);
        Self { hosts, host }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.hosts.borrow_mut().release(&self.host);
    }
}

impl<S: Store, P: Platform> Delivery<S, P> {
    pub(crate) fn new(store: S, platform: P, waker: Waker, timeout: Duration) -> Self {
        Self {
            store,
            platform,
            waker,
            timeout,
            looked: Cell::default(),
            leasing: Mutex::default(),
            under_way: RefCell::default(),
        }
    }

    /// Whether it is time to look into the outbox.
    pub(crate) fn is_due(&self) -> bool {
        let looked_lately = || {
            self.looked
                .get()
                .is_some_and(|looked| looked.elapsed() < LOOK)
        };
        self.waker.is_set() || !looked_lately()
    }

    /// Looks into the outbox and delivers, until nothing is due, enough is done or the deadline, if
    /// there is one, is over: what has not been answered then counts as failed.
    pub(crate) async fn run(&self, deadline: Option<Instant>) {
        self.waker.take();
        self.looked.set(Some(Instant::now()));
        let attempts = Attempts {
            delivery: self,
            deadline,
        };
        let mut rest = PER_REQUEST;
        while rest > 0 && !attempts.are_over() {
            let leased = self.lease(rest).await;
            if leased.is_empty() {
                return;
            }
            rest -= leased.len().min(rest);
            join_all(leased.into_iter().map(async |(_under_way, leased)| {
                deliver(&self.store, &attempts, &WallClock, &SystemEntropy, &leased).await;
            }))
            .await;
        }
        // More may be waiting: the next request is to look at once.
        self.looked.set(None);
    }

    async fn lease(&self, limit: usize) -> Vec<(UnderWay<'_>, LeasedNotification)> {
        let _turn = self.leasing.lock().await;
        let (room, busy_hosts) = {
            let hosts = self.under_way.borrow();
            (hosts.room(), hosts.busy())
        };
        let limit = limit.min(room);
        if limit == 0 {
            return Vec::new();
        }
        let request = LeaseRequest {
            now: WallClock.now(),
            duration: lease_duration(self.timeout),
            limit,
            busy_hosts,
        };
        let leased = self.store.lease_notifications(&request).await;
        let leased = leased.unwrap_or_else(|error| {
            tracing::warn!(causes = %causes(&error), "notifications cannot be leased");
            Vec::new()
        });
        leased
            .into_iter()
            .map(|leased| (UnderWay::new(&self.under_way, &leased), leased))
            .collect()
    }
}

/// How one run posts.
struct Attempts<'a, S, P> {
    delivery: &'a Delivery<S, P>,
    deadline: Option<Instant>,
}

impl<S, P> Attempts<'_, S, P> {
    /// As much of `wanted` as there is before the deadline.
    fn limit(&self, wanted: Duration) -> Duration {
        match self.deadline {
            Some(deadline) => wanted.min(deadline.saturating_duration_since(Instant::now())),
            None => wanted,
        }
    }

    fn are_over(&self) -> bool {
        self.limit(Duration::MAX).is_zero()
    }
}

impl<S: Store, P: Platform> Poster for Attempts<'_, S, P> {
    async fn post(&self, request: Request<Bytes>) -> Result<Answer, PostError> {
        // Names are the platform's to judge, by its allowed hosts.
        if reach_by_name(request.uri()) == Reach::Forbidden {
            return Err(PostError::Forbidden);
        }
        if self.are_over() {
            return Err(PostError::Timeout);
        }
        let platform = &self.delivery.platform;
        let answer = pin!(platform.post(request));
        let timeout = pin!(platform.sleep(self.limit(self.delivery.timeout)));
        match select(answer, timeout).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => Err(PostError::Timeout),
        }
    }

    async fn sleep(&self, duration: Duration) {
        self.delivery.platform.sleep(self.limit(duration)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use kubeagents_core::store::{CommitOutcome, MemoryStore, Outbox, Sessions};
    use kubeagents_core::{Commit, Notification, Snapshot, StatusKind, Workspace, decide};

    use super::*;

    /// A platform whose receivers never answer.
    #[derive(Clone)]
    struct Silent;

    impl Platform for Silent {
        fn spawn(&self, _: impl Future<Output = ()> + 'static) {}

        async fn sleep(&self, duration: Duration) {
            tokio::time::sleep(duration).await;
        }

        async fn post(&self, _: Request<Bytes>) -> Result<Answer, PostError> {
            pending().await
        }
    }

    fn commit(notification: Notification) -> Commit {
        let report = kubeagents_core::Report {
            agent_id: "agent".into(),
            agent_name: None,
            agent_source: None,
            session_topic: "topic".into(),
            status: StatusKind::Running,
            message: String::new(),
            content: String::new(),
            ttl_minutes: None,
        };
        let (snapshot, now) = (Snapshot::default(), notification.created_at);
        let mut commit = decide(&Workspace::Shared, &report, &snapshot, now, 60).commit;
        commit.notifications = vec![notification];
        commit
    }

    #[tokio::test]
    async fn an_attempt_that_the_deadline_ends_has_failed() {
        let store = MemoryStore::default();
        let notification = Notification {
            id: "id".into(),
            url: "https://example.com/hook".into(),
            host: "example.com:443".into(),
            body: "{}".into(),
            created_at: WallClock.now(),
        };
        let committed = store.commit(&commit(notification)).await.unwrap();
        assert_eq!(committed, CommitOutcome::Committed);
        let hour = Duration::from_secs(3600);
        let delivery = Delivery::new(store.clone(), Silent, Waker::default(), hour);
        let deadline = Instant::now() + Duration::from_millis(50);
        let run = delivery.run(Some(deadline));
        tokio::time::timeout(hour / 60, run).await.unwrap();

        // In memory what has failed is given up: no lease of it is left to run out.
        let later = LeaseRequest {
            now: WallClock.now() + chrono::TimeDelta::days(1),
            duration: hour,
            limit: 1,
            busy_hosts: Vec::new(),
        };
        assert!(store.lease_notifications(&later).await.unwrap().is_empty());
    }
}
