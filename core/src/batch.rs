//! Group commit: reports that wait while a commit is under way go into the next one together.
//!
//! [`Batcher::enter`] fixes a report's place among those of its session. A host runs
//! [`Batcher::record_group`] on one or more workers: it takes what waits in several sessions, loads
//! them with one operation, decides on them one after the other in memory, and commits them with one
//! operation. While it does, no other worker of the host touches these sessions or their agents, so
//! conflicts come only from other hosts.
//!
//! A session that the group's commit passed over becomes a [`Leftover`], which the host records
//! report by report, where it harms nobody else. So does a session that is new where a quota is near,
//! lest a group exceed it.
//!
//! A host may drop any of these futures. Reports whose recording ends that way are answered
//! [`StoreError::Unavailable`], since they may be stored, and their session goes on with the next.

mod chain;
mod queue;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;
use tracing::{Instrument, Span};

use crate::ports::{Clock, Entropy};
use crate::store::{Accounts, Channels, CommitOutcome, Sessions};
use crate::{
    Decision, Incoming, Listeners, Recorded, Recorder, SessionKey, Snapshot, StoreError, Unstored,
    Workspace, causes,
};

pub use chain::Chain;
use queue::{Queue, Taken};

/// The most reports in one group.
const MAX_REPORTS: usize = 256;

/// Records reports in groups. The host drives it; there is no task or timer inside.
pub struct Batcher<S, C, E> {
    recorder: Recorder<S, C, E>,
    queue: SharedQueue,
}

/// The queue of a batcher, which what is taken of it goes back to.
#[derive(Clone, Default)]
struct SharedQueue(Arc<Mutex<Queue<Waiting>>>);

impl SharedQueue {
    fn lock(&self) -> MutexGuard<'_, Queue<Waiting>> {
        // Nothing that holds the lock leaves the queue half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Waiting {
    incoming: Incoming,
    answer: oneshot::Sender<Result<Recorded, StoreError>>,
    /// Lasts until the report is answered, as a part of its request.
    span: Span,
}

/// The answer to a report that has entered the queue.
pub struct Pending(oneshot::Receiver<Result<Recorded, StoreError>>);

impl Pending {
    /// Waits until the report is stored or refused.
    ///
    /// # Errors
    /// As [`Recorder::record`]; [`StoreError::Unavailable`] also when the host stops first.
    pub async fn answer(self) -> Result<Recorded, StoreError> {
        let stopped = |_| Err(StoreError::unavailable("the host stopped recording it"));
        self.0.await.unwrap_or_else(stopped)
    }
}

/// Reports of one session, in the hands of a worker: until this is dropped, later reports on the
/// session wait. What has not been answered by then fails.
struct Claim {
    queue: SharedQueue,
    taken: Taken<Waiting>,
}

impl Claim {
    fn key(&self) -> &SessionKey {
        &self.taken.key
    }

    fn answer(mut self, results: impl IntoIterator<Item = Result<Recorded, StoreError>>) {
        for (waiting, result) in self.taken.waiting.drain(..).zip(results) {
            // The request goes on, and must not end first.
            drop(waiting.span);
            // Whoever asked may be gone.
            let _ = waiting.answer.send(result);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.queue.lock().give_back(&mut self.taken);
    }
}

/// Reports on one session that a group passed over: its rows were locked or had been changed by
/// another host, storage refused the group, or the session is new and a quota near. Until
/// [`Batcher::record_leftover`] is done with them, later reports on the session wait.
#[must_use = "its reports wait for an answer"]
pub struct Leftover(Claim);

/// What is to become of a session's reports, in their order.
type Decisions = Vec<Result<Decision, Unstored>>;

/// A failure that every report of a group shares.
#[derive(Debug, thiserror::Error)]
#[error("a group of reports failed: {0}")]
struct GroupFailed(String);

/// The span of a group's way to storage, which has no parent, since it has many: those of its reports.
fn span_of(group: &[Claim]) -> Span {
    let span = tracing::debug_span!(parent: None, "group");
    if !span.is_disabled() {
        let reports = group.iter().flat_map(|claim| &claim.taken.waiting);
        reports.for_each(|waiting| {
            span.follows_from(&waiting.span);
        });
    }
    span
}

impl<S: Sessions + Accounts + Channels, C: Clock, E: Entropy> Batcher<S, C, E> {
    /// A batcher with an empty queue.
    pub fn new(recorder: Recorder<S, C, E>) -> Self {
        Self {
            recorder,
            queue: SharedQueue::default(),
        }
    }

    /// The recorder that decides on reports and reaches the store.
    pub fn recorder(&self) -> &Recorder<S, C, E> {
        &self.recorder
    }

    /// Puts a report behind those that wait for its session. It is recorded after all of them and
    /// before all that enter later. A worker must be woken if [`Batcher::is_ready`].
    pub fn enter(&self, workspace: &Workspace, incoming: impl Into<Incoming>) -> Pending {
        let (answer, answered) = oneshot::channel();
        let incoming = incoming.into();
        let key = incoming.session_key(workspace);
        let span = tracing::debug_span!("record");
        let waiting = Waiting {
            incoming,
            answer,
            span,
        };
        self.queue.lock().push(key, waiting);
        Pending(answered)
    }

    /// Checks whether a report waits that no worker has taken.
    pub fn is_ready(&self) -> bool {
        self.queue.lock().is_ready()
    }

    /// Refuses what waits that no worker has taken: for a host whose workers have ended.
    pub fn refuse_waiting(&self) {
        self.queue.lock().clear();
    }

    /// Records a group of waiting reports; `None` when there is nothing to take. What comes back
    /// is to be handed to [`Batcher::record_leftover`].
    pub async fn record_group(&self) -> Option<Vec<Leftover>> {
        let group = self.queue.lock().take(MAX_REPORTS);
        if group.is_empty() {
            return None;
        }
        let claim = |taken| Claim {
            queue: self.queue.clone(),
            taken,
        };
        let mut group: Vec<Claim> = group.into_iter().map(claim).collect();
        // In key order, so that hosts that create the same agents do so in the same order.
        group.sort_by(|a, b| a.key().cmp(b.key()));
        let recorded = self.try_group(&group).instrument(span_of(&group)).await;
        self.release_agents(&mut group);
        let recorded = match recorded {
            Ok(recorded) => recorded,
            Err(error @ (StoreError::Refused(_) | StoreError::Contended)) => {
                tracing::warn!(causes = %causes(&error), "a group of reports was refused; recording them one by one");
                return Some(group.into_iter().map(Leftover).collect());
            }
            Err(error) => {
                let causes = causes(&error).to_string();
                let failed = || Err(StoreError::unavailable(GroupFailed(causes.clone())));
                for claim in group {
                    claim.answer(std::iter::repeat_with(failed));
                }
                return Some(Vec::new());
            }
        };
        let mut leftovers = Vec::new();
        for (claim, recorded) in group.into_iter().zip(recorded) {
            match recorded {
                Some(recorded) => claim.answer(recorded.into_iter().map(Ok)),
                None => leftovers.push(Leftover(claim)),
            }
        }
        Some(leftovers)
    }

    /// Records the reports of one session one after the other by `record`. When one fails for
    /// contention, those behind it would wait as long, and fail with it. Afterwards a worker must be
    /// woken if [`Batcher::is_ready`].
    ///
    /// The arguments are not borrowed, so that the future is `Send` where `record`'s are.
    pub async fn record_leftover<F>(
        &self,
        leftover: Leftover,
        mut record: impl FnMut(Workspace, Incoming) -> F,
    ) where
        F: Future<Output = Result<Recorded, StoreError>>,
    {
        let Leftover(mut claim) = leftover;
        let workspace = claim.key().workspace.clone();
        let mut contended = false;
        for waiting in std::mem::take(&mut claim.taken.waiting) {
            let Waiting {
                incoming,
                answer,
                span,
            } = waiting;
            let result = match contended {
                true => Err(StoreError::Contended),
                false => record(workspace.clone(), incoming).instrument(span).await,
            };
            contended = matches!(result, Err(StoreError::Contended));
            let _ = answer.send(result);
        }
    }

    /// Lets other groups have the agents of this one.
    fn release_agents(&self, group: &mut [Claim]) {
        let mut queue = self.queue.lock();
        for claim in group {
            queue.release_agent(&mut claim.taken);
        }
    }

    /// Loads, decides and commits a group; for each session its reports' results, or `None` where
    /// the commit passed it over.
    async fn try_group(&self, group: &[Claim]) -> Result<Vec<Option<Vec<Recorded>>>, StoreError> {
        let keys: Vec<SessionKey> = group.iter().map(|claim| claim.key().clone()).collect();
        let snapshots = self.recorder.store.load_many(&keys).await?;
        let names: Vec<Option<String>> = snapshots
            .iter()
            .map(|snapshot| snapshot.agent_name.clone())
            .collect();
        let quotas = self.recorder.policy.quotas;
        let decisions: Vec<Option<Decisions>> = group
            .iter()
            .zip(snapshots)
            .map(|(claim, snapshot)| {
                let is_near = quotas.is_near(&snapshot);
                (!is_near).then(|| self.decide(&claim.taken, snapshot))
            })
            .collect();
        let listeners = self.listeners(group, &decisions).await?;
        let nobody = Listeners::default();
        let mut chains = Vec::new();
        let mut recorded: Vec<Option<Vec<Recorded>>> = Vec::with_capacity(group.len());
        // The places of the chains in the group: where nothing is to be stored, there is none.
        let mut places = Vec::new();
        for (place, (claim, decisions)) in group.iter().zip(decisions).enumerate() {
            let Some(decisions) = decisions else {
                recorded.push(None);
                continue;
            };
            let listeners = listeners.get(&claim.key().workspace).unwrap_or(&nobody);
            let mut commits = Vec::new();
            let mut results = Vec::new();
            for decision in decisions {
                results.push(match decision {
                    Ok(decision) => {
                        let commit = self.recorder.commit(decision, listeners);
                        let result = Recorded::of(&commit);
                        commits.push(commit);
                        result
                    }
                    Err(unstored) => Recorded::Unstored(unstored),
                });
            }
            recorded.push(Some(results));
            if let Some(chain) = Chain::new(commits) {
                chains.push(chain);
                places.push(place);
            }
        }
        if chains.is_empty() {
            return Ok(recorded);
        }
        let outcomes = self.recorder.store.commit_many(&chains).await;
        for (chain, &place) in chains.iter().zip(&places) {
            let (key, before) = (chain.key(), names[place].as_deref());
            self.recorder.witness.tell(key, chain.agent_name(), before);
        }
        let outcomes = outcomes?;
        for (place, outcome) in places.into_iter().zip(outcomes) {
            // What was decided on a commit that is not stored does not count either.
            match outcome {
                CommitOutcome::Committed => {}
                CommitOutcome::Conflict => recorded[place] = None,
                CommitOutcome::Refused(quota) => {
                    let refused = Recorded::Unstored(Unstored::LimitReached(quota));
                    recorded[place]
                        .iter_mut()
                        .flatten()
                        .for_each(|recorded| *recorded = refused);
                }
            }
        }
        Ok(recorded)
    }

    /// Decides on a session's reports, each on what the one before it left.
    fn decide(&self, session: &Taken<Waiting>, mut snapshot: Snapshot) -> Decisions {
        let decide = |waiting: &Waiting| {
            let workspace = &session.key.workspace;
            let decision = self
                .recorder
                .decide(workspace, &waiting.incoming, &snapshot)?;
            snapshot = snapshot.after(&decision.commit);
            Ok(decision)
        };
        session.waiting.iter().map(decide).collect()
    }

    /// Who is to be told, in each workspace where there is something to tell.
    async fn listeners(
        &self,
        group: &[Claim],
        decisions: &[Option<Decisions>],
    ) -> Result<HashMap<Workspace, Listeners>, StoreError> {
        let mut of_workspaces: HashMap<&Workspace, Vec<&Decision>> = HashMap::new();
        for (claim, decisions) in group.iter().zip(decisions) {
            let of_workspace = of_workspaces.entry(&claim.key().workspace).or_default();
            of_workspace.extend(decisions.iter().flatten().flatten());
        }
        let mut listeners = HashMap::new();
        for (workspace, decisions) in of_workspaces {
            let of_workspace = self.recorder.listeners(workspace, decisions).await?;
            listeners.insert(workspace.clone(), of_workspace);
        }
        Ok(listeners)
    }
}
