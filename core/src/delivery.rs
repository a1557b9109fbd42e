//! Delivering notifications: to whom, how, how often, and when to give up. Hosts do the posting.

mod address;
mod channels;

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::ports::{Clock, Entropy, random, random_uuid};
use crate::store::{Failure, LeaseRequest, LeasedNotification, PutOff};
use crate::{ChannelMail, Notification, Store, StoreError, Timestamp, causes};

pub use address::{Reach, is_loopback, reach, reach_by_name};
pub use channels::ChannelRules;
pub(crate) use channels::send_sample;

/// The pauses between the first attempts, which one host makes in a row on one lease.
const QUICK_RETRIES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(200)];

/// The most deliveries under way at once to one receiving host (`host:port`).
pub const MAX_IN_FLIGHT_PER_HOST: usize = 4;

/// The most deliveries under way at once.
const MAX_IN_FLIGHT: usize = 64;

/// The most of them for the receivers of one workspace.
const MAX_IN_FLIGHT_PER_WORKSPACE: usize = MAX_IN_FLIGHT / 4;

/// The places kept for workspaces for which nothing is under way.
const RESERVED: usize = MAX_IN_FLIGHT / 4;

/// How long a notification is worth trying, where it survives that long.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The same where it survives only as long as the process, and only when the receiver asks for time.
const MAX_AGE_IN_MEMORY: Duration = Duration::from_secs(60 * 60);

/// The shortest pause, also when the receiver asks for less.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause, also when the receiver asks for more.
const MAX_PAUSE: Duration = Duration::from_secs(60 * 60);

/// The header that carries [`Notification::id`].
const ID_HEADER: HeaderName = HeaderName::from_static("webhook-id");

/// How long a lease lasts: every quick attempt may take `timeout`, and then some.
fn lease_duration(timeout: Duration) -> Duration {
    let pauses: Duration = QUICK_RETRIES.iter().sum();
    (timeout + Duration::from_secs(2)) * (QUICK_RETRIES.len() as u32 + 1) + pauses
}

/// What a host does for deliveries.
pub trait Poster {
    /// Posts once. Follows no redirect, and gives up when the configured time is over.
    fn post(&self, request: Request<Bytes>) -> impl Future<Output = Result<Answer, PostError>>;

    /// Sends a mail once; what the mail server says counts as an answer.
    fn mail(&self, mail: ChannelMail) -> impl Future<Output = Result<Answer, PostError>>;

    /// Waits.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Notes what became of a notification of this form, for the host's own records.
    fn settled(&self, _format: &'static str, _fate: Fate) {}
}

/// What became of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The receiver has taken it.
    Delivered,
    /// The receiver has taken a message that stands for it and others.
    Merged,
    /// The receiver has not taken it, and will be asked again.
    Retried,
    /// It is given up.
    Failed,
    /// It is not to be told any more.
    Dropped,
}

impl Fate {
    /// Every fate.
    pub const ALL: [Self; 5] = [
        Self::Delivered,
        Self::Merged,
        Self::Retried,
        Self::Failed,
        Self::Dropped,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Merged => "merged",
            Self::Retried => "retried",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// What the form of notifications that are no channel's is called.
pub const PLAIN: &str = "plain";

/// A receiver's answer, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    status: StatusCode,
    retry_after: Option<HeaderValue>,
    /// Unless it was cut off.
    body: Option<Bytes>,
}

impl Answer {
    /// An answer with this status and these headers.
    pub fn new(status: StatusCode, headers: &HeaderMap) -> Self {
        let retry_after = headers.get(RETRY_AFTER).cloned();
        Self {
            status,
            retry_after,
            body: None,
        }
    }

    /// The same answer with its whole body, in which some providers say what went wrong.
    pub fn with_body(self, body: Bytes) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    /// The wait that the receiver asks for, in seconds or as a date. The answer of a receiver that
    /// limits rates is such a wish by itself.
    fn wait(&self, now: Timestamp) -> Option<Duration> {
        let wish = self.retry_after.as_ref().and_then(|value| {
            let text = value.to_str().ok()?.trim();
            let seconds = text.parse().map(Duration::from_secs);
            seconds.ok().or_else(|| {
                let date: DateTime<Utc> = DateTime::parse_from_rfc2822(text).ok()?.into();
                Some((date - now).to_std().unwrap_or_default())
            })
        });
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => Some(wish.unwrap_or_default()),
            StatusCode::SERVICE_UNAVAILABLE => wish,
            _ => None,
        }
    }
}

/// Why a notification was not posted. Its texts must not name the URL.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The receiver is at an address that this host must not connect to, and why.
    #[error("notifications may not go to this address: {0}")]
    Forbidden(&'static str),
    /// The URL cannot be asked for. It was checked when it was set.
    #[error("the receiver's URL is invalid")]
    Url(#[source] Box<dyn Error + Send + Sync>),
    /// No answer within the configured time.
    #[error("no answer in time")]
    Timeout,
    /// No answer: refused, broken off.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

/// Tries to deliver a leased notification, three times at most, and stores what came of it.
pub async fn deliver<S: Store>(
    store: &S,
    poster: &impl Poster,
    clock: &impl Clock,
    entropy: &impl Entropy,
    rules: &ChannelRules,
    leased: &LeasedNotification,
) {
    let notification = &leased.notification;
    if !leased.rest.is_zero() {
        let rest = store.put_off(notification, PutOff::WhatIsDue, clock.now(), leased.rest);
        if let Err(error) = rest.await {
            let (id, causes) = (&notification.id, causes(&error));
            tracing::warn!(%id, %causes, "a notification is not put off");
        }
        return;
    }
    if !notification.channel.is_empty() {
        let random = u32::from_le_bytes(random(entropy));
        let told = channels::tell(store, poster, clock, random, rules, leased).await;
        if let Err(error) = told {
            let (id, causes) = (&notification.id, causes(&error));
            tracing::warn!(%id, %causes, "what became of a notification is not stored");
        }
        return;
    }
    let mut outcome = post(poster, notification).await;
    for pause in QUICK_RETRIES {
        let attempt = Attempt::of(&outcome, clock.now());
        if attempt.is_success() || attempt.is_final() || attempt.wait() > pause {
            break;
        }
        poster.sleep(pause).await;
        outcome = post(poster, notification).await;
    }
    let random = u32::from_le_bytes(random(entropy));
    if let Err(error) = settle(store, poster, leased, &outcome, clock.now(), random).await {
        let (id, causes) = (&notification.id, causes(&error));
        tracing::warn!(%id, %causes, "what became of a notification is not stored");
    }
}

async fn post(poster: &impl Poster, notification: &Notification) -> Result<Answer, PostError> {
    poster.post(request(notification)?).await
}

async fn settle<S: Store>(
    store: &S,
    poster: &impl Poster,
    leased: &LeasedNotification,
    outcome: &Result<Answer, PostError>,
    now: Timestamp,
    random: u32,
) -> Result<(), StoreError> {
    let Notification {
        id,
        url,
        created_at,
        ..
    } = &leased.notification;
    // Where the receiver is, not what its path or query give away.
    let receiver =
        Url::parse(url).map_or_else(|_| String::new(), |url| url.origin().ascii_serialization());
    let attempt = Attempt::of(outcome, now);
    if attempt.is_success() {
        tracing::debug!(%id, %receiver, "notification delivered");
        poster.settled(PLAIN, Fate::Delivered);
        return store.notification_delivered(id).await;
    }
    let reason = match outcome {
        Ok(answer) => format!("answered {}", answer.status.as_u16()),
        Err(error) => causes(error),
    };
    match after_failure(attempt, leased.round, *created_at, now, S::DURABLE, random) {
        Next::After(pause) => {
            tracing::warn!(%id, %receiver, %reason, ?pause, "notification failed, will be tried again");
            poster.settled(PLAIN, Fate::Retried);
            let failure = Failure {
                rests: attempt.asks_for_rest(),
                ..Failure::default()
            };
            store
                .notifications_failed(&[(id, pause)], now, &failure)
                .await
        }
        Next::Abandon => {
            tracing::error!(%id, %receiver, %reason, "notification failed and is given up");
            poster.settled(PLAIN, Fate::Failed);
            store.notification_abandoned(id).await
        }
    }
}

/// The request that delivers a notification.
fn request(notification: &Notification) -> Result<Request<Bytes>, PostError> {
    let url = Url::parse(&notification.url).map_err(|error| PostError::Url(error.into()))?;
    let body = notification.body.clone().into();
    post_to(url, &notification.id, body).map_err(|error| PostError::Url(error.into()))
}

/// The request that posts JSON. A user and password in the URL go into a header.
pub(crate) fn post_to(mut url: Url, id: &str, body: Bytes) -> Result<Request<Bytes>, http::Error> {
    let credentials = basic_credentials(&url);
    // Only a URL without a host refuses, and a receiver has one.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.set_fragment(None);
    let mut request = Request::post(url.as_str())
        .header(CONTENT_TYPE, "application/json")
        .header(
            USER_AGENT,
            concat!("kubeagents/", env!("CARGO_PKG_VERSION")),
        )
        // Some platforms send a body in chunks otherwise, which simple receivers take for none.
        .header(CONTENT_LENGTH, body.len())
        .header(ID_HEADER, id)
        .body(body)?;
    if let Some(credentials) = credentials {
        request.headers_mut().insert(AUTHORIZATION, credentials);
    }
    Ok(request)
}

/// The user and password of a URL, as a header.
fn basic_credentials(url: &Url) -> Option<HeaderValue> {
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    if user.is_empty() && password.is_empty() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(user).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The deliveries that a host has under way, and which one is to be next.
#[derive(Debug)]
pub struct InFlight {
    workspaces: Counts,
    hosts: Counts,
    /// The workspace that had its turn last.
    after: String,
}

impl InFlight {
    /// Nothing. Where turns begin is random, or hosts that live only for a moment would always
    /// begin with the same workspace.
    pub fn new(entropy: &impl Entropy) -> Self {
        Self {
            workspaces: Counts::default(),
            hosts: Counts::default(),
            after: random_uuid(entropy),
        }
    }

    /// The request for the next delivery; `None` when there is no room for it. The lease lasts as
    /// long as a delivery whose attempts may take `timeout` each.
    pub fn request(&self, now: Timestamp, timeout: Duration) -> Option<LeaseRequest> {
        let room = MAX_IN_FLIGHT.saturating_sub(self.workspaces.total());
        // The last places go to workspaces that have none, lest a few whose receivers hang take
        // them all.
        let most_per_workspace = match room {
            0 => return None,
            1..=RESERVED => 1,
            _ => MAX_IN_FLIGHT_PER_WORKSPACE,
        };
        Some(LeaseRequest {
            now,
            duration: lease_duration(timeout),
            after: self.after.clone(),
            busy_workspaces: self.workspaces.at_least(most_per_workspace),
            busy_hosts: self.hosts.at_least(MAX_IN_FLIGHT_PER_HOST),
            used_hosts: self.hosts.at_least(1),
        })
    }

    /// Counts a delivery that begins.
    pub fn begin(&mut self, notification: &Notification) {
        let workspace = notification.workspace.key();
        self.workspaces.add(workspace);
        self.hosts.add(&notification.host);
        workspace.clone_into(&mut self.after);
    }

    /// Counts a delivery that has ended.
    pub fn end(&mut self, notification: &Notification) {
        self.workspaces.remove(notification.workspace.key());
        self.hosts.remove(&notification.host);
    }
}

/// How often each name is counted.
#[derive(Debug, Default)]
struct Counts(HashMap<String, usize>);

impl Counts {
    fn add(&mut self, name: &str) {
        *self.0.entry(name.to_owned()).or_default() += 1;
    }

    fn remove(&mut self, name: &str) {
        if let Some(count) = self.0.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(name);
            }
        }
    }

    fn total(&self) -> usize {
        self.0.values().sum()
    }

    fn at_least(&self, least: usize) -> HashSet<String> {
        let names = self.0.iter().filter(|(_, count)| **count >= least);
        names.map(|(name, _)| name.clone()).collect()
    }
}

/// What one attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// The receiver answered with this status.
    Answered(u16),
    /// The receiver asked to be left alone for this long.
    Busy(Duration),
    /// No answer: refused, broken off, timed out.
    Failed,
    /// The address is one that this host must not connect to.
    Forbidden,
}

impl Attempt {
    fn of(outcome: &Result<Answer, PostError>, now: Timestamp) -> Self {
        match outcome {
            Ok(answer) => match answer.wait(now) {
                Some(wait) => Self::Busy(wait),
                None => Self::Answered(answer.status.as_u16()),
            },
            Err(PostError::Forbidden(_)) => Self::Forbidden,
            Err(_) => Self::Failed,
        }
    }

    /// Whether the receiver has taken the notification: any 2xx. A redirect is not followed and
    /// counts as a failure.
    fn is_success(self) -> bool {
        matches!(self, Self::Answered(200..=299))
    }

    /// How long the receiver asked to be left alone.
    fn wait(self) -> Duration {
        match self {
            Self::Busy(wait) => wait,
            _ => Duration::ZERO,
        }
    }

    /// Whether its receiver, whatever waits for it, is left alone until the next attempt.
    fn asks_for_rest(self) -> bool {
        matches!(self, Self::Busy(_))
    }

    /// Whether trying again is pointless: the receiver is gone for good (410), or may not be asked.
    fn is_final(self) -> bool {
        matches!(self, Self::Answered(410) | Self::Forbidden)
    }
}

/// What to do with a notification whose quick attempts have all failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Try another round after this pause.
    After(Duration),
    /// Give it up.
    Abandon,
}

/// Decides on a notification after its failed round `round` (counted from 1) whose last attempt
/// was `last`. `durable`: whether it survives a restart; without that only a receiver that asks for
/// time gets another round. `random`: any number, for jitter.
///
/// Pauses grow fourfold from 5 seconds to an hour, each shortened by up to a fifth. A receiver that asks
/// for time gets what it asks for, and 5 seconds at least.
fn after_failure(
    last: Attempt,
    round: u32,
    created_at: Timestamp,
    now: Timestamp,
    durable: bool,
    random: u32,
) -> Next {
    let age = (now - created_at).to_std().unwrap_or_default();
    let max_age = match (durable, last) {
        (true, _) => MAX_AGE,
        (false, Attempt::Busy(_)) => MAX_AGE_IN_MEMORY,
        (false, _) => Duration::ZERO,
    };
    if last.is_final() || age >= max_age {
        return Next::Abandon;
    }
    if last.asks_for_rest() {
        return Next::After(rest(last, random));
    }
    let growth = 4_u32.saturating_pow(round.saturating_sub(1));
    let full = (SHORTEST_PAUSE.saturating_mul(growth)).min(MAX_PAUSE);
    Next::After(jittered(full, random))
}

/// How long a receiver is left alone that has asked for it.
fn rest(last: Attempt, random: u32) -> Duration {
    jittered(SHORTEST_PAUSE, random).max(last.wait().min(MAX_PAUSE))
}

/// The number that shortens a pause most.
const MOST_JITTER: u32 = 999;

/// A pause, shortened by up to a fifth.
fn jittered(pause: Duration, random: u32) -> Duration {
    pause - pause / 5 * (random % (MOST_JITTER + 1)) / (MOST_JITTER + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Workspace;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn pauses_grow_from_seconds_to_an_hour() {
        let pause =
            |round, random| after_failure(Attempt::Failed, round, START, START, true, random);
        for (round, seconds) in [
            (1, 5),
            (2, 20),
            (3, 80),
            (4, 320),
            (5, 1280),
            (6, 3600),
            (60, 3600),
        ] {
            assert_eq!(pause(round, 0), Next::After(Duration::from_secs(seconds)));
        }
        assert_eq!(pause(1, 999), Next::After(Duration::from_millis(4001)));
    }

    #[test]
    fn a_notification_is_given_up_after_a_day_or_when_pointless_or_not_durable() {
        let day = START + MAX_AGE;
        let moment = chrono::TimeDelta::microseconds(1);
        let fate = |last, now, durable| after_failure(last, 1, START, now, durable, 0);
        let again = Next::After(Duration::from_secs(5));
        assert_eq!(fate(Attempt::Failed, day - moment, true), again);
        assert_eq!(fate(Attempt::Failed, day, true), Next::Abandon);
        assert_eq!(fate(Attempt::Failed, START, false), Next::Abandon);
        assert_eq!(fate(Attempt::Answered(410), START, true), Next::Abandon);
        assert_eq!(fate(Attempt::Forbidden, START, true), Next::Abandon);
        assert_eq!(fate(Attempt::Answered(302), START, true), again);
    }

    #[test]
    fn a_receiver_that_asks_for_time_gets_it_even_where_nothing_is_durable() {
        let fate = |wait, now, durable| {
            let last = Attempt::Busy(Duration::from_secs(wait));
            after_failure(last, 1, START, now, durable, 0)
        };
        let hour = START + MAX_AGE_IN_MEMORY;
        let moment = chrono::TimeDelta::microseconds(1);
        let after = |seconds| Next::After(Duration::from_secs(seconds));
        for durable in [true, false] {
            assert_eq!(fate(0, START, durable), after(5));
            assert_eq!(fate(30, START, durable), after(30));
            assert_eq!(fate(u64::MAX, START, durable), after(3600));
            assert_eq!(fate(30, hour - moment, durable), after(30));
        }
        assert_eq!(fate(30, hour, true), after(30));
        assert_eq!(fate(30, hour, false), Next::Abandon);
    }

    #[test]
    fn the_wait_is_read_in_seconds_or_as_a_date() {
        let wait = |status: u16, value: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            let answer = Answer::new(StatusCode::from_u16(status).unwrap(), &headers);
            answer.wait(START).map(|wait| wait.as_secs())
        };
        for status in [429, 503] {
            assert_eq!(wait(status, "120"), Some(120));
            assert_eq!(wait(status, "Thu, 01 Jan 1970 00:02:00 GMT"), Some(120));
            assert_eq!(wait(status, "Wed, 31 Dec 1969 23:59:00 GMT"), Some(0));
        }
        for value in ["-1", "soon", "1.5", ""] {
            assert_eq!(wait(429, value), Some(0), "{value}");
            assert_eq!(wait(503, value), None, "{value}");
        }
        assert_eq!(wait(500, "120"), None);
        assert_eq!(wait(302, "120"), None);
    }

    #[test]
    fn only_2xx_is_taken_for_delivered() {
        for (status, taken) in [
            (199, false),
            (200, true),
            (204, true),
            (299, true),
            (301, false),
            (500, false),
        ] {
            assert_eq!(Attempt::Answered(status).is_success(), taken);
        }
    }

    fn to(url: &str) -> Request<Bytes> {
        let notification = Notification {
            id: "the id".into(),
            workspace: Workspace::Shared,
            url: url.into(),
            host: "example.com:443".into(),
            body: "{}".into(),
            channel: String::new(),
            created_at: START,
            delay: chrono::TimeDelta::zero(),
        };
        request(&notification).unwrap()
    }

    #[test]
    fn credentials_in_a_url_travel_in_a_header() {
        let request = to("https://user%40x:p%3Aw@example.com/hook?a=b#part");
        assert_eq!(request.uri(), "https://example.com/hook?a=b");
        let expected = format!("Basic {}", STANDARD.encode("user@x:p:w"));
        assert_eq!(request.headers()[AUTHORIZATION], expected);
        assert!(request.headers()[AUTHORIZATION].is_sensitive());
        assert_eq!(request.headers()["webhook-id"], "the id");
        assert_eq!(request.headers()["content-length"], "2");
        assert_eq!(
            to("https://example.com/").headers().get(AUTHORIZATION),
            None
        );
    }

    struct Zeros;

    impl Entropy for Zeros {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(0);
        }
    }

    fn notification(workspace: &str, host: &str) -> Notification {
        Notification {
            id: String::new(),
            workspace: Workspace::from_key(workspace.to_owned()),
            url: String::new(),
            host: host.to_owned(),
            body: String::new(),
            channel: String::new(),
            created_at: START,
            delay: chrono::TimeDelta::zero(),
        }
    }

    fn lease_request(in_flight: &InFlight) -> Option<LeaseRequest> {
        in_flight.request(START, Duration::from_secs(5))
    }

    fn sorted(names: HashSet<String>) -> Vec<String> {
        let mut names = Vec::from_iter(names);
        names.sort();
        names
    }

    #[test]
    fn a_workspace_has_a_quarter_of_the_places_and_the_last_go_to_those_that_have_none() {
        let mut in_flight = InFlight::new(&Zeros);
        let busy = |in_flight: &InFlight| sorted(lease_request(in_flight).unwrap().busy_workspaces);
        let begin = |in_flight: &mut InFlight, workspace: &str, count: usize| {
            for n in 0..count {
                in_flight.begin(&notification(workspace, &n.to_string()));
            }
        };
        begin(&mut in_flight, "a", 15);
        assert!(busy(&in_flight).is_empty());
        begin(&mut in_flight, "a", 1);
        assert_eq!(busy(&in_flight), ["a"]);
        begin(&mut in_flight, "b", 16);
        begin(&mut in_flight, "c", 15);
        assert_eq!(busy(&in_flight), ["a", "b"]);
        begin(&mut in_flight, "d", 1);
        assert_eq!(busy(&in_flight), ["a", "b", "c", "d"]);
        for n in 0..16 {
            assert!(lease_request(&in_flight).is_some());
            begin(&mut in_flight, &format!("e{n}"), 1);
        }
        assert!(lease_request(&in_flight).is_none());

        in_flight.end(&notification("a", "0"));
        assert_eq!(busy(&in_flight).len(), 20);
        for n in 1..16 {
            in_flight.end(&notification("a", &n.to_string()));
        }
        assert!(!busy(&in_flight).contains(&"a".to_owned()));
    }

    #[test]
    fn a_host_has_four_places_and_the_workspace_served_last_is_last() {
        let mut in_flight = InFlight::new(&Zeros);
        assert!(!lease_request(&in_flight).unwrap().after.is_empty());
        for workspace in ["a", "b", "c"] {
            in_flight.begin(&notification(workspace, "one"));
        }
        in_flight.begin(&notification("b", "other"));
        let with_three = lease_request(&in_flight).unwrap();
        assert!(with_three.busy_hosts.is_empty());
        assert_eq!(sorted(with_three.used_hosts), ["one", "other"]);
        assert_eq!(with_three.after, "b");

        in_flight.begin(&notification("d", "one"));
        assert_eq!(
            sorted(lease_request(&in_flight).unwrap().busy_hosts),
            ["one"]
        );
        in_flight.end(&notification("a", "one"));
        assert!(lease_request(&in_flight).unwrap().busy_hosts.is_empty());
    }
}
