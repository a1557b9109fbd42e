//! Silence: sessions that expire while they are running, noticed without a report.
//!
//! Expiry is computed when it is read, and no state depends on its being noticed. Only telling people
//! does: storage keeps an index of what is watched by when it expires, and a mark on what was noticed,
//! so that of any number of hosts one tells.

use std::collections::HashMap;
use std::time::Duration;

use chrono::TimeDelta;

use crate::store::{Channels, Sessions, SilenceNote};
use crate::{
    Channel, Context, Happening, ReportPolicy, StatusKind, StoreError, Timestamp, Workspace,
    context,
};

/// What is to be done, or has been, about a session's expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Silence {
    /// Nobody is told of it.
    #[default]
    Unwatched,
    /// It is to be noticed and told.
    Watched,
    /// It has been noticed. Only a report changes that.
    Told,
}

impl Silence {
    const ALL: [Self; 3] = [Self::Unwatched, Self::Watched, Self::Told];

    /// The one after a report of this status in a session with this context.
    pub(crate) fn after(status: StatusKind, context: &Context) -> Self {
        match status == StatusKind::Running && !context::is_headless(context) {
            true => Self::Watched,
            false => Self::Unwatched,
        }
    }

    /// The number by which stores know it.
    pub const fn code(self) -> u8 {
        match self {
            Self::Unwatched => 0,
            Self::Watched => 1,
            Self::Told => 2,
        }
    }

    /// What this number stands for.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|silence| silence.code() == code)
    }
}

/// How long ago a session may have expired that is still told. Older silences, such as those from
/// before an outage, are no news.
const NEWS: TimeDelta = TimeDelta::hours(1);

/// How far ahead to look. The host looks again then, or at the first expiry before that.
const AHEAD: TimeDelta = TimeDelta::seconds(5);

/// The most sessions that are noticed at once.
const AT_ONCE: usize = 100;

/// The pause before the next try where somebody else was at a session.
const CROWDED: Duration = Duration::from_millis(200);

/// What came of looking for silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noticed {
    /// True if notifications were queued.
    pub notifications: bool,
    /// The longest pause before the next look.
    pub pause: Duration,
}

/// Notices the sessions that have fallen silent by `now`, the host's clock, some at a time, and queues
/// what is told of them. Any number of hosts may do so at once.
///
/// # Errors
/// Those of the store.
pub async fn notice<S: Sessions + Channels>(
    store: &S,
    policy: &ReportPolicy,
    now: Timestamp,
) -> Result<Noticed, StoreError> {
    let now = store.clock(now).await?;
    let found = store.silences(now - NEWS, now + AHEAD, AT_ONCE).await?;
    let is_full = found.len() >= AT_ONCE;
    let mut next = now + AHEAD;
    let mut channels: HashMap<Workspace, Vec<Channel>> = HashMap::new();
    let mut notes = Vec::new();
    for (key, snapshot) in found {
        let Some(head) = snapshot.session else {
            continue;
        };
        let expires_at = head.expires_at();
        if expires_at > now {
            next = next.min(expires_at);
            continue;
        }
        if !channels.contains_key(&key.workspace) {
            let of_workspace = policy.channels(store, &key.workspace).await?;
            channels.insert(key.workspace.clone(), of_workspace);
        }
        let name = snapshot.agent_name.unwrap_or_default();
        let happening = Happening::silence(&key, &name, &head);
        let told = channels.get(&key.workspace).into_iter().flatten();
        // What happened before there was a channel is none of its news.
        let told = told.filter(|channel| channel.created_at <= expires_at);
        let notifications = told.filter_map(|channel| {
            let happening = happening.as_ref()?;
            happening.notification(&key, channel, policy.has_timer)
        });
        notes.push(SilenceNote {
            seq: head.seq,
            notifications: notifications.collect(),
            key,
        });
    }
    let is_over = !notes.is_empty();
    let noted = match is_over {
        true => store.note_silences(&notes).await?,
        false => Vec::new(),
    };
    let told = notes.iter().zip(&noted);
    let notifications = told.filter(|(_, noted)| **noted);
    let pause = match noted.iter().all(|noted| *noted) {
        false => CROWDED,
        true if is_full && is_over => Duration::ZERO,
        true => (next - now).to_std().unwrap_or_default(),
    };
    Ok(Noticed {
        notifications: notifications
            .into_iter()
            .any(|(note, _)| !note.notifications.is_empty()),
        pause,
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_executor::block_on;
    use proptest::prelude::*;

    use super::*;
    use crate::ports::{Clock, Entropy};
    use crate::store::{LeaseRequest, MemoryStore, Outbox};
    use crate::{AuthMode, Event, Quotas, Recorder, Report, Witness};
    use StatusKind::{Failed, Pending, Running, Success};

    struct At(Cell<Timestamp>);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            self.0.get()
        }
    }

    struct Zeros;

    impl Entropy for Zeros {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(0);
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    fn channel(id: &str, created_at: Timestamp) -> Channel {
        Channel {
            url: "https://example.com/x".into(),
            ..Channel::new(id.into(), Workspace::Shared, created_at)
        }
    }

    /// A host with a channel since the beginning.
    struct Instance(Recorder<MemoryStore, At, Zeros>);

    impl Instance {
        fn new(channels: &[Channel]) -> Self {
            let store = MemoryStore::default();
            for channel in channels {
                let created = block_on(store.create_channel(channel, 20));
                assert!(created.is_ok());
            }
            Self(Recorder {
                store,
                clock: At(Cell::new(at(0))),
                entropy: Zeros,
                policy: ReportPolicy {
                    default_ttl_minutes: 60,
                    mode: AuthMode::Required,
                    notification_webhook_url: None,
                    shared_channel: None,
                    kept_entries: None,
                    has_timer: true,
                    quotas: Quotas::default(),
                },
                witness: Witness::default(),
            })
        }

        fn report(&self, second: i64, report: Report) {
            self.0.clock.0.set(at(second));
            let incoming = report.into();
            let recorded = self.0.attempt(&Workspace::Shared, &incoming);
            assert!(block_on(recorded).unwrap().is_some());
        }

        fn notice(&self, second: i64) -> Noticed {
            block_on(notice(&self.0.store, &self.0.policy, at(second))).unwrap()
        }

        /// What has been told since the last time: channel, event, topic and second.
        fn told(&self) -> Vec<(String, Event, String, i64)> {
            let request = LeaseRequest {
                now: at(1_000_000_000),
                duration: Duration::ZERO,
                after: String::new(),
                busy_workspaces: Default::default(),
                busy_hosts: Default::default(),
                used_hosts: Default::default(),
            };
            let store = &self.0.store;
            let mut told = Vec::new();
            while let Some(leased) = block_on(store.lease_notification(&request)).unwrap() {
                let entry = leased.notification;
                block_on(store.notification_delivered(&entry.id)).unwrap();
                let happening: Happening = serde_json::from_str(&entry.body).unwrap();
                told.push((
                    entry.channel,
                    happening.event,
                    happening.session_topic,
                    happening.at.timestamp(),
                ));
            }
            told.sort();
            told
        }

        fn events(&self) -> Vec<Event> {
            self.told().into_iter().map(|told| told.1).collect()
        }
    }

    fn report(topic: &str, status: StatusKind) -> Report {
        Report {
            ttl_minutes: Some(1),
            ..Report::new("a", topic, status)
        }
    }

    #[test]
    fn a_running_session_is_told_once_when_it_expires() {
        let host = Instance::new(&[channel("c", at(0)), channel("d", at(0))]);
        host.report(0, report("t", Running));
        for second in [0, 30, 59] {
            assert!(!host.notice(second).notifications, "{second}");
        }
        assert!(host.notice(60).notifications);
        let told = |channel: &str| (channel.to_owned(), Event::Silent, "t".to_owned(), 60);
        assert_eq!(host.told(), [told("c"), told("d")]);
        for second in [60, 61, 4000] {
            assert!(!host.notice(second).notifications, "{second}");
        }
        assert_eq!(host.told(), []);
    }

    #[test]
    fn what_no_longer_runs_is_not_silent() {
        let host = Instance::new(&[channel("c", at(0))]);
        for status in [Pending, Failed, Success] {
            host.report(0, report(status.as_str(), status));
        }
        let mut headless = report("headless", Running);
        headless.context.insert("mode".into(), "headless".into());
        host.report(0, headless);
        host.events();
        assert_eq!(host.notice(70).pause, Duration::from_secs(5));
        assert_eq!(host.events(), []);
    }

    #[test]
    fn a_report_at_the_last_moment_is_no_silence_and_one_after_it_a_recovery() {
        let host = Instance::new(&[channel("c", at(0))]);
        host.report(0, report("t", Running));
        host.report(60, report("t", Running));
        assert!(!host.notice(60).notifications);
        assert!(host.notice(120).notifications);
        assert_eq!(host.events(), [Event::Silent]);
        host.report(121, report("t", Running));
        assert_eq!(host.events(), [Event::Recovered]);
        host.report(122, report("t", Running));
        assert_eq!(host.events(), []);
        assert!(host.notice(182).notifications);
        assert_eq!(host.events(), [Event::Silent]);
    }

    #[test]
    fn the_end_of_a_silence_is_told_in_one_message() {
        for (status, reason, events) in [
            (Running, "", &[Event::Recovered][..]),
            (Pending, "", &[Event::Waiting, Event::Recovered]),
            (Success, "", &[Event::Finished]),
            (Failed, "", &[Event::Failed]),
            // A turn of less than two minutes is not told, the end of a silence is.
            (Success, "turn", &[Event::Recovered]),
            (Failed, "stopped", &[]),
        ] {
            let host = Instance::new(&[channel("c", at(0))]);
            host.report(0, report("t", Running));
            host.notice(60);
            host.events();
            host.report(
                90,
                Report {
                    reason: reason.into(),
                    ..report("t", status)
                },
            );
            assert_eq!(host.events(), events, "{status:?} {reason}");
        }
    }

    #[test]
    fn a_silence_that_was_shorter_than_the_delay_has_no_end_to_tell() {
        let delayed = Channel {
            delay_seconds: Some(30),
            ..channel("c", at(0))
        };
        for (back, events) in [
            (89, &[Event::Silent][..]),
            (90, &[Event::Silent, Event::Recovered]),
        ] {
            let host = Instance::new(std::slice::from_ref(&delayed));
            host.report(0, report("t", Running));
            host.notice(60);
            host.report(back, report("t", Running));
            assert_eq!(host.events(), events, "{back}");
        }
    }

    #[test]
    fn old_silences_are_no_news() {
        let host = Instance::new(&[channel("c", at(0)), channel("late", at(61))]);
        host.report(0, report("before the channel", Running));
        host.report(10, report("after it", Running));
        host.notice(70);
        let told: Vec<_> = host
            .told()
            .into_iter()
            .map(|told| (told.0, told.2))
            .collect();
        let told: Vec<_> = told
            .iter()
            .map(|(channel, topic)| (channel.as_str(), topic.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("c", "after it"),
                ("c", "before the channel"),
                ("late", "after it")
            ]
        );

        host.report(100, report("long ago", Running));
        host.report(101, report("an hour ago", Running));
        host.events();
        assert!(host.notice(161 + 3599).notifications);
        assert_eq!(host.told().len(), 2);
        // What was told to nobody has no end to tell.
        host.report(5000, report("long ago", Running));
        assert_eq!(host.events(), []);
    }

    #[test]
    fn many_silences_are_noticed_in_turns_and_the_next_look_is_at_the_next_expiry() {
        let host = Instance::new(&[channel("c", at(0))]);
        for topic in 0..250 {
            host.report(0, report(&topic.to_string(), Running));
        }
        host.report(3, report("next", Running));
        let mut told = Vec::new();
        for pause in [0, 0, 3] {
            assert_eq!(host.notice(60).pause, Duration::from_secs(pause));
            told.extend(host.told());
        }
        told.sort();
        told.dedup();
        assert_eq!(told.len(), 250);
        assert_eq!(host.notice(57).pause, Duration::from_secs(5));
        assert_eq!(host.notice(62).pause, Duration::from_secs(1));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Report(usize, StatusKind, &'static str),
        Wait(i64),
        Notice,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let status = prop::sample::select(StatusKind::ALL.to_vec());
        let reason = prop::sample::select(vec!["", "turn", "stopped"]);
        let report = (0..3_usize, status, reason);
        let report =
            report.prop_map(|(session, status, reason)| Step::Report(session, status, reason));
        let wait = prop::sample::select(vec![1_i64, 20, 59, 60, 61, 3600, 3661]);
        prop::collection::vec(
            prop_oneof![3 => report, 2 => wait.prop_map(Step::Wait), 3 => Just(Step::Notice)],
            1..60,
        )
    }

    proptest! {
        /// The rules, said once more: a session is silent from its expiry on if somebody looks within
        /// the hour after it and no report came in between.
        #[test]
        fn silences_follow_the_model(steps in steps()) {
            let host = Instance::new(&[channel("c", at(0))]);
            // Of each session, when its run expires; then, whether people believe that it is silent.
            let mut expires: [Option<i64>; 3] = [None; 3];
            let mut silent = [false; 3];
            let mut now = 0;
            for step in &steps {
                let mut expected = Vec::new();
                match step {
                    Step::Wait(seconds) => now += seconds,
                    Step::Notice => {
                        host.notice(now);
                        for session in 0..3 {
                            let told = |at: &i64| *at <= now && now < at + 3600;
                            if let Some(at) = expires[session].filter(told) {
                                expected.push((Event::Silent, session.to_string(), at));
                                expires[session] = None;
                                silent[session] = true;
                            }
                        }
                    }
                    Step::Report(session, status, reason) => {
                        let reported = Report {
                            reason: (*reason).into(),
                            ..report(&session.to_string(), *status)
                        };
                        host.report(now, reported);
                        let ended = matches!((status, reason), (Failed, _));
                        if silent[*session] && !ended {
                            expected.push((Event::Recovered, session.to_string(), now));
                        }
                        silent[*session] = false;
                        expires[*session] = (*status == Running).then_some(now + 60);
                    }
                }
                let of_silence = |told: (String, Event, String, i64)| {
                    let (_, event, topic, at) = told;
                    Some((event, topic, at))
                };
                let mut told: Vec<_> = host.told().into_iter().filter_map(of_silence).collect();
                let finished = told.iter().any(|told| told.0 == Event::Finished);
                // Who is told of the end is not told of the recovery; who recovers from a failure is.
                expected.retain(|told| !(finished && told.0 == Event::Recovered));
                let silent_again: Vec<_> = expected.iter().filter(|told| told.0 == Event::Silent).collect();
                let told_silent: Vec<_> = told.iter().filter(|told| told.0 == Event::Silent).collect();
                prop_assert_eq!(silent_again, told_silent);
                for expected in &expected {
                    prop_assert!(told.contains(expected), "{:?} in {:?}", expected, told);
                }
                told.retain(|told| told.0 == Event::Recovered);
                let failed_before = told.len() > expected.iter().filter(|told| told.0 == Event::Recovered).count();
                prop_assert!(!failed_before || matches!(step, Step::Report(_, Running | Pending, _)));
            }
        }
    }
}
