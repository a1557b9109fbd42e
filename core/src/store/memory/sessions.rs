mod census;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::size_of;
use std::ops::Bound::{self, Excluded, Unbounded};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::room::{Gone, Places};
use super::{MemoryStore, State, heap};
use crate::batch::Chain;
use crate::report::MAX_TTL_MINUTES;
use crate::session::{expires_at, is_expired, latest_expiry};
use crate::store::{
    AgentCursor, AgentQuery, CommitOutcome, Expiry, Gathering, HistoryCursor, MAX_LOOKED_AT, Page,
    Row, SessionCursor, SessionHistory, SessionQuery, SessionWalk, Sessions, SilenceNote,
    StoreError, WorkspaceCursor, WorkspaceQuery,
};
use crate::yielding::yield_now;
use crate::{
    Agent, Commit, NamedSession, REMOVED_AT_ONCE, Session, SessionHead, SessionKey, Silence,
    Snapshot, Status, StatusEntry, Timestamp, Workspace,
};

/// The most rows that a list looks at before it lets go of the lock, which reports need, and lets
/// other tasks of its thread run.
pub(super) const ROWS_AT_ONCE: usize = 64;

/// Visits the next keys after `place`, in order, and moves it; breaks at the end of the set, or when
/// `visit` does.
fn visit_some<K: Ord + Clone>(
    keys: &BTreeSet<K>,
    place: &mut Bound<K>,
    mut visit: impl FnMut(&K) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut next = keys.range((place.clone(), Unbounded));
    let mut last = None;
    let end = (0..ROWS_AT_ONCE).try_for_each(|_| {
        let Some(key) = next.next() else {
            return ControlFlow::Break(());
        };
        visit(key)?;
        last = Some(key);
        ControlFlow::Continue(())
    });
    if let Some(last) = last {
        *place = Excluded(last.clone());
    }
    end
}

/// Agents with their sessions, by workspace.
#[derive(Debug, Default)]
pub(super) struct Workspaces {
    pub(super) agents: HashMap<Workspace, Agents>,
    pub(super) places: Places,
    pub(super) remains: Gone,
    /// What they take up, remains included.
    pub(super) bytes: usize,
}

/// Checks whether a session's expiry is watched at this place.
fn is_watched(session: &SessionState, (instant, number): &(Timestamp, u64)) -> bool {
    let head = &session.head;
    let is_there = session.number == *number && head.expires_at() == *instant;
    is_there && head.silence == Silence::Watched
}

impl Workspaces {
    fn agent(&self, workspace: &Workspace, agent_id: &str) -> Option<&AgentState> {
        self.agents.get(workspace)?.agent(agent_id)
    }

    pub(super) fn session(&self, key: &SessionKey) -> Option<&SessionState> {
        let agent = self.agent(&key.workspace, &key.agent_id)?;
        agent
            .sessions
            .get(key.session_topic.as_str())
            .map(|session| &**session)
    }

    /// Takes out all that a workspace holds, but for the places of its sessions.
    pub(super) fn remove(&mut self, workspace: &Workspace) -> Option<Agents> {
        let agents = self.agents.remove(workspace)?;
        self.bytes = self.bytes.saturating_sub(agents.bytes);
        Some(agents)
    }

    fn load(&self, key: &SessionKey) -> Snapshot {
        let agents = self.agents.get(&key.workspace);
        let agent = agents.and_then(|agents| agents.by_id.get(key.agent_id.as_str()));
        let session = agent.and_then(|agent| agent.sessions.get(key.session_topic.as_str()));
        let siblings = match (session, agent) {
            (Some(_), _) => 0,
            (None, Some(agent)) => agent.sessions.len(),
            (None, None) => agents.map_or(0, |agents| agents.by_last_seen.len()),
        };
        Snapshot {
            agent_name: agent.map(|agent| agent.name.clone()),
            session: session.map(|session| session.head.clone()),
            siblings: siblings as u64,
        }
    }

    /// What a session that is not there yet will take up, with its agent where that is new.
    fn cost(&self, commits: &[&Commit]) -> usize {
        let statuses = commits.iter().filter_map(|commit| commit.status.as_ref());
        let statuses = statuses.map(|entry| status_bytes(entry)).sum::<usize>();
        let of_session = commits.last().map(|commit| {
            let Commit {
                key,
                session,
                agent,
                ..
            } = commit;
            let of_agent = match self.agent(&key.workspace, &key.agent_id) {
                Some(_) => 0,
                None => {
                    let name = agent.name.as_deref().unwrap_or_default();
                    let source = agent.source.as_deref().unwrap_or_default();
                    agent_bytes(&key.agent_id, [&key.agent_id, name, name, source])
                }
            };
            session_bytes(key, session) + of_agent
        });
        statuses + of_session.unwrap_or_default()
    }
}

impl State {
    /// Applies consecutive commits on one session, unless its version is not `expected_seq` or there is
    /// no room for it.
    fn commit(
        &mut self,
        key: &SessionKey,
        expected_seq: u64,
        commits: &[&Commit],
    ) -> CommitOutcome {
        let before = self.sessions.session(key).map(|session| session.head.seq);
        if before.unwrap_or(0) != expected_seq {
            return CommitOutcome::Conflict;
        }
        let Some(now) = commits.last().map(|last| last.session.last_updated) else {
            return CommitOutcome::Committed;
        };
        if before.is_none() && self.limit.is_some() {
            let bytes = self.sessions.cost(commits);
            if let Err(quota) = self.admit(bytes, now) {
                return CommitOutcome::Refused(quota);
            }
        }
        if before.is_none() {
            let workspace = key.workspace.clone();
            self.sessions.agents.entry(workspace).or_default();
        }
        self.sessions.change(&key.workspace, |agents, places| {
            for commit in commits {
                agents.apply(commit, places);
            }
        });
        for notification in commits.iter().flat_map(|commit| &commit.notifications) {
            self.outbox.add(notification);
        }
        self.make_room(key, now);
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
        let Some(session) = session else {
            return false;
        };
        let place = (session.head.expires_at(), session.number);
        if session.head.seq != note.seq || !is_watched(session, &place) {
            return false;
        }
        session.head.seq += 1;
        session.head.silence = Silence::Told;
        self.sessions.places.watched.remove(&place);
        for notification in &note.notifications {
            self.outbox.add(notification);
        }
        true
    }
}

#[derive(Debug, Default)]
pub(super) struct Agents {
    by_id: HashMap<Arc<str>, Box<AgentState>>,
    by_last_seen: BTreeSet<(Reverse<Timestamp>, Arc<str>)>,
    /// Every session of every agent, by agent and topic.
    sessions: BTreeSet<(Reverse<Timestamp>, Arc<str>, Arc<str>)>,
    /// What they take up, with what remains of those that are gone.
    pub(super) bytes: usize,
    /// When a session last made room for others.
    evicted_at: Option<Timestamp>,
}

/// An agent. Without a session it is no agent any more, and only its timeline is left to be freed.
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
    sessions: HashMap<Arc<str>, Box<SessionState>>,
    lists: Lists,
    /// Every status of every session, in the order of the agent's history.
    timeline: BTreeSet<Moment>,
}

/// The topics of an agent's sessions in the orders in which they are looked at.
#[derive(Debug, Default)]
struct Lists {
    by_last_updated: BTreeSet<(Reverse<Timestamp>, Arc<str>)>,
    by_expiry: BTreeSet<(Timestamp, Arc<str>)>,
}

/// A status in the order of its agent's history.
type Moment = (Reverse<Timestamp>, Arc<str>, Reverse<u64>);

#[derive(Debug)]
pub(super) struct SessionState {
    /// Tells it from others of the same name, before and after it.
    pub(super) number: u64,
    pub(super) key: Arc<SessionKey>,
    topic: Arc<str>,
    pub(super) head: SessionHead,
    /// By their places.
    pub(super) history: BTreeMap<u64, Arc<StatusEntry>>,
    /// The number of its last change.
    pub(super) changed: u64,
}

/// What an agent takes up without its sessions.
fn agent_bytes(id: &str, texts: [&str; 4]) -> usize {
    const FIXED: usize = heap::block(size_of::<AgentState>())
        + heap::table_place(size_of::<(Arc<str>, usize)>())
        + heap::tree_place(size_of::<(Reverse<Timestamp>, Arc<str>)>())
        // Of the collections of its sessions, the first nodes are hardly filled.
        + 3 * heap::block(11 * size_of::<Moment>() + 16);
    FIXED + heap::shared_text(id) + heap::texts(texts)
}

/// What a session takes up without its history.
fn session_bytes(key: &SessionKey, head: &SessionHead) -> usize {
    type Place = (Timestamp, u64, usize);
    const FIXED: usize = heap::block(size_of::<SessionState>())
        + heap::block(16 + size_of::<SessionKey>())
        + heap::table_place(size_of::<(Arc<str>, usize)>())
        + heap::tree_place(size_of::<(Reverse<Timestamp>, Arc<str>)>())
        + heap::tree_place(size_of::<(Timestamp, Arc<str>)>())
        + heap::tree_place(size_of::<(Reverse<Timestamp>, Arc<str>, Arc<str>)>())
        + 3 * heap::tree_place(size_of::<Place>())
        // The first node of its history.
        + heap::block(11 * 16 + 16);
    let SessionKey {
        workspace,
        agent_id,
        session_topic,
    } = key;
    let names = [workspace.key(), agent_id, session_topic];
    let texts = [&head.title, &head.reason, &head.message, &head.hook];
    FIXED
        + heap::shared_text(session_topic)
        + heap::texts(names)
        + heap::texts(texts.map(String::as_str))
        + heap::map_of_texts(&head.context)
}

/// What a status takes up.
pub(super) fn status_bytes(entry: &StatusEntry) -> usize {
    const FIXED: usize = heap::block(16 + size_of::<StatusEntry>())
        + heap::tree_place(size_of::<Moment>())
        + heap::tree_place(size_of::<(u64, usize)>());
    FIXED + heap::texts([&entry.reason, &entry.message, &entry.content])
}

impl Agents {
    fn agent(&self, agent_id: &str) -> Option<&AgentState> {
        let agent = self.by_id.get(agent_id)?;
        (!agent.sessions.is_empty()).then_some(agent)
    }

    fn apply(&mut self, commit: &Commit, places: &mut Places) {
        let patch = &commit.agent;
        let agent = match self.by_id.get_mut(commit.key.agent_id.as_str()) {
            Some(agent) => agent,
            None => {
                let agent = AgentState::new(commit, commit.key.agent_id.as_str().into());
                self.bytes += agent.bytes();
                let place = self.by_id.entry(Arc::clone(&agent.id));
                place.or_insert(Box::new(agent))
            }
        };
        let id = Arc::clone(&agent.id);
        let is_known = !agent.sessions.is_empty();
        if !is_known {
            self.bytes = self.bytes.saturating_sub(agent.bytes());
            **agent = AgentState {
                timeline: std::mem::take(&mut agent.timeline),
                ..AgentState::new(commit, Arc::clone(&id))
            };
            self.bytes += agent.bytes();
        }
        self.by_last_seen
            .remove(&(Reverse(agent.last_seen), Arc::clone(&id)));
        agent.last_seen = patch.seen(agent.last_seen);
        self.by_last_seen
            .insert((Reverse(agent.last_seen), Arc::clone(&id)));
        if patch.name.is_some() || patch.source.is_some() {
            let before = agent.bytes();
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
            self.bytes = (self.bytes + agent.bytes()).saturating_sub(before);
        }
        let Reported {
            topic,
            before,
            more,
            less,
        } = agent.report(commit, places);
        self.bytes = (self.bytes + more).saturating_sub(less);
        if let Some(before) = before {
            let place = (Reverse(before), Arc::clone(&id), Arc::clone(&topic));
            self.sessions.remove(&place);
        }
        let updated = Reverse(commit.session.last_updated);
        self.sessions.insert((updated, id, topic));
    }

    /// Takes a session out of all lists, and its agent with its last one.
    pub(super) fn remove(
        &mut self,
        key: &SessionKey,
        number: u64,
        now: Timestamp,
    ) -> Option<Box<SessionState>> {
        let agent = self.by_id.get_mut(key.agent_id.as_str())?;
        let topic = key.session_topic.as_str();
        agent
            .sessions
            .get(topic)
            .filter(|session| session.number == number)?;
        let (topic, session) = agent.sessions.remove_entry(topic)?;
        agent.lists.remove(&session);
        if agent.sessions.len() * 8 < agent.sessions.capacity() {
            agent.sessions.shrink_to_fit();
        }
        let updated = Reverse(session.head.last_updated);
        self.sessions
            .remove(&(updated, Arc::clone(&agent.id), topic));
        if agent.sessions.is_empty() {
            let place = (Reverse(agent.last_seen), Arc::clone(&agent.id));
            self.by_last_seen.remove(&place);
        }
        self.bytes = self
            .bytes
            .saturating_sub(session_bytes(&session.key, &session.head));
        self.evicted_at = Some(now);
        self.remove_emptied(&key.agent_id);
        Some(session)
    }

    /// Removes an agent of which nothing is left.
    fn remove_emptied(&mut self, agent_id: &str) {
        if let Some(agent) = self.by_id.get(agent_id)
            && agent.sessions.is_empty()
            && agent.timeline.is_empty()
        {
            self.bytes = self.bytes.saturating_sub(agent.bytes());
            self.by_id.remove(agent_id);
            if self.by_id.len() * 8 < self.by_id.capacity() {
                self.by_id.shrink_to_fit();
            }
        }
    }

    /// Drops a status of a session that is gone.
    pub(super) fn forget(&mut self, key: &SessionKey, seq: u64, entry: &StatusEntry) {
        let Some(agent) = self.by_id.get_mut(key.agent_id.as_str()) else {
            return;
        };
        let topic = key.session_topic.as_str().into();
        if agent
            .timeline
            .remove(&(Reverse(entry.timestamp), topic, Reverse(seq)))
        {
            self.bytes = self.bytes.saturating_sub(status_bytes(entry));
        }
        self.remove_emptied(&key.agent_id);
    }

    /// Drops the oldest status of a session.
    pub(super) fn shorten(&mut self, key: &SessionKey, places: &mut Places) {
        let agent = self.by_id.get_mut(key.agent_id.as_str());
        let Some(agent) = agent else { return };
        if let Some(session) = agent.sessions.get_mut(key.session_topic.as_str()) {
            places.remove(session);
            let freed = session.drop_oldest(&mut agent.timeline);
            self.bytes = self.bytes.saturating_sub(freed);
            places.insert(session);
        }
    }

    /// What they take up, counted anew.
    #[cfg(test)]
    pub(super) fn counted(&self) -> usize {
        let of_session = |session: &SessionState| {
            let history = session.history.values();
            let history = history.map(|entry| status_bytes(entry)).sum::<usize>();
            session_bytes(&session.key, &session.head) + history
        };
        let agents = self.by_id.values().map(|agent| agent.bytes());
        agents.sum::<usize>() + self.all().map(of_session).sum::<usize>()
    }

    /// The sessions.
    pub(super) fn all(&self) -> impl Iterator<Item = &SessionState> {
        let agents = self.by_id.values();
        agents.flat_map(|agent| agent.sessions.values().map(|session| &**session))
    }
}

impl Lists {
    fn insert(&mut self, session: &SessionState) {
        let SessionState { head, topic, .. } = session;
        let updated = Reverse(head.last_updated);
        self.by_last_updated.insert((updated, Arc::clone(topic)));
        let expiry = head.expires_at();
        self.by_expiry.insert((expiry, Arc::clone(topic)));
    }

    /// Takes a session out, which is to be as it was when it was put in.
    fn remove(&mut self, session: &SessionState) {
        let SessionState { head, topic, .. } = session;
        let updated = Reverse(head.last_updated);
        self.by_last_updated.remove(&(updated, Arc::clone(topic)));
        let expiry = head.expires_at();
        self.by_expiry.remove(&(expiry, Arc::clone(topic)));
    }
}

impl SessionState {
    /// Drops its oldest status; returns what it took up.
    fn drop_oldest(&mut self, timeline: &mut BTreeSet<Moment>) -> usize {
        let Some((seq, entry)) = self.history.pop_first() else {
            return 0;
        };
        let topic = Arc::clone(&self.topic);
        timeline.remove(&(Reverse(entry.timestamp), topic, Reverse(seq)));
        status_bytes(&entry)
    }
}

/// What became of a report.
struct Reported {
    topic: Arc<str>,
    /// When the session was last updated before.
    before: Option<Timestamp>,
    /// The bytes that it has taken up and given back.
    more: usize,
    less: usize,
}

impl AgentState {
    fn new(commit: &Commit, id: Arc<str>) -> Self {
        let seen = commit.agent.last_seen;
        Self {
            id,
            id_key: commit.agent_id_key(),
            name: String::new(),
            name_key: String::new(),
            source: String::new(),
            registered: seen,
            last_seen: seen,
            renamed: None,
            sessions: HashMap::new(),
            lists: Lists::default(),
            timeline: BTreeSet::new(),
        }
    }

    fn bytes(&self) -> usize {
        agent_bytes(
            &self.id,
            [&self.id_key, &self.name, &self.name_key, &self.source],
        )
    }

    /// Applies a commit to its session.
    fn report(&mut self, commit: &Commit, places: &mut Places) -> Reported {
        let head = commit.session.clone();
        let known = self.sessions.get_mut(commit.key.session_topic.as_str());
        let mut new = None;
        let (session, before, mut less) = match known {
            Some(session) => {
                self.lists.remove(session);
                places.remove(session);
                let less = session_bytes(&session.key, &session.head);
                let before = session.head.last_updated;
                session.head = head;
                (session, Some(before), less)
            }
            None => {
                let session = SessionState {
                    number: places.number(),
                    key: Arc::new(commit.key.clone()),
                    topic: commit.key.session_topic.as_str().into(),
                    head,
                    history: BTreeMap::new(),
                    changed: 0,
                };
                (new.insert(Box::new(session)), None, 0)
            }
        };
        self.lists.insert(session);
        let topic = Arc::clone(&session.topic);
        let head = &session.head;
        let mut more = session_bytes(&session.key, head);
        if let Some(entry) = &commit.status {
            let instant = Reverse(entry.timestamp);
            self.timeline
                .insert((instant, Arc::clone(&topic), Reverse(head.seq)));
            session.history.insert(session.head.seq, Arc::clone(entry));
            more += status_bytes(entry);
        }
        if let Some(kept) = commit.kept_entries {
            let kept = usize::try_from(kept.get()).unwrap_or(usize::MAX);
            for _ in 0..REMOVED_AT_ONCE {
                if session.history.len() <= kept {
                    break;
                }
                less += session.drop_oldest(&mut self.timeline);
            }
        }
        session.changed = places.number();
        places.insert(session);
        if let Some(session) = new {
            self.sessions.insert(Arc::clone(&topic), session);
        }
        Reported {
            topic,
            before,
            more,
            less,
        }
    }

    fn view(&self, workspace: &Workspace, now: Timestamp) -> Agent {
        let unexpired = |topic: &Arc<str>| {
            let session = self.sessions.get(topic)?;
            (!is_expired(session.head.expires_at(), now)).then_some(session)
        };
        let latest = self
            .lists
            .by_last_updated
            .iter()
            .take_while(|(Reverse(updated), _)| now < expires_at(*updated, MAX_TTL_MINUTES))
            .find_map(|(_, topic)| unexpired(topic))
            .map(|session| &session.head);
        // No session expires between two microseconds, so that any topic will do.
        let just_after = |instant: Timestamp| {
            let after = instant + chrono::TimeDelta::nanoseconds(1);
            (after, Arc::clone(&self.id))
        };
        let unexpired = just_after(now)..just_after(latest_expiry(now));
        let active = self.lists.by_expiry.range(unexpired);
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

    /// The status at a place of the timeline, unless its session is gone.
    fn status(&self, (instant, topic, seq): &Moment) -> Option<Status> {
        let seq = seq.0;
        let entry = self.sessions.get(topic)?.history.get(&seq)?;
        if entry.timestamp != instant.0 {
            return None;
        }
        Some(Status {
            agent_id: Arc::clone(&self.id),
            session_topic: Arc::clone(topic),
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
    /// When a session of a workspace last made room for others, which no session tells of.
    pub fn evicted_at(&self, workspace: &Workspace) -> Option<Timestamp> {
        let sessions = &self.lock().sessions;
        sessions.agents.get(workspace)?.evicted_at
    }

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
        let commit = |chain: &Chain| {
            let commits: Vec<&Commit> = chain.commits().collect();
            state.commit(chain.key(), chain.expected_seq(), &commits)
        };
        Ok(chains.iter().map(commit).collect())
    }

    async fn commit(&self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        let mut state = self.lock();
        Ok(state.commit(&commit.key, commit.expected_seq, &[commit]))
    }

    async fn revision(&self) -> Result<Option<i64>, StoreError> {
        let number = self.lock().sessions.places.last_number();
        Ok(number.try_into().ok())
    }

    async fn silences(
        &self,
        after: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Snapshot)>, StoreError> {
        let sessions = &mut self.lock().sessions;
        let just_after = |instant: Timestamp| (instant + chrono::TimeDelta::nanoseconds(1), 0);
        let range = just_after(after)..just_after(until);
        let (mut found, mut left) = (Vec::new(), Vec::new());
        for (place, key) in sessions.places.watched.range(range) {
            let session = sessions.session(key);
            match session.is_some_and(|session| is_watched(session, place)) {
                true => found.push((SessionKey::clone(key), sessions.load(key))),
                false => left.push(*place),
            }
            if found.len() >= limit {
                break;
            }
        }
        for place in left {
            sessions.places.watched.remove(&place);
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
                let agent = agents.agent(id).filter(|agent| wanted(agent));
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
            visit_some(&agent.lists.by_last_updated, &mut place, |(_, topic)| {
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
        let mut walk = SessionWalk::new(query, now, NamedSession::AT_ONCE);
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
        let mut place = before.unwrap_or(u64::MAX);
        let mut found = Gathering::new(limit);
        let mut read = None;
        let mut look = || {
            let sessions = &self.lock().sessions;
            let agent = sessions.agent(&key.workspace, &key.agent_id);
            let topic = key.session_topic.as_str();
            let Some((agent, session)) =
                agent.and_then(|agent| Some((agent, agent.sessions.get(topic)?)))
            else {
                return ControlFlow::Break(());
            };
            let (number, _) = read.get_or_insert_with(|| (session.number, agent.session(topic)));
            if *number != session.number {
                // It was gone meanwhile, and another has its name.
                return ControlFlow::Break(());
            }
            let mut older = session.history.range(..place).rev();
            for _ in 0..ROWS_AT_ONCE {
                let Some((seq, entry)) = older.next() else {
                    return ControlFlow::Break(());
                };
                place = *seq;
                found.push(Status {
                    agent_id: Arc::clone(&agent.id),
                    session_topic: Arc::clone(&session.topic),
                    seq: *seq,
                    entry: Arc::clone(entry),
                })?;
            }
            ControlFlow::Continue(())
        };
        while look().is_continue() {
            yield_now().await;
        }
        let session = read.and_then(|(_, session)| session);
        Ok(session.map(|session| SessionHistory {
            history: found.page(|status| status.seq),
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
        let mut place = before;
        let mut found = Gathering::new(limit);
        let mut look = || {
            let sessions = &self.lock().sessions;
            let Some(agent) = sessions.agent(workspace, agent_id) else {
                return ControlFlow::Break(());
            };
            visit_some(&agent.timeline, &mut place, |moment| {
                let status = agent.status(moment);
                status.map_or(ControlFlow::Continue(()), |status| found.push(status))
            })
        };
        while look().is_continue() {
            yield_now().await;
        }
        Ok(found.page(HistoryCursor::after))
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

    fn report_after(store: &MemoryStore, report: &Report) -> Commit {
        let key = SessionKey {
            workspace: Workspace::Shared,
            agent_id: report.agent_id.clone(),
            session_topic: report.session_topic.clone(),
        };
        let before = block_on(store.load_many(&[key])).unwrap().remove(0);
        let now = Timestamp::UNIX_EPOCH;
        decide(&Workspace::Shared, report, &before, now, 60)
            .unwrap()
            .commit
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
    fn a_long_history_lets_reports_in_between_and_is_shown_as_it_was() {
        let store = MemoryStore::default();
        let mut sent = 0;
        let mut send = || {
            let report = Report::new("a", "t", StatusKind::Running);
            let commit = report_after(&store, &report);
            assert_eq!(
                block_on(store.commit(&commit)).unwrap(),
                CommitOutcome::Committed
            );
            sent += 1;
            sent
        };
        let length = 3 * ROWS_AT_ONCE as u64;
        while send() < length {}
        let key = SessionKey {
            workspace: Workspace::Shared,
            agent_id: "a".into(),
            session_topic: "t".into(),
        };
        let mut read = pin!(store.session(&key, None, 10_000));
        let mut context = Context::from_waker(Waker::noop());
        let found = loop {
            if let Poll::Ready(found) = read.as_mut().poll(&mut context) {
                break found.unwrap().unwrap();
            }
            send();
        };
        assert!(send() >= length + 3, "it gave no way");
        let order: Vec<u64> = found
            .history
            .items
            .iter()
            .map(|status| status.seq)
            .collect();
        assert_eq!(order, (1..=length).rev().collect::<Vec<_>>());
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
