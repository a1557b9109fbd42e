//! What makes room when memory is full.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::mem::size_of;
use std::sync::Arc;

use super::sessions::{Agents, ROWS_AT_ONCE, SessionState, Workspaces};
use super::{MemoryStore, State, buckets, heap};
use crate::session::is_over_at;
use crate::yielding::yield_now;
use crate::{Quota, SessionKey, Silence, StatusEntry, Timestamp, Workspace};

/// How much a store may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    mib: u32,
    bytes: usize,
}

impl Limit {
    /// What is left of as many MiB when the program and the requests under way have their share, and the
    /// allocator has lost some between what it gave out: up to a third of that where 10 KB statuses have
    /// long made room for each other. `None` for 0.
    pub(super) fn of_mib(mib: u32) -> Option<Self> {
        const PROGRAM: u64 = 30 << 20;
        let all = u64::from(mib) << 20;
        let left = (all - PROGRAM.min(all * 2 / 5)) / 5 * 4;
        let bytes = usize::try_from(left).unwrap_or(usize::MAX);
        (mib > 0).then_some(Self { mib, bytes })
    }

    /// How much of it may wait for delivery.
    pub(super) fn of_outbox(self) -> usize {
        self.bytes / 4
    }
}

/// Sessions in the orders in which they are looked for across all workspaces. Numbers tell apart what
/// is at the same place; they are given once.
#[derive(Debug, Default)]
pub(super) struct Places {
    last_number: u64,
    /// Those whose expiry is watched, by that.
    pub(super) watched: BTreeMap<(Timestamp, u64), Arc<SessionKey>>,
    /// All, by when they end or expire, unless they are reported on.
    over: BTreeMap<(Timestamp, u64), Arc<SessionKey>>,
    /// All, those with the longest history first, and of these those that changed longest ago.
    longest: BTreeMap<(Reverse<usize>, u64), Arc<SessionKey>>,
}

impl Places {
    /// A number that was not given before.
    pub(super) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// The last number given, of which each change takes one.
    pub(super) const fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Puts a session where it belongs.
    pub(super) fn insert(&mut self, session: &mut SessionState) {
        let SessionState { number, head, .. } = session;
        let key = || Arc::clone(&session.key);
        if head.silence == Silence::Watched {
            self.watched.insert((head.expires_at(), *number), key());
        }
        self.over.insert((is_over_at(head), *number), key());
        let length = Reverse(session.history.len());
        self.longest.insert((length, session.changed), key());
    }

    /// Takes a session out, which is to be as it was when it was put in.
    pub(super) fn remove(&mut self, session: &SessionState) {
        let SessionState { number, head, .. } = session;
        self.watched.remove(&(head.expires_at(), *number));
        self.over.remove(&(is_over_at(head), *number));
        let length = Reverse(session.history.len());
        self.longest.remove(&(length, session.changed));
    }

    fn remove_all<'a>(&mut self, sessions: impl Iterator<Item = &'a SessionState>) {
        sessions.for_each(|session| self.remove(session));
    }
}

/// The history of a session that is gone, which goes bit by bit.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) key: Arc<SessionKey>,
    pub(super) history: BTreeMap<u64, Arc<StatusEntry>>,
}

/// For whom room is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For<'a> {
    /// A session that is not there yet. It leaves every other its newest status.
    NewSession,
    /// This session, which has been reported on, whatever it costs others.
    Session(&'a SessionKey),
}

impl State {
    /// What is stored, in bytes of the heap.
    pub(super) fn bytes(&self) -> usize {
        self.sessions.bytes
            + self.outbox.bytes()
            + self.tokens.bytes()
            + buckets::bytes(&self.buckets)
            + self.accounts.bytes()
            + self.api_keys.len() * API_KEY
            + self.channels.len() * CHANNELS
    }

    /// Makes room for a new session of this size, unless that would take from others their newest
    /// status.
    pub(super) fn admit(&mut self, bytes: usize, now: Timestamp) -> Result<(), Quota> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        while self.bytes() + bytes > limit.bytes {
            if !self.sessions.free_some(now, For::NewSession) {
                return Err(Quota::Memory { mib: limit.mib });
            }
        }
        Ok(())
    }

    /// Makes room after a report on a session.
    pub(super) fn make_room(&mut self, key: &SessionKey, now: Timestamp) {
        let Some(limit) = self.limit else { return };
        while self.bytes() > limit.bytes && self.sessions.free_some(now, For::Session(key)) {}
    }
}

/// An API key with its hash, of which there is one more.
const API_KEY: usize = heap::table_place(size_of::<crate::ApiKey>() + size_of::<String>()) + 600;

/// The channels of a workspace: bounded in number and in length, few are as large as they may be.
const CHANNELS: usize = 20 * 600;

impl Workspaces {
    /// Frees a little: of a session that is gone, else of the one that ended or expired first, else of
    /// the longest history. False where nothing is left that may go. What it does is of constant size.
    fn free_some(&mut self, now: Timestamp, purpose: For<'_>) -> bool {
        if self.free_remains() {
            return true;
        }
        if let Some((place, key)) = self.places.over.first_key_value()
            && place.0 <= now
        {
            let (place, key) = (*place, Arc::clone(key));
            self.places.over.remove(&place);
            self.evict(&key, place.1, now);
            return true;
        }
        let Some((&place, key)) = self.places.longest.first_key_value() else {
            return false;
        };
        let key = Arc::clone(key);
        let (Reverse(length), changed) = place;
        let session = self.session(&key);
        let number = session.filter(|session| session.changed == changed);
        let Some(number) = number.map(|session| session.number) else {
            // Its workspace is gone.
            self.places.longest.remove(&place);
            return true;
        };
        match (length, purpose) {
            (0 | 1, For::NewSession) => return false,
            // Sessions themselves have grown: those go that were reported on longest ago.
            (0, For::Session(spared)) if *key == *spared => return false,
            (0, For::Session(_)) => self.evict(&key, number, now),
            _ => self.shorten(&key),
        }
        true
    }

    /// Drops the oldest status of a session that is gone; false where there is none.
    fn free_remains(&mut self) -> bool {
        let Some(Remains { key, history }) = self.remains.front_mut() else {
            return false;
        };
        let oldest = history.pop_first();
        let key = Arc::clone(key);
        if history.is_empty() {
            self.remains.pop_front();
        }
        if let Some((seq, entry)) = oldest {
            self.change(&key.workspace, |agents, _| {
                agents.forget(&key, seq, &entry);
            });
        }
        true
    }

    /// Removes a session from all lists, and its agent with its last one. Its history is freed later.
    fn evict(&mut self, key: &Arc<SessionKey>, number: u64, now: Timestamp) {
        let removed = self.change(&key.workspace, |agents, places| {
            let session = agents.remove(key, number, now)?;
            places.remove(&session);
            Some(session.history)
        });
        if let Some(history) = removed.flatten()
            && !history.is_empty()
        {
            let key = Arc::clone(key);
            self.remains.push_back(Remains { key, history });
        }
    }

    /// Drops the oldest status of a session.
    fn shorten(&mut self, key: &Arc<SessionKey>) {
        self.change(&key.workspace, |agents, places| {
            agents.shorten(key, places);
        });
    }

    /// Changes a workspace and counts what that takes up.
    pub(super) fn change<R>(
        &mut self,
        workspace: &Workspace,
        change: impl FnOnce(&mut Agents, &mut Places) -> R,
    ) -> Option<R> {
        let agents = self.agents.get_mut(workspace)?;
        let before = agents.bytes;
        let result = change(agents, &mut self.places);
        self.bytes = (self.bytes + agents.bytes).saturating_sub(before);
        Some(result)
    }
}

impl MemoryStore {
    /// Takes the sessions of a workspace that is gone out of the places of all.
    pub(super) async fn remove_places(&self, agents: &Agents) {
        let mut sessions = agents.all().peekable();
        while sessions.peek().is_some() {
            let some = sessions.by_ref().take(ROWS_AT_ONCE);
            self.lock().sessions.places.remove_all(some);
            yield_now().await;
        }
    }
}

/// Sessions that are gone.
pub(super) type Gone = VecDeque<Remains>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{DateTime, TimeDelta};
    use futures_executor::block_on;
    use proptest::prelude::*;

    use super::*;
    use crate::store::{
        AgentQuery, CommitOutcome, HistoryCursor, SessionQuery, Sessions, WorkspaceQuery,
    };
    use crate::{AccountId, Context, Report, StatusKind, decide};

    fn start() -> Timestamp {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn store_of(bytes: usize) -> MemoryStore {
        let store = MemoryStore::of_mib(1);
        store.lock().limit = Some(Limit { mib: 1, bytes });
        store
    }

    /// Reports; what is refused is stored nowhere.
    fn report(
        store: &MemoryStore,
        workspace: &Workspace,
        report: &Report,
        now: Timestamp,
    ) -> CommitOutcome {
        let key = report.session_key(workspace);
        let snapshot = block_on(store.load(&key)).unwrap();
        let commit = decide(workspace, report, &snapshot, now, 60)
            .unwrap()
            .commit;
        let outcome = block_on(store.commit(&commit)).unwrap();
        if snapshot.session.is_some() {
            assert_eq!(
                outcome,
                CommitOutcome::Committed,
                "a known session's report"
            );
        }
        outcome
    }

    /// Reports what must be stored.
    fn stored(store: &MemoryStore, workspace: &Workspace, it: &Report, now: Timestamp) {
        assert_eq!(report(store, workspace, it, now), CommitOutcome::Committed);
    }

    fn is_there(store: &MemoryStore, workspace: &Workspace, agent: &str, topic: &str) -> bool {
        let key = Report::new(agent, topic, StatusKind::Running).session_key(workspace);
        block_on(store.load(&key)).unwrap().session.is_some()
    }

    /// A session as the store has it: when it is over, and how long its history is.
    type Seen = BTreeMap<SessionKey, (Timestamp, usize)>;

    impl State {
        fn seen(&self) -> Seen {
            let sessions = self.sessions.agents.values().flat_map(Agents::all);
            let seen = |session: &SessionState| {
                let key = SessionKey::clone(&session.key);
                (key, (is_over_at(&session.head), session.history.len()))
            };
            sessions.map(seen).collect()
        }

        /// Checks what is counted against what is there.
        fn check(&self) {
            let Workspaces {
                agents,
                places,
                remains,
                bytes,
            } = &self.sessions;
            let counted: usize = agents.values().map(Agents::counted).sum();
            let gone = remains.iter().flat_map(|gone| gone.history.values());
            let gone: usize = gone
                .map(|entry| super::super::sessions::status_bytes(entry))
                .sum();
            assert_eq!(*bytes, counted + gone);
            let of_workspaces: usize = agents.values().map(|agents| agents.bytes).sum();
            assert_eq!(*bytes, of_workspaces);
            let sessions = self.seen().len();
            assert_eq!(
                (places.over.len(), places.longest.len()),
                (sessions, sessions)
            );
            assert!(places.watched.len() <= sessions);
        }
    }

    #[derive(Debug, Clone)]
    struct Step {
        workspace: usize,
        agent: u8,
        topic: u8,
        status: StatusKind,
        is_turn: bool,
        content: usize,
        context: usize,
        minutes: i64,
        ttl: u32,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (
            0..2usize,
            0..3u8,
            0..6u8,
            prop::sample::select(StatusKind::ALL.to_vec()),
            any::<bool>(),
            prop_oneof![3 => 0..200usize, 1 => 0..4000usize],
            prop_oneof![4 => Just(0), 1 => 0..20usize],
            prop_oneof![3 => Just(0), 1 => 0..90i64],
            1..90u32,
        );
        let step = step.prop_map(
            |(workspace, agent, topic, status, is_turn, content, context, minutes, ttl)| Step {
                workspace,
                agent,
                topic,
                status,
                is_turn,
                content,
                context,
                minutes,
                ttl,
            },
        );
        prop::collection::vec(step, 1..150)
    }

    proptest! {
        #[test]
        fn it_never_holds_more_and_room_is_made_in_order(steps in steps(), limit in 30_000..120_000usize) {
            let store = store_of(limit);
            let workspaces = [Workspace::Shared, Workspace::Account(AccountId::new("a".to_owned()))];
            let mut now = start();
            for step in steps {
                now += TimeDelta::minutes(step.minutes) + TimeDelta::microseconds(1);
                let workspace = &workspaces[step.workspace];
                let mut it = Report::new(format!("agent {}", step.agent), format!("topic {}", step.topic), step.status);
                it.content = "x".repeat(step.content);
                it.ttl_minutes = Some(step.ttl);
                if step.is_turn && step.status == StatusKind::Success {
                    it.reason = "turn".to_owned();
                }
                it.context = (0..step.context).map(|n| (format!("key {n}"), "v".repeat(100))).collect::<Context>();
                let key = it.session_key(workspace);
                let before = store.lock().seen();
                let outcome = report(&store, workspace, &it, now);
                let state = store.lock();
                state.check();
                prop_assert!(state.bytes() <= limit, "{} of {limit}", state.bytes());
                let after = state.seen();
                drop(state);
                let was_known = before.contains_key(&key);
                let mut expected = before;
                match outcome {
                    CommitOutcome::Committed => {
                        let is_over = match step.status {
                            StatusKind::Failed => true,
                            StatusKind::Success => !step.is_turn,
                            _ => false,
                        };
                        let over = if is_over { now } else { now + TimeDelta::minutes(step.ttl.into()) };
                        let length = expected.get(&key).map_or(0, |seen| seen.1);
                        expected.insert(key.clone(), (over, length + 1));
                    }
                    CommitOutcome::Refused(Quota::Memory { mib: 1 }) => {
                        prop_assert!(!expected.contains_key(&key));
                        // Nothing that may go for a new session is left.
                        prop_assert!(after.values().all(|(over, length)| *over > now && *length <= 1));
                    }
                    outcome => prop_assert!(false, "{outcome:?}"),
                }
                let gone = |key: &&SessionKey| !after.contains_key(*key);
                let last_gone = expected.keys().filter(gone).map(|key| expected[key].0).max();
                let is_shorter = |(key, seen): &(&SessionKey, &(Timestamp, usize))| seen.1 < expected[*key].1;
                // Room for a new session is made before it is there.
                let left = after
                    .iter()
                    .filter(|(other, _)| **other != key || was_known);
                let first_left = left.map(|(_, seen)| seen.0).min();
                match last_gone {
                    Some(last) if last <= now => prop_assert!(first_left.is_none_or(|first| last <= first)),
                    // Sessions that were not over go only when no status is left but the newest reported.
                    Some(_) => {
                        prop_assert!(first_left.is_none_or(|first| now < first));
                        let others = after.iter().filter(|(other, _)| **other != key);
                        prop_assert!(others.clone().all(|(_, seen)| seen.1 == 0));
                    }
                    None => {}
                }
                if after.iter().any(|seen| is_shorter(&seen)) {
                    prop_assert!(first_left.is_none_or(|first| now < first), "histories went before sessions");
                    let longest = after.values().map(|seen| seen.1).max().unwrap_or(0);
                    let shortened = after.iter().filter(is_shorter);
                    prop_assert!(shortened.map(|(_, seen)| seen.1 + 1).all(|length| length >= longest));
                }
            }
        }
    }

    #[test]
    fn what_has_made_room_is_in_no_list() {
        let store = store_of(40_000);
        let workspace = &Workspace::Shared;
        let running = |agent: &str, topic: &str| {
            let mut report = Report::new(agent, topic, StatusKind::Running);
            report.content = "x".repeat(2000);
            report
        };
        let mut now = start();
        let mut next = || {
            now += TimeDelta::seconds(1);
            now
        };
        for _ in 0..4 {
            stored(&store, workspace, &running("old", "ended"), next());
        }
        stored(
            &store,
            workspace,
            &Report::new("old", "ended", StatusKind::Failed),
            next(),
        );
        let mut reports = 0;
        while is_there(&store, workspace, "old", "ended") {
            reports += 1;
            assert!(reports < 100, "it never goes");
            stored(&store, workspace, &running("new", "active"), next());
        }
        let now = next();
        assert!(
            block_on(store.agent(workspace, "old", now))
                .unwrap()
                .is_none()
        );
        let agents = AgentQuery {
            limit: 9,
            ..AgentQuery::default()
        };
        let agents = block_on(store.agents(workspace, &agents, now))
            .unwrap()
            .items;
        assert_eq!(
            agents
                .iter()
                .map(|agent| &*agent.agent_id)
                .collect::<Vec<_>>(),
            ["new"]
        );
        let of_old = SessionQuery {
            limit: 9,
            ..SessionQuery::default()
        };
        let of_old = block_on(store.sessions(workspace, "old", &of_old, now)).unwrap();
        assert!(of_old.items.is_empty());
        let all = WorkspaceQuery {
            limit: 9,
            ..WorkspaceQuery::default()
        };
        let all = block_on(store.workspace_sessions(workspace, &all, now))
            .unwrap()
            .items;
        assert_eq!(all.len(), 1);
        assert!(
            block_on(store.history(workspace, "old", None, 9))
                .unwrap()
                .items
                .is_empty()
        );
        assert!(store.evicted_at(workspace).is_some());

        // The same names are a new agent and a new session, also while the old history is freed.
        stored(&store, workspace, &running("old", "ended"), now);
        let agent = block_on(store.agent(workspace, "old", now))
            .unwrap()
            .unwrap();
        assert_eq!((agent.session_count, agent.registered), (1, now));
        let history = block_on(store.history(workspace, "old", None, 9))
            .unwrap()
            .items;
        assert_eq!(history.len(), 1);
        store.lock().check();
    }

    #[test]
    fn a_walk_goes_on_where_old_statuses_made_room() {
        let store = store_of(60_000);
        let workspace = &Workspace::Shared;
        let note = |n: usize| {
            let mut report = Report::new("agent", "topic", StatusKind::Running);
            report.message = n.to_string();
            report.content = "x".repeat(1000);
            report
        };
        for n in 0..30 {
            stored(
                &store,
                workspace,
                &note(n),
                start() + TimeDelta::seconds(n as i64),
            );
        }
        let page = |after: Option<&HistoryCursor>| {
            let page = block_on(store.history(workspace, "agent", after, 5)).unwrap();
            let numbers = page
                .items
                .iter()
                .map(|status| status.entry.message.parse::<usize>().unwrap());
            (numbers.collect::<Vec<_>>(), page.next)
        };
        let (first, mut after) = page(None);
        assert_eq!(first, [29, 28, 27, 26, 25]);
        let mut n = 30;
        let mut walked = Vec::new();
        while let Some(place) = after {
            stored(
                &store,
                workspace,
                &note(n),
                start() + TimeDelta::seconds(n as i64),
            );
            n += 1;
            let (numbers, next) = page(Some(&place));
            walked.extend(numbers);
            after = next;
        }
        let expected: Vec<usize> = (0..25).rev().take(walked.len()).collect();
        assert_eq!(walked, expected);
        assert!(walked.len() >= 10, "{walked:?}");
    }

    #[test]
    fn a_new_session_is_refused_where_only_newest_statuses_are_left() {
        let store = store_of(40_000);
        let workspace = &Workspace::Shared;
        let open = |n: usize| {
            report(
                &store,
                workspace,
                &Report::new("agent", n.to_string(), StatusKind::Running),
                start(),
            )
        };
        let refused = (0..100).find(|n| open(*n) != CommitOutcome::Committed);
        let refused = refused.expect("a refusal");
        assert_eq!(
            open(refused),
            CommitOutcome::Refused(Quota::Memory { mib: 1 })
        );
        assert!((0..refused).all(|n| is_there(&store, workspace, "agent", &n.to_string())));
        let mut agent = Report::new("another", "t", StatusKind::Running);
        let outcome = report(&store, workspace, &agent, start());
        assert_eq!(outcome, CommitOutcome::Refused(Quota::Memory { mib: 1 }));
        assert!(
            block_on(store.agent(workspace, "another", start()))
                .unwrap()
                .is_none()
        );
        // Known sessions may say what they like.
        agent.agent_id = "agent".to_owned();
        agent.content = "x".repeat(9000);
        for n in 0..refused {
            agent.session_topic = n.to_string();
            stored(&store, workspace, &agent, start());
        }
        // Once one has ended, there is room.
        let mut end = Report::new("agent", "0", StatusKind::Success);
        end.reason = "closed".to_owned();
        stored(&store, workspace, &end, start() + TimeDelta::seconds(1));
        let new = Report::new("agent", "new", StatusKind::Running);
        let outcome = report(&store, workspace, &new, start() + TimeDelta::seconds(2));
        assert_eq!(outcome, CommitOutcome::Committed);
    }

    #[test]
    fn a_deleted_workspace_leaves_nothing_behind() {
        let store = store_of(80_000);
        let workspace = Workspace::Account(AccountId::new("account".to_owned()));
        for n in 0..300 {
            let status = [StatusKind::Running, StatusKind::Failed][n % 2];
            let mut it = Report::new("agent", (n / 4).to_string(), status);
            it.content = "x".repeat(500);
            stored(
                &store,
                &workspace,
                &it,
                start() + TimeDelta::seconds(n as i64),
            );
        }
        let agents = store.lock().sessions.remove(&workspace).unwrap();
        // Room is made also before the places are removed.
        let shared = &Workspace::Shared;
        for n in 0..100 {
            let mut it = Report::new("agent", "topic", StatusKind::Running);
            it.content = "x".repeat(2000);
            stored(&store, shared, &it, start() + TimeDelta::seconds(n));
            assert!(store.lock().bytes() <= 80_000);
        }
        block_on(store.remove_places(&agents));
        let agents_of_shared = store.lock().sessions.remove(shared).unwrap();
        block_on(store.remove_places(&agents_of_shared));
        drop(agents);
        let state = store.lock();
        assert_eq!(state.sessions.bytes, 0);
        let Places {
            watched,
            over,
            longest,
            ..
        } = &state.sessions.places;
        assert!(watched.is_empty() && over.is_empty() && longest.is_empty());
        drop(state);
        // Nor does what remained to be freed count for others.
        stored(
            &store,
            &Workspace::Shared,
            &Report::new("a", "t", StatusKind::Running),
            start(),
        );
        while store.lock().sessions.free_remains() {}
        store.lock().check();
    }
}
