//! Delivering the outbox. Nothing runs between requests, so each request sees to some of it after
//! its own answer; what is cut off is taken up again when its lease has run out.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::{Either, join_all, select};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, StatusCode};
use kubeagents_core::delivery::{
    Attempt, ID_HEADER, MAX_IN_FLIGHT, MAX_IN_FLIGHT_PER_HOST, Next, QUICK_RETRIES, after_failure,
    lease_duration,
};
use kubeagents_core::ports::Clock;
use kubeagents_core::store::{LeaseRequest, LeasedNotification};
use kubeagents_core::{Notification, Store, StoreError};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::instance::causes;
use crate::ports::{Waker, WallClock, random_u32};
use crate::{Platform, PostError};

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
    in_flight: RefCell<HashMap<String, usize>>,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the receiver's URL is invalid")]
    Url(#[from] url::ParseError),
    #[error("the receiver's URL cannot be asked for")]
    Request(#[from] http::Error),
    #[error(transparent)]
    Post(#[from] PostError),
    #[error("no answer in time")]
    Timeout,
}

impl<S: Store, P: Platform> Delivery<S, P> {
    pub(crate) fn new(store: S, platform: P, waker: Waker, timeout: Duration) -> Self {
        Self {
            store,
            platform,
            waker,
            timeout,
            looked: Cell::default(),
            in_flight: RefCell::default(),
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
            join_all(leased.into_iter().map(|leased| self.deliver(leased))).await;
        }
        // More may be waiting: the next request is to look at once.
        self.looked.set(None);
    }

    async fn lease(&self, limit: usize) -> Vec<LeasedNotification> {
        let (limit, busy_hosts) = {
            let in_flight = self.in_flight.borrow();
            let room = MAX_IN_FLIGHT.saturating_sub(in_flight.values().sum());
            let busy = in_flight
                .iter()
                .filter(|(_, count)| **count >= MAX_IN_FLIGHT_PER_HOST);
            (
                limit.min(room),
                busy.map(|(host, _)| host.clone()).collect(),
            )
        };
        if limit == 0 {
            return Vec::new();
        }
        let request = LeaseRequest {
            now: WallClock.now(),
            duration: lease_duration(self.timeout),
            limit,
            busy_hosts,
        };
        let leased = self
            .store
            .lease_notifications(&request)
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(causes = %causes(&error), "notifications cannot be leased");
                Vec::new()
            });
        let mut in_flight = self.in_flight.borrow_mut();
        for LeasedNotification { notification, .. } in &leased {
            *in_flight.entry(notification.host.clone()).or_default() += 1;
        }
        leased
    }

    async fn deliver(&self, leased: LeasedNotification) {
        let LeasedNotification {
            notification,
            round,
        } = leased;
        let mut outcome = self.attempt(&notification).await;
        for pause in QUICK_RETRIES {
            let attempt = attempt(&outcome);
            if attempt.is_success() || attempt.is_final() {
                break;
            }
            self.platform.sleep(pause).await;
            outcome = self.attempt(&notification).await;
        }
        self.release(&notification.host);
        if let Err(error) = self.settle(&notification, round, &outcome).await {
            let id = &notification.id;
            let causes = causes(&error);
            tracing::warn!(%id, %causes, "what became of a notification is not stored");
        }
    }

    fn release(&self, host: &str) {
        let mut in_flight = self.in_flight.borrow_mut();
        if let Some(count) = in_flight.get_mut(host) {
            *count -= 1;
            if *count == 0 {
                in_flight.remove(host);
            }
        }
    }

    async fn attempt(&self, notification: &Notification) -> Result<StatusCode, Failure> {
        let request = request(notification)?;
        let answer = pin!(self.platform.post(request));
        let timeout = pin!(self.platform.sleep(self.timeout));
        match select(answer, timeout).await {
            Either::Left((answer, _)) => Ok(answer?),
            Either::Right(((), _)) => Err(Failure::Timeout),
        }
    }

    async fn settle(
        &self,
        notification: &Notification,
        round: u32,
        outcome: &Result<StatusCode, Failure>,
    ) -> Result<(), StoreError> {
        let Notification {
            id,
            host: receiver,
            created_at,
            ..
        } = notification;
        let attempt = attempt(outcome);
        if attempt.is_success() {
            return self.store.notification_delivered(id).await;
        }
        let reason = match outcome {
            Ok(status) => format!("answered {}", status.as_u16()),
            Err(error) => causes(error),
        };
        let now = WallClock.now();
        match after_failure(attempt, round, *created_at, now, S::DURABLE, random_u32()) {
            Next::After(pause) => {
                tracing::warn!(%id, %receiver, %reason, ?pause, "a notification failed and will be tried again");
                self.store.notification_failed(id, now, pause).await
            }
            Next::Abandon => {
                tracing::error!(%id, %receiver, %reason, "a notification failed and is given up");
                self.store.notification_abandoned(id).await
            }
        }
    }
}

fn attempt(outcome: &Result<StatusCode, Failure>) -> Attempt {
    match outcome {
        Ok(status) => Attempt::Answered(status.as_u16()),
        Err(Failure::Post(PostError::Forbidden)) => Attempt::Forbidden,
        Err(_) => Attempt::Failed,
    }
}

fn request(notification: &Notification) -> Result<Request<Bytes>, Failure> {
    let mut url = Url::parse(&notification.url)?;
    let mut request = Request::post("/")
        .header(CONTENT_TYPE, "application/json")
        .header(ID_HEADER, &notification.id);
    if !url.username().is_empty() || url.password().is_some() {
        let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        let user = decoded(url.username());
        let password = decoded(url.password().unwrap_or_default());
        let credentials = STANDARD.encode([user, password].join(&b':'));
        request = request.header(AUTHORIZATION, format!("Basic {credentials}"));
        // Only a URL without a host refuses, and this one has one.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
    }
    url.set_fragment(None);
    Ok(request
        .uri(url.as_str())
        .body(notification.body.clone().into())?)
}
