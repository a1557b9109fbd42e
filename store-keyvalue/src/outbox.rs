//! The outbox. What to send stands in the history entry of the report that caused it, so that it is
//! stored by the same swap. Before that swap, a shard of the outbox names the place where it will
//! stand: so that it is found, whatever happens afterwards. A name whose place turned out to hold
//! another report's entry belongs to a commit that never was.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::Duration;

use chrono::TimeDelta;
use kubeagents_core::store::{
    Failure, LONGEST_REST, LeaseRequest, LeasedNotification, MAX_WAITING, Outbox, PutOff, log_full,
    newest, without_room,
};
use kubeagents_core::{Delivery, Notification, StoreError, Timestamp, Workspace};
use serde::{Deserialize, Serialize};

use crate::documents::{Change, Document, json_size};
use crate::log::read_page;
use crate::sessions::{Head, HistoryEntry, head_key, history_list};
use crate::{KeyValue, KeyValueStore, micros};

/// Notifications share the shards by their ids.
const SHARDS: u8 = 4;

/// The most notifications that wait in one shard, for one receiver and for all. An entry takes less
/// than 750 bytes.
const RECEIVER_SHARE: usize = MAX_WAITING / SHARDS as usize;
const SHARD_CAPACITY: usize = 1300;

/// The most bytes of addresses that one report notifies.
const ADDRESS_BYTES: usize = 96 * 1024;

/// One body to send, and to whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outgoing {
    body: String,
    #[serde(with = "micros")]
    pub(crate) created: Timestamp,
    to: Vec<Receiver>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Receiver {
    id: String,
    url: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    channel: String,
}

/// The notifications of one report whose addresses there is room for.
fn within_room(notifications: &[Notification]) -> Vec<&Notification> {
    let mut room = ADDRESS_BYTES;
    let fits = |notification: &&Notification| {
        let size = json_size(&notification.url) + 120;
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
                channel,
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
                channel: channel.clone(),
            });
        }
        outgoing.into_values().collect()
    }

    pub(crate) fn size(&self) -> usize {
        let addresses = self.to.iter().map(|to| json_size(&to.url) + 120);
        json_size(&self.body) + addresses.sum::<usize>() + 60
    }
}

/// A notification as its shard knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Waiting {
    id: String,
    /// The key of its workspace, which entries of the first version do not name.
    #[serde(default = "shared")]
    pub(crate) workspace: String,
    host: String,
    #[serde(with = "micros")]
    due: Timestamp,
    /// When it happened, which entries of earlier versions do not say.
    #[serde(default, with = "micros::option")]
    created: Option<Timestamp>,
    round: u32,
    /// The channel that it is for; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    channel: String,
    /// What the last attempt came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    error: String,
    /// Until when its receiver is left alone, by that.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "micros::option"
    )]
    rests_until: Option<Timestamp>,
    /// The agent whose history holds it, the page it is on and its place.
    pub(crate) agent: String,
    page: u64,
    place: u64,
    /// The session whose row holds it instead, where no report has caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
}

impl Waiting {
    /// Checks whether it is for the receiver of a notification, at its host.
    fn is_beside(&self, notification: &Notification) -> bool {
        self.workspace == notification.workspace.key()
            && self.channel == notification.channel
            && self.host == notification.host
    }

    /// Checks whether its rest is over, or would last for too long.
    fn is_due(&self, now: Timestamp) -> bool {
        self.due <= now || self.due > after(now, LONGEST_REST)
    }
}

/// Where notifications stand until they are delivered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// In the history entry of the commit.
    History,
    /// In the row of this session.
    Session(&'a str),
}

type Shard = Vec<Waiting>;

/// Notifications that there was no room for.
#[derive(Debug, Default)]
pub(crate) struct Dropped(Vec<Waiting>);

fn shared() -> String {
    Workspace::Shared.key().to_owned()
}

/// What found no room in a shard, and whose room has just been filled.
#[derive(Default)]
struct Crowd {
    dropped: Vec<Waiting>,
    full: Vec<Workspace>,
}

/// Adds an entry unless its receiver has its share. In a full shard the newest entry of the workspace
/// that has the most gives way.
fn add(entries: &mut Shard, new: &Waiting, crowd: &mut Crowd) {
    let mut waiting: HashMap<&str, usize> = HashMap::new();
    let mut share = 0;
    for entry in entries.iter().chain([new]) {
        *waiting.entry(&entry.workspace).or_default() += 1;
        let same = entry.workspace == new.workspace && entry.channel == new.channel;
        share += usize::from(same);
    }
    if share > RECEIVER_SHARE {
        crowd.dropped.push(new.clone());
        return;
    }
    if share == RECEIVER_SHARE {
        let workspace = Workspace::from_key(new.workspace.clone());
        crowd.full.push(workspace);
    }
    let fullest = waiting.into_iter().max_by_key(|(_, waiting)| *waiting);
    let fullest = fullest.map(|(workspace, _)| workspace.to_owned());
    entries.push(new.clone());
    if entries.len() > SHARD_CAPACITY
        && let Some(newest) = entries
            .iter()
            .rposition(|entry| Some(&entry.workspace) == fullest.as_ref())
    {
        let dropped = entries.remove(newest);
        tracing::warn!(
            workspace = dropped.workspace,
            "a notification was dropped: too many are waiting"
        );
        crowd.dropped.push(dropped);
    }
}

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
    async fn lease_notification(
        &self,
        request: &LeaseRequest,
    ) -> Result<Option<LeasedNotification>, StoreError> {
        let keys = (0..SHARDS).map(shard_key);
        let shards = self.documents.read_all::<Shard>(keys).await?;
        let entries = shards.iter().flatten().flat_map(|shard| &shard.value);
        let mut turns: BTreeMap<&str, Vec<&Waiting>> = BTreeMap::new();
        for entry in entries.filter(|entry| entry.is_due(request.now)) {
            if !request.busy_workspaces.contains(&entry.workspace) {
                turns.entry(&entry.workspace).or_default().push(entry);
            }
        }
        let after = request.after.as_str();
        let ahead = turns.range::<str, _>((Excluded(after), Unbounded));
        let turns = ahead.chain(turns.range::<str, _>((Unbounded, Included(after))));
        for (_, due) in turns {
            let ranked = due.iter().filter_map(|waiting| {
                let rank = request.rank(&waiting.host)?;
                Some((rank, waiting.due, waiting.created, *waiting))
            });
            let mut ranked: Vec<_> = ranked.collect();
            ranked.sort_by_key(|(rank, due, created, _)| (*rank, *due, *created));
            for (.., waiting) in ranked {
                match self.find(waiting).await? {
                    Found::Undecided => {}
                    Found::Void => self.end(&waiting.id).await?,
                    Found::Committed(notification) => {
                        let shard = shards.get(usize::from(shard_of(&waiting.id)));
                        let shard = shard.cloned().flatten();
                        if let Some(round) = self.take(waiting, shard, request).await? {
                            let entries = shards.iter().flatten().flat_map(|shard| &shard.value);
                            let same = entries.filter(|entry| entry.is_beside(&notification));
                            let until = same.filter_map(|entry| entry.rests_until).max();
                            let rest = until.and_then(|until| (until - request.now).to_std().ok());
                            return Ok(Some(LeasedNotification {
                                notification,
                                round,
                                rest: rest.unwrap_or_default(),
                            }));
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    async fn notification_delivered(&self, id: &str) -> Result<(), StoreError> {
        self.end(id).await
    }

    async fn notifications_failed(
        &self,
        failed: &[(&str, Duration)],
        now: Timestamp,
        failure: &Failure,
    ) -> Result<(), StoreError> {
        let mut of_shards: BTreeMap<u8, HashMap<&str, Timestamp>> = BTreeMap::new();
        for (id, pause) in failed {
            let of_shard = of_shards.entry(shard_of(id)).or_default();
            of_shard.insert(id, after(now, *pause));
        }
        for (shard, due) in of_shards {
            let put_off = |entries: Option<Shard>| {
                let mut entries = entries.unwrap_or_default();
                let mut change = false;
                for entry in &mut entries {
                    let Some(due) = due.get(entry.id.as_str()) else {
                        continue;
                    };
                    entry.due = *due;
                    entry.status = failure.status;
                    entry.error.clone_from(&failure.error);
                    entry.rests_until = failure.rests.then_some(*due);
                    change = true;
                }
                match change {
                    true => (Change::Write(entries), ()),
                    false => (Change::Keep, ()),
                }
            };
            self.documents.update(&shard_key(shard), put_off).await?;
        }
        Ok(())
    }

    async fn notification_abandoned(&self, id: &str) -> Result<(), StoreError> {
        self.end(id).await
    }

    async fn lease_others(
        &self,
        leased: &Notification,
        now: Timestamp,
        duration: Duration,
        limit: usize,
    ) -> Result<Vec<LeasedNotification>, StoreError> {
        let mut waiting = self.waiting_for(&leased.channel).await?;
        waiting.retain(|waiting| waiting.is_due(now));
        waiting.sort_by(|a, b| (a.due, &a.id).cmp(&(b.due, &b.id)));
        waiting.truncate(limit);
        let wanted: HashSet<&str> = waiting.iter().map(|waiting| waiting.id.as_str()).collect();
        let until = after(now, duration);
        // They are taken before they are looked up, which is slow: others put off what is due.
        let mut taken = Vec::new();
        for shard in 0..SHARDS {
            let take = |entries: Option<Shard>| {
                let mut entries = entries.unwrap_or_default();
                let mut taken = Vec::new();
                for entry in &mut entries {
                    if entry.is_due(now) && wanted.contains(entry.id.as_str()) {
                        entry.due = until;
                        entry.round += 1;
                        taken.push(entry.clone());
                    }
                }
                match taken.is_empty() {
                    true => (Change::Keep, taken),
                    false => (Change::Write(entries), taken),
                }
            };
            taken.extend(self.documents.update(&shard_key(shard), take).await?);
        }
        let mut others = Vec::new();
        let mut undecided = Vec::new();
        for waiting in taken {
            match self.find(&waiting).await? {
                Found::Undecided => undecided.push(waiting.id),
                Found::Void => self.end(&waiting.id).await?,
                Found::Committed(notification) => others.push(LeasedNotification {
                    notification,
                    round: waiting.round,
                    rest: Duration::ZERO,
                }),
            }
        }
        let undecided = undecided.iter().map(String::as_str).collect();
        self.put_back(&undecided, None, now, Duration::ZERO).await?;
        others.sort_by_key(|other| (other.notification.created_at, other.notification.id.clone()));
        Ok(others)
    }

    async fn put_off(
        &self,
        leased: &Notification,
        what: PutOff,
        now: Timestamp,
        pause: Duration,
    ) -> Result<(), StoreError> {
        let leased_ids = HashSet::from([leased.id.as_str()]);
        let beside = match what {
            PutOff::Leased => None,
            PutOff::WhatIsDue => Some(leased),
        };
        self.put_back(&leased_ids, beside, now, pause).await
    }

    async fn finish_deliveries(&self, deliveries: &[Delivery]) -> Result<(), StoreError> {
        self.keep_deliveries(deliveries).await?;
        let ids: HashSet<&str> = deliveries.iter().map(|one| one.id.as_str()).collect();
        self.forget_notifications(|waiting| ids.contains(waiting.id.as_str()))
            .await
    }

    async fn overflow(&self, workspace: &Workspace, channel: &str) -> Result<u64, StoreError> {
        self.read_overflow(workspace, channel).await
    }

    async fn overflow_told(
        &self,
        workspace: &Workspace,
        channel: &str,
        told: u64,
    ) -> Result<(), StoreError> {
        self.change_overflow(workspace, channel, |untold| untold.saturating_sub(told))
            .await
    }

    async fn deliveries(
        &self,
        workspace: &Workspace,
        channel: &str,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut pending = Vec::new();
        // First what waits: what is finished meanwhile is in both.
        let mut waiting = self.waiting_for(channel).await?;
        waiting.retain(|waiting| waiting.workspace == workspace.key());
        for waiting in waiting {
            if let Found::Committed(notification) = self.find(&waiting).await? {
                let delivery = Delivery::pending(&notification, waiting.round);
                pending.extend(delivery.map(|delivery| Delivery {
                    status: waiting.status,
                    error: waiting.error.clone(),
                    ..delivery
                }));
            }
        }
        let finished = self.finished_deliveries(workspace, channel).await?;
        Ok(newest(pending, finished))
    }
}

impl<K: KeyValue> KeyValueStore<K> {
    /// Prepares the notifications of changes to this head that follow one another: for each change, what
    /// is to stand in its place, and what there is no room for.
    pub(crate) async fn announce(
        &self,
        agent: &str,
        head: &Head,
        changes: &[(&[Notification], Place<'_>)],
    ) -> Result<(Vec<Vec<Outgoing>>, Dropped), StoreError> {
        let mut shards: BTreeMap<u8, Shard> = BTreeMap::new();
        let mut announced = Vec::with_capacity(changes.len());
        for (place, (notifications, stands)) in (head.commits..).zip(changes) {
            let notifications = within_room(notifications);
            for notification in &notifications {
                let shard = shards.entry(shard_of(&notification.id)).or_default();
                shard.push(Waiting {
                    id: notification.id.clone(),
                    workspace: notification.workspace.key().to_owned(),
                    host: notification.host.clone(),
                    due: notification.created_at + notification.delay,
                    created: Some(notification.created_at),
                    round: 0,
                    channel: notification.channel.clone(),
                    status: None,
                    error: String::new(),
                    rests_until: None,
                    agent: agent.to_owned(),
                    page: head.history.pages,
                    place,
                    topic: match stands {
                        Place::History => None,
                        Place::Session(topic) => Some((*topic).to_owned()),
                    },
                });
            }
            announced.push(Outgoing::of(&notifications));
        }
        let mut dropped = Dropped::default();
        for (shard, added) in shards {
            dropped.0.extend(self.wait(shard, &added).await?);
        }
        Ok((announced, dropped))
    }

    /// Adds notifications to a shard, in place of earlier tries to commit them. Returns those that
    /// there is no room for.
    async fn wait(&self, shard: u8, added: &Shard) -> Result<Vec<Waiting>, StoreError> {
        let add_all = |entries: Option<Shard>| {
            let mut entries = entries.unwrap_or_default();
            entries.retain(|entry| added.iter().all(|new| new.id != entry.id));
            let mut crowd = Crowd::default();
            for new in added {
                add(&mut entries, new, &mut crowd);
            }
            (Change::Write(entries), crowd)
        };
        let crowd = self.documents.update(&shard_key(shard), add_all).await?;
        crowd.full.iter().for_each(log_full);
        Ok(crowd.dropped)
    }

    /// Keeps of channels' notifications that they were dropped, once the commit is stored that names
    /// them.
    pub(crate) async fn keep_dropped(&self, dropped: Dropped) -> Result<(), StoreError> {
        let mut of_channels: BTreeMap<String, Vec<Delivery>> = BTreeMap::new();
        for waiting in dropped.0 {
            if !waiting.channel.is_empty()
                && let Found::Committed(notification) = self.find(&waiting).await?
                && let Some(delivery) = without_room(&notification)
            {
                let of_channel = of_channels.entry(waiting.channel);
                of_channel.or_default().push(delivery);
            }
        }
        for (channel, deliveries) in &of_channels {
            if let Some(Delivery { workspace, .. }) = deliveries.first() {
                let added = deliveries.len() as u64;
                self.change_overflow(workspace, channel, |untold| untold + added)
                    .await?;
            }
            self.keep_deliveries(deliveries).await?;
        }
        Ok(())
    }

    async fn find(&self, waiting: &Waiting) -> Result<Found, StoreError> {
        let head: Option<Document<Head>> = self.documents.read(&head_key(&waiting.agent)).await?;
        let Some(Document { value: head, .. }) = head else {
            return Ok(Found::Undecided);
        };
        if head.is_emptied() {
            return Ok(Found::Void);
        }
        if head.commits <= waiting.place {
            return Ok(Found::Undecided);
        }
        let outgoing: Vec<Outgoing> = match &waiting.topic {
            Some(topic) => {
                let workspace = Workspace::from_key(waiting.workspace.clone());
                let row = self.row(&workspace, &head, topic).await?;
                row.map(|row| row.told).unwrap_or_default()
            }
            None => {
                let items = if head.history.pages > waiting.page {
                    let list = history_list(&waiting.agent);
                    read_page::<K, HistoryEntry>(&self.documents, &list, waiting.page)
                        .await?
                        .items
                } else {
                    head.history.tail
                };
                items.into_iter().flat_map(|entry| entry.outgoing).collect()
            }
        };
        let found = outgoing
            .into_iter()
            .flat_map(|outgoing| {
                let Outgoing { body, created, to } = outgoing;
                to.into_iter().map(move |to| (body.clone(), created, to))
            })
            .find(|(_, _, to)| to.id == waiting.id);
        Ok(match found {
            Some((body, created_at, to)) => Found::Committed(Notification {
                id: to.id,
                workspace: Workspace::from_key(waiting.workspace.clone()),
                url: to.url,
                host: waiting.host.clone(),
                body,
                channel: to.channel,
                created_at,
                delay: TimeDelta::zero(),
            }),
            None => Found::Void,
        })
    }

    /// Leases a notification, which its shard was read to hold, unless another host has; answers
    /// which round this is.
    async fn take(
        &self,
        waiting: &Waiting,
        shard: Option<Document<Shard>>,
        request: &LeaseRequest,
    ) -> Result<Option<u32>, StoreError> {
        let until = after(request.now, request.duration);
        let key = shard_key(shard_of(&waiting.id));
        let take = |entries: Option<Shard>| {
            let mut entries = entries.unwrap_or_default();
            let free = |entry: &&mut Waiting| entry.id == waiting.id && entry.is_due(request.now);
            let Some(entry) = entries.iter_mut().find(free) else {
                return (Change::Keep, None);
            };
            entry.due = until;
            entry.round += 1;
            let round = entry.round;
            (Change::Write(entries), Some(round))
        };
        self.documents.update_from(&key, shard, take).await
    }

    /// What waits for a channel.
    async fn waiting_for(&self, channel: &str) -> Result<Vec<Waiting>, StoreError> {
        let keys = (0..SHARDS).map(shard_key);
        let shards = self.documents.read_all::<Shard>(keys).await?;
        let entries = shards.into_iter().flatten().flat_map(|shard| shard.value);
        Ok(entries.filter(|entry| entry.channel == channel).collect())
    }

    /// Ends these leases as if they had not been, for as long a pause as what else is due for the
    /// receiver of a notification, if one is given, is put off.
    async fn put_back(
        &self,
        leased: &HashSet<&str>,
        beside: Option<&Notification>,
        now: Timestamp,
        pause: Duration,
    ) -> Result<(), StoreError> {
        let until = after(now, pause);
        let of_leased: HashSet<u8> = leased.iter().map(|id| shard_of(id)).collect();
        for shard in (0..SHARDS).filter(|shard| beside.is_some() || of_leased.contains(shard)) {
            let put_back = |entries: Option<Shard>| {
                let mut entries = entries.unwrap_or_default();
                let mut changed = false;
                for entry in &mut entries {
                    let is_leased = leased.contains(entry.id.as_str());
                    let goes_along = beside.is_some_and(|leased| entry.is_beside(leased));
                    if is_leased || goes_along && entry.is_due(now) {
                        entry.due = until;
                        entry.round = entry.round.saturating_sub(is_leased.into());
                        changed = true;
                    }
                }
                match changed {
                    true => (Change::Write(entries), ()),
                    false => (Change::Keep, ()),
                }
            };
            self.documents.update(&shard_key(shard), put_back).await?;
        }
        Ok(())
    }

    /// Removes those that wait and of which this is true.
    pub(crate) async fn forget_notifications(
        &self,
        is_forgotten: impl Fn(&Waiting) -> bool,
    ) -> Result<(), StoreError> {
        for shard in 0..SHARDS {
            self.documents
                .update(&shard_key(shard), |entries: Option<Shard>| {
                    let mut entries = entries.unwrap_or_default();
                    let before = entries.len();
                    entries.retain(|entry| !is_forgotten(entry));
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
