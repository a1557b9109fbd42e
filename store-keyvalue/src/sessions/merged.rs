//! The sessions of all agents of a workspace in one order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use futures_util::{StreamExt, TryStreamExt, stream};
use kubeagents_core::store::WorkspaceCursor;
use kubeagents_core::{NamedSession, StoreError, Timestamp, Workspace};

use super::AGENTS_AT_ONCE;
use super::head::{Head, Moved, agents_list};
use crate::documents::Document;
use crate::log::{Log, Reader};
use crate::roll::Roll;
use crate::{KeyValue, KeyValueStore};

/// The sessions of a workspace, last updated first. It takes a look at every agent's head, since no
/// document keeps their order, but reads more only of the agents whose turn comes.
pub(super) struct MergedSessions<'a, K> {
    store: &'a KeyValueStore<K>,
    workspace: &'a Workspace,
    /// The place that the walk has come to.
    after: Option<WorkspaceCursor>,
    /// What may come next of each agent.
    next: BinaryHeap<Candidate>,
    /// Those whose turn has come.
    agents: Vec<Opened<'a, K>>,
}

/// An agent whose sessions are being read.
struct Opened<'a, K> {
    /// Without its history.
    head: Head,
    places: Reader<'a, K, Moved>,
}

/// What may come next of one agent. The greatest comes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    updated: Timestamp,
    /// Before an agent's turn comes, nothing is known but its latest instant: then the agent is
    /// opened before anything of that instant is taken.
    unopened: bool,
    agent_id: Reverse<String>,
    place: Option<Place>,
}

/// A session's place in the list of its agent, which is open.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    topic: Reverse<String>,
    seq: u64,
    agent: usize,
}

impl<'a, K: KeyValue> MergedSessions<'a, K> {
    pub(super) async fn new(
        store: &'a KeyValueStore<K>,
        workspace: &'a Workspace,
        after: Option<WorkspaceCursor>,
    ) -> Result<Self, StoreError> {
        let ids = Roll::read(&store.documents, &agents_list(workspace)).await?;
        let next: Vec<Option<Candidate>> = stream::iter(ids)
            .map(|agent_id| async move {
                let Some(Document { value: head, .. }) = store.head(workspace, &agent_id).await?
                else {
                    return Ok::<_, StoreError>(None);
                };
                let hot = head.hot.iter().map(|row| row.updated).max();
                let latest = hot.max(head.cold.latest());
                Ok(latest.map(|updated| Candidate {
                    updated,
                    unopened: true,
                    agent_id: Reverse(agent_id),
                    place: None,
                }))
            })
            .buffer_unordered(AGENTS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(Self {
            store,
            workspace,
            after,
            next: next.into_iter().flatten().collect(),
            agents: Vec::new(),
        })
    }

    /// The next sessions, at most `count`, of those that were updated later than `updated_after`.
    /// Fewer are all that there are.
    pub(super) async fn next(
        &mut self,
        count: usize,
        updated_after: Option<Timestamp>,
    ) -> Result<Vec<NamedSession>, StoreError> {
        let mut found = Vec::new();
        while found.len() < count
            && let Some(candidate) = self.next.pop()
        {
            if updated_after.is_some_and(|limit| candidate.updated <= limit) {
                self.next.clear();
                break;
            }
            let Some(Place {
                topic: Reverse(topic),
                seq,
                agent,
            }) = candidate.place
            else {
                self.open(&candidate.agent_id.0).await?;
                continue;
            };
            self.advance(agent).await?;
            let head = &self.agents[agent].head;
            let place = (Reverse(candidate.updated), &head.agent_id, &topic);
            // A head that is opened late may hold what has moved to the front meanwhile.
            let is_passed = self.after.as_ref().is_some_and(|after| {
                place
                    <= (
                        Reverse(after.last_updated),
                        &after.agent_id,
                        &after.session_topic,
                    )
            });
            if is_passed {
                continue;
            }
            let row = self.store.row(self.workspace, head, &topic).await?;
            // Else it is a place that the session has left.
            let row = row.filter(|row| row.seq == seq);
            let session = row.map(|row| NamedSession {
                agent_name: head.name.clone(),
                session: row.session(&head.agent_id),
            });
            if let Some(session) = session {
                self.after = Some(WorkspaceCursor::after(&session));
                found.push(session);
            }
        }
        Ok(found)
    }

    /// Begins to read the sessions of an agent.
    async fn open(&mut self, agent_id: &str) -> Result<(), StoreError> {
        let found = self.store.head(self.workspace, agent_id).await?;
        let Some(Document {
            value: mut head, ..
        }) = found
        else {
            return Ok(());
        };
        head.history = Log::default();
        let from = self.after.as_ref().map(|after| after.last_updated);
        let places = self.store.places(self.workspace, &head, from).await?;
        self.agents.push(Opened { head, places });
        self.advance(self.agents.len() - 1).await
    }

    /// Makes an agent's next session a candidate.
    async fn advance(&mut self, agent: usize) -> Result<(), StoreError> {
        let Opened { head, places } = &mut self.agents[agent];
        if let Some(place) = places.next().await? {
            self.next.push(Candidate {
                updated: place.updated,
                unopened: false,
                agent_id: Reverse(head.agent_id.clone()),
                place: Some(Place {
                    topic: Reverse(place.topic),
                    seq: place.seq,
                    agent,
                }),
            });
        }
        Ok(())
    }
}
