use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::size_of;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::Duration;

use super::{MemoryStore, heap};
use crate::store::{
    Failure, LONGEST_REST, LeaseRequest, LeasedNotification, MAX_WAITING, Outbox, PutOff,
    StoreError, log_full, newest, without_room,
};
use crate::{Delivery, Notification, Timestamp, Workspace};

/// The most notifications that wait for all workspaces together.
const CAPACITY: usize = 10_000;

/// The key of a workspace and the id of one of its channels, or nothing for its plain webhooks.
type Receiver = (String, String);

/// A receiver and its host.
type Place = (Receiver, String);

/// Ids, each at an instant.
type Ages = BTreeSet<(Timestamp, String)>;

/// Ids, each at an instant, and of one instant in the order in which things happened.
type Schedule = BTreeSet<(Timestamp, Timestamp, String)>;

#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: HashMap<String, Entry>,
    /// All that waits for a workspace, by age.
    waiting: HashMap<String, Ages>,
    /// Ids of what waits for a receiver.
    of_receivers: HashMap<Receiver, BTreeSet<String>>,
    /// What became of what channels were told, by channel.
    finished: HashMap<String, Vec<Delivery>>,
    /// How many of a channel's found no room, and no message has counted yet; of plain webhooks by "".
    overflows: HashMap<String, u64>,
    /// What can be taken on, by workspace and by when it fell due: in the future, by a clock that was ahead.
    ready: BTreeMap<String, Schedule>,
    /// What cannot yet, by when its pause is over or its lease runs out.
    resting: Schedule,
    /// The receivers that asked to be left alone, and until when.
    rests: HashMap<Place, Timestamp>,
    dropped: u64,
    /// What they all take up.
    bytes: usize,
    /// How much of that may be; `None`: any amount.
    room: Option<usize>,
}

/// What a notification takes up while it waits.
fn waiting_bytes(notification: &Notification) -> usize {
    let Notification {
        id,
        workspace,
        url,
        host,
        body,
        channel,
        ..
    } = notification;
    // Its id is in five places.
    const FIXED: usize = heap::table_place(size_of::<Entry>() + size_of::<String>())
        + 4 * heap::tree_place(size_of::<(Timestamp, String)>());
    FIXED + 5 * heap::block(id.len()) + heap::texts([workspace.key(), url, host, body, channel])
}

/// What the end of a delivery takes up.
fn finished_bytes(delivery: &Delivery) -> usize {
    let Delivery {
        id,
        workspace,
        channel,
        agent_id,
        session_topic,
        error,
        ..
    } = delivery;
    let texts = [id, workspace.key(), channel, agent_id, session_topic, error];
    2 * size_of::<Delivery>() + heap::texts(texts)
}

#[derive(Debug)]
struct Entry {
    notification: Notification,
    round: u32,
    due: Timestamp,
    ready: bool,
    failure: Failure,
}

impl Entry {
    fn workspace(&self) -> &str {
        self.notification.workspace.key()
    }

    fn receiver(&self) -> Receiver {
        receiver(&self.notification)
    }

    fn due(&self) -> (Timestamp, Timestamp, String) {
        let Notification { created_at, id, .. } = &self.notification;
        (self.due, *created_at, id.clone())
    }

    fn age(&self) -> (Timestamp, String) {
        (self.notification.created_at, self.notification.id.clone())
    }
}

fn receiver(notification: &Notification) -> Receiver {
    (
        notification.workspace.key().to_owned(),
        notification.channel.clone(),
    )
}

fn place(notification: &Notification) -> Place {
    (receiver(notification), notification.host.clone())
}

impl Queue {
    /// A queue that takes up at most this much, unless nothing waits.
    pub(super) fn of_bytes(room: usize) -> Self {
        Self {
            room: Some(room),
            ..Self::default()
        }
    }

    /// What it takes up.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a notification, unless as many as may wait for its receiver. When as many as may wait for
    /// all together, the newest of the workspace that has the most gives way.
    pub(super) fn add(&mut self, notification: &Notification) {
        if self.entries.contains_key(&notification.id) {
            return;
        }
        let of_receiver = self.of_receivers.entry(receiver(notification)).or_default();
        if of_receiver.len() >= MAX_WAITING {
            self.overflow(notification);
            return;
        }
        of_receiver.insert(notification.id.clone());
        if of_receiver.len() == MAX_WAITING {
            log_full(&notification.workspace);
        }
        let entry = Entry {
            notification: notification.clone(),
            round: 0,
            due: notification.created_at + notification.delay,
            ready: notification.delay.is_zero(),
            failure: Failure::default(),
        };
        let waiting = self.waiting.entry(entry.workspace().to_owned());
        waiting.or_default().insert(entry.age());
        self.schedule(&entry);
        self.bytes += waiting_bytes(&entry.notification);
        self.entries.insert(notification.id.clone(), entry);
        while self.entries.len() > CAPACITY
            || self.room.is_some_and(|room| self.bytes > room) && !self.entries.is_empty()
        {
            self.drop_one();
        }
    }

    fn drop_one(&mut self) {
        let fullest = self.waiting.iter().max_by_key(|(_, waiting)| waiting.len());
        let Some((workspace, Some((_, newest)))) =
            fullest.map(|(workspace, waiting)| (workspace, waiting.last()))
        else {
            return;
        };
        self.dropped += 1;
        if self.dropped.is_power_of_two() {
            tracing::warn!(
                workspace,
                dropped = self.dropped,
                "a notification was dropped: too many are waiting"
            );
        }
        let newest = newest.clone();
        if let Some(dropped) = self.remove(&newest) {
            self.overflow(&dropped.notification);
        }
    }

    /// Counts that there is no room for a notification, and keeps it of a channel's.
    fn overflow(&mut self, notification: &Notification) {
        let channel = notification.channel.clone();
        *self.overflows.entry(channel).or_default() += 1;
        self.keep(without_room(notification));
    }

    /// Keeps what became of a notification.
    fn keep(&mut self, delivery: Option<Delivery>) {
        if let Some(delivery) = delivery {
            let finished = self.finished.entry(delivery.channel.clone()).or_default();
            let before = finished.iter().map(finished_bytes).sum();
            *finished = newest(std::mem::take(finished), vec![delivery]);
            let after = finished.iter().map(finished_bytes).sum::<usize>();
            self.bytes = (self.bytes + after).saturating_sub(before);
        }
    }

    fn schedule(&mut self, entry: &Entry) {
        let place = entry.due();
        match entry.ready {
            true => {
                let workspace = entry.workspace().to_owned();
                self.ready.entry(workspace).or_default().insert(place);
            }
            false => {
                self.resting.insert(place);
            }
        }
    }

    fn unschedule(&mut self, entry: &Entry) {
        let place = entry.due();
        let workspace = entry.workspace();
        if let Some(ready) = self.ready.get_mut(workspace).filter(|_| entry.ready) {
            ready.remove(&place);
            if ready.is_empty() {
                self.ready.remove(workspace);
            }
        }
        self.resting.remove(&place);
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(mut entry) = self.entries.remove(id) {
            self.unschedule(&entry);
            change(&mut entry);
            self.schedule(&entry);
            self.entries.insert(id.to_owned(), entry);
        }
    }

    fn rest(&mut self, id: &str, until: Timestamp) {
        self.change(id, |entry| (entry.due, entry.ready) = (until, false));
    }

    fn remove(&mut self, id: &str) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        self.bytes = self
            .bytes
            .saturating_sub(waiting_bytes(&entry.notification));
        self.unschedule(&entry);
        let receiver = entry.receiver();
        if let Some(of_receiver) = self.of_receivers.get_mut(&receiver) {
            of_receiver.remove(id);
            if of_receiver.is_empty() {
                self.of_receivers.remove(&receiver);
            }
        }
        if let Some(waiting) = self.waiting.get_mut(entry.workspace()) {
            waiting.remove(&entry.age());
            if waiting.is_empty() {
                self.waiting.remove(entry.workspace());
            }
        }
        Some(entry)
    }

    pub(super) fn remove_workspace(&mut self, workspace: &Workspace) {
        let waiting = self.waiting.get(workspace.key()).cloned();
        for (_, id) in waiting.unwrap_or_default() {
            self.remove(&id);
        }
    }

    /// Ids of what is due for the receiver of a notification at its host, the longest first.
    fn due_beside(&self, leased: &Notification) -> Vec<String> {
        let ids = self.of_receivers.get(&receiver(leased));
        let ids = ids.into_iter().flatten();
        let entries = ids.filter_map(|id| self.entries.get(id));
        let mut due: Vec<&Entry> = entries
            .filter(|entry| entry.ready)
            .filter(|entry| entry.notification.host == leased.host)
            .collect();
        due.sort_by_key(|entry| entry.due());
        due.into_iter()
            .map(|entry| entry.notification.id.clone())
            .collect()
    }

    /// Leases an entry.
    fn take(&mut self, id: &str, now: Timestamp, duration: Duration) -> Option<LeasedNotification> {
        self.rest(id, instant_after(now, duration));
        let entry = self.entries.get_mut(id)?;
        entry.round += 1;
        let rests_until = match self.rests.is_empty() {
            true => None,
            false => self.rests.get(&place(&entry.notification)),
        };
        Some(LeasedNotification {
            notification: entry.notification.clone(),
            round: entry.round,
            rest: rests_until
                .and_then(|until| (*until - now).to_std().ok())
                .unwrap_or_default(),
        })
    }

    /// How many notifications wait, and when the oldest of them was made.
    pub(super) fn length_and_oldest(&self) -> (u64, Option<Timestamp>) {
        let oldest = self.waiting.values().filter_map(BTreeSet::first);
        let oldest = oldest.map(|(created, _)| *created).min();
        (self.entries.len() as u64, oldest)
    }

    /// How many notifications found no room, and no message has counted yet.
    pub(super) fn without_room(&self) -> u64 {
        self.overflows.values().sum()
    }

    pub(super) fn forget_channel(&mut self, channel: &str) {
        let finished = self.finished.remove(channel);
        let bytes = finished.iter().flatten().map(finished_bytes).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        self.overflows.remove(channel);
    }

    /// Makes ready what has rested until now, and what would rest for too long.
    fn resume(&mut self, now: Timestamp) {
        let latest = instant_after(now, LONGEST_REST);
        loop {
            let first = self.resting.first().filter(|(due, ..)| *due <= now);
            let last = || self.resting.last().filter(|(due, ..)| *due > latest);
            let Some((.., id)) = first.or_else(last) else {
                return;
            };
            let id = id.clone();
            self.change(&id, |entry| entry.ready = true);
        }
    }

    /// The entry whose turn it is.
    fn next(&self, request: &LeaseRequest) -> Option<&str> {
        let after = request.after.as_str();
        let ahead = self.ready.range::<str, _>((Excluded(after), Unbounded));
        let turns = ahead.chain(self.ready.range::<str, _>((Unbounded, Included(after))));
        let mut turns =
            turns.filter(|(workspace, _)| !request.busy_workspaces.contains(*workspace));
        turns.find_map(|(_, schedule)| {
            let ranked = schedule.iter().filter_map(|(.., id)| {
                let host = &self.entries.get(id)?.notification.host;
                Some((request.rank(host)?, id.as_str()))
            });
            ranked.min_by_key(|(rank, _)| *rank).map(|(_, id)| id)
        })
    }
}

fn instant_after(now: Timestamp, duration: Duration) -> Timestamp {
    now + chrono::TimeDelta::from_std(duration).unwrap_or(chrono::TimeDelta::MAX)
}

impl Outbox for MemoryStore {
    async fn lease_notification(
        &self,
        request: &LeaseRequest,
    ) -> Result<Option<LeasedNotification>, StoreError> {
        let outbox = &mut self.lock().outbox;
        outbox.resume(request.now);
        let Some(id) = outbox.next(request).map(str::to_owned) else {
            return Ok(None);
        };
        Ok(outbox.take(&id, request.now, request.duration))
    }

    async fn notification_delivered(&self, id: &str) -> Result<(), StoreError> {
        self.lock().outbox.remove(id);
        Ok(())
    }

    async fn notifications_failed(
        &self,
        failed: &[(&str, Duration)],
        now: Timestamp,
        failure: &Failure,
    ) -> Result<(), StoreError> {
        let outbox = &mut self.lock().outbox;
        for (id, pause) in failed {
            let until = instant_after(now, *pause);
            outbox.rest(id, until);
            if let Some(entry) = outbox.entries.get_mut(*id) {
                failure.clone_into(&mut entry.failure);
                if failure.rests {
                    outbox.rests.retain(|_, until| *until > now);
                    let rests = outbox.rests.entry(place(&entry.notification));
                    let rests = rests.or_insert(until);
                    *rests = until.max(*rests);
                }
            }
        }
        Ok(())
    }

    async fn notification_abandoned(&self, id: &str) -> Result<(), StoreError> {
        self.lock().outbox.remove(id);
        Ok(())
    }

    async fn lease_others(
        &self,
        leased: &Notification,
        now: Timestamp,
        duration: Duration,
        limit: usize,
    ) -> Result<Vec<LeasedNotification>, StoreError> {
        let outbox = &mut self.lock().outbox;
        let due = outbox.due_beside(leased);
        let due = due.iter().take(limit);
        Ok(due
            .filter_map(|id| outbox.take(id, now, duration))
            .collect())
    }

    async fn put_off(
        &self,
        leased: &Notification,
        what: PutOff,
        now: Timestamp,
        pause: Duration,
    ) -> Result<(), StoreError> {
        let outbox = &mut self.lock().outbox;
        if let Some(entry) = outbox.entries.get_mut(&leased.id) {
            entry.round = entry.round.saturating_sub(1);
        }
        let mut ids = match what {
            PutOff::Leased => Vec::new(),
            PutOff::WhatIsDue => outbox.due_beside(leased),
        };
        ids.push(leased.id.clone());
        for id in ids {
            outbox.rest(&id, instant_after(now, pause));
        }
        Ok(())
    }

    async fn finish_deliveries(&self, deliveries: &[Delivery]) -> Result<(), StoreError> {
        let super::State {
            outbox, channels, ..
        } = &mut *self.lock();
        for delivery in deliveries {
            outbox.remove(&delivery.id);
            let mut channels = channels.get(&delivery.workspace).into_iter().flatten();
            if channels.any(|channel| channel.id == delivery.channel) {
                outbox.keep(Some(delivery.clone()));
            }
        }
        Ok(())
    }

    async fn overflow(&self, _: &Workspace, channel: &str) -> Result<u64, StoreError> {
        let overflows = &self.lock().outbox.overflows;
        Ok(overflows.get(channel).copied().unwrap_or_default())
    }

    async fn overflow_told(
        &self,
        _: &Workspace,
        channel: &str,
        told: u64,
    ) -> Result<(), StoreError> {
        let overflows = &mut self.lock().outbox.overflows;
        if let Some(untold) = overflows.get_mut(channel) {
            *untold = untold.saturating_sub(told);
        }
        Ok(())
    }

    async fn deliveries(
        &self,
        workspace: &Workspace,
        channel: &str,
    ) -> Result<Vec<Delivery>, StoreError> {
        let outbox = &self.lock().outbox;
        let receiver = (workspace.key().to_owned(), channel.to_owned());
        let ids = outbox.of_receivers.get(&receiver).into_iter().flatten();
        let pending = ids.filter_map(|id| {
            let entry = outbox.entries.get(id)?;
            let Failure { status, error, .. } = entry.failure.clone();
            let pending = Delivery::pending(&entry.notification, entry.round)?;
            Some(Delivery {
                status,
                error,
                ..pending
            })
        });
        let finished = outbox.finished.get(channel).into_iter().flatten().cloned();
        let own = |delivery: &Delivery| delivery.workspace == *workspace;
        Ok(newest(pending.collect(), finished.filter(own).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(workspace: usize, n: usize) -> Notification {
        Notification {
            id: format!("{workspace} {n:05}"),
            workspace: Workspace::from_key(workspace.to_string()),
            url: "http://receiver".to_owned(),
            host: "receiver:80".to_owned(),
            body: String::new(),
            channel: String::new(),
            created_at: Timestamp::UNIX_EPOCH,
            delay: chrono::TimeDelta::zero(),
        }
    }

    #[test]
    fn when_all_is_full_the_workspace_with_the_most_gives_way() {
        let mut outbox = Queue::default();
        for n in 0..10 * CAPACITY {
            outbox.add(&notification(n % 20, n));
        }
        assert_eq!(outbox.entries.len(), CAPACITY);
        let room = |outbox: &Queue, least| {
            let mut waiting = outbox.waiting.values();
            waiting.all(|waiting| (least..=500).contains(&waiting.len()))
        };
        assert!(room(&outbox, 500));
        for n in 0..5 {
            outbox.add(&notification(99, n));
        }
        assert_eq!(outbox.entries.len(), CAPACITY);
        assert_eq!(outbox.waiting.remove("99").unwrap().len(), 5);
        assert!(room(&outbox, 499));

        for id in outbox.entries.keys().cloned().collect::<Vec<_>>() {
            outbox.remove(&id);
        }
        assert!(outbox.ready.is_empty() && outbox.waiting.is_empty());
    }
}
