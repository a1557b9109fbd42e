//! Live events on this host: what is followed, and who follows it.
//!
//! A report costs nothing here while nobody follows its workspace. Else its session is marked, and one
//! task reads the marked sessions from storage and writes each event once, for all readers. So what
//! readers get is what storage holds, in its order, and reports that come quickly become one event.

mod places;
mod publisher;
mod topic;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kubeagents_core::events::{
    EventId, MAX_SESSIONS, OPENING, changed, changed_since, expired_since, place,
};
use kubeagents_core::ports::{Clock, Entropy, Events, Fed, Feed, SubscribeError};
use kubeagents_core::store::{MemoryStore, SessionQuery};
use kubeagents_core::{NamedSession, SessionKey, Store, StoreError, Timestamp, Witness, Workspace};
use tokio::sync::{Notify, OnceCell, watch};
use tokio::time::timeout;

use crate::ports::{SystemClock, SystemEntropy};
use places::{Place, Places};
pub(crate) use publisher::publish;
use topic::Topic;

/// The name of the secret that tells storages apart.
const SECRET: &str = "events";

/// How much of what was stored before an event was sent may have come to storage after it, where a
/// reader goes on by time: longer than anything takes to be stored.
const OVERLAP: chrono::TimeDelta = chrono::TimeDelta::seconds(60);

/// The most bytes that are handed to a reader's connection at a time.
const PIECE: usize = 64 << 10;

/// The most bytes of what a reader has missed that are kept for it.
const MAX_MISSED: usize = 4 << 20;

/// The most that storage may take until a reader can be told that it follows.
const READY: Duration = Duration::from_secs(5);

/// A storage, as far as it knows what others have changed.
pub(crate) trait Changes: Store {
    /// Whether other processes write to it, so that it is asked what has changed.
    const SHARED: bool = false;

    /// The present moment, where storage has a name for it.
    async fn moment(&self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    /// What has changed in these workspaces since a moment; `None` where that is none of this
    /// storage.
    async fn changes(&self, _: &[Workspace], _since: &str) -> Result<Option<Changed>, StoreError> {
        Ok(None)
    }

    /// The agents of a workspace, at most `limit`, that have got another name after `since`, with that
    /// name: where storage has no names for moments.
    async fn renamed_since(
        &self,
        _: &Workspace,
        _since: Timestamp,
        _limit: usize,
    ) -> Result<HashMap<String, String>, StoreError> {
        Ok(HashMap::new())
    }

    /// When a session of a workspace was last removed to make room, where storage does that.
    fn evicted_at(&self, _: &Workspace) -> Option<Timestamp> {
        None
    }
}

impl Changes for MemoryStore {
    async fn renamed_since(
        &self,
        workspace: &Workspace,
        since: Timestamp,
        limit: usize,
    ) -> Result<HashMap<String, String>, StoreError> {
        Ok(Self::renamed_since(self, workspace, since, limit).await)
    }

    fn evicted_at(&self, workspace: &Workspace) -> Option<Timestamp> {
        Self::evicted_at(self, workspace)
    }
}

/// What has changed in a storage.
pub(crate) struct Changed {
    /// The moment at which this is so.
    pub(crate) moment: String,
    /// The sessions as they are now. Of a workspace where more than [`MAX_SESSIONS`] have changed,
    /// there are more than that.
    pub(crate) sessions: Vec<(Workspace, NamedSession)>,
}

/// What is followed on this host. Clones share it.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Shared>);

struct Shared {
    /// The number of topics, for reports to look at.
    followed: AtomicUsize,
    topics: Mutex<HashMap<Workspace, Arc<Topic>>>,
    /// Wakes the publisher: something is marked, or followed for the first time.
    wake: Notify,
    signals: watch::Sender<Signals>,
    places: Places,
    /// Tells this process from others.
    process: String,
}

/// What all readers must notice at once.
#[derive(Debug, Clone, Copy, Default)]
struct Signals {
    revocations: u64,
    stopping: bool,
}

impl Hub {
    /// A hub with room for streams of so many clients' connections.
    pub(crate) fn new(clients: usize) -> Self {
        let mut process = [0; 4];
        SystemEntropy.fill(&mut process);
        Self(Arc::new(Shared {
            followed: AtomicUsize::new(0),
            topics: Mutex::default(),
            wake: Notify::new(),
            signals: watch::Sender::default(),
            places: Places::new(clients),
            process: format!("{:08x}", u32::from_ne_bytes(process)),
        }))
    }

    /// What tells the hub of commits.
    pub(crate) fn witness(&self) -> Witness {
        let hub = self.clone();
        Witness::new(move |key, renamed| hub.mark(key, renamed))
    }

    /// How many streams there are.
    pub(crate) fn readers(&self) -> usize {
        self.0.places.count()
    }

    /// Ends all streams, and refuses others.
    pub(crate) fn close(&self) {
        self.0
            .signals
            .send_modify(|signals| signals.stopping = true);
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<Workspace, Arc<Topic>>> {
        // Nothing that holds the lock leaves the map half-changed.
        self.0.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a session has changed.
    fn mark(&self, key: &SessionKey, renamed: bool) {
        // A reader that this does not see yet reads the lists after what was stored just now.
        fence(Ordering::SeqCst);
        if self.0.followed.load(Ordering::SeqCst) == 0 {
            return;
        }
        let topic = self.topics().get(&key.workspace).cloned();
        if let Some(topic) = topic {
            topic.mark(key, renamed);
            self.0.wake.notify_one();
        }
    }

    /// The topic of a workspace, with one reader more.
    fn follow(&self, workspace: &Workspace, secret: &str) -> Arc<Topic> {
        let mut topics = self.topics();
        let topic = topics.entry(workspace.clone()).or_insert_with(|| {
            self.0.followed.fetch_add(1, Ordering::SeqCst);
            Arc::new(Topic::new(workspace.clone(), secret, &self.0.process))
        });
        topic.join();
        let topic = Arc::clone(topic);
        drop(topics);
        self.0.wake.notify_one();
        topic
    }

    /// Forgets the topics that nobody has followed for a while.
    fn forget_unfollowed(&self) {
        let mut topics = self.topics();
        topics.retain(|_, topic| !topic.is_forsaken());
        self.0.followed.store(topics.len(), Ordering::SeqCst);
    }
}

/// The port to a hub over a storage.
pub(crate) struct NativeEvents<S> {
    hub: Hub,
    store: S,
    secret: OnceCell<String>,
}

impl<S> NativeEvents<S> {
    pub(crate) fn new(hub: Hub, store: S) -> Self {
        Self {
            hub,
            store,
            secret: OnceCell::new(),
        }
    }
}

impl<S: Changes> NativeEvents<S> {
    async fn secret(&self) -> Result<&str, StoreError> {
        let secret = self.secret.get_or_try_init(|| {
            let mut candidate = [0; 16];
            SystemEntropy.fill(&mut candidate);
            let candidate = format!("{:032x}", u128::from_ne_bytes(candidate));
            async move { self.store.secret(SECRET, &candidate).await }
        });
        Ok(secret.await?)
    }

    /// What a reader gets first, and its place in the log: what it has missed since an event.
    async fn resume(&self, topic: &Topic, since: &str) -> Result<(Bytes, u64), StoreError> {
        let id = since.parse::<EventId>().ok();
        let Some(id) = id.filter(|id| id.scope == *topic.scope()) else {
            return Ok(topic.reset());
        };
        if id.process == self.hub.0.process && topic.covers(id.place) {
            return Ok((Bytes::new(), id.place));
        }
        // Who comes back after a restart does so with all others.
        let mut told = topic.missed().lock().await;
        if let Some(missed) = told.as_ref().filter(|missed| missed.since == since)
            && topic.covers(missed.place)
        {
            return Ok((missed.text.clone(), missed.place));
        }
        let (id_now, place_now) = topic.end();
        let now = SystemClock.now();
        let Some(found) = self.missed(topic, &id, now).await? else {
            return Ok(topic.reset());
        };
        let mut text = BytesMut::new();
        for named in &found {
            // Who loses the stream in between begins again.
            text.extend_from_slice(&changed(since, named, now));
            if text.len() > MAX_MISSED {
                return Ok(topic.reset());
            }
        }
        text.extend_from_slice(&place(&id_now));
        let text = text.freeze();
        *told = Some(topic::Missed {
            since: since.to_owned(),
            text: text.clone(),
            place: place_now,
        });
        Ok((text, place_now))
    }

    /// The sessions as they are now that have changed since an event of another process; `None` if they
    /// are too many, or cannot be known.
    async fn missed(
        &self,
        topic: &Topic,
        id: &EventId,
        now: Timestamp,
    ) -> Result<Option<Vec<NamedSession>>, StoreError> {
        let (store, workspace) = (&self.store, topic.workspace());
        let since = id.known_at - OVERLAP;
        let Some(moment) = &id.state else {
            if store.evicted_at(workspace).is_some_and(|at| at >= since) {
                return Ok(None);
            }
            let Some(mut found) = changed_since(store, workspace, since, now).await? else {
                return Ok(None);
            };
            let renamed = store.renamed_since(workspace, since, MAX_SESSIONS + 1);
            let renamed = renamed.await?;
            if renamed.len() > MAX_SESSIONS {
                return Ok(None);
            }
            found.retain(|named| !renamed.contains_key(&named.session.agent_id));
            let query = SessionQuery {
                limit: MAX_SESSIONS,
                ..SessionQuery::default()
            };
            for (agent, name) in renamed {
                let sessions = store.sessions(workspace, &agent, &query, now).await?;
                found.extend(sessions.items.into_iter().map(|session| NamedSession {
                    agent_name: name.clone(),
                    session,
                }));
                if sessions.next.is_some() || found.len() > MAX_SESSIONS {
                    return Ok(None);
                }
            }
            return Ok(Some(found));
        };
        let Some(mut found) = expired_since(store, workspace, since, now).await? else {
            return Ok(None);
        };
        let changed = match store.changes(std::slice::from_ref(workspace), moment).await {
            // Nobody but a reader can have made up such a moment.
            Err(StoreError::Refused(_)) => None,
            changed => changed?,
        };
        let sessions = changed.map(|changed| changed.sessions);
        let sessions = sessions.filter(|sessions| sessions.len() <= MAX_SESSIONS);
        Ok(sessions.map(|sessions| {
            found.extend(sessions.into_iter().map(|(_, named)| named));
            found
        }))
    }
}

impl<S: Changes> Events for NativeEvents<S> {
    type Feed = NativeFeed;

    const SUPPORTED: bool = true;

    async fn subscribe(
        &self,
        workspace: &Workspace,
        since: Option<&str>,
    ) -> Result<NativeFeed, SubscribeError> {
        let hub = &self.hub.0;
        let signals = hub.signals.subscribe();
        if signals.borrow().stopping {
            return Err(SubscribeError::Stopping);
        }
        let seat = hub.places.take(workspace).ok_or(SubscribeError::Crowded)?;
        let secret = self.secret().await?;
        let topic = Reader(self.hub.follow(workspace, secret));
        if timeout(READY, topic.0.ready()).await.is_err() {
            return Err(StoreError::unavailable(NotReady).into());
        }
        let end = topic.0.watch();
        let (first, place) = match since {
            Some(since) => self.resume(&topic.0, since).await?,
            None => {
                let (id, end) = topic.0.end();
                (place(&id), end)
            }
        };
        Ok(NativeFeed {
            opening: Some([OPENING, first].concat().into()),
            place,
            end,
            signals,
            topic,
            _seat: seat,
        })
    }

    fn recheck(&self) {
        let signals = &self.hub.0.signals;
        signals.send_modify(|signals| signals.revocations += 1);
    }
}

/// Storage did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("it could not be found out in time when the sessions of a workspace expire")]
struct NotReady;

/// A reader of a topic, which is one fewer when this is dropped.
struct Reader(Arc<Topic>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// The events for one reader.
pub(crate) struct NativeFeed {
    opening: Option<Bytes>,
    /// What has been sent.
    place: u64,
    end: watch::Receiver<u64>,
    signals: watch::Receiver<Signals>,
    topic: Reader,
    _seat: Place,
}

impl Feed for NativeFeed {
    async fn next(&mut self) -> Fed {
        loop {
            if self.signals.borrow().stopping {
                return Fed::End;
            }
            if let Some(opening) = self.opening.take() {
                return Fed::Events(opening);
            }
            if self.signals.has_changed().unwrap_or(true) {
                self.signals.mark_unchanged();
                return Fed::Recheck;
            }
            self.end.mark_unchanged();
            if let Some((events, place)) = self.topic.0.after(self.place) {
                self.place = place;
                return Fed::Events(events);
            }
            tokio::select! {
                _ = self.end.changed() => {}
                changed = self.signals.changed() => {
                    // It is looked at above.
                    self.signals.mark_changed();
                    if changed.is_err() {
                        return Fed::End;
                    }
                }
            }
        }
    }
}

/// The instant of the system's clock.
fn now() -> Timestamp {
    SystemClock.now()
}
