//! The task that reads what has changed and publishes it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kubeagents_core::events::{MAX_SESSIONS, expiring};
use kubeagents_core::store::SessionQuery;
use kubeagents_core::{NamedSession, Session, Store, StoreError, Timestamp, causes};
use tokio::sync::watch;
use tokio::time::sleep;

use super::topic::{Topic, keys};
use super::{Hub, now};

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

/// Publishes what changes in the workspaces that are followed, until `stopping`.
pub(crate) async fn publish<S: Store>(hub: Hub, store: S, mut stopping: watch::Receiver<bool>) {
    let stop = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let publishing = async {
        loop {
            let pause = turn(&hub, &store).await;
            hub.forget_unfollowed();
            sleep(pause.merging).await;
            tokio::select! {
                () = hub.0.wake.notified() => {}
                () = sleep(pause.next) => {}
            }
        }
    };
    tokio::select! {
        () = stop => {}
        () = publishing => {}
    }
}

/// When the next turn begins.
struct Pause {
    /// Not before this.
    merging: Duration,
    /// Then at once when something changes, and after this in any case.
    next: Duration,
}

/// Publishes what has changed.
async fn turn<S: Store>(hub: &Hub, store: &S) -> Pause {
    let topics: Vec<Arc<Topic>> = hub.topics().values().cloned().collect();
    let mut readers = 0;
    let mut next = LONGEST_WAIT;
    for topic in topics {
        match publish_topic(&topic, store).await {
            Ok(Done::Published) => readers += u32::try_from(topic.readers()).unwrap_or(u32::MAX),
            Ok(Done::Nothing) => {}
            Ok(Done::NotYet) => next = next.min(MERGING),
            Err(error) => {
                tracing::warn!(causes = %causes(&error), "events are late: what has changed cannot be read");
                next = next.min(STORAGE_PAUSE);
            }
        }
        if let Some(expiry) = topic.next_expiry() {
            let wait = (expiry - now()).to_std().unwrap_or_default();
            next = next.min(wait.max(Duration::from_millis(1)));
        }
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

/// What became of a topic's turn.
enum Done {
    Published,
    Nothing,
    /// A reader is told from storage what it has missed.
    NotYet,
}

/// Publishes what has changed in a workspace.
async fn publish_topic<S: Store>(topic: &Topic, store: &S) -> Result<Done, StoreError> {
    let Ok(_alone) = topic.missed().try_lock() else {
        return Ok(Done::NotYet);
    };
    let known_at = now();
    if let Some(from) = topic.expiries_missing_from(known_at) {
        let expiries = expiring(store, topic.workspace(), from).await?;
        topic.set_expiries(expiries, known_at);
    }
    let known_at = now();
    let mut marks = topic.take_marks(known_at);
    if marks.is_empty() {
        return Ok(Done::Nothing);
    }
    match read(topic, store, &mut marks.sessions, &marks.agents).await {
        Ok(Some(sessions)) => topic.publish(sessions, known_at, None),
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
