//! Agents, sessions and their history: a head document for each agent, which every report swaps.

mod commit;
mod head;
mod merged;
mod silence;
mod sweep;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use chrono::TimeDelta;
use futures_util::{StreamExt, TryStreamExt, stream};
use kubeagents_core::batch::Chain;
use kubeagents_core::store::{
    AgentCursor, AgentQuery, CommitOutcome, Expiry, Gathering, HistoryCursor, MAX_LOOKED_AT, Page,
    Row as _, SessionCursor, SessionHistory, SessionQuery, SessionWalk, Sessions, SilenceNote,
    WorkspaceCursor, WorkspaceQuery,
};
use kubeagents_core::{
    Agent, NamedSession, Session, SessionKey, Snapshot, Status, StoreError, Timestamp, Workspace,
    is_expired, search_key,
};

use crate::documents::{Document, Rounds};
use crate::log::{Reader, read_page};
use crate::roll::Roll;
use crate::{KeyValue, KeyValueStore};
pub(crate) use commit::Loaded;
use head::Row;
pub(crate) use head::{
    Head, HistoryEntry, Moved, agent_hash, agents_list, cold_list, head_key, history_list, row_key,
};
use merged::MergedSessions;

/// No session outlives its last report by more: the longest TTL.
const LONGEST_TTL: TimeDelta = TimeDelta::minutes(1440);

/// Agents whose documents are worked on at once.
const AGENTS_AT_ONCE: usize = 16;

fn same_agent(a: &SessionKey, b: &SessionKey) -> bool {
    (&a.workspace, &a.agent_id) == (&b.workspace, &b.agent_id)
}

impl<K: KeyValue> Sessions for KeyValueStore<K> {
    async fn load_many(&self, keys: &[SessionKey]) -> Result<Vec<Snapshot>, StoreError> {
        stream::iter(keys.chunk_by(same_agent))
            .map(|keys| self.load_agent(keys))
            .buffered(AGENTS_AT_ONCE)
            .try_concat()
            .await
    }

    async fn commit_many(&self, chains: &[Chain]) -> Result<Vec<CommitOutcome>, StoreError> {
        stream::iter(chains.chunk_by(|a, b| same_agent(a.key(), b.key())))
            .map(|chains| self.apply_to_agent(chains))
            .buffered(AGENTS_AT_ONCE)
            .try_concat()
            .await
    }

    async fn silences(
        &self,
        after: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Snapshot)>, StoreError> {
        self.find_silences(after, until, limit).await
    }

    async fn note_silences(&self, notes: &[SilenceNote]) -> Result<Vec<bool>, StoreError> {
        let mut order: Vec<usize> = (0..notes.len()).collect();
        order.sort_by_key(|place| &notes[*place].key);
        let sorted: Vec<SilenceNote> = order.iter().map(|place| notes[*place].clone()).collect();
        let noted: Vec<bool> = stream::iter(sorted.chunk_by(|a, b| same_agent(&a.key, &b.key)))
            .map(|notes| self.note_agent_silences(notes))
            .buffered(AGENTS_AT_ONCE)
            .try_concat()
            .await?;
        let mut answers = vec![false; notes.len()];
        for (place, noted) in order.into_iter().zip(noted) {
            answers[place] = noted;
        }
        Ok(answers)
    }

    async fn agents(
        &self,
        workspace: &Workspace,
        query: &AgentQuery,
        now: Timestamp,
    ) -> Result<Page<Agent, AgentCursor>, StoreError> {
        let mut places = self.agent_places(workspace, query).await?.into_iter();
        let mut found = Gathering::new(query.limit);
        let mut looked_at = 0;
        let mut last = None;
        while looked_at < MAX_LOOKED_AT {
            let batch: Vec<AgentCursor> = places.by_ref().take(found.wanted()).collect();
            let Some(end) = batch.last().cloned() else {
                return Ok(found.page(AgentCursor::after));
            };
            looked_at += batch.len();
            let agents: Vec<Option<Agent>> = stream::iter(batch)
                .map(|place| async move {
                    let Some(head) = self.head(workspace, &place.agent_id).await? else {
                        return Ok(None);
                    };
                    // It may have been seen again, and the page goes on where it was.
                    let head = Head {
                        last_seen: place.last_seen,
                        ..head.value
                    };
                    self.view(workspace, &head, now).await.map(Some)
                })
                .buffered(AGENTS_AT_ONCE)
                .try_collect()
                .await?;
            let mut wanted = agents
                .into_iter()
                .flatten()
                .filter(|agent| query.status.is_none() || agent.latest_status == query.status);
            if wanted.try_for_each(|agent| found.push(agent)).is_break() {
                return Ok(found.page(AgentCursor::after));
            }
            last = Some(end);
        }
        Ok(Page {
            next: last.filter(|_| places.len() > 0),
            ..found.page(AgentCursor::after)
        })
    }

    async fn agent(
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

    async fn sessions(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        query: &SessionQuery,
        now: Timestamp,
    ) -> Result<Page<Session, SessionCursor>, StoreError> {
        let Some(Document { value: head, .. }) = self.head(workspace, agent_id).await? else {
            return Ok(Page::empty());
        };
        let after = query.after.as_ref();
        let from = after.map(|after| after.last_updated);
        let mut places = self.places(workspace, &head, from).await?;
        let wanted = |place: &Moved| {
            let listed = match query.expiry {
                Expiry::Any => true,
                Expiry::Unexpired => !is_expired(place.expires, now),
                Expiry::Expired => is_expired(place.expires, now),
            };
            listed
                && after.is_none_or(|after| {
                    (Reverse(place.updated), place.topic.as_str())
                        > (Reverse(after.last_updated), after.session_topic.as_str())
                })
        };
        let mut found = Gathering::new(query.limit);
        let mut ended = false;
        while !ended {
            let mut batch = Vec::new();
            while batch.len() < found.wanted() {
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
            let rows = self.rows(workspace, &head, batch).await?;
            let mut sessions = rows.into_iter().map(|row| row.session(agent_id));
            ended |= sessions.try_for_each(|it| found.push(it)).is_break();
        }
        Ok(found.page(SessionCursor::after))
    }

    async fn workspace_sessions(
        &self,
        workspace: &Workspace,
        query: &WorkspaceQuery,
        now: Timestamp,
    ) -> Result<Page<NamedSession, WorkspaceCursor>, StoreError> {
        let mut walk = SessionWalk::new(query, now, NamedSession::AT_ONCE);
        let mut sessions = MergedSessions::new(self, workspace, walk.after().cloned()).await?;
        loop {
            let window = walk.window();
            let rows = sessions.next(window, walk.updated_after()).await?;
            let is_last = rows.len() < window;
            if walk.add(rows, is_last).is_break() {
                return Ok(walk.page());
            }
        }
    }

    async fn session(
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
            let newest = row.newest_entry().seq;
            let mut entries = head.history.tail.iter();
            if row.page < head.history.pages
                || entries.any(|entry| entry.topic == row.topic && entry.seq == newest)
            {
                break (head, row);
            }
            rounds.lost()?;
        };
        let list = history_list(&agent_hash(&key.workspace, &key.agent_id));
        let agent_id = Arc::from(&*key.agent_id);
        let mut page = Some(row.page);
        let mut in_head = Some(head.history.tail);
        let mut found = Gathering::new(limit);
        while let Some(number) = page {
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
            let oldest = of_session.last().filter(|oldest| oldest.is_kept(row.gone));
            // Where it is on this one, it has been removed.
            page = oldest
                .and_then(|oldest| oldest.previous)
                .filter(|previous| *previous < number);
            let mut statuses = of_session
                .into_iter()
                .filter(|entry| entry.is_kept(row.gone))
                .filter(|entry| before.is_none_or(|before| entry.seq < before))
                .map(|entry| entry.status(&agent_id));
            if statuses.try_for_each(|it| found.push(it)).is_break() {
                break;
            }
        }
        let history = found.page(|status: &Status| status.seq);
        let session = row.session(&key.agent_id);
        Ok(Some(SessionHistory { session, history }))
    }

    async fn history(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        before: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Page<Status, HistoryCursor>, StoreError> {
        let Some(Document {
            value: mut head, ..
        }) = self.head(workspace, agent_id).await?
        else {
            return Ok(Page::empty());
        };
        let list = history_list(&agent_hash(workspace, agent_id));
        let from = before.map(|before| before.timestamp);
        let log = std::mem::take(&mut head.history);
        let mut entries = Reader::new(&self.documents, list, log, from).await?;
        let wanted = |entry: &HistoryEntry| {
            before.is_none_or(|before| {
                entry.order() < (before.timestamp, Reverse(&before.session_topic), before.seq)
            })
        };
        let shown_id = Arc::from(agent_id);
        let mut found = Gathering::new(limit);
        let mut gone = HashMap::new();
        let mut ended = false;
        while !ended {
            let mut batch = Vec::new();
            while batch.len() < found.wanted() {
                let Some(entry) = entries.next().await? else {
                    ended = true;
                    break;
                };
                batch.extend(Some(entry).filter(wanted));
            }
            if head.limited {
                self.find_gone(workspace, &head, &batch, &mut gone).await?;
            }
            let is_kept =
                |entry: &HistoryEntry| entry.is_kept(gone.get(&entry.topic).copied().unwrap_or(0));
            let kept = batch.into_iter().filter(is_kept);
            let mut statuses = kept.map(|entry| entry.status(&shown_id));
            ended |= statuses.try_for_each(|it| found.push(it)).is_break();
        }
        Ok(found.page(HistoryCursor::after))
    }
}

impl<K: KeyValue> KeyValueStore<K> {
    /// Adds to `gone` up to which number the entries of these sessions are gone, where it is not known.
    async fn find_gone(
        &self,
        workspace: &Workspace,
        head: &Head,
        entries: &[HistoryEntry],
        gone: &mut HashMap<String, u64>,
    ) -> Result<(), StoreError> {
        let topics = entries.iter().map(|entry| entry.topic.as_str());
        let mut topics: Vec<&str> = topics.filter(|topic| !gone.contains_key(*topic)).collect();
        topics.sort_unstable();
        topics.dedup();
        let found: Vec<(String, u64)> = stream::iter(topics)
            .map(|topic| async move {
                let row = self.row(workspace, head, topic).await?;
                Ok::<_, StoreError>((topic.to_owned(), row.map_or(0, |row| row.gone)))
            })
            .buffered(AGENTS_AT_ONCE)
            .try_collect()
            .await?;
        gone.extend(found);
        Ok(())
    }

    /// The places of all agents that come after the query's and that a search finds, in order. It
    /// takes a look at every agent's head, since no document keeps their order.
    async fn agent_places(
        &self,
        workspace: &Workspace,
        query: &AgentQuery,
    ) -> Result<Vec<AgentCursor>, StoreError> {
        let ids = Roll::read(&self.documents, &agents_list(workspace)).await?;
        let places: Vec<Option<AgentCursor>> = stream::iter(ids)
            .map(|id| async move {
                let Some(Document { value: head, .. }) = self.head(workspace, &id).await? else {
                    return Ok::<_, StoreError>(None);
                };
                let place = (Reverse(head.last_seen), head.agent_id.as_str());
                let after = query.after.as_ref();
                let wanted = after.is_none_or(|after| {
                    place > (Reverse(after.last_seen), after.agent_id.as_str())
                }) && query.search.as_ref().is_none_or(|search| {
                    search_key(&head.agent_id).contains(search)
                        || search_key(&head.name).contains(search)
                });
                Ok(wanted.then_some(AgentCursor {
                    last_seen: head.last_seen,
                    agent_id: head.agent_id,
                }))
            })
            .buffer_unordered(AGENTS_AT_ONCE)
            .try_collect()
            .await?;
        let mut places: Vec<AgentCursor> = places.into_iter().flatten().collect();
        places.sort_unstable_by(|a, b| {
            (Reverse(a.last_seen), &a.agent_id).cmp(&(Reverse(b.last_seen), &b.agent_id))
        });
        Ok(places)
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
            if !is_expired(place.expires, now) {
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
}
