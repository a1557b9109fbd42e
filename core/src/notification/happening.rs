//! What has happened to a session that channels are told: which events a report means, and to whom
//! they go.

use chrono::{DateTime, TimeDelta};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Notification, receiver_host};
use crate::context::{self, Context};
use crate::report::STOPPED;
use crate::session::TURN;
use crate::{
    Channel, Event, Format, SessionHead, SessionKey, Silence, StatusKind, Timestamp, hash,
};

/// The shortest run whose end channels are told where only a turn of the agent is over.
const SHORTEST_TURN: TimeDelta = TimeDelta::minutes(2);

/// How long a turn must be over before channels are told: a person who is there goes on at once.
const TURN_DELAY: TimeDelta = TimeDelta::seconds(60);

/// How long a session must wait before channels are told, on a host that has a timer.
const WAIT_DELAY: TimeDelta = TimeDelta::seconds(10);

/// Stands for the receiving host of mails.
const MAIL: &str = "mail";

/// An event of a session with what there is to tell of it, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// What has happened.
    pub event: Event,
    /// The agent.
    pub agent_id: String,
    /// Its name; empty when it has none.
    pub agent_name: String,
    /// The session.
    pub session_topic: String,
    /// What people call it; may be empty.
    pub title: String,
    /// Its status.
    pub status: StatusKind,
    /// Why it is that; may be empty.
    pub reason: String,
    /// What its newest report says; may be empty.
    pub message: String,
    /// Where it runs.
    pub context: Context,
    /// The place in the session's history.
    pub seq: u64,
    /// When it happened.
    #[serde(serialize_with = "to_micros", deserialize_with = "from_micros")]
    pub at: Timestamp,
    /// How long the run took that has ended, in seconds.
    pub ran_seconds: Option<i64>,
    /// How long the silence lasted that it has recovered from.
    #[serde(skip)]
    pub(crate) silent_for: Option<TimeDelta>,
}

fn to_micros<S: Serializer>(instant: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    instant.timestamp_micros().serialize(serializer)
}

fn from_micros<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let micros = i64::deserialize(deserializer)?;
    let instant = DateTime::from_timestamp_micros(micros);
    instant.ok_or_else(|| serde::de::Error::custom("an instant out of range"))
}

/// The events that a report means which made `after` of `before`.
pub(crate) fn events(before: Option<&SessionHead>, after: &SessionHead) -> Vec<Event> {
    let failed_before =
        before.is_some_and(|head| head.status == StatusKind::Failed && head.reason != STOPPED);
    let mut events = Vec::new();
    if before.is_none() {
        events.push(Event::Started);
    }
    let was_silent = before.is_some_and(|head| head.silence == Silence::Told);
    let is_up = matches!(after.status, StatusKind::Running | StatusKind::Pending);
    if (failed_before || was_silent) && is_up {
        events.push(Event::Recovered);
    }
    if before.is_none_or(|head| head.status != after.status) {
        events.extend(match after.status {
            StatusKind::Running => None,
            StatusKind::Pending => Some(Event::Waiting),
            StatusKind::Failed => (after.reason != STOPPED).then_some(Event::Failed),
            StatusKind::Success => Some(Event::Finished).filter(|_| {
                let ran = run(before, after).unwrap_or_default();
                after.reason != TURN || ran >= SHORTEST_TURN
            }),
        });
    }
    // Who was told of the silence is told of its end, also where the end of the run is not worth it.
    if was_silent && after.status == StatusKind::Success && events.is_empty() {
        events.push(Event::Recovered);
    }
    if context::is_headless(&after.context) {
        events.retain(|event| *event == Event::Failed);
    }
    events
}

/// How long the run took that a report has ended.
fn run(before: Option<&SessionHead>, after: &SessionHead) -> Option<TimeDelta> {
    let began = before?
        .run_started
        .filter(|_| after.run_started.is_none())?;
    Some((after.last_updated - began).max(TimeDelta::zero()))
}

impl Happening {
    /// What there is to tell of these events of a session, which a report has brought from `before` to
    /// `after`.
    pub(crate) fn all(
        key: &SessionKey,
        agent_name: &str,
        before: Option<&SessionHead>,
        after: &SessionHead,
    ) -> Vec<Self> {
        let silent = before.filter(|head| head.silence == Silence::Told);
        let happening = |event| Self {
            ran_seconds: run(before, after).map(|run| run.num_seconds()),
            silent_for: silent.map(|head| after.last_updated - head.expires_at()),
            ..Self::of(event, key, agent_name, after)
        };
        events(before, after).into_iter().map(happening).collect()
    }

    /// What there is to tell of a session that has expired while it was running; `None` where that is
    /// told to nobody.
    pub(crate) fn silence(key: &SessionKey, agent_name: &str, head: &SessionHead) -> Option<Self> {
        let expired = head.expires_at();
        let ran = head.run_started.map(|began| expired - began);
        // A host of an earlier version may have changed the status alone.
        let is_told = Silence::after(head.status, &head.context) == Silence::Watched;
        is_told.then(|| Self {
            at: expired,
            ran_seconds: ran.map(|ran| ran.num_seconds().max(0)),
            ..Self::of(Event::Silent, key, agent_name, head)
        })
    }

    fn of(event: Event, key: &SessionKey, agent_name: &str, head: &SessionHead) -> Self {
        Self {
            event,
            agent_id: key.agent_id.clone(),
            agent_name: agent_name.to_owned(),
            session_topic: key.session_topic.clone(),
            title: head.title.clone(),
            status: head.status,
            reason: head.reason.clone(),
            message: head.message.clone(),
            context: head.context.clone(),
            seq: head.seq,
            at: head.last_updated,
            ran_seconds: None,
            silent_for: None,
        }
    }

    /// Whether a channel was not told of the silence that has ended: it ended before the channel's
    /// delay.
    fn ends_what_was_not_told(&self, channel: &Channel) -> bool {
        let delay = channel
            .delay_seconds
            .map(|delay| TimeDelta::seconds(delay.into()));
        let lasted = self.silent_for.filter(|_| self.event == Event::Recovered);
        lasted
            .zip(delay)
            .is_some_and(|(lasted, delay)| lasted < delay)
    }

    /// Whether only a turn of the agent is over.
    pub(crate) fn is_turn(&self) -> bool {
        self.event == Event::Finished && self.reason == TURN
    }

    /// How long it must last before a channel is told. `has_timer`: whether the host delivers by
    /// itself when that time is over.
    pub(crate) fn delay(&self, channel: &Channel, has_timer: bool) -> TimeDelta {
        match (channel.delay_seconds, self.event) {
            (Some(seconds), _) => TimeDelta::seconds(seconds.into()),
            (None, Event::Waiting) if has_timer => WAIT_DELAY,
            (None, Event::Finished) if self.is_turn() => TURN_DELAY,
            (None, _) => TimeDelta::zero(),
        }
    }

    /// This as an outbox entry for a channel of the session's workspace; `None` when the channel is
    /// told nothing of it.
    pub(crate) fn notification(
        &self,
        key: &SessionKey,
        channel: &Channel,
        has_timer: bool,
    ) -> Option<Notification> {
        let is_wanted = channel.enabled && channel.events.contains(self.event);
        if !is_wanted || self.ends_what_was_not_told(channel) {
            return None;
        }
        Some(Notification {
            id: self.id(key, channel),
            workspace: channel.workspace.clone(),
            host: match channel.format {
                Format::Email => MAIL.to_owned(),
                _ => receiver_host(&channel.url)?,
            },
            url: String::new(),
            body: serde_json::to_string(self).ok()?,
            channel: channel.id.clone(),
            created_at: self.at,
            delay: self.delay(channel, has_timer),
        })
    }

    /// The id of its entry for a channel. What is noticed twice has one id, and so is told once.
    fn id(&self, key: &SessionKey, channel: &Channel) -> String {
        let place = self.seq.to_string();
        hash::uuid_of(&[
            key.workspace.key(),
            &key.agent_id,
            &key.session_topic,
            &place,
            self.event.as_str(),
            &channel.id,
        ])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Report, Snapshot, Workspace, decide};
    use StatusKind::{Failed, Pending, Running, Success};

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    /// The events of reports of these statuses and reasons at these seconds.
    fn play(steps: &[(StatusKind, &str, i64)], mode: Option<&str>) -> Vec<Vec<&'static str>> {
        let mut snapshot = Snapshot::default();
        let mut told = Vec::new();
        for (status, reason, second) in steps {
            let mut report = Report::new("a", "t", *status);
            (*reason).clone_into(&mut report.reason);
            report
                .context
                .extend(mode.map(|mode| ("mode".into(), mode.into())));
            let decision = decide(&Workspace::Shared, &report, &snapshot, at(*second), 60).unwrap();
            snapshot = snapshot.after(&decision.commit);
            told.push(
                decision
                    .happenings
                    .iter()
                    .map(|one| one.event.as_str())
                    .collect(),
            );
        }
        told
    }

    #[test]
    fn a_change_of_status_is_an_event() {
        type Steps<'a> = &'a [(StatusKind, &'a str, i64)];
        let table: [(Steps<'_>, &[&[&str]]); 14] = [
            (&[(Running, "", 0), (Running, "", 1)], &[&["started"], &[]]),
            (&[(Pending, "", 0)], &[&["started", "waiting"]]),
            (&[(Failed, "", 0)], &[&["started", "failed"]]),
            (&[(Success, "", 0)], &[&["started", "finished"]]),
            (
                &[
                    (Running, "", 0),
                    (Pending, "question", 1),
                    (Pending, "plan", 2),
                ],
                &[&["started"], &["waiting"], &[]],
            ),
            (
                &[(Running, "", 0), (Failed, "stopped", 1)],
                &[&["started"], &[]],
            ),
            (
                &[(Running, "", 0), (Failed, "crashed", 1), (Failed, "", 2)],
                &[&["started"], &["failed"], &[]],
            ),
            (
                &[(Failed, "", 0), (Running, "", 1)],
                &[&["started", "failed"], &["recovered"]],
            ),
            (
                &[(Failed, "", 0), (Pending, "", 1)],
                &[&["started", "failed"], &["recovered", "waiting"]],
            ),
            (
                &[(Failed, "", 0), (Success, "", 1)],
                &[&["started", "failed"], &["finished"]],
            ),
            (
                &[(Failed, "stopped", 0), (Running, "", 1)],
                &[&["started"], &[]],
            ),
            (
                &[(Running, "", 0), (Success, "turn", 119)],
                &[&["started"], &[]],
            ),
            (
                &[
                    (Running, "", 0),
                    (Success, "turn", 120),
                    (Success, "closed", 121),
                ],
                &[&["started"], &["finished"], &[]],
            ),
            (
                &[(Running, "", 0), (Pending, "", 300), (Success, "turn", 301)],
                &[&["started"], &["waiting"], &[]],
            ),
        ];
        for (steps, expected) in table {
            assert_eq!(play(steps, None), expected, "{steps:?}");
        }
    }

    #[test]
    fn of_a_session_without_a_person_only_failures_are_told() {
        let steps = [
            (Running, "", 0),
            (Pending, "", 1),
            (Failed, "", 2),
            (Running, "", 3),
            (Success, "", 4),
        ];
        let told = play(&steps, Some("headless"));
        assert_eq!(told, [&[][..], &[], &["failed"], &[], &[]]);
        assert_eq!(play(&steps, Some("interactive")).concat().len(), 5);
    }

    fn channel() -> Channel {
        Channel {
            name: "n".into(),
            url: "https://example.com/x".into(),
            ..Channel::new("c".into(), Workspace::Shared, at(0))
        }
    }

    fn happening(event: Event, reason: &str) -> Happening {
        Happening {
            event,
            agent_id: "a".into(),
            agent_name: String::new(),
            session_topic: "t".into(),
            title: String::new(),
            status: Running,
            reason: reason.into(),
            message: String::new(),
            context: Context::new(),
            seq: 7,
            at: at(1),
            ran_seconds: None,
            silent_for: None,
        }
    }

    #[test]
    fn a_wait_and_a_turn_are_told_when_they_last() {
        let of_channel = Channel {
            delay_seconds: Some(3),
            ..channel()
        };
        for (event, reason, timer, none, own) in [
            (Event::Waiting, "permission", 10, 0, 3),
            (Event::Finished, "turn", 60, 60, 3),
            (Event::Finished, "closed", 0, 0, 3),
            (Event::Failed, "", 0, 0, 3),
            (Event::Recovered, "", 0, 0, 3),
        ] {
            let happening = happening(event, reason);
            assert_eq!(happening.delay(&channel(), true).num_seconds(), timer);
            assert_eq!(happening.delay(&channel(), false).num_seconds(), none);
            assert_eq!(happening.delay(&of_channel, true).num_seconds(), own);
        }
    }

    #[test]
    fn a_channel_gets_what_it_asks_for_while_it_is_enabled() {
        let key = Report::new("a", "t", Running).session_key(&Workspace::Shared);
        let told =
            |event, channel: &Channel| happening(event, "").notification(&key, channel, true);
        assert!(told(Event::Failed, &channel()).is_some());
        assert!(told(Event::Started, &channel()).is_none());
        let disabled = Channel {
            enabled: false,
            ..channel()
        };
        assert!(told(Event::Failed, &disabled).is_none());

        let entry = told(Event::Failed, &channel()).unwrap();
        assert_eq!(
            serde_json::from_str::<Happening>(&entry.body).unwrap(),
            happening(Event::Failed, "")
        );
        assert_eq!(entry.id, told(Event::Failed, &channel()).unwrap().id);
        let other = Channel {
            id: "d".into(),
            ..channel()
        };
        assert_ne!(entry.id, told(Event::Failed, &other).unwrap().id);
        assert_ne!(entry.id, told(Event::Silent, &channel()).unwrap().id);
    }

    proptest! {
        /// The rules, said once more: what people were last told decides what they are told next.
        #[test]
        fn events_follow_the_model(
            steps in prop::collection::vec((0..4_usize, prop::sample::select(vec!["", "turn", "stopped"]), 1..300_i64), 1..30),
        ) {
            let mut second = 0;
            let steps: Vec<_> = steps.into_iter().map(|(status, reason, pause)| {
                second += pause;
                (StatusKind::ALL[status], reason, second)
            }).collect();
            let told = play(&steps, None);
            let (mut last, mut running_since, mut down) = (None, None, false);
            for ((status, reason, second), told) in steps.iter().zip(told) {
                let changed = last != Some(*status);
                let ran = running_since.map_or(0, |since| second - since);
                let silent_turn = *reason == "turn" && ran < 120;
                prop_assert_eq!(told.contains(&"started"), last.is_none());
                prop_assert_eq!(told.contains(&"waiting"), changed && *status == Pending);
                prop_assert_eq!(told.contains(&"failed"), changed && *status == Failed && *reason != "stopped");
                prop_assert_eq!(told.contains(&"finished"), changed && *status == Success && !silent_turn);
                let up = matches!(status, Running | Pending);
                prop_assert_eq!(told.contains(&"recovered"), down && up);
                down = *status == Failed && *reason != "stopped";
                running_since = (*status == Running).then(|| running_since.unwrap_or(*second));
                last = Some(*status);
            }
        }
    }
}
