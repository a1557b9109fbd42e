//! Agents, their sessions and histories: the head document that every report swaps.

use std::cmp::Reverse;
use std::collections::HashMap;

use chrono::TimeDelta;
use futures_util::{StreamExt, TryStreamExt, stream};
use kubeagents_core::batch::Chain;
use kubeagents_core::store::{
    AgentCursor, AgentQuery, CommitOutcome, Expiry, HistoryCursor, Page, SessionCursor,
    SessionHistory, SessionQuery,
};
use kubeagents_core::{
    Agent, Commit, Session, SessionHead, SessionKey, Snapshot, Status, StatusKind, StoreError,
    Timestamp, Workspace, search_key,
};
use serde::{Deserialize, Serialize};

use super::documents::{Document, Rounds, json_size, key};
use super::log::{Item, Log, Reader, read_page};
use super::outbox::Outgoing;
use super::roll::Roll;
use super::{KeyValueStore, micros};
use crate::key_value::{KeyValue, Version};

/// No session outlives its last report by more: the longest TTL.
const LONGEST_TTL: TimeDelta = TimeDelta::minutes(1440);

/// Agents whose documents are worked on at once.
const AGENTS_AT_ONCE: usize = 16;

/// The most that several reports add to a head with one swap, in bytes.
const SWAP_BYTES: usize = 256 * 1024;

/// An agent's head: all that a report changes, in one document, so that one swap is one commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Head {
    agent_id: String,
    name: String,
    source: String,
    #[serde(with = "micros")]
    registered: Timestamp,
    #[serde(with = "micros")]
    last_seen: Timestamp,
    /// How many commits there have been: the place of the next entry in the history.
    pub(super) commits: u64,
    session_count: u64,
    /// The sessions updated last.
    hot: Vec<Row>,
    /// The sessions that have moved to documents of their own, in the order of moving. One that
    /// has come back since, or has moved again, is here with an old `seq`.
    cold: Log<Moved>,
    pub(super) history: Log<HistoryEntry>,
}

/// A session as its agent's head, or later a document of its own, holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    topic: String,
    seq: u64,
    #[serde(with = "micros")]
    created: Timestamp,
    #[serde(with = "micros")]
    updated: Timestamp,
    ttl: u32,
    status: StatusKind,
    #[serde(
        with = "micros::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    run: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    /// The page of the history with its newest entry.
    page: u64,
    /// The version of its own document, once it has one. Never in that document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stored: Option<String>,
}

/// A session's place in the list of sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moved {
    #[serde(with = "micros")]
    updated: Timestamp,
    topic: String,
    seq: u64,
    #[serde(with = "micros")]
    expires: Timestamp,
}

/// An entry of an agent's history over all its sessions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HistoryEntry {
    #[serde(with = "micros")]
    at: Timestamp,
    topic: String,
    seq: u64,
    status: StatusKind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    content: String,
    /// The page with the session's entry before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<u64>,
    /// What its report put in the outbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) outgoing: Vec<Outgoing>,
}

/// An agent's head and some of its sessions as a load found them: what a commit swaps, if nobody
/// was faster.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    head: Option<Document<Head>>,
    /// Those asked for that the head does not hold.
    cold: HashMap<String, Row>,
}

impl Loaded {
    fn row(&self, topic: &str) -> Option<&Row> {
        let hot = self.head.as_ref().and_then(|head| head.value.hot(topic));
        hot.or_else(|| self.cold.get(topic))
    }

    /// Whether the session has the version that the chain was decided on.
    fn expects(&self, chain: &Chain) -> bool {
        let seq = self
            .row(&chain.key().session_topic)
            .map_or(0, |row| row.seq);
        seq == chain.expected_seq()
    }
}

impl Moved {
    fn order(&self) -> (Timestamp, Reverse<&str>, u64) {
        (self.updated, Reverse(&self.topic), self.seq)
    }
}

impl Ord for Moved {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Moved {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Item for Moved {
    fn instant(&self) -> Timestamp {
        self.updated
    }

    fn size(&self) -> usize {
        json_size(&self.topic) + 80
    }
}

/// What a chain adds to its agent's head, roughly, in bytes.
fn chain_size(chain: &Chain) -> usize {
    let texts = |commit: &Commit| {
        let topic = json_size(&commit.key.session_topic);
        let status = &commit.status;
        // The newest message stands in the session's row too.
        topic + 2 * json_size(&status.message) + json_size(&status.content)
    };
    let notifications = |commit: &Commit| -> usize {
        let notifications = commit.notifications.iter();
        notifications
            .map(|notification| json_size(&notification.body) + json_size(&notification.url) + 200)
            .sum()
    };
    let commits = chain.commits();
    commits
        .map(|commit| texts(commit) + notifications(commit) + 400)
        .sum()
}

impl HistoryEntry {
    fn order(&self) -> (Timestamp, Reverse<&str>, u64) {
        (self.at, Reverse(&self.topic), self.seq)
    }

    fn status(self, agent_id: &str) -> Status {
        Status {
            agent_id: agent_id.to_owned(),
            session_topic: self.topic,
            status: self.status,
            timestamp: self.at,
            message: self.message,
            content: self.content,
            seq: self.seq,
        }
    }
}

impl Ord for HistoryEntry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for HistoryEntry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for HistoryEntry {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for HistoryEntry {}

impl Item for HistoryEntry {
    fn instant(&self) -> Timestamp {
        self.at
    }

    fn size(&self) -> usize {
        let texts = [&self.topic, &self.message, &self.content];
        let texts: usize = texts.into_iter().map(|text| json_size(text)).sum();
        texts + self.outgoing.iter().map(Outgoing::size).sum::<usize>() + 120
    }
}

impl Row {
    fn head(&self) -> SessionHead {
        SessionHead {
            seq: self.seq,
            created: self.created,
            last_updated: self.updated,
            ttl_minutes: self.ttl,
            status: self.status,
            run_started: self.run,
        }
    }

    fn session(self, agent_id: &str) -> Session {
        Session {
            agent_id: agent_id.to_owned(),
            session_topic: self.topic,
            created: self.created,
            last_updated: self.updated,
            ttl_minutes: self.ttl,
            current_status: self.status,
        }
    }

    fn moved(&self) -> Moved {
        Moved {
            updated: self.updated,
            topic: self.topic.clone(),
            seq: self.seq,
            expires: self.head().expires_at(),
        }
    }

    fn size(&self) -> usize {
        json_size(&self.topic) + json_size(&self.message) + 200
    }
}

impl Head {
    fn new(commit: &Commit) -> Self {
        Self {
            agent_id: commit.key.agent_id.clone(),
            name: String::new(),
            source: String::new(),
            registered: commit.agent.last_seen,
            last_seen: commit.agent.last_seen,
            commits: 0,
            session_count: 0,
            hot: Vec::new(),
            cold: Log::default(),
            history: Log::default(),
        }
    }

    /// Applies a commit; `cold` is its session's row where it was outside the head.
    fn apply(&mut self, commit: &Commit, cold: Option<Row>, outgoing: Vec<Outgoing>) {
        let topic = &commit.key.session_topic;
        let place = self.hot.iter().position(|row| row.topic == *topic);
        let row = place.map(|place| self.hot.swap_remove(place)).or(cold);
        let patch = &commit.agent;
        self.last_seen = self.last_seen.max(patch.last_seen);
        if let Some(name) = &patch.name {
            self.name.clone_from(name);
        }
        if let Some(source) = &patch.source {
            self.source.clone_from(source);
        }
        self.commits += 1;
        self.session_count += u64::from(row.is_none());
        let (session, status) = (&commit.session, &commit.status);
        self.history.push(HistoryEntry {
            at: status.timestamp,
            topic: topic.clone(),
            seq: session.seq,
            status: status.status,
            message: status.message.clone(),
            content: status.content.clone(),
            previous: row.as_ref().map(|row| row.page),
            outgoing,
        });
        self.hot.push(Row {
            topic: topic.clone(),
            seq: session.seq,
            created: session.created,
            updated: session.last_updated,
            ttl: session.ttl_minutes,
            status: session.status,
            run: session.run_started,
            message: status.message.clone(),
            page: self.history.pages,
            stored: row.and_then(|row| row.stored),
        });
    }

    fn hot(&self, topic: &str) -> Option<&Row> {
        self.hot.iter().find(|row| row.topic == topic)
    }

    /// Whether there are sessions outside the head.
    fn has_cold(&self) -> bool {
        self.session_count > self.hot.len() as u64
    }

    fn hot_size(&self) -> usize {
        self.hot.iter().map(Row::size).sum()
    }

    fn size(&self) -> usize {
        self.hot_size() + self.cold.size() + self.history.size()
    }
}

pub(super) fn head_key(agent: &str) -> String {
    format!("agent/{agent}")
}

pub(super) fn history_list(agent: &str) -> String {
    format!("history/{agent}")
}

fn cold_list(agent: &str) -> String {
    format!("sessions/{agent}")
}

fn row_key(workspace: &Workspace, agent_id: &str, topic: &str) -> String {
    key("session", &[workspace.key(), agent_id, topic])
}

fn agents_list(workspace: &Workspace) -> String {
    key("agents", &[workspace.key()])
}

/// What stands for an agent in keys.
pub(super) fn agent_hash(workspace: &Workspace, agent_id: &str) -> String {
    kubeagents_core::sha256_hex([workspace.key(), agent_id].join("\0"))
}

impl<K: KeyValue> KeyValueStore<K> {
    async fn head(
        &self,
        workspace: &Workspace,
        agent_id: &str,
    ) -> Result<Option<Document<Head>>, StoreError> {
        let key = head_key(&agent_hash(workspace, agent_id));
        self.documents.read(&key).await
    }

    /// A session's row, as of this head or later. The head is read first: what it does not hold
    /// had moved to a document by then.
    async fn row(
        &self,
        workspace: &Workspace,
        head: &Head,
        topic: &str,
    ) -> Result<Option<Row>, StoreError> {
        if let Some(row) = head.hot(topic) {
            return Ok(Some(row.clone()));
        }
        if !head.has_cold() {
            return Ok(None);
        }
        let key = row_key(workspace, &head.agent_id, topic);
        let found: Option<Document<Row>> = self.documents.read(&key).await?;
        Ok(found.map(|Document { mut value, version }| {
            value.stored = Some(version.0);
            value
        }))
    }

    /// The head with the rows of these sessions that it does not hold.
    async fn loaded(
        &self,
        keys: impl IntoIterator<Item = &SessionKey>,
        head: Option<Document<Head>>,
    ) -> Result<Loaded, StoreError> {
        let mut cold = HashMap::new();
        if let Some(Document { value, .. }) = &head {
            let missing = keys
                .into_iter()
                .filter(|key| value.hot(&key.session_topic).is_none());
            let found: Vec<Option<Row>> = stream::iter(missing)
                .map(|key| self.row(&key.workspace, value, &key.session_topic))
                .buffered(AGENTS_AT_ONCE)
                .try_collect()
                .await?;
            let rows = found.into_iter().flatten();
            cold.extend(rows.map(|row| (row.topic.clone(), row)));
        }
        Ok(Loaded { head, cold })
    }

    async fn load_agent(&self, keys: &[SessionKey]) -> Result<Vec<Snapshot>, StoreError> {
        let Some(SessionKey {
            workspace,
            agent_id,
            ..
        }) = keys.first()
        else {
            return Ok(Vec::new());
        };
        let head = self.head(workspace, agent_id).await?;
        let loaded = self.loaded(keys, head).await?;
        let snapshot = |key: &SessionKey| Snapshot {
            agent_name: loaded.head.as_ref().map(|head| head.value.name.clone()),
            session: loaded.row(&key.session_topic).map(Row::head),
        };
        let snapshots = keys.iter().map(snapshot).collect();
        self.loads.remember(agent_hash(workspace, agent_id), loaded);
        Ok(snapshots)
    }

    pub(super) async fn load_snapshots(
        &self,
        keys: &[SessionKey],
    ) -> Result<Vec<Snapshot>, StoreError> {
        let same = |a: &SessionKey, b: &SessionKey| {
            (&a.workspace, &a.agent_id) == (&b.workspace, &b.agent_id)
        };
        stream::iter(keys.chunk_by(same))
            .map(|keys| self.load_agent(keys))
            .buffered(AGENTS_AT_ONCE)
            .try_concat()
            .await
    }

    pub(super) async fn apply(&self, chains: &[Chain]) -> Result<Vec<CommitOutcome>, StoreError> {
        let same = |a: &Chain, b: &Chain| {
            let (a, b) = (a.key(), b.key());
            (&a.workspace, &a.agent_id) == (&b.workspace, &b.agent_id)
        };
        stream::iter(chains.chunk_by(same))
            .map(|chains| self.apply_to_agent(chains))
            .buffered(AGENTS_AT_ONCE)
            .try_concat()
            .await
    }

    /// Applies chains on sessions of one agent, as many with one swap as a document can take.
    async fn apply_to_agent(&self, chains: &[Chain]) -> Result<Vec<CommitOutcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(chains.len());
        let mut rest = chains;
        while !rest.is_empty() {
            let mut room = SWAP_BYTES;
            let fits = |chain: &&Chain| {
                let size = chain_size(chain);
                let fits = size <= room;
                room = room.saturating_sub(size);
                fits
            };
            let count = rest.iter().take_while(fits).count();
            let (together, others) = rest.split_at(count.max(1));
            rest = others;
            match together {
                // Its reports are to come one by one.
                [chain] if count == 0 && chain.commits().count() > 1 => {
                    outcomes.push(CommitOutcome::Conflict);
                }
                chains => outcomes.extend(self.swap_in(chains).await?),
            }
        }
        Ok(outcomes)
    }

    /// Applies chains on sessions of one agent with one swap of its head.
    async fn swap_in(&self, chains: &[Chain]) -> Result<Vec<CommitOutcome>, StoreError> {
        let Some(first) = chains.first().map(Chain::first) else {
            return Ok(Vec::new());
        };
        let (workspace, agent_id) = (&first.key.workspace, &first.key.agent_id);
        let agent = agent_hash(workspace, agent_id);
        let head_key = head_key(&agent);
        let keys = || chains.iter().map(Chain::key);
        // What was remembered may be of another load than the one that the chains were decided on.
        let mut known = self.loads.recall(&agent);
        known = known.filter(|known| chains.iter().all(|chain| known.expects(chain)));
        let mut rounds = Rounds::default();
        loop {
            let loaded = match known.take() {
                Some(loaded) => loaded,
                None => {
                    let head = self.head(workspace, agent_id).await?;
                    self.loaded(keys(), head).await?
                }
            };
            let applicable: Vec<bool> = chains.iter().map(|chain| loaded.expects(chain)).collect();
            let outcomes = || {
                let outcome = |applicable: &bool| match applicable {
                    true => CommitOutcome::Committed,
                    false => CommitOutcome::Conflict,
                };
                applicable.iter().map(outcome).collect()
            };
            let applied = chains.iter().zip(&applicable);
            let applied = applied.filter(|(_, applicable)| **applicable);
            let commits: Vec<&Commit> = applied.flat_map(|(chain, _)| chain.commits()).collect();
            if commits.is_empty() {
                return Ok(outcomes());
            }
            let Loaded { head, mut cold } = loaded;
            let (mut head, version) = match head {
                Some(Document { value, version }) => (value, Some(version)),
                None => {
                    let list = agents_list(workspace);
                    Roll::add(&self.documents, &list, agent_id).await?;
                    (Head::new(first), None)
                }
            };
            self.tidy(&commits, &agent, &mut head).await?;
            let outgoing = self.announce(&agent, &head, &commits).await?;
            for (commit, outgoing) in commits.into_iter().zip(outgoing) {
                head.apply(commit, cold.remove(&commit.key.session_topic), outgoing);
            }
            match version {
                Some(version) => match self.documents.swap(&head_key, &head, &version).await? {
                    None => return Ok(outcomes()),
                    Some(head) => known = Some(self.loaded(keys(), head).await?),
                },
                None if self.documents.create(&head_key, &head).await? => return Ok(outcomes()),
                None => {}
            }
            rounds.lost()?;
        }
    }

    /// Makes room in a head: where it is crowded, by as many writes as it takes, else by two at
    /// most for each commit that has no notifications to write. What is written here counts once
    /// the head is swapped.
    async fn tidy(
        &self,
        commits: &[&Commit],
        agent: &str,
        head: &mut Head,
    ) -> Result<(), StoreError> {
        let limits = &self.documents.limits;
        let quiet = commits
            .iter()
            .filter(|commit| commit.notifications.is_empty());
        let mut allowance = match head.size() > limits.crowded_bytes {
            true => usize::MAX,
            false => 2 * quiet.count(),
        };
        if allowance > 0 && head.history.size() > limits.tail_bytes {
            let list = history_list(agent);
            head.history.flush(&self.documents, &list).await?;
            allowance -= 1;
        }
        if allowance > 0 && head.cold.size() > limits.tail_bytes {
            let list = cold_list(agent);
            head.cold.flush(&self.documents, &list).await?;
            allowance -= 1;
        }
        self.move_oldest(commits, head, allowance).await
    }

    /// Where a head holds too many sessions, moves those updated longest ago, at most so many, to
    /// documents of their own.
    async fn move_oldest(
        &self,
        commits: &[&Commit],
        head: &mut Head,
        most: usize,
    ) -> Result<(), StoreError> {
        let Some(Commit { key, .. }) = commits.first() else {
            return Ok(());
        };
        let limits = &self.documents.limits;
        let busy = |row: &Row| {
            let mut commits = commits.iter();
            commits.any(|commit| commit.key.session_topic == row.topic)
        };
        let mut moving = Vec::new();
        while moving.len() < most
            && (head.hot.len() >= limits.hot_sessions || head.hot_size() > limits.hot_bytes)
        {
            let others = head.hot.iter().enumerate().filter(|(_, row)| !busy(row));
            let Some((oldest, _)) = others.min_by_key(|(_, row)| row.updated) else {
                break;
            };
            moving.push(head.hot.swap_remove(oldest));
        }
        head.cold.extend(moving.iter().map(Row::moved));
        let agent_id = &head.agent_id;
        stream::iter(moving)
            .map(Ok)
            .try_for_each_concurrent(AGENTS_AT_ONCE, |mut row| async move {
                let known = row.stored.take().map(Version);
                let document = row_key(&key.workspace, agent_id, &row.topic);
                let covers = |there: &Row| there.seq >= row.seq;
                let documents = &self.documents;
                documents
                    .grow(&document, &row, known.as_ref(), covers)
                    .await
            })
            .await
    }

    /// The sessions of a head in the order of their list, old places included.
    async fn places<'a>(
        &'a self,
        workspace: &Workspace,
        head: &Head,
        from: Option<Timestamp>,
    ) -> Result<Reader<'a, K, Moved>, StoreError> {
        let list = cold_list(&agent_hash(workspace, &head.agent_id));
        let mut places = Reader::new(&self.documents, list, head.cold.clone(), from).await?;
        places.extend(head.hot.iter().map(Row::moved));
        Ok(places)
    }

    /// The rows at these places, without the places that their sessions have left.
    async fn rows(
        &self,
        workspace: &Workspace,
        head: &Head,
        places: Vec<Moved>,
    ) -> Result<Vec<Row>, StoreError> {
        stream::iter(places)
            .map(|place| async move {
                let row = self.row(workspace, head, &place.topic).await?;
                Ok(row.filter(|row| row.seq == place.seq))
            })
            .buffered(AGENTS_AT_ONCE)
            .try_filter_map(|row| std::future::ready(Ok(row)))
            .try_collect()
            .await
    }

    async fn view(
        &self,
        workspace: &Workspace,
        head: &Head,
        now: Timestamp,
    ) -> Result<Agent, StoreError> {
        let mut places = self.places(workspace, head, None).await?;
        let mut unexpired = Vec::new();
        while let Some(place) = places.next().await? {
            if place.updated + LONGEST_TTL <= now {
                break;
            }
            if now < place.expires {
                unexpired.push(place);
            }
        }
        let active = self.rows(workspace, head, unexpired).await?;
        let latest = active.first();
        Ok(Agent {
            agent_id: head.agent_id.clone(),
            user_id: workspace.account().cloned(),
            name: head.name.clone(),
            source: head.source.clone(),
            registered: head.registered,
            last_seen: head.last_seen,
            session_count: head.session_count,
            active_session_count: active.len() as u64,
            latest_status: latest.map(|row| row.status),
            latest_message: latest.map(|row| row.message.clone()).unwrap_or_default(),
        })
    }

    pub(super) async fn view_agent(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        now: Timestamp,
    ) -> Result<Option<Agent>, StoreError> {
        match self.head(workspace, agent_id).await? {
            Some(head) => self.view(workspace, &head.value, now).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn list_agents(
        &self,
        workspace: &Workspace,
        query: &AgentQuery,
        now: Timestamp,
    ) -> Result<Page<Agent, AgentCursor>, StoreError> {
        let ids = Roll::read(&self.documents, &agents_list(workspace)).await?;
        let found: Vec<Option<Agent>> = stream::iter(ids)
            .map(|id| async move {
                let Some(head) = self.head(workspace, &id).await? else {
                    return Ok(None);
                };
                let head = head.value;
                let place = (Reverse(head.last_seen), head.agent_id.as_str());
                let after = query.after.as_ref();
                let wanted = after.is_none_or(|after| {
                    place > (Reverse(after.last_seen), after.agent_id.as_str())
                }) && query.search.as_ref().is_none_or(|search| {
                    search_key(&head.agent_id).contains(search)
                        || search_key(&head.name).contains(search)
                });
                if !wanted {
                    return Ok(None);
                }
                self.view(workspace, &head, now).await.map(Some)
            })
            .buffer_unordered(AGENTS_AT_ONCE)
            .try_collect()
            .await?;
        let mut found: Vec<Agent> = found
            .into_iter()
            .flatten()
            .filter(|agent| query.status.is_none() || agent.latest_status == query.status)
            .collect();
        found.sort_unstable_by(|a, b| {
            (Reverse(a.last_seen), &a.agent_id).cmp(&(Reverse(b.last_seen), &b.agent_id))
        });
        Ok(cut(found, query.limit, |agent| AgentCursor {
            last_seen: agent.last_seen,
            agent_id: agent.agent_id.clone(),
        }))
    }

    pub(super) async fn list_sessions(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        query: &SessionQuery,
        now: Timestamp,
    ) -> Result<Page<Session, SessionCursor>, StoreError> {
        let Some(Document { value: head, .. }) = self.head(workspace, agent_id).await? else {
            return Ok(empty());
        };
        let after = query.after.as_ref();
        let from = after.map(|after| after.last_updated);
        let mut places = self.places(workspace, &head, from).await?;
        let wanted = |place: &Moved| {
            let listed = match query.expiry {
                Expiry::Any => true,
                Expiry::Unexpired => now < place.expires,
                Expiry::Expired => now >= place.expires,
            };
            listed
                && after.is_none_or(|after| {
                    (Reverse(place.updated), place.topic.as_str())
                        > (Reverse(after.last_updated), after.session_topic.as_str())
                })
        };
        let mut found: Vec<Row> = Vec::new();
        let mut ended = false;
        while !ended && found.len() <= query.limit {
            let missing = query.limit.saturating_add(1) - found.len();
            let mut batch = Vec::new();
            while batch.len() < missing {
                let Some(place) = places.next().await? else {
                    ended = true;
                    break;
                };
                if query.expiry == Expiry::Unexpired && place.updated + LONGEST_TTL <= now {
                    ended = true;
                    break;
                }
                if wanted(&place) {
                    batch.push(place);
                }
            }
            found.extend(self.rows(workspace, &head, batch).await?);
        }
        let found = found.into_iter().map(|row| row.session(agent_id)).collect();
        Ok(cut(found, query.limit, |session: &Session| SessionCursor {
            last_updated: session.last_updated,
            session_topic: session.session_topic.clone(),
        }))
    }

    pub(super) async fn list_history(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        before: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Page<Status, HistoryCursor>, StoreError> {
        let Some(Document { value: head, .. }) = self.head(workspace, agent_id).await? else {
            return Ok(empty());
        };
        let list = history_list(&agent_hash(workspace, agent_id));
        let from = before.map(|before| before.timestamp);
        let mut entries = Reader::new(&self.documents, list, head.history, from).await?;
        let mut found = Vec::new();
        while found.len() <= limit {
            let Some(entry) = entries.next().await? else {
                break;
            };
            let wanted = before.is_none_or(|before| {
                entry.order() < (before.timestamp, Reverse(&before.session_topic), before.seq)
            });
            if wanted {
                found.push(entry.status(agent_id));
            }
        }
        Ok(cut(found, limit, |status: &Status| HistoryCursor {
            timestamp: status.timestamp,
            session_topic: status.session_topic.clone(),
            seq: status.seq,
        }))
    }

    pub(super) async fn view_session(
        &self,
        key: &SessionKey,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Option<SessionHistory>, StoreError> {
        let mut rounds = Rounds::default();
        let (head, row) = loop {
            let head = self.head(&key.workspace, &key.agent_id).await?;
            let Some(Document { value: head, .. }) = head else {
                return Ok(None);
            };
            let row = self.row(&key.workspace, &head, &key.session_topic).await?;
            let Some(row) = row else {
                return Ok(None);
            };
            // A row from its own document may be ahead of the head, whose history then lacks it.
            let mut newest = head.history.tail.iter();
            if row.page < head.history.pages
                || newest.any(|entry| entry.topic == row.topic && entry.seq == row.seq)
            {
                break (head, row);
            }
            rounds.lost()?;
        };
        let list = history_list(&agent_hash(&key.workspace, &key.agent_id));
        let mut page = Some(row.page);
        let mut in_head = Some(head.history.tail);
        let mut found: Vec<Status> = Vec::new();
        while let Some(number) = page.filter(|_| found.len() <= limit) {
            let items = if number == head.history.pages {
                in_head.take().unwrap_or_default()
            } else {
                read_page(&self.documents, &list, number).await?.items
            };
            let mut of_session: Vec<HistoryEntry> = items
                .into_iter()
                .filter(|entry| entry.topic == key.session_topic)
                .collect();
            of_session.sort_unstable_by_key(|entry| Reverse(entry.seq));
            page = of_session.last().and_then(|oldest| oldest.previous);
            found.extend(
                of_session
                    .into_iter()
                    .filter(|entry| before.is_none_or(|before| entry.seq < before))
                    .map(|entry| entry.status(&key.agent_id)),
            );
        }
        let history = cut(found, limit, |status: &Status| status.seq);
        let session = row.session(&key.agent_id);
        Ok(Some(SessionHistory { session, history }))
    }
}

fn empty<T, C>() -> Page<T, C> {
    let items = Vec::new();
    Page { items, next: None }
}

/// The first `limit` rows, and the place of the last of them if there are more.
fn cut<T, C>(mut rows: Vec<T>, limit: usize, place: impl FnOnce(&T) -> C) -> Page<T, C> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more { rows.last().map(place) } else { None };
    Page { items: rows, next }
}
