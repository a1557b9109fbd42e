//! The state machine of reports: from what is stored and what was reported to what is to be stored.

use std::num::NonZeroU32;
use std::sync::Arc;

use chrono::TimeDelta;

use crate::{
    Context, Happening, InvalidField, MAX_TTL_MINUTES, Notification, Quota, Report, Rule,
    SessionKey, Silence, StatusEntry, StatusKind, Timestamp, Transition, Workspace,
    agent::search_key, context, session::expires_at, time::truncate,
};

/// How far ahead of the clock a sequence, which is an instant in microseconds, may be.
const SEQUENCE_LEAD: TimeDelta = TimeDelta::minutes(5);

/// What [`Store::load`](crate::store::Sessions::load) knows of a session before a report: of constant size,
/// however long its history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The agent's name (empty when it has none); `None` when the agent is unknown.
    pub agent_name: Option<String>,
    /// The session; `None` when it is unknown.
    pub session: Option<SessionHead>,
    /// How many others there are of what a report would register: sessions of a known agent, or
    /// agents of the workspace. 0 where the session is known.
    pub siblings: u64,
}

/// A session's row with its latest status: what one report replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionHead {
    /// The number of commits so far: the version that a commit is checked against.
    pub seq: u64,
    /// When the first report was stored.
    pub created: Timestamp,
    /// When the newest report was stored.
    pub last_updated: Timestamp,
    /// How long it lives without a report, in minutes, 1 to 1440.
    pub ttl_minutes: u32,
    /// What people call it; empty when no report has said.
    pub title: String,
    /// The newest status.
    pub status: StatusKind,
    /// Why it is that, as the newest report says; may be empty.
    pub reason: String,
    /// The message of the newest report; may be empty.
    pub message: String,
    /// When the present pair of status and reason began.
    pub status_since: Timestamp,
    /// When the current run began: the first `running` after the last other status. `None` while
    /// the newest status is not `running`.
    pub run_started: Option<Timestamp>,
    /// Where it runs.
    pub context: Context,
    /// The last sequence of the machine that reported last; `None` when it gives none.
    pub sequence: Option<u64>,
    /// The time of the newest history entry.
    pub noted_at: Timestamp,
    /// What hooks keep of the session: JSON, at most 4 KiB; may be empty.
    pub hook: String,
    /// Whether somebody is to be told when it expires, or has been.
    pub silence: Silence,
    /// The number of history entries so far, those that are gone included.
    pub entries: u64,
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
    /// To be stored as [`AgentPatch::seen`] says; also `registered` if the agent is new.
    pub last_seen: Timestamp,
}

/// How far ahead of a report an agent's stored `last_seen` may be: what is further ahead is the
/// error of a clock, which would keep the agent first in every list until its time has come.
pub const LAST_SEEN_LEAD: TimeDelta = TimeDelta::minutes(MAX_TTL_MINUTES as i64);

impl AgentPatch {
    /// The search key to store beside the name, see [`search_key`].
    pub fn name_key(&self) -> Option<String> {
        self.name.as_deref().map(search_key)
    }

    /// The agent's `last_seen` after this: the later one, unless what is stored is ahead by more than
    /// [`LAST_SEEN_LEAD`].
    pub fn seen(&self, stored: Timestamp) -> Timestamp {
        match stored - self.last_seen > LAST_SEEN_LEAD {
            true => self.last_seen,
            false => stored.max(self.last_seen),
        }
    }
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
    /// The new history entry; `None` leaves a gap at this place. A session's first commit has one,
    /// and so has one with notifications.
    pub status: Option<Arc<StatusEntry>>,
    /// What joins the outbox.
    pub notifications: Vec<Notification>,
    /// The most entries that the session's history keeps; `None`: all. Of older ones this commit removes
    /// [`REMOVED_AT_ONCE`] at most.
    pub kept_entries: Option<NonZeroU32>,
}

/// The most history entries that one commit removes: more than it adds, so that a history comes down to
/// a limit that has become lower.
pub const REMOVED_AT_ONCE: u64 = 3;

impl Commit {
    /// The number of the session's newest entry that is not to be kept; 0: all are.
    pub fn outdated(&self) -> u64 {
        let kept = self.kept_entries.map_or(u64::MAX, |kept| kept.get().into());
        self.session.entries.saturating_sub(kept)
    }

    /// The agent's search key, see [`search_key`].
    pub fn agent_id_key(&self) -> String {
        search_key(&self.key.agent_id)
    }
}

/// Why nothing of a report is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unstored {
    /// It has been stored before, or has been overtaken by a later one of the same machine.
    AlreadyReported,
    /// It is of a hook that changes nothing of its session.
    SaysNothing,
    /// With what is stored already, a field breaks its rule.
    Refused(InvalidField),
    /// It would register an agent or open a session beyond a limit.
    LimitReached(Quota),
}

/// What a coding agent's hook wants beyond what its report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookEffect {
    /// The new state, see [`SessionHead::hook`].
    pub state: String,
    /// False if the report is to leave no entry in the history where status and reason stay.
    pub noted: bool,
}

/// What [`decide`] made of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What is to be stored, without notifications yet: their receivers are not the state
    /// machine's business.
    pub commit: Commit,
    /// What channels are to be told.
    pub happenings: Vec<Happening>,
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
            session: Some(commit.session.clone()),
            siblings: 0,
        }
    }
}

/// Works out what a report changes. `now` is the host's clock; `default_ttl_minutes` is the TTL of
/// a new session whose report names none.
///
/// Time does not run backwards within a session: where `now` is before the session's last report
/// (the clock of another host was ahead), that report's time is taken. Beyond the session's TTL this
/// ends, lest one report by a clock that was a year ahead keep the session active for a year.
///
/// # Errors
/// [`Unstored`] when nothing is to be stored.
pub fn decide(
    workspace: &Workspace,
    report: &Report,
    snapshot: &Snapshot,
    now: Timestamp,
    default_ttl_minutes: u32,
) -> Result<Decision, Unstored> {
    decide_effect(workspace, report, None, snapshot, now, default_ttl_minutes)
}

/// Works out what a hook's report changes, as [`decide`] does. Context for which there is no room is
/// cut, since a hook must never fail.
///
/// # Errors
/// [`Unstored::AlreadyReported`].
pub fn decide_hook(
    workspace: &Workspace,
    report: &Report,
    effect: &HookEffect,
    snapshot: &Snapshot,
    now: Timestamp,
    default_ttl_minutes: u32,
) -> Result<Decision, Unstored> {
    let effect = Some(effect);
    decide_effect(
        workspace,
        report,
        effect,
        snapshot,
        now,
        default_ttl_minutes,
    )
}

fn decide_effect(
    workspace: &Workspace,
    report: &Report,
    effect: Option<&HookEffect>,
    snapshot: &Snapshot,
    now: Timestamp,
    default_ttl_minutes: u32,
) -> Result<Decision, Unstored> {
    let before = snapshot.session.as_ref();
    let clock = truncate(now);
    let clock_error = before.and_then(|head| {
        let ahead = head.last_updated - clock;
        (ahead > TimeDelta::minutes(head.ttl_minutes.into())).then_some(ahead)
    });
    let before_clock = before.filter(|_| clock_error.is_none());
    let now = before_clock.map_or(clock, |head| clock.max(head.last_updated));

    let context = context_after(before, report, effect.is_some())?;
    let sequence = sequence_after(before, report.sequence, &context, clock, now)?;
    let run_started = match (report.status, before) {
        (StatusKind::Running, Some(head)) => Some(head.run_started.unwrap_or(now)),
        (StatusKind::Running, None) => Some(now),
        _ => None,
    };
    let unchanged =
        before.filter(|head| head.status == report.status && head.reason == report.reason);
    let noted_before = unchanged.filter(|_| effect.is_some_and(|effect| !effect.noted));
    let kept = |of: fn(&SessionHead) -> &String| before.map(|head| of(head).clone());
    let session = SessionHead {
        seq: before.map_or(1, |head| head.seq + 1),
        created: before.map_or(now, |head| head.created),
        last_updated: now,
        ttl_minutes: report
            .ttl_minutes
            .or(before.map(|head| head.ttl_minutes))
            .unwrap_or(default_ttl_minutes),
        title: (report.session_title.clone())
            .or_else(|| kept(|head| &head.title))
            .unwrap_or_default(),
        status: report.status,
        reason: report.reason.clone(),
        message: report.message.clone(),
        status_since: unchanged.map_or(now, |head| head.status_since.min(now)),
        run_started,
        silence: Silence::after(report.status, &context),
        entries: before.map_or(0, |head| head.entries) + u64::from(noted_before.is_none()),
        context,
        sequence,
        noted_at: noted_before.map_or(now, |head| head.noted_at),
        hook: effect
            .map(|effect| effect.state.clone())
            .or_else(|| kept(|head| &head.hook))
            .unwrap_or_default(),
    };
    let key = report.session_key(workspace);
    let agent_name = (report.agent_name.as_ref()).or(snapshot.agent_name.as_ref());
    let agent_name = agent_name.map_or("", String::as_str);
    let happenings = Happening::all(&key, agent_name, before, &session);
    let transition = before
        .filter(|head| head.status == StatusKind::Running && report.status != StatusKind::Running)
        .filter(|_| !report.is_told_to_nobody())
        .map(|head| Transition {
            agent_id: report.agent_id.clone(),
            agent_name: agent_name.to_owned(),
            session_topic: report.session_topic.clone(),
            to: report.status,
            timestamp: now,
            duration: (now - head.run_started.unwrap_or(now)).max(TimeDelta::zero()),
            message: report.message.clone(),
            content: report.content.clone(),
        });
    Ok(Decision {
        commit: Commit {
            key,
            expected_seq: session.seq - 1,
            agent: AgentPatch {
                name: report.agent_name.clone(),
                source: report.agent_source.clone(),
                last_seen: now,
            },
            session,
            status: noted_before.is_none().then(|| {
                Arc::new(StatusEntry {
                    status: report.status,
                    timestamp: now,
                    reason: report.reason.clone(),
                    message: report.message.clone(),
                    content: report.content.clone(),
                })
            }),
            notifications: Vec::new(),
            kept_entries: None,
        },
        happenings,
        transition,
        clock_error,
    })
}

/// The session's context after a report, unless that would have too many keys. `is_cut`: what is
/// beyond them is left out.
fn context_after(
    before: Option<&SessionHead>,
    report: &Report,
    is_cut: bool,
) -> Result<Context, Unstored> {
    let none = Context::new();
    let before = before.map_or(&none, |head| &head.context);
    let room = match is_cut {
        true => context::MAX_KEYS,
        false => usize::MAX,
    };
    let merged = context::merged(before, &report.context, room);
    // The server sets this key, and no report is refused for it.
    let of_server = report.user.is_some() && merged.contains_key(context::USER);
    match merged.len() - usize::from(of_server) > context::MAX_KEYS {
        true => {
            let rule = Rule::MaxKeys(context::MAX_KEYS);
            Err(Unstored::Refused(rule.broken_by("context")))
        }
        false => Ok(match &report.user {
            Some(user) => context::of_user(merged, user),
            None => merged,
        }),
    }
}

/// The session's last sequence after a report of this one, unless that is a repetition.
///
/// The last one is forgotten when the session has expired, when another machine reports (whose
/// sequences do not compare), and when it is too far ahead of the clock, as the clock of a machine is
/// that has been put back: its reports would all seem to be repetitions.
fn sequence_after(
    before: Option<&SessionHead>,
    sequence: Option<u64>,
    context: &Context,
    clock: Timestamp,
    now: Timestamp,
) -> Result<Option<u64>, Unstored> {
    let limit = u64::try_from((clock + SEQUENCE_LEAD).timestamp_micros()).unwrap_or(0);
    let sequence = sequence.filter(|sequence| *sequence <= limit);
    let last = before
        .filter(|head| now < head.expires_at())
        .filter(|head| head.context.get(context::HOST) == context.get(context::HOST))
        .and_then(|head| head.sequence)
        .filter(|last| *last <= limit);
    match (sequence, last) {
        (Some(sequence), Some(last)) if sequence <= last => Err(Unstored::AlreadyReported),
        _ => Ok(sequence.or(last)),
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
            message: "m".into(),
            content: "c".into(),
            ..Report::new("a", "t", status)
        }
    }

    /// Decides on a report that is to be stored.
    fn decided(report: &Report, snapshot: &Snapshot, now: Timestamp) -> Decision {
        decide(&Workspace::Shared, report, snapshot, now, 60).unwrap()
    }

    /// Decides reports of these statuses at these seconds, one after the other.
    fn play(steps: &[(StatusKind, i64)]) -> (Snapshot, Vec<Option<Transition>>) {
        let mut snapshot = Snapshot::default();
        let mut transitions = Vec::new();
        for (status, second) in steps {
            let report = report(*status);
            let decision = decided(&report, &snapshot, at(*second));
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
        let first = decided(&named, &Snapshot::default(), at(0));
        let snapshot = Snapshot::default().after(&first.commit);
        let decision = decided(&report(Failed), &snapshot, at(2));
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
        let decision = decided(&renaming, &snapshot, at(2));
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
            let decision = decided(&report, &snapshot, at(0));
            assert_eq!(decision.commit.session.ttl_minutes, kept);
            snapshot = snapshot.after(&decision.commit);
        }
        let changed_default = decide(&Workspace::Shared, &report(Running), &snapshot, at(0), 7);
        let changed_default = changed_default.unwrap();
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
            let decision = decided(&next, &snapshot, at(now));
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
        let commit = decided(&report(Running), &Snapshot::default(), now).commit;
        let micro = at(0) + TimeDelta::microseconds(1);
        assert_eq!(commit.status.unwrap().timestamp, micro);
        assert_eq!(
            (commit.session.created, commit.agent.last_seen),
            (micro, micro)
        );
    }

    #[test]
    fn a_commit_expects_the_version_it_was_decided_on() {
        let (snapshot, _) = play(&[(Running, 0), (Running, 1)]);
        let fresh = decided(&report(Running), &Snapshot::default(), at(2));
        let third = decided(&report(Running), &snapshot, at(2));
        assert_eq!(
            (fresh.commit.expected_seq, fresh.commit.session.seq),
            (0, 1)
        );
        assert_eq!(
            (third.commit.expected_seq, third.commit.session.seq),
            (2, 3)
        );
    }

    fn context<const N: usize>(pairs: [(&str, &str); N]) -> Context {
        pairs
            .map(|(key, text)| (key.to_owned(), text.to_owned()))
            .into()
    }

    /// The session after these reports, a second apart.
    fn session_after(reports: &[Report]) -> SessionHead {
        let mut snapshot = Snapshot::default();
        for (report, second) in reports.iter().zip(0..) {
            snapshot = snapshot.after(&decided(report, &snapshot, at(second)).commit);
        }
        snapshot.session.unwrap()
    }

    #[test]
    fn reason_and_message_are_the_newest_reports_and_a_title_stays() {
        let titled = Report {
            session_title: Some("Fix it".into()),
            reason: "background".into(),
            ..report(Running)
        };
        let silent = Report {
            message: String::new(),
            ..report(Running)
        };
        let session = session_after(&[titled.clone(), silent]);
        assert_eq!(
            (&*session.title, &*session.reason, &*session.message),
            ("Fix it", "", "")
        );
        let renamed = Report {
            session_title: Some("Fix that".into()),
            ..report(Pending)
        };
        let session = session_after(&[titled, renamed]);
        assert_eq!((&*session.title, &*session.message), ("Fix that", "m"));
    }

    #[test]
    fn a_spell_lasts_as_long_as_status_and_reason_stay() {
        let of = |status, reason: &str| Report {
            reason: reason.into(),
            ..report(status)
        };
        for (reports, since) in [
            (&[of(Pending, "")][..], 0),
            (&[of(Pending, ""), of(Pending, "")], 0),
            (&[of(Pending, "plan"), of(Pending, "question")], 1),
            (
                &[
                    of(Running, "plan"),
                    of(Pending, "plan"),
                    of(Pending, "plan"),
                ],
                1,
            ),
            (&[of(Pending, ""), of(Running, ""), of(Pending, "")], 2),
        ] {
            assert_eq!(
                session_after(reports).status_since,
                at(since),
                "{reports:?}"
            );
        }
        let (ahead, _) = play(&[(Running, 365 * 24 * 3600)]);
        let again = decided(&report(Running), &ahead, at(5)).commit.session;
        assert_eq!(again.status_since, at(5), "no spell begins in the future");
    }

    #[test]
    fn context_is_merged_up_to_twenty_keys() {
        let key = |n: usize| (format!("k{n:02}"), "v".to_owned());
        let many = |keys: std::ops::Range<usize>| Report {
            context: keys.map(key).collect(),
            ..report(Running)
        };
        let full = session_after(&[many(0..12), many(8..20)]);
        assert_eq!(full.context.len(), 20);
        let snapshot = Snapshot {
            session: Some(full),
            ..Snapshot::default()
        };
        let refused = decide(&Workspace::Shared, &many(20..21), &snapshot, at(9), 60);
        let Err(Unstored::Refused(field)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(field.to_string(), "context must have at most 20 keys");
        let swapped = Report {
            context: context([("k00", ""), ("new", "v")]),
            ..report(Running)
        };
        let swapped = decided(&swapped, &snapshot, at(9)).commit.session;
        assert_eq!((swapped.context.len(), &*swapped.context["new"]), (20, "v"));

        let effect = HookEffect {
            state: "{}".into(),
            noted: true,
        };
        let more = many(10..25);
        let cut = decide_hook(&Workspace::Shared, &more, &effect, &snapshot, at(9), 60);
        assert_eq!(cut.unwrap().commit.session.context.len(), 20);
    }

    #[test]
    fn a_hook_keeps_its_state_and_may_leave_no_entry() {
        let effect = |noted| HookEffect {
            state: format!("{noted}"),
            noted,
        };
        let decide = |report: &Report, noted, snapshot: &Snapshot, now| {
            let effect = effect(noted);
            decide_hook(&Workspace::Shared, report, &effect, snapshot, now, 60).unwrap()
        };
        let first = decide(&report(Running), false, &Snapshot::default(), at(0));
        assert!(first.commit.status.is_some(), "a session has an entry");
        let snapshot = Snapshot::default().after(&first.commit);
        let quiet = Report {
            message: "more".into(),
            ..report(Running)
        };
        let renewed = decide(&quiet, false, &snapshot, at(3)).commit;
        assert_eq!(renewed.status, None);
        let session = &renewed.session;
        assert_eq!((session.seq, session.last_updated), (2, at(3)));
        assert_eq!((session.noted_at, &*session.message), (at(0), "more"));
        assert_eq!(session.hook, "false");
        let snapshot = snapshot.after(&renewed);
        let ended = decide(&report(Success), false, &snapshot, at(4));
        assert!(ended.transition.is_some() && ended.commit.status.is_some());
        let plain = decided(&report(Running), &snapshot, at(5)).commit.session;
        assert_eq!((plain.hook, plain.noted_at), ("false".to_owned(), at(5)));
    }

    #[test]
    fn a_person_is_not_told_what_they_did() {
        let stopped = |status| Report {
            reason: "stopped".into(),
            ..report(status)
        };
        let (snapshot, _) = play(&[(Running, 0)]);
        assert_eq!(decided(&stopped(Failed), &snapshot, at(1)).transition, None);
        let other = decided(&stopped(Success), &snapshot, at(1));
        assert!(other.transition.is_some());
    }

    /// A report's sequence in microseconds, its machine, and its second.
    type Numbered = (Option<u64>, Option<&'static str>, i64);

    /// Which of these reports, one after the other, are stored.
    fn stored(reports: &[Numbered]) -> Vec<bool> {
        let mut snapshot = Snapshot::default();
        let mut stored = Vec::new();
        for (sequence, host, second) in reports {
            let report = Report {
                sequence: *sequence,
                context: host
                    .map(|host| ("host".into(), host.into()))
                    .into_iter()
                    .collect(),
                ..report(Running)
            };
            let decision = decide(&Workspace::Shared, &report, &snapshot, at(*second), 60);
            stored.push(decision.is_ok());
            match decision {
                Ok(decision) => snapshot = snapshot.after(&decision.commit),
                Err(unstored) => assert_eq!(unstored, Unstored::AlreadyReported),
            }
        }
        stored
    }

    #[test]
    fn a_report_of_one_machine_is_stored_once_and_in_order() {
        const HOUR: i64 = 3600;
        const LEAD: u64 = 300_000_000;
        let a = Some("a");
        let b = Some("b");
        let cases: [(&str, &[Numbered], &[bool]); 9] = [
            (
                "a repetition, one that was overtaken, the next one",
                &[
                    (Some(2), a, 0),
                    (Some(2), a, 0),
                    (Some(1), a, 0),
                    (Some(3), a, 0),
                ],
                &[true, false, false, true],
            ),
            (
                "without a sequence everything is stored, and the last one stays",
                &[(Some(2), a, 0), (None, a, 0), (Some(2), a, 0)],
                &[true, true, false],
            ),
            (
                "a host that is not named is the one that was",
                &[(Some(2), a, 0), (Some(2), None, 0)],
                &[true, false],
            ),
            (
                "another machine's sequences do not compare",
                &[
                    (Some(9), a, 0),
                    (Some(2), b, 0),
                    (Some(2), b, 0),
                    (Some(3), b, 0),
                ],
                &[true, true, false, true],
            ),
            (
                "nor does one without a sequence leave the other's behind",
                &[(Some(9), a, 0), (None, b, 0), (Some(2), b, 0)],
                &[true, true, true],
            ),
            (
                "with the session, until it has expired",
                &[(Some(2), a, 0), (Some(2), a, HOUR - 1), (Some(2), a, HOUR)],
                &[true, false, true],
            ),
            (
                "five minutes ahead of the clock counts, more does not",
                &[(Some(LEAD), a, 0), (Some(LEAD), a, 0)],
                &[true, false],
            ),
            (
                "so what is far ahead holds up nothing",
                &[
                    (Some(LEAD + 1), a, 0),
                    (Some(LEAD + 1), a, 0),
                    (Some(1), a, 0),
                ],
                &[true, true, true],
            ),
            (
                "nor does what was stored by a clock that was ahead",
                &[
                    (Some(LEAD + 900_000_000), a, 900),
                    (Some(2), a, 0),
                    (Some(2), a, 0),
                ],
                &[true, true, false],
            ),
        ];
        for (what, reports, expected) in cases {
            assert_eq!(stored(reports), expected, "{what}");
        }
    }

    #[test]
    fn an_agent_was_seen_last_when_the_clock_is_right_again() {
        let patch = |second| AgentPatch {
            name: None,
            source: None,
            last_seen: at(second),
        };
        let day = 24 * 3600;
        for (stored, reported, seen) in [
            (0, 5, 5),
            (5, 0, 5),
            (day, 0, day),
            (day + 1, 0, 0),
            (365 * day, 7, 7),
        ] {
            assert_eq!(patch(reported).seen(at(stored)), at(seen));
        }
    }
}
