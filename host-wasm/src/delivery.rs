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
    HostsUnderWay, PostError, Poster, Reach, deliver, lease_duration, reach_by_name,
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

    /// Looks into the outbox and delivers, until nothing is due or enough is done.
    pub(crate) async fn run(&self) {
        self.waker.take();
        self.looked.set(Some(Instant::now()));
        let mut rest = PER_REQUEST;
        while rest > 0 {
            let leased = self.lease(rest).await;
            if leased.is_empty() {
                return;
            }
            rest -= leased.len().min(rest);
            join_all(leased.into_iter().map(async |(_under_way, leased)| {
                deliver(&self.store, self, &WallClock, &SystemEntropy, &leased).await;
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

impl<S: Store, P: Platform> Poster for Delivery<S, P> {
    async fn post(&self, request: Request<Bytes>) -> Result<u16, PostError> {
        // Names are the platform's to judge, by its allowed hosts.
        if reach_by_name(request.uri()) == Reach::Forbidden {
            return Err(PostError::Forbidden);
        }
        let answer = pin!(self.platform.post(request));
        let timeout = pin!(self.platform.sleep(self.timeout));
        match select(answer, timeout).await {
            Either::Left((answer, _)) => answer.map(|status| status.as_u16()),
            Either::Right(((), _)) => Err(PostError::Timeout),
        }
    }

    async fn sleep(&self, duration: Duration) {
        self.platform.sleep(duration).await;
    }
}
