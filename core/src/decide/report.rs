//! The state machine of reports: from what is stored and what was reported to what is to be stored.

use chrono::TimeDelta;

use crate::{
    Notification, Report, SessionKey, StatusKind, Timestamp, Transition, Workspace,
    agent::search_key, session::expires_at, time::truncate,
};

/// What [`Store::load`](crate::store::Sessions::load) knows of a session before a report: of constant size,
/// however long its history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The agent's name (empty when it has none); `None` when the agent is unknown.
    pub agent_name: Option<String>,
    /// The session; `None` when it is unknown.
    pub session: Option<SessionHead>,
}

/// A session's row with its latest status: what one report replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionHead {
    /// The number of statuses reported so far: the version that a commit is checked against.
    pub seq: u64,
    /// When the first report was stored.
    pub created: Timestamp,
    /// When the newest report was stored.
    pub last_updated: Timestamp,
    /// How long it lives without a report, in minutes, 1 to 1440.
    pub ttl_minutes: u32,
    /// The newest status.
    pub status: StatusKind,
    /// When the current run began: the first `running` after the last other status. `None` while
    /// the newest status is not `running`.
    pub run_started: Option<Timestamp>,
}

impl SessionHead {
    /// The instant at which the session expires if nothing renews it.
    pub fn expires_at(&self) -> Timestamp {
        expires_at(self.last_updated, self.ttl_minutes)
    }
}

/// What changes of an agent. A patch and not a row, since other sessions of the agent commit at the
/// same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentPatch {
    /// The new name; `None` keeps the old one.
    pub name: Option<String>,
    /// The new source; `None` keeps the old one.
    pub source: Option<String>,
    /// To be stored as a maximum with what is there; also `registered` if the agent is new.
    pub last_seen: Timestamp,
}

impl AgentPatch {
    /// The search key to store beside the name, see [`search_key`].
    pub fn name_key(&self) -> Option<String> {
        self.name.as_deref().map(search_key)
    }
}

/// The entry that joins the end of the session's history, at the place [`SessionHead::seq`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusEntry {
    /// What was reported.
    pub status: StatusKind,
    /// The server's clock, never before the session's previous entry.
    pub timestamp: Timestamp,
    /// A line for people; may be empty.
    pub message: String,
    /// Longer text; may be empty.
    pub content: String,
}

/// Everything that one report changes, to be applied as one atomic step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The session reported on.
    pub key: SessionKey,
    /// The version that the session must still have: 0 when it must not exist.
    pub expected_seq: u64,
    /// The agent's changes.
    pub agent: AgentPatch,
    /// The session's new row; its `seq` is `expected_seq + 1`.
    pub session: SessionHead,
    /// The new history entry.
    pub status: StatusEntry,
    /// What joins the outbox.
    pub notifications: Vec<Notification>,
}

impl Commit {
    /// The agent's search key, see [`search_key`].
    pub fn agent_id_key(&self) -> String {
        search_key(&self.key.agent_id)
    }
}

/// What [`decide`] made of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What is to be stored, without notifications yet: their receivers are not the state
    /// machine's business.
    pub commit: Commit,
    /// The transition that receivers are to be told, if there is one.
    pub transition: Option<Transition>,
    /// How far ahead of the clock the session's stored time was, where that is taken for the error
    /// of a clock: then the clock wins, and the session's time goes back.
    pub clock_error: Option<TimeDelta>,
}

impl Snapshot {
    /// The snapshot that a load would give after `commit` has been applied to this one, so that
    /// several reports on one session can be decided before the first is stored.
    pub fn after(&self, commit: &Commit) -> Self {
        let kept = || self.agent_name.clone().unwrap_or_default();
        Self {
            agent_name: Some(commit.agent.name.clone().unwrap_or_else(kept)),
            session: Some(commit.session),
        }
    }
}

/// Works out what a report changes. `now` is the host's clock; `default_ttl_minutes` is the TTL of
/// a new session whose report names none.
///
/// Time does not run backwards within a session: where `now` is before the session's last report
/// (the clock of another host was ahead), that report's time is taken. Beyond the session's TTL this
/// ends, lest one report by a clock that was a year ahead keep the session active for a year.
pub fn decide(
    workspace: &Workspace,
    report: &Report,
    snapshot: &Snapshot,
    now: Timestamp,
    default_ttl_minutes: u32,
) -> Decision {
    let before = snapshot.session.as_ref();
    let clock = truncate(now);
    let clock_error = before.and_then(|head| {
        let ahead = head.last_updated - clock;
        (ahead > TimeDelta::minutes(head.ttl_minutes.into())).then_some(ahead)
    });
    let before_clock = before.filter(|_| clock_error.is_none());
    let now = before_clock.map_or(clock, |head| clock.max(head.last_updated));

    let run_started = match (report.status, before) {
        (StatusKind::Running, Some(head)) => Some(head.run_started.unwrap_or(now)),
        (StatusKind::Running, None) => Some(now),
        _ => None,
    };
    let session = SessionHead {
        seq: before.map_or(1, |head| head.seq + 1),
        created: before.map_or(now, |head| head.created),
        last_updated: now,
        ttl_minutes: report
            .ttl_minutes
            .or(before.map(|head| head.ttl_minutes))
            .unwrap_or(default_ttl_minutes),
        status: report.status,
        run_started,
    };
    let transition = before
        .filter(|head| head.status == StatusKind::Running && report.status != StatusKind::Running)
        .map(|head| Transition {
            agent_id: report.agent_id.clone(),
            agent_name: report
                .agent_name
                .clone()
                .or_else(|| snapshot.agent_name.clone())
                .unwrap_or_default(),
            session_topic: report.session_topic.clone(),
            to: report.status,
            timestamp: now,
            duration: (now - head.run_started.unwrap_or(now)).max(TimeDelta::zero()),
            message: report.message.clone(),
            content: report.content.clone(),
        });
    Decision {
        commit: Commit {
            key: report.session_key(workspace),
            expected_seq: session.seq - 1,
            agent: AgentPatch {
                name: report.agent_name.clone(),
                source: report.agent_source.clone(),
                last_seen: now,
            },
            session,
            status: StatusEntry {
                status: report.status,
                timestamp: now,
                message: report.message.clone(),
                content: report.content.clone(),
            },
            notifications: Vec::new(),
        },
        transition,
        clock_error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use StatusKind::{Failed, Pending, Running, Success};

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    fn report(status: StatusKind) -> Report {
        Report {
            agent_id: "a".into(),
            agent_name: None,
            agent_source: None,
            session_topic: "t".into(),
            status,
            message: "m".into(),
            content: "c".into(),
            ttl_minutes: None,
        }
    }

    /// Decides reports of these statuses at these seconds, one after the other.
    fn play(steps: &[(StatusKind, i64)]) -> (Snapshot, Vec<Option<Transition>>) {
        let mut snapshot = Snapshot::default();
        let mut transitions = Vec::new();
        for (status, second) in steps {
            let report = report(*status);
            let decision = decide(&Workspace::Shared, &report, &snapshot, at(*second), 60);
            snapshot = snapshot.after(&decision.commit);
            transitions.push(decision.transition);
        }
        (snapshot, transitions)
    }

    #[test]
    fn only_leaving_running_is_a_transition() {
        for from in StatusKind::ALL {
            for to in StatusKind::ALL {
                let (_, transitions) = play(&[(from, 0), (to, 1)]);
                let expected = from == Running && to != Running;
                assert_eq!(transitions[1].is_some(), expected, "{from:?} to {to:?}");
                assert_eq!(transitions[0], None, "a first report is no transition");
            }
        }
    }

    #[test]
    fn a_run_lasts_from_its_first_running() {
        for (steps, seconds) in [
            (&[(Running, 0), (Success, 5)][..], 5),
            (&[(Running, 0), (Running, 3), (Failed, 5)], 5),
            (&[(Pending, 0), (Running, 2), (Pending, 5)], 3),
            (
                &[
                    (Running, 0),
                    (Success, 5),
                    (Running, 7),
                    (Running, 8),
                    (Success, 9),
                ],
                2,
            ),
            (&[(Running, 10), (Success, 4)], 0),
        ] {
            let (_, transitions) = play(steps);
            let last = transitions.last().cloned().flatten().unwrap();
            assert_eq!(last.duration, TimeDelta::seconds(seconds), "{steps:?}");
        }
    }

    #[test]
    fn a_transition_tells_what_the_report_told() {
        let named = Report {
            agent_name: Some("Alice".into()),
            ..report(Running)
        };
        let first = decide(&Workspace::Shared, &named, &Snapshot::default(), at(0), 60);
        let snapshot = Snapshot::default().after(&first.commit);
        let decision = decide(&Workspace::Shared, &report(Failed), &snapshot, at(2), 60);
        let transition = decision.transition.unwrap();
        assert_eq!(transition.agent_name, "Alice");
        assert_eq!((transition.to, transition.timestamp), (Failed, at(2)));
        assert_eq!(
            (transition.message.as_str(), transition.content.as_str()),
            ("m", "c")
        );
        let renaming = Report {
            agent_name: Some("Bob".into()),
            ..report(Failed)
        };
        let decision = decide(&Workspace::Shared, &renaming, &snapshot, at(2), 60);
        assert_eq!(decision.transition.unwrap().agent_name, "Bob");
    }

    #[test]
    fn a_ttl_is_kept_until_a_report_names_another() {
        let mut snapshot = Snapshot::default();
        for (given, kept) in [
            (None, 60),
            (None, 60),
            (Some(5), 5),
            (None, 5),
            (Some(1440), 1440),
        ] {
            let report = Report {
                ttl_minutes: given,
                ..report(Running)
            };
            let decision = decide(&Workspace::Shared, &report, &snapshot, at(0), 60);
            assert_eq!(decision.commit.session.ttl_minutes, kept);
            snapshot = snapshot.after(&decision.commit);
        }
        let changed_default = decide(&Workspace::Shared, &report(Running), &snapshot, at(0), 7);
        assert_eq!(changed_default.commit.session.ttl_minutes, 1440);
    }

    #[test]
    fn an_expired_session_is_renewed_by_any_report() {
        let (snapshot, _) = play(&[(Running, 0), (Running, 100_000)]);
        let session = snapshot.session.unwrap();
        assert_eq!(
            (session.seq, session.created, session.last_updated),
            (2, at(0), at(100_000))
        );
        assert_eq!(session.expires_at(), at(100_000 + 3600));
    }

    #[test]
    fn time_never_goes_back_within_a_session() {
        let (snapshot, _) = play(&[(Running, 10), (Running, 4)]);
        assert_eq!(snapshot.session.unwrap().last_updated, at(10));
    }

    #[test]
    fn a_session_whose_time_is_more_than_its_ttl_ahead_follows_the_clock_again() {
        let hour = 3600;
        for (stored, now, expected, error) in [
            (hour, 0, hour, None),
            (hour + 1, 0, 0, Some(hour + 1)),
            (365 * 24 * hour, 10, 10, Some(365 * 24 * hour - 10)),
        ] {
            let (snapshot, _) = play(&[(Running, stored)]);
            let next = report(Success);
            let decision = decide(&Workspace::Shared, &next, &snapshot, at(now), 60);
            assert_eq!(decision.commit.session.last_updated, at(expected));
            assert_eq!(decision.commit.agent.last_seen, at(expected));
            assert_eq!(decision.clock_error, error.map(TimeDelta::seconds));
            let duration = decision.transition.unwrap().duration;
            assert_eq!(duration, TimeDelta::zero(), "a run lasts no negative time");
        }
    }

    #[test]
    fn what_is_stored_has_whole_microseconds() {
        let now = at(0) + TimeDelta::nanoseconds(1_999);
        let commit = decide(
            &Workspace::Shared,
            &report(Running),
            &Snapshot::default(),
            now,
            60,
        )
        .commit;
        let micro = at(0) + TimeDelta::microseconds(1);
        assert_eq!(commit.status.timestamp, micro);
        assert_eq!(
            (commit.session.created, commit.agent.last_seen),
            (micro, micro)
        );
    }

    #[test]
    fn a_commit_expects_the_version_it_was_decided_on() {
        let (snapshot, _) = play(&[(Running, 0), (Running, 1)]);
        let fresh = decide(
            &Workspace::Shared,
            &report(Running),
            &Snapshot::default(),
            at(2),
            60,
        );
        let third = decide(&Workspace::Shared, &report(Running), &snapshot, at(2), 60);
        assert_eq!(
            (fresh.commit.expected_seq, fresh.commit.session.seq),
            (0, 1)
        );
        assert_eq!(
            (third.commit.expected_seq, third.commit.session.seq),
            (2, 3)
        );
    }
}
