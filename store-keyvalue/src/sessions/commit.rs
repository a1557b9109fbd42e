//! Loading what reports are decided on, and committing them.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use kubeagents_core::batch::Chain;
use kubeagents_core::store::CommitOutcome;
use kubeagents_core::{
    Commit, SessionHead, SessionKey, Silence, Snapshot, StoreError, Workspace, causes,
};

use super::AGENTS_AT_ONCE;
use super::head::{
    Head, Row, agent_hash, agents_list, cold_list, head_key, head_size, history_list, row_key,
};
use crate::documents::{Document, Rounds, json_size};
use crate::outbox::Place;
use crate::roll::Roll;
use crate::watch::{Noted, minute};
use crate::{KeyValue, KeyValueStore, Version};

/// The most that several reports add to a head with one swap, in bytes.
const SWAP_BYTES: usize = 256 * 1024;

/// An agent's head and some of its sessions as a load found them: what a commit swaps, if nobody
/// was faster.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    head: Option<Document<Head>>,
    /// Those asked for that the head does not hold.
    cold: HashMap<String, Row>,
}

impl Loaded {
    fn row(&self, topic: &str) -> Option<&Row> {
        let hot = self.head.as_ref().and_then(|head| head.value.hot(topic));
        hot.or_else(|| self.cold.get(topic))
    }

    /// Checks that the session has the version that the chain was decided on.
    fn expects(&self, chain: &Chain) -> bool {
        let seq = self
            .row(&chain.key().session_topic)
            .map_or(0, |row| row.seq);
        seq == chain.expected_seq()
    }
}

/// Estimates what a chain adds to its agent's head, in bytes.
fn chain_size(chain: &Chain) -> usize {
    let topic = json_size(&chain.key().session_topic);
    let entry = |commit: &Commit| {
        let texts = commit.status.as_ref().map(|entry| {
            let texts = [&entry.reason, &entry.message, &entry.content];
            texts.into_iter().map(|text| json_size(text)).sum::<usize>()
        });
        topic + texts.unwrap_or_default()
    };
    let notifications = |commit: &Commit| -> usize {
        let notifications = commit.notifications.iter();
        notifications
            .map(|notification| json_size(&notification.body) + json_size(&notification.url) + 200)
            .sum()
    };
    let commits = chain.commits();
    let entries = commits.map(|commit| entry(commit) + notifications(commit) + 200);
    let SessionHead {
        title,
        message,
        context,
        hook,
        ..
    } = chain.head();
    topic + head_size(title, message, context, hook) + entries.sum::<usize>()
}

/// The minute of these commits, and that in which the first of their sessions may fall silent, where
/// the agent is not noted for one in between.
fn minute_to_note(commits: &[&Commit], head: &Head) -> Option<(i64, i64)> {
    let sessions = commits.iter().map(|commit| &commit.session);
    let watched = sessions.filter(|session| session.silence == Silence::Watched);
    let first = watched.min_by_key(|session| session.expires_at())?;
    let (now, due) = (minute(first.last_updated), minute(first.expires_at()));
    let is_noted = head
        .watched
        .is_some_and(|noted| (now..=due).contains(&noted));
    (!is_noted).then_some((now, due))
}

impl<K: KeyValue> KeyValueStore<K> {
    /// An agent's head; `None` where there is no agent.
    pub(super) async fn head(
        &self,
        workspace: &Workspace,
        agent_id: &str,
    ) -> Result<Option<Document<Head>>, StoreError> {
        let head = self.stored_head(workspace, agent_id).await?;
        Ok(head.filter(|head| !head.value.is_emptied()))
    }

    /// An agent's head, also when it has been emptied.
    async fn stored_head(
        &self,
        workspace: &Workspace,
        agent_id: &str,
    ) -> Result<Option<Document<Head>>, StoreError> {
        let key = head_key(&agent_hash(workspace, agent_id));
        self.documents.read(&key).await
    }

    /// A session's row, as of this head or later. The head is read first: what it does not hold
    /// had moved to a document by then.
    pub(crate) async fn row(
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

    /// Loads sessions of one agent.
    pub(super) async fn load_agent(
        &self,
        keys: &[SessionKey],
    ) -> Result<Vec<Snapshot>, StoreError> {
        let Some(SessionKey {
            workspace,
            agent_id,
            ..
        }) = keys.first()
        else {
            return Ok(Vec::new());
        };
        let head = self.stored_head(workspace, agent_id).await?;
        let loaded = self.loaded(keys, head).await?;
        let agent = loaded.head.as_ref().map(|head| &head.value);
        let agent = agent.filter(|head| !head.is_emptied());
        let of_its_kind = match agent {
            Some(head) => head.session_count,
            None => Roll::count(&self.documents, &agents_list(workspace)).await?,
        };
        let snapshot = |key: &SessionKey| {
            let session = loaded.row(&key.session_topic).map(Row::head);
            Snapshot {
                agent_name: agent.map(|head| head.name.clone()),
                siblings: session.as_ref().map_or(of_its_kind, |_| 0),
                session,
            }
        };
        let snapshots = keys.iter().map(snapshot).collect();
        self.loads.remember(agent_hash(workspace, agent_id), loaded);
        Ok(snapshots)
    }

    /// Applies chains on sessions of one agent, as many with one swap as a document can take.
    pub(super) async fn apply_to_agent(
        &self,
        chains: &[Chain],
    ) -> Result<Vec<CommitOutcome>, StoreError> {
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
                chains => match self.swap_in(chains).await {
                    // Nothing of these is stored, but of others may be.
                    Err(StoreError::Contended) => {
                        outcomes.extend(chains.iter().map(|_| CommitOutcome::Conflict));
                    }
                    swapped => outcomes.extend(swapped?),
                },
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
        let mut noted = None;
        loop {
            let loaded = match known.take() {
                Some(loaded) => loaded,
                None => {
                    let head = self.stored_head(workspace, agent_id).await?;
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
            if head.as_ref().is_none_or(|head| head.value.is_emptied()) {
                let list = agents_list(workspace);
                Roll::add(&self.documents, &list, agent_id).await?;
            }
            let (mut head, version) = match head {
                Some(Document { value, version }) => (value, Some(version)),
                None => (Head::new(first), None),
            };
            let to_note = minute_to_note(&commits, &head);
            let quiet = commits
                .iter()
                .filter(|commit| commit.notifications.is_empty());
            // A note is as much work as a report may be.
            let quiet = match to_note {
                Some(_) => 0,
                None => quiet.count(),
            };
            let topics: Vec<&str> = commits
                .iter()
                .map(|commit| commit.key.session_topic.as_str())
                .collect();
            self.tidy(workspace, &topics, quiet, &agent, &mut head)
                .await?;
            let queued: Vec<_> = commits
                .iter()
                .map(|commit| (commit.notifications.as_slice(), Place::History))
                .collect();
            let (outgoing, dropped) = self.announce(&agent, &head, &queued).await?;
            for (commit, outgoing) in commits.iter().zip(outgoing) {
                head.apply(commit, cold.remove(&commit.key.session_topic), outgoing);
            }
            if let Some((now, due)) = to_note {
                let covers = |noted: &i64| (now..=due).contains(noted);
                if !noted.as_ref().is_some_and(covers) {
                    let agent = Noted::new(workspace, agent_id);
                    noted = Some(self.watch(due, &agent).await?);
                }
                head.watched = noted;
            }
            let stored = match version {
                Some(version) => match self.documents.swap(&head_key, &head, &version).await? {
                    None => true,
                    Some(head) => {
                        known = Some(self.loaded(keys(), head).await?);
                        false
                    }
                },
                None => self.documents.create(&head_key, &head).await?,
            };
            if stored {
                // What is stored is stored, whether or not this can be.
                if let Err(error) = self.keep_dropped(dropped).await {
                    tracing::warn!(causes = %causes(&error), "what was dropped is not listed");
                }
                return Ok(outcomes());
            }
            rounds.lost()?;
        }
    }

    /// Makes room in a head: where it is crowded, by as many writes as it takes, else by two at
    /// most for each of the commits that have no notifications to write. What is written here counts
    /// once the head is swapped. `topics`: the sessions that are changed.
    pub(super) async fn tidy(
        &self,
        workspace: &Workspace,
        topics: &[&str],
        quiet: usize,
        agent: &str,
        head: &mut Head,
    ) -> Result<(), StoreError> {
        let limits = &self.documents.limits;
        let mut allowance = match head.size() > limits.crowded_bytes {
            true => usize::MAX,
            false => 2 * quiet,
        };
        if allowance > 0 && head.history.size() > limits.tail_bytes {
            let list = history_list(agent);
            let pages = head.history.pages;
            head.history.flush(&self.documents, &list).await?;
            allowance -= 1;
            if head.limited
                && let Err(error) = self.sweep(workspace, &list, pages, head).await
            {
                tracing::warn!(causes = %causes(&error), "what is no longer kept is not removed");
            }
        }
        if allowance > 0 && head.cold.size() > limits.tail_bytes {
            let list = cold_list(agent);
            head.cold.flush(&self.documents, &list).await?;
            allowance -= 1;
        }
        self.move_oldest(workspace, topics, head, allowance).await
    }

    /// Moves the sessions updated longest ago, at most `most` of them, to documents of their own
    /// where a head holds too many.
    async fn move_oldest(
        &self,
        workspace: &Workspace,
        topics: &[&str],
        head: &mut Head,
        most: usize,
    ) -> Result<(), StoreError> {
        let limits = &self.documents.limits;
        let busy = |row: &Row| topics.contains(&row.topic.as_str());
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
                let document = row_key(workspace, agent_id, &row.topic);
                let covers = |there: &Row| there.seq >= row.seq;
                let documents = &self.documents;
                documents
                    .grow(&document, &row, known.as_ref(), covers)
                    .await
            })
            .await
    }
}
