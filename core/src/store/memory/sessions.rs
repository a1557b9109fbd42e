use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{self, Excluded, Unbounded};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{MemoryStore, State};
use crate::batch::Chain;
use crate::report::MAX_TTL_MINUTES;
use crate::session::expires_at;
use crate::store::{
    AgentCursor, AgentQuery, CommitOutcome, Expiry, Gathering, HistoryCursor, MAX_LOOKED_AT, Page,
    ROW_BYTES, Row, SessionCursor, SessionHistory, SessionQuery, SessionWalk, Sessions,
    SilenceNote, StoreError, WorkspaceCursor, WorkspaceQuery, json_bytes,
};
use crate::yielding::yield_now;
use crate::{
    Agent, Commit, NamedSession, Session, SessionHead, SessionKey, Silence, Snapshot, Status,
    StatusEntry, Timestamp, Workspace,
};

/// The most rows that a list looks at before it lets go of the lock, which reports need, and lets
/// other tasks of its thread run.
const ROWS_AT_ONCE: usize = 256;

/// Visits the next keys after `place`, in order, and moves it; breaks at the end of the set, or when
/// `visit` does.
fn visit_some<K: Ord + Clone>(
    keys: &BTreeSet<K>,
    place: &mut Bound<K>,
    mut visit: impl FnMut(&K) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut next = keys.range((place.clone(), Unbounded));
    for _ in 0..ROWS_AT_ONCE {
        let Some(key) = next.next() else {
            return ControlFlow::Break(());
        };
        visit(key)?;
        *place = Excluded(key.clone());
    }
    ControlFlow::Continue(())
}

/// Agents with their sessions, by workspace.
#[derive(Debug, Default)]
pub(super) struct Workspaces {
    agents: HashMap<Workspace, Agents>,
    /// The sessions whose expiry is watched, by that. Of sessions that were removed, places may stay
    /// until their time has come.
    watched: BTreeSet<(Timestamp, SessionKey)>,
}

/// The place of a session among those that are watched, if it is one of them.
fn watched(key: &SessionKey, head: &SessionHead) -> Option<(Timestamp, SessionKey)> {
    let is_watched = head.silence == Silence::Watched;
    is_watched.then(|| (head.expires_at(), key.clone()))
}

impl Workspaces {
    fn agent(&self, workspace: &Workspace, agent_id: &str) -> Option<&AgentState> {
        self.agents.get(workspace)?.by_id.get(agent_id)
    }

    fn session(&self, key: &SessionKey) -> Option<&SessionState> {
        let agent = self.agent(&key.workspace, &key.agent_id)?;
        agent.sessions.get(key.session_topic.as_str())
    }

    /// Takes out all that a workspace holds.
    pub(super) fn remove(&mut self, workspace: &Workspace) -> Option<impl Sized + use<>> {
        self.agents.remove(workspace)
    }

    fn load(&self, key: &SessionKey) -> Snapshot {
        Snapshot {
            agent_name: self
                .agent(&key.workspace, &key.agent_id)
                .map(|agent| agent.name.clone()),
            session: self.session(key).map(|session| session.head.clone()),
        }
    }
}

impl State {
    /// Applies consecutive commits on one session, unless its version is not `expected_seq`.
    fn commit<'a>(
        &mut self,
        key: &SessionKey,
        expected_seq: u64,
        commits: impl Iterator<Item = &'a Commit>,
    ) -> CommitOutcome {
        let before = self.sessions.session(key).map(|session| &session.head);
        if before.map_or(0, |head| head.seq) != expected_seq {
            return CommitOutcome::Conflict;
        }
        let watched_before = before.and_then(|head| watched(key, head));
        let agents = self.sessions.agents.entry(key.workspace.clone());
        let agents = agents.or_default();
        let mut watched_after = None;
        for commit in commits {
            agents.apply(commit);
            watched_after = watched(key, &commit.session);
            for notification in &commit.notifications {
                self.outbox.add(notification);
            }
        }
        if let Some(before) = watched_before {
            self.sessions.watched.remove(&before);
        }
        self.sessions.watched.extend(watched_after);
        CommitOutcome::Committed
    }

    /// Notes a silence; false if it is not there any more.
    fn note_silence(&mut self, note: &SilenceNote) -> bool {
        let SessionKey {
            workspace,
            agent_id,
            session_topic,
        } = &note.key;
        let agents = self.sessions.agents.get_mut(workspace);
        let agent = agents.and_then(|agents| agents.by_id.get_mut(agent_id.as_str()));
        let session = agent.and_then(|agent| agent.sessions.get_mut(session_topic.as_str()));
        let Some(head) = session.map(|session| &mut session.head) else {
            return false;
        };
        let Some(place) = watched(&note.key, head).filter(|_| head.seq == note.seq) else {
            return false;
        };
        head.seq += 1;
        head.silence = Silence::Told;
        self.sessions.watched.remove(&place);
        for notification in &note.notifications {
            self.outbox.add(notification);
        }
        true
    }
}

#[derive(Debug, Default)]
struct Agents {
    by_id: HashMap<Arc<str>, AgentState>,
    by_last_seen: BTreeSet<(Reverse<Timestamp>, Arc<str>)>,
    /// Every session of every agent, by agent and topic.
    sessions: BTreeSet<(Reverse<Timestamp>, Arc<str>, Arc<str>)>,
}

#[derive(Debug)]
struct AgentState {
    id: Arc<str>,
    id_key: String,
    name: String,
    name_key: String,
    source: String,
    registered: Timestamp,
    last_seen: Timestamp,
    /// When it got another name, if it ever did.
    renamed: Option<Timestamp>,
    sessions: HashMap<Arc<str>, SessionState>,
    by_last_updated: BTreeSet<(Reverse<Timestamp>, Arc<str>)>,
    by_expiry: BTreeSet<(Timestamp, Arc<str>)>,
    /// Every status of every session, in the order of the agent's history.
    timeline: BTreeSet<(Reverse<Timestamp>, Arc<str>, Reverse<u64>)>,
}

#[derive(Debug)]
struct SessionState {
    head: SessionHead,
    /// By their places.
    history: BTreeMap<u64, Arc<StatusEntry>>,
}

/// A status on its way out: texts are copied once the store is unlocked, since a page may hold a
/// hundred megabytes of them.
struct StoredStatus {
    agent_id: Arc<str>,
    topic: Arc<str>,
    seq: u64,
    entry: Arc<StatusEntry>,
}

impl Row for StoredStatus {
    fn bytes(&self) -> usize {
        let StatusEntry {
            reason,
            message,
            content,
            ..
        } = &*self.entry;
        ROW_BYTES + json_bytes([&*self.agent_id, &self.topic, reason, message, content])
    }
}

impl StoredStatus {
    fn shown(self) -> Status {
        Status {
            agent_id: self.agent_id.to_string(),
            session_topic: self.topic.to_string(),
            status: self.entry.status,
            timestamp: self.entry.timestamp,
            reason: self.entry.reason.clone(),
            message: self.entry.message.clone(),
            content: self.entry.content.clone(),
            seq: self.seq,
        }
    }
}

/// The page with its statuses as clients see them.
fn shown<C>(page: Page<StoredStatus, C>) -> Page<Status, C> {
    let statuses = page.items.into_iter();
    Page {
        items: statuses.map(StoredStatus::shown).collect(),
        next: page.next,
    }
}

impl Agents {
    fn apply(&mut self, commit: &Commit) {
        let patch = &commit.agent;
        let id: Arc<str> = match self.by_id.get(commit.key.agent_id.as_str()) {
            Some(agent) => Arc::clone(&agent.id),
            None => commit.key.agent_id.as_str().into(),
        };
        let is_known = self.by_id.contains_key(&id);
        let agent = self
            .by_id
            .entry(Arc::clone(&id))
            .or_insert_with(|| AgentState {
                id: Arc::clone(&id),
                id_key: commit.agent_id_key(),
                name: String::new(),
                name_key: String::new(),
                source: String::new(),
                registered: patch.last_seen,
                last_seen: patch.last_seen,
                renamed: None,
                sessions: HashMap::new(),
                by_last_updated: BTreeSet::new(),
                by_expiry: BTreeSet::new(),
                timeline: BTreeSet::new(),
            });
        self.by_last_seen
            .remove(&(Reverse(agent.last_seen), Arc::clone(&id)));
        agent.last_seen = patch.seen(agent.last_seen);
        self.by_last_seen
            .insert((Reverse(agent.last_seen), Arc::clone(&id)));
        if let Some(name) = &patch.name {
            if is_known && agent.name != *name {
                agent.renamed = Some(agent.last_seen);
            }
            agent.name.clone_from(name);
            agent.name_key = patch.name_key().unwrap_or_default();
        }
        if let Some(source) = &patch.source {
            agent.source.clone_from(source);
        }
        let (topic, before) = agent.report(commit);
        if let Some(before) = before {
            let place = (Reverse(before), Arc::clone(&id), Arc::clone(&topic));
            self.sessions.remove(&place);
        }
        let updated = Reverse(commit.session.last_updated);
        self.sessions.insert((updated, id, topic));
    }
}

impl AgentState {
    /// Applies a commit to its session; returns the topic, and when the session was last updated
    /// before.
    fn report(&mut self, commit: &Commit) -> (Arc<str>, Option<Timestamp>) {
        let topic = commit.key.session_topic.as_str();
        let (topic, before, mut history) = match self.sessions.remove_entry(topic) {
            Some((topic, old)) => {
                let updated = (Reverse(old.head.last_updated), Arc::clone(&topic));
                self.by_last_updated.remove(&updated);
                self.by_expiry
                    .remove(&(old.head.expires_at(), Arc::clone(&topic)));
                (topic, Some(old.head.last_updated), old.history)
            }
            None => (topic.into(), None, BTreeMap::new()),
        };
        let head = commit.session.clone();
        self.by_last_updated
            .insert((Reverse(head.last_updated), Arc::clone(&topic)));
        self.by_expiry
            .insert((head.expires_at(), Arc::clone(&topic)));
        if let Some(entry) = &commit.status {
            let instant = Reverse(entry.timestamp);
            self.timeline
                .insert((instant, Arc::clone(&topic), Reverse(head.seq)));
            history.insert(head.seq, Arc::new(entry.clone()));
        }
        let session = SessionState { head, history };
        self.sessions.insert(Arc::clone(&topic), session);
        (topic, before)
    }

    fn view(&self, workspace: &Workspace, now: Timestamp) -> Agent {
        let unexpired = |topic: &Arc<str>| {
            let session = self.sessions.get(topic)?;
            (now < session.head.expires_at()).then_some(session)
        };
        let latest = self
            .by_last_updated
            .iter()
            .take_while(|(Reverse(updated), _)| now < expires_at(*updated, MAX_TTL_MINUTES))
            .find_map(|(_, topic)| unexpired(topic))
            .map(|session| &session.head);
        let just_after_now = (now + chrono::TimeDelta::nanoseconds(1), Arc::from(""));
        let active = self.by_expiry.range(just_after_now..);
        Agent {
            agent_id: self.id.to_string(),
            user_id: workspace.account().cloned(),
            name: self.name.clone(),
            source: self.source.clone(),
            registered: self.registered,
            last_seen: self.last_seen,
            session_count: self.sessions.len() as u64,
            active_session_count: active.count() as u64,
            latest_status: latest.map(|head| head.status),
            latest_message: latest.map(|head| head.message.clone()).unwrap_or_default(),
        }
    }

    fn status(&self, topic: &Arc<str>, seq: u64) -> Option<StoredStatus> {
        let entry = self.sessions.get(topic)?.history.get(&seq)?;
        Some(StoredStatus {
            agent_id: Arc::clone(&self.id),
            topic: Arc::clone(topic),
            seq,
            entry: Arc::clone(entry),
        })
    }

    fn session(&self, topic: &str) -> Option<Session> {
        let head = self.sessions.get(topic)?.head.clone();
        Some(Session::new(self.id.to_string(), topic.to_owned(), head))
    }

    fn named_session(&self, topic: &str) -> Option<NamedSession> {
        Some(NamedSession {
            agent_name: self.name.clone(),
            session: self.session(topic)?,
        })
    }
}

impl MemoryStore {
    /// The agents of a workspace, at most `limit`, that have got another name after `since`, with that
    /// name.
    pub async fn renamed_since(
        &self,
        workspace: &Workspace,
        since: Timestamp,
        limit: usize,
    ) -> HashMap<String, String> {
        let mut place = Unbounded;
        let mut found = HashMap::new();
        let mut look = || {
            let sessions = &self.lock().sessions;
            let Some(agents) = sessions.agents.get(workspace) else {
                return ControlFlow::Break(());
            };
            visit_some(
                &agents.by_last_seen,
                &mut place,
                |(Reverse(last_seen), id)| {
                    // A new name comes with a report.
                    if *last_seen <= since || found.len() == limit {
                        return ControlFlow::Break(());
                    }
                    if let Some(agent) = agents.by_id.get(id)
                        && agent.renamed.is_some_and(|renamed| renamed > since)
                    {
                        found.insert(id.to_string(), agent.name.clone());
                    }
                    ControlFlow::Continue(())
                },
            )
        };
        while look().is_continue() {
            yield_now().await;
        }
        found
    }
}

impl Sessions for MemoryStore {
    async fn load_many(&self, keys: &[SessionKey]) -> Result<Vec<Snapshot>, StoreError> {
        let sessions = &self.lock().sessions;
        Ok(keys.iter().map(|key| sessions.load(key)).collect())
    }

    async fn commit_many(&self, chains: &[Chain]) -> Result<Vec<CommitOutcome>, StoreError> {
        let mut state = self.lock();
        Ok(chains
            .iter()
            .map(|chain| state.commit(chain.key(), chain.expected_seq(), chain.commits()))
            .collect())
    }

    async fn commit(&self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        let commits = std::iter::once(commit);
        Ok(self
            .lock()
            .commit(&commit.key, commit.expected_seq, commits))
    }

    async fn silences(
        &self,
        after: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Snapshot)>, StoreError> {
        let sessions = &mut self.lock().sessions;
        let just_after = |instant: Timestamp| {
            let key = SessionKey {
                workspace: Workspace::Shared,
                agent_id: String::new(),
                session_topic: String::new(),
            };
            (instant + chrono::TimeDelta::nanoseconds(1), key)
        };
        let range = just_after(after)..just_after(until);
        let (mut found, mut left) = (Vec::new(), Vec::new());
        for place in sessions.watched.range(range) {
            let (_, key) = place;
            let snapshot = sessions.load(key);
            let head = snapshot.session.as_ref();
            match head.and_then(|head| watched(key, head)).as_ref() == Some(place) {
                true => found.push((key.clone(), snapshot)),
                false => left.push(place.clone()),
            }
            if found.len() >= limit {
                break;
            }
        }
        for place in left {
            sessions.watched.remove(&place);
        }
        Ok(found)
    }

    async fn note_silences(&self, notes: &[SilenceNote]) -> Result<Vec<bool>, StoreError> {
        let mut state = self.lock();
        Ok(notes.iter().map(|note| state.note_silence(note)).collect())
    }

    async fn agents(
        &self,
        workspace: &Workspace,
        query: &AgentQuery,
        now: Timestamp,
    ) -> Result<Page<Agent, AgentCursor>, StoreError> {
        let mut place = match &query.after {
            Some(after) => Excluded((Reverse(after.last_seen), Arc::from(&*after.agent_id))),
            None => Unbounded,
        };
        let wanted = |agent: &AgentState| {
            query.search.as_ref().is_none_or(|search| {
                agent.id_key.contains(search) || agent.name_key.contains(search)
            })
        };
        let mut found = Gathering::new(query.limit);
        let mut look = || {
            let sessions = &self.lock().sessions;
            let Some(agents) = sessions.agents.get(workspace) else {
                return ControlFlow::Break(());
            };
            visit_some(&agents.by_last_seen, &mut place, |(_, id)| {
                let agent = agents.by_id.get(id).filter(|agent| wanted(agent));
                agent
                    .map(|agent| agent.view(workspace, now))
                    .filter(|agent| query.status.is_none() || agent.latest_status == query.status)
                    .map_or(ControlFlow::Continue(()), |agent| found.push(agent))
            })
        };
        let mut looks = 0;
        let ended = loop {
            if look().is_break() {
                break true;
            }
            looks += 1;
            if looks * ROWS_AT_ONCE >= MAX_LOOKED_AT {
                break false;
            }
            yield_now().await;
        };
        let page = found.page(AgentCursor::after);
        let looked_at = match place {
            Excluded((Reverse(last_seen), agent_id)) if !ended => Some(AgentCursor {
                last_seen,
                agent_id: agent_id.to_string(),
            }),
            _ => None,
        };
        Ok(Page {
            next: page.next.or(looked_at),
            ..page
        })
    }

    async fn agent(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        now: Timestamp,
    ) -> Result<Option<Agent>, StoreError> {
        let sessions = &self.lock().sessions;
        let agent = sessions.agent(workspace, agent_id);
        Ok(agent.map(|agent| agent.view(workspace, now)))
    }

    async fn sessions(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        query: &SessionQuery,
        now: Timestamp,
    ) -> Result<Page<Session, SessionCursor>, StoreError> {
        let mut place = match &query.after {
            Some(after) => Excluded((
                Reverse(after.last_updated),
                Arc::from(&*after.session_topic),
            )),
            None => Unbounded,
        };
        let wanted = |session: &Session| match query.expiry {
            Expiry::Any => true,
            Expiry::Unexpired => !session.is_expired(now),
            Expiry::Expired => session.is_expired(now),
        };
        let mut found = Gathering::new(query.limit);
        let mut look = || {
            let sessions = &self.lock().sessions;
            let Some(agent) = sessions.agent(workspace, agent_id) else {
                return ControlFlow::Break(());
            };
            visit_some(&agent.by_last_updated, &mut place, |(_, topic)| {
                let session = agent.session(topic).filter(wanted);
                session.map_or(ControlFlow::Continue(()), |session| found.push(session))
            })
        };
        while look().is_continue() {
            yield_now().await;
        }
        Ok(found.page(SessionCursor::after))
    }

    async fn workspace_sessions(
        &self,
        workspace: &Workspace,
        query: &WorkspaceQuery,
        now: Timestamp,
    ) -> Result<Page<NamedSession, WorkspaceCursor>, StoreError> {
        let mut place = match &query.after {
            Some(after) => Excluded((
                Reverse(after.last_updated),
                Arc::from(&*after.agent_id),
                Arc::from(&*after.session_topic),
            )),
            None => Unbounded,
        };
        let mut walk = SessionWalk::new(query, now);
        let updated_after = walk.updated_after();
        let mut look = || {
            let sessions = &self.lock().sessions;
            let Some(agents) = sessions.agents.get(workspace) else {
                return ControlFlow::Break(());
            };
            let window = walk.window();
            let mut rows = Vec::new();
            let end = visit_some(&agents.sessions, &mut place, |(updated, id, topic)| {
                if rows.len() == window || updated_after.is_some_and(|limit| updated.0 <= limit) {
                    return ControlFlow::Break(());
                }
                let agent = agents.by_id.get(id);
                rows.extend(agent.and_then(|agent| agent.named_session(topic)));
                ControlFlow::Continue(())
            });
            let is_last = end.is_break() && rows.len() < window;
            walk.add(rows, is_last)
        };
        while look().is_continue() {
            yield_now().await;
        }
        Ok(walk.page())
    }

    async fn session(
        &self,
        key: &SessionKey,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Option<SessionHistory>, StoreError> {
        let read = || {
            let sessions = &self.lock().sessions;
            let agent = sessions.agent(&key.workspace, &key.agent_id)?;
            let (topic, found) = agent.sessions.get_key_value(key.session_topic.as_str())?;
            let older = found.history.range(..before.unwrap_or(u64::MAX));
            let history = older.rev().map(|(seq, entry)| StoredStatus {
                agent_id: Arc::clone(&agent.id),
                topic: Arc::clone(topic),
                seq: *seq,
                entry: Arc::clone(entry),
            });
            let history = Page::cut(history, limit, |status| status.seq);
            Some((agent.session(topic)?, history))
        };
        Ok(read().map(|(session, history)| SessionHistory {
            history: shown(history),
            session,
        }))
    }

    async fn history(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        before: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Page<Status, HistoryCursor>, StoreError> {
        let before = match before {
            Some(before) => Excluded((
                Reverse(before.timestamp),
                Arc::from(&*before.session_topic),
                Reverse(before.seq),
            )),
            None => Unbounded,
        };
        let read = || {
            let sessions = &self.lock().sessions;
            let agent = sessions.agent(workspace, agent_id)?;
            let history = agent
                .timeline
                .range((before, Unbounded))
                .filter_map(|(_, topic, Reverse(seq))| agent.status(topic, *seq));
            Some(Page::cut(history, limit, |status| HistoryCursor {
                timestamp: status.entry.timestamp,
                session_topic: status.topic.to_string(),
                seq: status.seq,
            }))
        };
        Ok(read().map_or_else(Page::empty, shown))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use futures_executor::block_on;

    use super::*;
    use crate::{Report, StatusKind, decide};

    fn report(agent_id: &str) -> Commit {
        let report = Report::new(agent_id, "t", StatusKind::Running);
        let now = Timestamp::UNIX_EPOCH;
        let decision = decide(&Workspace::Shared, &report, &Snapshot::default(), now, 60);
        decision.unwrap().commit
    }

    #[test]
    fn a_list_that_finds_nothing_lets_reports_in_between() {
        let store = MemoryStore::default();
        for n in 0..3 * ROWS_AT_ONCE {
            let outcome = block_on(store.commit(&report(&format!("agent {n}")))).unwrap();
            assert_eq!(outcome, CommitOutcome::Committed);
        }
        let query = AgentQuery {
            status: Some(StatusKind::Failed),
            limit: 10_000,
            ..AgentQuery::default()
        };
        let mut list = pin!(store.agents(&Workspace::Shared, &query, Timestamp::UNIX_EPOCH));
        let mut context = Context::from_waker(Waker::noop());
        let mut polls = 0;
        let page = loop {
            if let Poll::Ready(page) = list.as_mut().poll(&mut context) {
                break page.unwrap();
            }
            polls += 1;
            let another = report(&format!("between {polls}"));
            let outcome = block_on(store.commit(&another)).unwrap();
            assert_eq!(outcome, CommitOutcome::Committed);
        };
        assert!(polls >= 3, "the list gave way {polls} times");
        assert!(page.items.is_empty() && page.next.is_none());
    }

    #[test]
    fn a_filtered_list_ends_after_a_bounded_search_and_goes_on_there() {
        let store = MemoryStore::default();
        for n in 0..2 * MAX_LOOKED_AT + 2 {
            let outcome = block_on(store.commit(&report(&format!("agent {n:05}")))).unwrap();
            assert_eq!(outcome, CommitOutcome::Committed);
        }
        let found = crate::store::suite::found_by_walking(
            &store,
            &Workspace::Shared,
            "agent 20481",
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(block_on(found), [0, 0, 1]);
    }
}
