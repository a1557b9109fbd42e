//! The task that reads what has changed and publishes it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kubeagents_core::events::{MAX_SESSIONS, expiring};
use kubeagents_core::store::SessionQuery;
use kubeagents_core::{NamedSession, Session, Store, StoreError, Timestamp, Workspace, causes};
use tokio::sync::watch;
use tokio::time::sleep;

use super::topic::{Topic, keys};
use super::{Changes, Hub, now};

/// The longest time between two looks: clocks are set, and topics are forgotten.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Pause before storage is asked again after a failure.
const STORAGE_PAUSE: Duration = Duration::from_secs(1);

/// The pause in which changes that come quickly become one event: this, and a little more for every
/// reader, who takes as much of the processor as a small report.
const MERGING: Duration = Duration::from_millis(20);
const MERGING_A_READER: Duration = Duration::from_micros(100);
const LONGEST_MERGING: Duration = Duration::from_millis(250);

/// The sessions that are read at a time.
const ROWS: usize = 200;

/// How often a storage that others write to is asked what has changed.
const POLL: Duration = Duration::from_millis(500);

/// Publishes what changes in the workspaces that are followed, until `stopping`.
pub(crate) async fn publish<S: Changes>(hub: Hub, store: S, mut stopping: watch::Receiver<bool>) {
    let stop = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let mut publisher = Publisher {
        hub,
        store,
        moment: None,
    };
    let publishing = async {
        loop {
            let pause = publisher.turn().await;
            publisher.hub.forget_unfollowed();
            sleep(pause.merging).await;
            tokio::select! {
                () = publisher.hub.0.wake.notified() => {}
                () = sleep(pause.next) => {}
            }
        }
    };
    tokio::select! {
        () = stop => {}
        () = publishing => {}
    }
}

struct Publisher<S> {
    hub: Hub,
    store: S,
    /// The moment of storage up to which everything is published, while anything is followed.
    moment: Option<String>,
}

/// When the next turn begins.
struct Pause {
    /// Not before this.
    merging: Duration,
    /// Then at once when something changes, and after this in any case.
    next: Duration,
}

impl<S: Changes> Publisher<S> {
    /// Publishes what has changed.
    async fn turn(&mut self) -> Pause {
        let topics: Vec<Arc<Topic>> = self.hub.topics().values().cloned().collect();
        let mut readers = 0;
        let mut next = match S::SHARED && !topics.is_empty() {
            true => POLL,
            false => LONGEST_WAIT,
        };
        let failed = |error: StoreError| {
            tracing::warn!(causes = %causes(&error), "events are late: what has changed cannot be read");
            STORAGE_PAUSE
        };
        let mut published = match self.poll(&topics).await {
            Ok(published) => published,
            Err(error) => {
                return Pause {
                    merging: failed(error),
                    next: Duration::ZERO,
                };
            }
        };
        for (place, topic) in topics.iter().enumerate() {
            match publish_topic(topic, &self.store).await {
                Ok(Done::Published) => {
                    published.push(place);
                    topic.begin(self.moment.as_deref());
                }
                Ok(Done::Nothing) => topic.begin(self.moment.as_deref()),
                Ok(Done::NotYet) => next = next.min(MERGING),
                Err(error) => next = next.min(failed(error)),
            }
            if let Some(expiry) = topic.next_expiry() {
                let wait = (expiry - now()).to_std().unwrap_or_default();
                next = next.min(wait.max(Duration::from_millis(1)));
            }
        }
        published.dedup();
        for place in published {
            let of_topic = topics.get(place).map_or(0, |topic| topic.readers());
            readers += u32::try_from(of_topic).unwrap_or(u32::MAX);
        }
        let merging = match readers {
            0 => Duration::ZERO,
            readers => MERGING + MERGING_A_READER.saturating_mul(readers),
        };
        Pause {
            merging: merging.min(LONGEST_MERGING),
            next,
        }
    }

    /// Publishes what storage says has changed since the last time. Returns the places of the topics
    /// where something had.
    async fn poll(&mut self, topics: &[Arc<Topic>]) -> Result<Vec<usize>, StoreError> {
        if !S::SHARED {
            return Ok(Vec::new());
        }
        if topics.is_empty() {
            self.moment = None;
            return Ok(Vec::new());
        }
        let Some(since) = &self.moment else {
            self.moment = self.store.moment().await?;
            return Ok(Vec::new());
        };
        let mut alone = Vec::new();
        for topic in topics {
            // Only who is told from storage what it has missed holds this, for a moment.
            alone.push(topic.missed().lock().await);
        }
        let known_at = now();
        let workspaces: Vec<_> = topics
            .iter()
            .map(|topic| topic.workspace().clone())
            .collect();
        let Some(changed) = self.store.changes(&workspaces, since).await? else {
            // The database is another one.
            self.moment = self.store.moment().await?;
            topics.iter().for_each(|topic| topic.clear());
            return Ok((0..topics.len()).collect());
        };
        let mut by_workspace: HashMap<Workspace, Vec<NamedSession>> = HashMap::new();
        for (workspace, named) in changed.sessions {
            by_workspace.entry(workspace).or_default().push(named);
        }
        let mut published = Vec::new();
        for (place, topic) in topics.iter().enumerate() {
            let Some(sessions) = by_workspace.remove(topic.workspace()) else {
                continue;
            };
            published.push(place);
            match sessions.len() > MAX_SESSIONS {
                true => topic.clear(),
                false => topic.publish(sessions, known_at, Some(changed.moment.clone())),
            }
        }
        self.moment = Some(changed.moment);
        Ok(published)
    }
}

/// What became of a topic's turn.
enum Done {
    Published,
    Nothing,
    /// A reader is told from storage what it has missed.
    NotYet,
}

/// Publishes what has changed in a workspace.
async fn publish_topic<S: Changes>(topic: &Topic, store: &S) -> Result<Done, StoreError> {
    let Ok(_alone) = topic.missed().try_lock() else {
        return Ok(Done::NotYet);
    };
    let known_at = now();
    if let Some(from) = topic.expiries_missing_from(known_at) {
        let expiries = expiring(store, topic.workspace(), from).await?;
        topic.set_expiries(expiries, known_at);
    }
    let known_at = now();
    let mut marks = topic.take_marks(known_at, S::SHARED);
    if marks.is_empty() {
        return Ok(Done::Nothing);
    }
    match read(topic, store, &mut marks.sessions, &marks.agents).await {
        Ok(Some(sessions)) => topic.publish(sessions, known_at, topic.moment()),
        Ok(None) => topic.clear(),
        Err(error) => {
            topic.give_back(marks);
            return Err(error);
        }
    }
    Ok(Done::Published)
}

/// Reads sessions and those of agents that have got another name; `None` if there are more of these
/// than readers are told of.
async fn read<S: Store>(
    topic: &Topic,
    store: &S,
    names: &mut HashSet<(String, String)>,
    agents: &HashSet<String>,
) -> Result<Option<Vec<NamedSession>>, StoreError> {
    for agent in agents {
        let query = SessionQuery {
            limit: MAX_SESSIONS,
            ..SessionQuery::default()
        };
        let of_agent = store.sessions(topic.workspace(), agent, &query, now());
        let of_agent = of_agent.await?;
        if of_agent.next.is_some() {
            return Ok(None);
        }
        let topics = of_agent.items.into_iter();
        names.extend(topics.map(|session| (agent.clone(), session.session_topic)));
    }
    let mut found = Vec::new();
    for keys in keys(topic.workspace(), names).chunks(ROWS) {
        let snapshots = store.load_many(keys).await?;
        for (key, snapshot) in keys.iter().zip(snapshots) {
            // It may have been removed meanwhile.
            let Some(head) = snapshot.session else {
                continue;
            };
            let (agent_id, topic) = (key.agent_id.clone(), key.session_topic.clone());
            found.push(NamedSession {
                agent_name: snapshot.agent_name.unwrap_or_default(),
                session: Session::new(agent_id, topic, head),
            });
        }
    }
    // In the order in which they changed, as far as it is known.
    found.sort_by_key(changed_at);
    Ok(Some(found))
}

fn changed_at(named: &NamedSession) -> Timestamp {
    named.session.last_updated
}
