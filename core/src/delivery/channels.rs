//! Telling channels: whether what has happened still holds, how often, and what an answer means.

use std::time::Duration;

use chrono::TimeDelta;
use http::StatusCode;
use url::Url;

use super::{
    Answer, Attempt, Fate, MOST_JITTER, Next, PostError, Poster, QUICK_RETRIES, after_failure,
    jittered, lease_duration, rest,
};
use crate::audit::{self, Act, Actor, AuditEvent};
use crate::bucket::{Draw, Drawn, Rate};
use crate::notification::{Rendered, Verdict, render};
use crate::ports::Clock;
use crate::settings::{Host, SHARED_CHANNEL, Settings};
use crate::store::{Failure, LeasedNotification, MAX_WAITING, PutOff};
use crate::{
    Channel, Context, Delivery, DeliveryState, Event, Format, Happening, Notification, SessionKey,
    StatusKind, Store, StoreError, Timestamp, causes,
};

/// The pauses between attempts, in seconds, as Standard Webhooks proposes them: over three days.
const SCHEDULE: [u64; 9] = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// The most that one message stands for: whatever waits.
const MOST_MERGED: usize = MAX_WAITING;

/// How long after a turn began what is due is left for the one who took it to tell of.
const SETTING_OUT: Duration = Duration::from_millis(500);

/// The number of statuses that are read at once to see whether something lasts.
const STATUSES_AT_ONCE: usize = 200;

/// How channels are told, as the instance is configured.
#[derive(Debug)]
pub struct ChannelRules {
    base_url: Option<String>,
    has_timer: bool,
    timeout: Duration,
    shared_channel: Option<Channel>,
    audit_retention: TimeDelta,
}

impl ChannelRules {
    /// The rules that follow from these settings.
    pub fn new(settings: &Settings) -> Self {
        Self {
            base_url: settings.dashboard().map(str::to_owned),
            has_timer: settings.host == Host::Native,
            timeout: settings.values.notification_timeout,
            shared_channel: settings.shared_channel(),
            audit_retention: settings.values.audit_retention(),
        }
    }

    /// The channel that an entry is for, if it is there still.
    async fn channel<S: Store>(
        &self,
        store: &S,
        entry: &Notification,
    ) -> Result<Option<Channel>, StoreError> {
        if entry.channel == SHARED_CHANNEL {
            return Ok(self.shared_channel.clone());
        }
        let channels = store.channels(&entry.workspace).await?;
        let mut channels = channels.into_iter();
        Ok(channels.find(|channel| channel.id == entry.channel))
    }
}

/// Takes a channel's turn, which all hosts on one storage share; how long it is until then if it is not
/// there yet.
async fn take_turn<S: Store>(
    store: &S,
    channel: &Channel,
    now: Timestamp,
) -> Result<Option<Duration>, StoreError> {
    let per = TimeDelta::from_std(channel.format.interval()).unwrap_or_default();
    let rate = Rate { times: 1, per };
    let draw = Draw::new(&["channel", &channel.id], rate).filter(|_| !per.is_zero());
    let Some(draw) = draw else {
        return Ok(None);
    };
    Ok(match store.draw(&draw, now).await? {
        Drawn::Allowed => None,
        Drawn::Refused(wait) => Some(wait.to_std().unwrap_or_default()),
    })
}

/// What an attempt at a channel came to.
struct Told {
    attempt: Attempt,
    failure: Failure,
}

impl Told {
    fn of(format: Format, outcome: &Result<Answer, PostError>, now: Timestamp) -> Self {
        let status = outcome.as_ref().ok().map(|answer| answer.status.as_u16());
        let (attempt, error) = match outcome {
            Ok(answer) => match format.verdict(answer.status, answer.body.as_deref()) {
                Verdict::Busy(wait) => (Attempt::Busy(wait), "the receiver takes no more for now"),
                Verdict::Refused => (Attempt::Failed, "the receiver refused the message"),
                Verdict::Unknown => (Attempt::Failed, "the receiver's answer was cut off"),
                Verdict::Status => {
                    let attempt = Attempt::of(outcome, now);
                    (attempt, said(answer.status, attempt))
                }
            },
            Err(error) => (Attempt::of(outcome, now), wrong(error)),
        };
        let error = error.to_owned();
        let rests = attempt.asks_for_rest();
        let failure = Failure {
            status,
            error,
            rests,
        };
        Self { attempt, failure }
    }
}

/// What a status says, in words of our own.
fn said(status: StatusCode, attempt: Attempt) -> &'static str {
    match attempt {
        Attempt::Busy(_) => "the receiver takes no more for now",
        _ if attempt.is_success() => "",
        _ if status == StatusCode::GONE => "the receiver is gone",
        _ if status.is_redirection() => "the receiver is elsewhere, and redirects are not followed",
        _ if status.is_client_error() => "the receiver refused the message",
        _ => "the receiver failed",
    }
}

/// Why there is no answer, in words of our own.
fn wrong(error: &PostError) -> &'static str {
    match error {
        PostError::Forbidden(_) => "the address is not allowed",
        PostError::Url(_) => "the URL is invalid",
        PostError::Timeout => "no answer in time",
        PostError::Failed(_) => "no connection",
    }
}

/// Sends what tells a channel of what has happened, and of how much more found no room.
async fn send(
    poster: &impl Poster,
    channel: &Channel,
    (happenings, dropped): (&[Happening], u64),
    id: &str,
    now: Timestamp,
    base_url: Option<&str>,
) -> Result<Answer, PostError> {
    match render(channel, happenings, dropped, id, now, base_url) {
        Some(Rendered::Request(request)) => poster.post(request).await,
        Some(Rendered::Mail(mail)) => poster.mail(mail).await,
        None => Err(PostError::Url("it is no URL".into())),
    }
}

/// What a sample came to.
pub(crate) struct Sample {
    pub(crate) delivered: bool,
    pub(crate) status: Option<u16>,
    /// One of a fixed list; empty when it is delivered.
    pub(crate) error: String,
}

/// Sends a sample to a channel, once.
pub(crate) async fn send_sample(
    poster: &impl Poster,
    channel: &Channel,
    id: &str,
    now: Timestamp,
    base_url: Option<&str>,
) -> Sample {
    let sample = Happening {
        event: Event::Waiting,
        agent_id: "kubeagents".into(),
        agent_name: "kubeagents".into(),
        session_topic: "test".into(),
        title: "Test of this channel".into(),
        status: StatusKind::Pending,
        reason: "input".into(),
        message: "If you can read this, the channel works. Nobody waits for you.".into(),
        context: Context::new(),
        seq: 0,
        at: now,
        ran_seconds: None,
        silent_for: None,
    };
    let outcome = send(poster, channel, (&[sample], 0), id, now, base_url).await;
    let Told { attempt, failure } = Told::of(channel.format, &outcome, now);
    Sample {
        delivered: attempt.is_success(),
        status: failure.status,
        error: failure.error,
    }
}

/// Tells a channel of what is leased, and of what else there is to tell it by then if one message may
/// stand for several; stores what came of it.
pub(super) async fn tell<S: Store>(
    store: &S,
    poster: &impl Poster,
    clock: &impl Clock,
    random: u32,
    rules: &ChannelRules,
    leased: &LeasedNotification,
) -> Result<(), StoreError> {
    let entry = &leased.notification;
    let channel = rules.channel(store, entry).await?;
    let Some(channel) = channel else {
        // It has been deleted, and what became of its deliveries with it.
        return store.notification_abandoned(&entry.id).await;
    };
    if !channel.enabled {
        return drop_entry(
            store,
            poster,
            clock,
            &channel,
            leased,
            "the channel is disabled",
        )
        .await;
    }
    let Some(first) = lasting(store, rules, &channel, leased).await? else {
        return drop_entry(store, poster, clock, &channel, leased, "it did not last").await;
    };
    if let Some(pause) = take_turn(store, &channel, clock.now()).await? {
        let since = channel.format.interval().saturating_sub(pause);
        let what = match since < SETTING_OUT {
            true => PutOff::Leased,
            false => PutOff::WhatIsDue,
        };
        return store.put_off(entry, what, clock.now(), pause).await;
    }
    let (workspace, merges) = (&entry.workspace, channel.format.merges());
    let mut told = vec![(leased.clone(), first)];
    if merges {
        let duration = lease_duration(rules.timeout);
        let others = store.lease_others(entry, clock.now(), duration, MOST_MERGED);
        for other in others.await? {
            match lasting(store, rules, &channel, &other).await? {
                Some(happening) => told.push((other, happening)),
                None => {
                    drop_entry(store, poster, clock, &channel, &other, "it did not last").await?;
                }
            }
        }
    }
    let dropped = match merges {
        true => store.overflow(workspace, &entry.channel).await?,
        false => 0,
    };
    let happenings: Vec<Happening> = told.iter().map(|(_, one)| one.clone()).collect();
    let base_url = rules.base_url.as_deref();
    let attempt = async || {
        let now = clock.now();
        let what = (happenings.as_slice(), dropped);
        let outcome = send(poster, &channel, what, &entry.id, now, base_url).await;
        if let Err(error @ (PostError::Failed(_) | PostError::Url(_))) = &outcome {
            let (id, causes) = (&entry.id, causes(error));
            tracing::debug!(%id, receiver = receiver(&channel), %causes, "a channel is not reached");
        }
        Told::of(channel.format, &outcome, clock.now())
    };
    let mut last = attempt().await;
    // Where what waits survives the process, the schedule sees to the rest.
    for pause in QUICK_RETRIES.iter().filter(|_| !S::DURABLE) {
        let is_over = last.attempt.is_success() || last.attempt.is_final();
        if is_over || last.attempt.wait() > *pause {
            break;
        }
        poster.sleep(*pause).await;
        last = attempt().await;
    }
    settle(
        (store, poster),
        clock.now(),
        random,
        rules,
        &channel,
        &told,
        &last,
    )
    .await?;
    match last.attempt.is_success() && dropped > 0 {
        true => {
            store
                .overflow_told(workspace, &entry.channel, dropped)
                .await
        }
        false => Ok(()),
    }
}

/// What to tell of an entry, unless it has not lasted for as long as the channel wants, or is of
/// another version.
async fn lasting<S: Store>(
    store: &S,
    rules: &ChannelRules,
    channel: &Channel,
    leased: &LeasedNotification,
) -> Result<Option<Happening>, StoreError> {
    let entry = &leased.notification;
    let Ok(happening) = serde_json::from_str::<Happening>(&entry.body) else {
        return Ok(None);
    };
    let is_delayed = !happening.delay(channel, rules.has_timer).is_zero();
    // What has been tried once has lasted.
    let lasts = leased.round > 1 || !is_delayed || lasts(store, entry, &happening).await?;
    Ok(lasts.then_some(happening))
}

/// Checks whether a session is still as it was when this happened: the same spell of its status.
async fn lasts<S: Store>(
    store: &S,
    entry: &Notification,
    happening: &Happening,
) -> Result<bool, StoreError> {
    let key = SessionKey {
        workspace: entry.workspace.clone(),
        agent_id: happening.agent_id.clone(),
        session_topic: happening.session_topic.clone(),
    };
    let mut before = None;
    loop {
        let Some(found) = store.session(&key, before, STATUSES_AT_ONCE).await? else {
            return Ok(false);
        };
        let session = found.session;
        if happening.event == Event::Silent {
            return Ok(session.expires_at() == happening.at);
        }
        if session.current_status != happening.status {
            return Ok(false);
        }
        for status in &found.history.items {
            if status.seq <= happening.seq {
                return Ok(true);
            }
            if status.entry.status != happening.status {
                return Ok(false);
            }
        }
        before = found.history.next;
        if before.is_none() {
            return Ok(true);
        }
    }
}

async fn drop_entry<S: Store>(
    store: &S,
    poster: &impl Poster,
    clock: &impl Clock,
    channel: &Channel,
    leased: &LeasedNotification,
    why: &str,
) -> Result<(), StoreError> {
    poster.settled(channel.format.as_str(), Fate::Dropped);
    // It has not been tried in this round.
    let attempts = leased.round.saturating_sub(1);
    match Delivery::pending(&leased.notification, attempts) {
        Some(pending) => {
            let dropped = Delivery {
                error: why.to_owned(),
                state: DeliveryState::Dropped,
                finished_at: Some(crate::time::truncate(clock.now())),
                ..pending
            };
            finish(store, &[dropped]).await
        }
        None => store.notification_abandoned(&leased.notification.id).await,
    }
}

/// Ends leases of one channel's notifications for good. Of the configured channel nobody can ask what
/// became of them.
async fn finish<S: Store>(store: &S, deliveries: &[Delivery]) -> Result<(), StoreError> {
    let is_shared = |delivery: &Delivery| delivery.channel == SHARED_CHANNEL;
    if !deliveries.iter().any(is_shared) {
        return store.finish_deliveries(deliveries).await;
    }
    for delivery in deliveries {
        store.notification_delivered(&delivery.id).await?;
    }
    Ok(())
}

/// Where the receiver is, not what its path or query give away.
fn receiver(channel: &Channel) -> String {
    Url::parse(&channel.url)
        .map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
}

async fn settle<S: Store>(
    (store, poster): (&S, &impl Poster),
    now: Timestamp,
    random: u32,
    rules: &ChannelRules,
    channel: &Channel,
    told: &[(LeasedNotification, Happening)],
    last: &Told,
) -> Result<(), StoreError> {
    let (receiver, count, status) = (receiver(channel), told.len(), last.failure.status);
    let channel_id = &channel.id;
    if last.attempt == Attempt::Answered(410) && channel.id != SHARED_CHANNEL {
        disable(store, rules, channel, now).await?;
    }
    let (mut failed, mut finished) = (Vec::new(), Vec::new());
    for (place, (leased, _)) in told.iter().enumerate() {
        let entry = &leased.notification;
        let state = match last.attempt.is_success() {
            true if place == 0 => DeliveryState::Delivered,
            true => DeliveryState::Merged,
            false => {
                let round = leased.round;
                match next_round(
                    last.attempt,
                    round,
                    entry.created_at,
                    now,
                    S::DURABLE,
                    random,
                ) {
                    Next::After(pause) => {
                        poster.settled(channel.format.as_str(), Fate::Retried);
                        failed.push((entry.id.as_str(), pause));
                        continue;
                    }
                    Next::Abandon => DeliveryState::Failed,
                }
            }
        };
        let fate = match state {
            DeliveryState::Delivered => Fate::Delivered,
            DeliveryState::Merged => Fate::Merged,
            _ => Fate::Failed,
        };
        poster.settled(channel.format.as_str(), fate);
        finished.extend(
            Delivery::pending(entry, leased.round).map(|pending| Delivery {
                status,
                error: last.failure.error.clone(),
                state,
                finished_at: Some(crate::time::truncate(now)),
                ..pending
            }),
        );
    }
    let error = &last.failure.error;
    match (last.attempt.is_success(), finished.is_empty()) {
        (true, _) => tracing::debug!(%channel_id, %receiver, count, "channel told"),
        (false, true) => {
            tracing::warn!(%channel_id, %receiver, count, status, %error, "a channel is not told yet");
        }
        (false, false) => {
            tracing::error!(%channel_id, %receiver, count, status, %error, "a channel is not told");
        }
    }
    if !failed.is_empty() {
        let failure = &last.failure;
        store.notifications_failed(&failed, now, failure).await?;
    }
    match finished.is_empty() {
        true => Ok(()),
        false => finish(store, &finished).await,
    }
}

/// Disables a channel whose receiver is gone for good, unless somebody has changed it meanwhile.
async fn disable<S: Store>(
    store: &S,
    rules: &ChannelRules,
    channel: &Channel,
    now: Timestamp,
) -> Result<(), StoreError> {
    let version = channel.updated_at;
    let disabled = Channel {
        enabled: false,
        gone: true,
        updated_at: crate::time::truncate(now).max(version + TimeDelta::microseconds(1)),
        ..channel.clone()
    };
    if store.update_channel(&disabled, version).await? {
        let workspace = channel.workspace.clone();
        let act = Act::new(workspace, AuditEvent::ChannelDisabled, Actor::Receiver);
        let act = act.on(&channel.name, &channel.id);
        audit::record(store, act, rules.audit_retention, now).await;
    }
    Ok(())
}

/// Decides on a channel's entry after its failed round `round` (counted from 1), as [`after_failure`]
/// does on others. Where entries survive a restart, the pauses are [`SCHEDULE`]'s, in which rounds do
/// not count that ended because the receiver asked for time.
fn next_round(
    last: Attempt,
    round: u32,
    created_at: Timestamp,
    now: Timestamp,
    durable: bool,
    random: u32,
) -> Next {
    if !durable {
        return after_failure(last, round, created_at, now, durable, random);
    }
    let age = (now - created_at).to_std().unwrap_or_default();
    // Where a receiver asks for time there are more rounds than the schedule has until then.
    let mut due = Duration::ZERO;
    let reached = SCHEDULE.iter().take_while(|seconds| {
        due += jittered(Duration::from_secs(**seconds), MOST_JITTER);
        due <= age
    });
    let place = reached.count().min(round.saturating_sub(1) as usize);
    match SCHEDULE.get(place).filter(|_| !last.is_final()) {
        None => Next::Abandon,
        Some(_) if last.asks_for_rest() => Next::After(rest(last, random)),
        Some(seconds) => Next::After(jittered(Duration::from_secs(*seconds), random)),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use bytes::Bytes;
    use futures_executor::block_on;
    use http::{HeaderMap, Request};

    use super::*;
    use crate::delivery::{InFlight, deliver};
    use crate::hook::Detail;
    use crate::ports::Entropy;
    use crate::store::{ChannelCreation, Channels, CommitOutcome, MemoryStore, Outbox, Sessions};
    use crate::{ChannelMail, Events, Report, Snapshot, Workspace, decide};

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    struct Zeros;

    impl Entropy for Zeros {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(0);
        }
    }

    struct At(Timestamp);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            self.0
        }
    }

    /// A receiver that takes everything.
    #[derive(Default)]
    struct Receiver(RefCell<Vec<String>>);

    impl Poster for Receiver {
        async fn post(&self, request: Request<Bytes>) -> Result<Answer, PostError> {
            let body = String::from_utf8(request.into_body().to_vec()).unwrap();
            self.0.borrow_mut().push(body);
            Ok(Answer::new(StatusCode::OK, &HeaderMap::new()))
        }

        async fn mail(&self, _: ChannelMail) -> Result<Answer, PostError> {
            panic!("it is no mail")
        }

        async fn sleep(&self, _: Duration) {}
    }

    fn slack() -> Channel {
        Channel {
            id: "channel".into(),
            workspace: Workspace::Shared,
            name: "n".into(),
            url: "https://hooks.slack.com/x".into(),
            format: Format::Slack,
            secret: String::new(),
            events: Events::from_text("failed").unwrap(),
            delay_seconds: Some(0),
            detail: Detail::Full,
            enabled: true,
            gone: false,
            created_at: START,
            updated_at: START,
        }
    }

    fn failures(count: usize, tag: &str) -> Vec<Notification> {
        let failure = |n| Notification {
            id: format!("{tag} {n}"),
            workspace: Workspace::Shared,
            url: String::new(),
            host: "hooks.slack.com:443".into(),
            body: serde_json::to_string(&Happening {
                event: Event::Failed,
                agent_id: "a".into(),
                agent_name: String::new(),
                session_topic: format!("t{n}"),
                title: String::new(),
                status: StatusKind::Failed,
                reason: String::new(),
                message: String::new(),
                context: Context::new(),
                seq: 1,
                at: START,
                ran_seconds: None,
                silent_for: None,
            })
            .unwrap(),
            channel: "channel".into(),
            created_at: START,
            delay: TimeDelta::zero(),
        };
        (0..count).map(failure).collect()
    }

    #[test]
    fn the_message_after_a_storm_counts_what_found_no_room() {
        block_on(async {
            let (store, receiver) = (MemoryStore::default(), Receiver::default());
            let created = store.create_channel(&slack(), 20).await.unwrap();
            assert_eq!(created, ChannelCreation::Created);
            let rules = ChannelRules {
                base_url: None,
                has_timer: true,
                timeout: Duration::from_secs(5),
                shared_channel: None,
                audit_retention: TimeDelta::zero(),
            };
            for (minute, count) in [(1, MAX_WAITING + 640), (2, 1)] {
                let now = START + TimeDelta::minutes(minute);
                let report = Report::new("a", minute.to_string(), StatusKind::Failed);
                let snapshot = Snapshot::default();
                let decided = decide(&Workspace::Shared, &report, &snapshot, now, 60);
                let mut commit = decided.unwrap().commit;
                commit.notifications = failures(count, &minute.to_string());
                let committed = store.commit(&commit).await.unwrap();
                assert_eq!(committed, CommitOutcome::Committed);
                let request = InFlight::new(&Zeros).request(now, rules.timeout).unwrap();
                let leased = store.lease_notification(&request).await.unwrap().unwrap();
                deliver(&store, &receiver, &At(now), &Zeros, &rules, &leased).await;
            }
            let told = receiver.0.take();
            assert_eq!(told.len(), 2);
            let dropped = "1000 sessions: 1000 failed (and 640 more, dropped)";
            assert!(told[0].contains(dropped), "{}", told[0]);
            assert!(!told[1].contains("dropped"), "{}", told[1]);
        });
    }

    #[test]
    fn pauses_are_those_of_standard_webhooks() {
        let start = Timestamp::UNIX_EPOCH;
        let after = |age, last, round| {
            let now = start + TimeDelta::seconds(age);
            next_round(last, round, start, now, true, 0)
        };
        let next = |last, round| {
            let earlier = SCHEDULE.iter().take(round as usize - 1);
            let shortest = |seconds: &u64| jittered(Duration::from_secs(*seconds), MOST_JITTER);
            let age: Duration = earlier.map(shortest).sum();
            after(age.as_secs().cast_signed() + 1, last, round)
        };
        let hours = |seconds: u64| Next::After(Duration::from_secs(seconds));
        let pauses = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
        for (round, seconds) in (1..).zip(pauses) {
            assert_eq!(next(Attempt::Failed, round), hours(seconds), "{round}");
        }
        assert_eq!(next(Attempt::Failed, 10), Next::Abandon);
        assert_eq!(next(Attempt::Answered(410), 1), Next::Abandon);
        assert_eq!(next(Attempt::Busy(Duration::from_secs(90)), 1), hours(90));
        assert_eq!(next(Attempt::Answered(500), 1), hours(5));
        let minute = start + TimeDelta::minutes(1);
        let jittered = next_round(Attempt::Failed, 2, start, minute, true, 999);
        assert_eq!(jittered, Next::After(Duration::from_millis(240_060)));

        // What a receiver asked for time for is told when it has had it, and not given up for that.
        let busy = Attempt::Busy(Duration::from_secs(30));
        for round in [1, 2, 9, 10, 50] {
            assert_eq!(after(30, busy, round), hours(30), "{round}");
        }
        assert_eq!(after(600, Attempt::Failed, 20), hours(1800));
        assert_eq!(after(3 * 86_400, busy, 50), Next::Abandon);
    }
}
