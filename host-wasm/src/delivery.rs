//! Delivering the outbox. Nothing runs between requests, so requests see to it after their own
//! answers; what is cut off is taken up again when its lease has run out.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::lock::Mutex;
use futures_util::stream::FuturesUnordered;
use http::Request;
use kubeagents_core::delivery::{Answer, ChannelRules, InFlight, PostError, Poster, deliver};
use kubeagents_core::ports::Clock;
use kubeagents_core::silence::notice;
use kubeagents_core::store::LeasedNotification;
use kubeagents_core::{ChannelMail, ReportPolicy, Settings, Store, causes};

use crate::Platform;
use crate::ports::{NO_MAIL, SystemEntropy, Waker, WallClock, post_within};

/// The most notifications that a request delivers before its answer.
const BEFORE_ANSWER: usize = 4;

/// Longest time that an instance goes on after an answer while notifications are due. What is due
/// then waits for the next request.
const AFTER_ANSWER: Duration = Duration::from_secs(60);

/// Interval of unasked looks into the outbox: pauses end, and other instances die.
const LOOK: Duration = Duration::from_secs(1);

/// Takes notifications from a store's outbox and posts them.
pub(crate) struct Delivery<S, P> {
    store: S,
    platform: P,
    waker: Waker,
    timeout: Duration,
    rules: ChannelRules,
    policy: ReportPolicy,
    looked: Cell<Option<Instant>>,
    /// Held while leasing, so that requests at once do not each take what one may.
    leasing: Mutex<()>,
    in_flight: RefCell<InFlight>,
}

/// A delivery under way; ends when dropped, as when the platform cuts the request off.
struct UnderWay<'a> {
    in_flight: &'a RefCell<InFlight>,
    leased: LeasedNotification,
}

impl<'a> UnderWay<'a> {
    fn new(in_flight: &'a RefCell<InFlight>, leased: LeasedNotification) -> Self {
        in_flight.borrow_mut().begin(&leased.notification);
        Self { in_flight, leased }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.in_flight.borrow_mut().end(&self.leased.notification);
    }
}

impl<S: Store, P: Platform> Delivery<S, P> {
    pub(crate) fn new(store: S, platform: P, waker: Waker, settings: &Settings) -> Self {
        Self {
            store,
            platform,
            waker,
            timeout: settings.values.notification_timeout,
            rules: ChannelRules::new(settings),
            policy: ReportPolicy::new(settings),
            looked: Cell::default(),
            leasing: Mutex::default(),
            in_flight: RefCell::new(InFlight::new(&SystemEntropy)),
        }
    }

    /// Checks whether it is time to look into the outbox.
    pub(crate) fn is_due(&self) -> bool {
        let looked_lately = || {
            self.looked
                .get()
                .is_some_and(|looked| looked.elapsed() < LOOK)
        };
        self.waker.is_set() || !looked_lately()
    }

    /// Delivers until nothing is due, or for a minute.
    pub(crate) async fn run(&self) {
        let attempts = Attempts {
            delivery: self,
            deadline: None,
        };
        self.deliver(&attempts, Instant::now() + AFTER_ANSWER, usize::MAX)
            .await;
    }

    /// Delivers a few until the deadline: what has not been answered then counts as failed.
    pub(crate) async fn run_until(&self, deadline: Instant) {
        let attempts = Attempts {
            delivery: self,
            deadline: Some(deadline),
        };
        self.deliver(&attempts, deadline, BEFORE_ANSWER).await;
    }

    /// Looks into the outbox and delivers, until nothing is due, `most` have been taken or the time
    /// for taking more is over.
    async fn deliver(&self, attempts: &Attempts<'_, S, P>, until: Instant, most: usize) {
        self.waker.take();
        self.looked.set(Some(Instant::now()));
        if let Err(error) = notice(&self.store, &self.policy, WallClock.now()).await {
            tracing::warn!(causes = %causes(&error), "silent sessions cannot be looked for");
        }
        let mut rest = most;
        let mut under_way = FuturesUnordered::new();
        while rest > 0 && Instant::now() < until {
            match beside(&mut under_way, self.lease()).await {
                Some(begun) => {
                    rest -= 1;
                    under_way.push(async move {
                        let (store, rules, leased) = (&self.store, &self.rules, &begun.leased);
                        let entropy = &SystemEntropy;
                        deliver(store, attempts, &WallClock, entropy, rules, leased).await;
                    });
                }
                None if under_way.next().await.is_none() => return,
                None => {}
            }
        }
        // More may be waiting: the next request is to look at once.
        self.looked.set(None);
        under_way.collect::<()>().await;
    }

    async fn lease(&self) -> Option<UnderWay<'_>> {
        let _turn = self.leasing.lock().await;
        let request = self
            .in_flight
            .borrow()
            .request(WallClock.now(), self.timeout)?;
        match self.store.lease_notification(&request).await {
            Ok(leased) => leased.map(|leased| UnderWay::new(&self.in_flight, leased)),
            Err(error) => {
                tracing::warn!(causes = %causes(&error), "notifications cannot be leased");
                None
            }
        }
    }
}

/// Waits for `work` while what is under way goes on.
async fn beside<T>(
    under_way: &mut FuturesUnordered<impl Future<Output = ()>>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    while !under_way.is_empty() {
        if let Either::Left((done, _)) = select(work.as_mut(), under_way.next()).await {
            return done;
        }
    }
    work.await
}

/// Poster of one run, bounded by its deadline if it has one.
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
        if self.are_over() {
            return Err(PostError::Timeout);
        }
        let limit = self.limit(self.delivery.timeout);
        post_within(&self.delivery.platform, request, limit).await
    }

    async fn mail(&self, _: ChannelMail) -> Result<Answer, PostError> {
        Err(PostError::Forbidden(NO_MAIL))
    }

    async fn sleep(&self, duration: Duration) {
        self.delivery.platform.sleep(self.limit(duration)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::rc::Rc;

    use http::{HeaderMap, StatusCode};
    use kubeagents_core::delivery::MAX_IN_FLIGHT_PER_HOST;
    use kubeagents_core::settings::{Host, Texts, Values};
    use kubeagents_core::store::{CommitOutcome, MemoryStore, Outbox, Sessions};
    use kubeagents_core::{AuthMode, Notification, Snapshot, StatusKind, Workspace, decide};

    use super::*;

    /// A platform that keeps what is posted. Its receivers answer soon or never.
    #[derive(Clone, Default)]
    struct Receivers {
        silent: bool,
        posted: Rc<RefCell<Vec<Request<Bytes>>>>,
        under_way: Rc<Cell<usize>>,
        most: Rc<Cell<usize>>,
    }

    impl Platform for Receivers {
        fn spawn(&self, _: impl Future<Output = ()> + 'static) {}

        async fn sleep(&self, duration: Duration) {
            tokio::time::sleep(duration).await;
        }

        async fn post(&self, request: Request<Bytes>) -> Result<Answer, PostError> {
            self.posted.borrow_mut().push(request);
            if self.silent {
                return pending().await;
            }
            self.under_way.set(self.under_way.get() + 1);
            self.most.set(self.most.get().max(self.under_way.get()));
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            self.under_way.set(self.under_way.get() - 1);
            Ok(Answer::new(StatusCode::OK, &HeaderMap::new()))
        }
    }

    /// A store with this many notifications to one receiver.
    async fn store_with(count: usize) -> MemoryStore {
        let store = MemoryStore::default();
        let report = kubeagents_core::Report::new("agent", "topic", StatusKind::Running);
        let (snapshot, now) = (Snapshot::default(), WallClock.now());
        let mut commit = decide(&Workspace::Shared, &report, &snapshot, now, 60)
            .unwrap()
            .commit;
        commit.notifications = (0..count)
            .map(|n| Notification {
                id: n.to_string(),
                workspace: Workspace::Shared,
                url: "https://example.com/hook".into(),
                host: "example.com:443".into(),
                body: "{}".into(),
                channel: String::new(),

                created_at: now,
                delay: chrono::TimeDelta::zero(),
            })
            .collect();
        let committed = store.commit(&commit).await.unwrap();
        assert_eq!(committed, CommitOutcome::Committed);
        store
    }

    fn settings() -> Settings {
        Settings {
            values: Values::read(Host::Wasmcloud, Texts::new()).unwrap(),
            host: Host::Wasmcloud,
            mode: AuthMode::Open,
            loopback_only: true,
            own_url: None,
            jwt_secret: String::new(),
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    fn delivery(store: &MemoryStore, platform: &Receivers) -> Delivery<MemoryStore, Receivers> {
        let mut delivery = Delivery::new(
            store.clone(),
            platform.clone(),
            Waker::default(),
            &settings(),
        );
        delivery.timeout = HOUR;
        delivery
    }

    #[tokio::test]
    async fn an_instance_goes_on_until_nothing_is_due() {
        let (store, platform) = (store_with(30).await, Receivers::default());
        delivery(&store, &platform).run().await;
        assert_eq!(platform.posted.borrow().len(), 30);
        assert_eq!(platform.most.get(), MAX_IN_FLIGHT_PER_HOST);
    }

    #[tokio::test]
    async fn a_request_delivers_a_few_before_its_answer_and_the_next_one_goes_on() {
        let (store, platform) = (store_with(30).await, Receivers::default());
        let delivery = delivery(&store, &platform);
        delivery.run_until(Instant::now() + HOUR).await;
        assert_eq!(platform.posted.borrow().len(), BEFORE_ANSWER);
        assert!(delivery.is_due());
    }

    #[tokio::test]
    async fn an_attempt_that_the_deadline_ends_has_failed() {
        let store = store_with(1).await;
        let silent = Receivers {
            silent: true,
            ..Receivers::default()
        };
        let delivery = delivery(&store, &silent);
        let run = delivery.run_until(Instant::now() + Duration::from_millis(50));
        tokio::time::timeout(HOUR / 60, run).await.unwrap();

        // In memory what has failed is given up: no lease of it is left to run out.
        let later = WallClock.now() + chrono::TimeDelta::days(1);
        let request = InFlight::new(&SystemEntropy).request(later, HOUR).unwrap();
        assert_eq!(store.lease_notification(&request).await.unwrap(), None);
    }
}
