//! The outbox. What to send stands in the history entry of the report that caused it, so that it is
//! stored by the same swap. Before that swap, a shard of the outbox names the place where it will
//! stand: so that it is found, whatever happens afterwards. A name whose place turned out to hold
//! another report's entry belongs to a commit that never was.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chrono::TimeDelta;
use kubeagents_core::store::{LeaseRequest, LeasedNotification, Outbox};
use kubeagents_core::{Commit, Notification, StoreError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::documents::{Change, Document, json_size};
use crate::log::read_page;
use crate::sessions::{Head, HistoryEntry, head_key, history_list};
use crate::{KeyValue, KeyValueStore, micros};

/// Notifications share the shards by their ids.
const SHARDS: u8 = 4;

/// The most notifications that wait in one shard; the oldest give way. An entry takes less than 480
/// bytes.
const SHARD_CAPACITY: usize = 2000;

/// The most bytes of addresses that one report notifies.
const ADDRESS_BYTES: usize = 96 * 1024;

/// One body to send, and to whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outgoing {
    body: String,
    #[serde(with = "micros")]
    created: Timestamp,
    to: Vec<Receiver>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Receiver {
    id: String,
    url: String,
}

/// The notifications of one report whose addresses there is room for.
fn within_room(notifications: &[Notification]) -> Vec<&Notification> {
    let mut room = ADDRESS_BYTES;
    let fits = |notification: &&Notification| {
        let size = json_size(&notification.url) + 60;
        if size > room {
            tracing::error!(
                receiver = notification.host,
                "a notification was dropped: the report notifies too many addresses"
            );
            return false;
        }
        room -= size;
        true
    };
    notifications.iter().filter(fits).collect()
}

impl Outgoing {
    /// One for each body.
    fn of(notifications: &[&Notification]) -> Vec<Self> {
        let mut outgoing: BTreeMap<(&str, Timestamp), Self> = BTreeMap::new();
        for notification in notifications {
            let Notification {
                id,
                url,
                body,
                created_at,
                ..
            } = *notification;
            let of_body = outgoing.entry((body, *created_at)).or_insert_with(|| Self {
                body: body.clone(),
                created: *created_at,
                to: Vec::new(),
            });
            of_body.to.push(Receiver {
                id: id.clone(),
                url: url.clone(),
            });
        }
        outgoing.into_values().collect()
    }

    pub(crate) fn size(&self) -> usize {
        let addresses = self.to.iter().map(|to| json_size(&to.url) + 60);
        json_size(&self.body) + addresses.sum::<usize>() + 60
    }
}

/// A notification as its shard knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Waiting {
    id: String,
    host: String,
    #[serde(with = "micros")]
    due: Timestamp,
    round: u32,
    /// The agent whose history holds it, the page it is on and its place.
    agent: String,
    page: u64,
    place: u64,
}

type Shard = Vec<Waiting>;

fn shard_key(shard: u8) -> String {
    format!("outbox/{shard}")
}

fn shard_of(id: &str) -> u8 {
    id.bytes().fold(0, u8::wrapping_add) % SHARDS
}

/// State of a notification that a shard names.
enum Found {
    /// Its commit is stored.
    Committed(Notification),
    /// Its commit may still come.
    Undecided,
    /// Its commit never was, or it has been dealt with.
    Void,
}

impl<K: KeyValue> Outbox for KeyValueStore<K> {
    async fn lease_notifications(
        &self,
        request: &LeaseRequest,
    ) -> Result<Vec<LeasedNotification>, StoreError> {
        let keys = (0..SHARDS).map(shard_key);
        let shards = self.documents.read_all::<Shard>(keys).await?;
        let entries = shards.into_iter().flatten().flat_map(|shard| shard.value);
        let mut due: Vec<Waiting> = entries
            .filter(|entry| entry.due <= request.now && !request.busy_hosts.contains(&entry.host))
            .collect();
        due.sort_by_key(|entry| entry.due);

        let mut hosts = HashSet::new();
        let mut leased = Vec::new();
        for waiting in due {
            if leased.len() >= request.limit {
                break;
            }
            if hosts.contains(&waiting.host) {
                continue;
            }
            match self.find(&waiting).await? {
                Found::Undecided => {}
                Found::Void => self.end(&waiting.id).await?,
                Found::Committed(notification) => {
                    if let Some(round) = self.take(&waiting, request).await? {
                        hosts.insert(waiting.host);
                        leased.push(LeasedNotification {
                            notification,
                            round,
                        });
                    }
                }
            }
        }
        Ok(leased)
    }

    async fn notification_delivered(&self, id: &str) -> Result<(), StoreError> {
        self.end(id).await
    }

    async fn notification_failed(
        &self,
        id: &str,
        now: Timestamp,
        pause: Duration,
    ) -> Result<(), StoreError> {
        let due = after(now, pause);
        self.documents
            .update(&shard_key(shard_of(id)), |entries: Option<Shard>| {
                let mut entries = entries.unwrap_or_default();
                let Some(entry) = entries.iter_mut().find(|entry| entry.id == id) else {
                    return (Change::Keep, ());
                };
                entry.due = due;
                (Change::Write(entries), ())
            })
            .await
    }

    async fn notification_abandoned(&self, id: &str) -> Result<(), StoreError> {
        self.end(id).await
    }
}

impl<K: KeyValue> KeyValueStore<K> {
    /// Prepares the notifications of these commits on this head; for each, what joins its entry in
    /// the history.
    pub(crate) async fn announce(
        &self,
        agent: &str,
        head: &Head,
        commits: &[&Commit],
    ) -> Result<Vec<Vec<Outgoing>>, StoreError> {
        let mut shards: BTreeMap<u8, Shard> = BTreeMap::new();
        let mut announced = Vec::with_capacity(commits.len());
        for (place, commit) in (head.commits..).zip(commits) {
            let notifications = within_room(&commit.notifications);
            for notification in &notifications {
                let shard = shards.entry(shard_of(&notification.id)).or_default();
                shard.push(Waiting {
                    id: notification.id.clone(),
                    host: notification.host.clone(),
                    due: notification.created_at,
                    round: 0,
                    agent: agent.to_owned(),
                    page: head.history.pages,
                    place,
                });
            }
            announced.push(Outgoing::of(&notifications));
        }
        for (shard, added) in shards {
            self.wait(shard, &added).await?;
        }
        Ok(announced)
    }

    /// Adds notifications to a shard, in place of earlier tries to commit them.
    async fn wait(&self, shard: u8, added: &Shard) -> Result<(), StoreError> {
        self.documents
            .update(&shard_key(shard), |entries: Option<Shard>| {
                let mut entries = entries.unwrap_or_default();
                entries.retain(|entry| added.iter().all(|new| new.id != entry.id));
                entries.extend(added.iter().cloned());
                let excess = entries.len().saturating_sub(SHARD_CAPACITY);
                for dropped in entries.drain(..excess) {
                    tracing::error!(
                        receiver = dropped.host,
                        "a notification was dropped: too many are waiting"
                    );
                }
                (Change::Write(entries), ())
            })
            .await
    }

    async fn find(&self, waiting: &Waiting) -> Result<Found, StoreError> {
        let head: Option<Document<Head>> = self.documents.read(&head_key(&waiting.agent)).await?;
        let Some(Document { value: head, .. }) = head else {
            return Ok(Found::Undecided);
        };
        if head.commits <= waiting.place {
            return Ok(Found::Undecided);
        }
        let items = if head.history.pages > waiting.page {
            let list = history_list(&waiting.agent);
            read_page::<K, HistoryEntry>(&self.documents, &list, waiting.page)
                .await?
                .items
        } else {
            head.history.tail
        };
        let outgoing = items.into_iter().flat_map(|entry| entry.outgoing);
        let found = outgoing
            .flat_map(|outgoing| {
                let Outgoing { body, created, to } = outgoing;
                to.into_iter().map(move |to| (body.clone(), created, to))
            })
            .find(|(_, _, to)| to.id == waiting.id);
        Ok(match found {
            Some((body, created_at, to)) => Found::Committed(Notification {
                id: to.id,
                url: to.url,
                host: waiting.host.clone(),
                body,
                created_at,
            }),
            None => Found::Void,
        })
    }

    /// Leases a notification unless another host has, and answers which round this is.
    async fn take(
        &self,
        waiting: &Waiting,
        request: &LeaseRequest,
    ) -> Result<Option<u32>, StoreError> {
        let until = after(request.now, request.duration);
        self.documents
            .update(
                &shard_key(shard_of(&waiting.id)),
                |entries: Option<Shard>| {
                    let mut entries = entries.unwrap_or_default();
                    let free =
                        |entry: &&mut Waiting| entry.id == waiting.id && entry.due <= request.now;
                    let Some(entry) = entries.iter_mut().find(free) else {
                        return (Change::Keep, None);
                    };
                    entry.due = until;
                    entry.round += 1;
                    let round = entry.round;
                    (Change::Write(entries), Some(round))
                },
            )
            .await
    }

    /// Removes what reports of an agent have queued.
    pub(crate) async fn forget_notifications(&self, agent: &str) -> Result<(), StoreError> {
        for shard in 0..SHARDS {
            self.documents
                .update(&shard_key(shard), |entries: Option<Shard>| {
                    let mut entries = entries.unwrap_or_default();
                    let before = entries.len();
                    entries.retain(|entry| entry.agent != agent);
                    match entries.len() == before {
                        true => (Change::Keep, ()),
                        false => (Change::Write(entries), ()),
                    }
                })
                .await?;
        }
        Ok(())
    }

    /// Removes a notification.
    async fn end(&self, id: &str) -> Result<(), StoreError> {
        self.documents
            .update(&shard_key(shard_of(id)), |entries: Option<Shard>| {
                let mut entries = entries.unwrap_or_default();
                let before = entries.len();
                entries.retain(|entry| entry.id != id);
                if entries.len() == before {
                    (Change::Keep, ())
                } else {
                    (Change::Write(entries), ())
                }
            })
            .await
    }
}

fn after(now: Timestamp, duration: Duration) -> Timestamp {
    now + TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
