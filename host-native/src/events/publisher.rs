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
        behind: HashMap::new(),
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
    /// Earlier moments, for the workspaces whose turn it was not then.
    behind: HashMap<Workspace, String>,
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
        published.sort_unstable();
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
        self.behind
            .retain(|workspace, _| topics.iter().any(|topic| topic.workspace() == workspace));
        if topics.is_empty() {
            self.moment = None;
            return Ok(Vec::new());
        }
        let Some(since) = self.moment.clone() else {
            self.moment = self.store.moment().await?;
            return Ok(Vec::new());
        };
        // A workspace where somebody is told from storage what it has missed waits until that is done, and
        // the others do not wait for it.
        let mut turns = Vec::new();
        let mut together = Vec::new();
        let mut late = Vec::new();
        for (place, topic) in topics.iter().enumerate() {
            let behind = self.behind.get(topic.workspace());
            match (topic.missed().try_lock(), behind) {
                (Ok(turn), None) => {
                    turns.push(turn);
                    together.push(place);
                }
                (Ok(turn), Some(moment)) => {
                    turns.push(turn);
                    late.push((moment.clone(), place));
                }
                (Err(_), None) => {
                    self.behind.insert(topic.workspace().clone(), since.clone());
                }
                (Err(_), Some(_)) => {}
            }
        }
        let Some((moment, mut published)) = self.publish_since(topics, &together, &since).await?
        else {
            return self.begin_again(topics).await;
        };
        self.moment = Some(moment);
        for (since, place) in late {
            let Some((_, more)) = self.publish_since(topics, &[place], &since).await? else {
                return self.begin_again(topics).await;
            };
            published.extend(more);
            self.behind.remove(topics[place].workspace());
        }
        Ok(published)
    }

    /// Publishes in some of these topics what storage says has changed since a moment. Returns the moment at
    /// which this was so, and the places of the topics where something had; `None` where storage does not
    /// know the moment.
    async fn publish_since(
        &self,
        topics: &[Arc<Topic>],
        places: &[usize],
        since: &str,
    ) -> Result<Option<(String, Vec<usize>)>, StoreError> {
        let known_at = now();
        let workspace = |place: &usize| topics[*place].workspace().clone();
        let workspaces: Vec<_> = places.iter().map(workspace).collect();
        let Some(changed) = self.store.changes(&workspaces, since).await? else {
            return Ok(None);
        };
        let mut by_workspace: HashMap<Workspace, Vec<NamedSession>> = HashMap::new();
        for (workspace, named) in changed.sessions {
            by_workspace.entry(workspace).or_default().push(named);
        }
        let mut published = Vec::new();
        for &place in places {
            let topic = &topics[place];
            let Some(sessions) = by_workspace.remove(topic.workspace()) else {
                continue;
            };
            published.push(place);
            match sessions.len() > MAX_SESSIONS {
                true => topic.clear(),
                false => topic.publish(sessions, known_at, Some(changed.moment.clone())),
            }
        }
        Ok(Some((changed.moment, published)))
    }

    /// Has all readers load the lists again: the database is another one.
    async fn begin_again(&mut self, topics: &[Arc<Topic>]) -> Result<Vec<usize>, StoreError> {
        self.moment = self.store.moment().await?;
        self.behind.clear();
        topics.iter().for_each(|topic| topic.clear());
        Ok((0..topics.len()).collect())
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
    // What is published below comes after it, and is in the lists then.
    let was_cleared = topic.tell_evictions(store.evicted_at(topic.workspace()));
    let known_at = now();
    let mut marks = topic.take_marks(known_at, S::SHARED);
    if marks.is_empty() {
        return Ok(match was_cleared {
            true => Done::Published,
            false => Done::Nothing,
        });
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

#[cfg(test)]
mod tests {
    use kubeagents_core::store::{CommitOutcome, Sessions};
    use kubeagents_core::{Report, Snapshot, StatusKind, decide};
    use kubeagents_store_postgres::schema;
    use kubeagents_test_postgres::database;
    use sqlx::postgres::PgPool;
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test(flavor = "multi_thread")]
    async fn a_workspace_whose_turn_is_taken_delays_no_other() {
        let database = database();
        let pool = PgPool::connect(&database.url()).await.unwrap();
        let store = crate::postgres::store(pool);
        schema::migrate(store.driver()).await.unwrap();
        let hub = Hub::new(100);
        let workspaces = [Workspace::Shared, Workspace::from_key("other".to_owned())];
        let topics = workspaces
            .each_ref()
            .map(|workspace| hub.follow(workspace, "secret"));
        let mut publisher = Publisher {
            hub,
            store: store.clone(),
            moment: None,
            behind: HashMap::new(),
        };
        let mut turn = async || timeout(PATIENCE, publisher.turn()).await.expect("a turn");
        let report = async |topic: &str| {
            for workspace in &workspaces {
                let report = Report::new("agent", topic, StatusKind::Running);
                let decision = decide(workspace, &report, &Snapshot::default(), now(), 60);
                let outcome = store.commit(&decision.unwrap().commit).await.unwrap();
                assert_eq!(outcome, CommitOutcome::Committed);
            }
        };
        // How many events of each topic there are from its beginning.
        let places = topics.each_ref().map(|topic| topic.end().1);
        let events = || {
            let ends = topics.each_ref().map(|topic| topic.end().1);
            [ends[0] - places[0], ends[1] - places[1]]
        };
        turn().await;
        let taken = topics[0].missed().lock().await;
        report("first").await;
        turn().await;
        report("second").await;
        turn().await;
        assert_eq!(events(), [0, 2]);
        drop(taken);
        turn().await;
        assert_eq!(events(), [2, 2]);
        report("third").await;
        turn().await;
        assert_eq!(events(), [3, 3]);
    }
}
