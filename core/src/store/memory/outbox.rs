use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::Duration;

use super::MemoryStore;
use crate::store::{LeaseRequest, LeasedNotification, MAX_WAITING, Outbox, StoreError, log_full};
use crate::{Notification, Timestamp, Workspace};

/// The most notifications that wait for all workspaces together.
const CAPACITY: usize = 10_000;

/// Ids, each at an instant.
type Schedule = BTreeSet<(Timestamp, String)>;

#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: HashMap<String, Entry>,
    /// All that waits for a workspace, by age.
    waiting: HashMap<String, Schedule>,
    /// What can be taken on, by workspace and by when it fell due.
    ready: BTreeMap<String, Schedule>,
    /// What cannot yet, by when its pause is over or its lease runs out.
    resting: Schedule,
    dropped: u64,
}

#[derive(Debug)]
struct Entry {
    notification: Notification,
    round: u32,
    due: Timestamp,
    ready: bool,
}

impl Entry {
    fn workspace(&self) -> &str {
        self.notification.workspace.key()
    }

    fn due(&self) -> (Timestamp, String) {
        (self.due, self.notification.id.clone())
    }

    fn age(&self) -> (Timestamp, String) {
        (self.notification.created_at, self.notification.id.clone())
    }
}

impl Queue {
    /// Adds a notification, unless its workspace has as many as it may have. When all workspaces
    /// together have, the newest of the one that has the most gives way.
    pub(super) fn add(&mut self, notification: &Notification) {
        let workspace = &notification.workspace;
        let waiting = self.waiting.entry(workspace.key().to_owned()).or_default();
        if waiting.len() >= MAX_WAITING {
            return;
        }
        let entry = Entry {
            notification: notification.clone(),
            round: 0,
            due: notification.created_at,
            ready: true,
        };
        waiting.insert(entry.age());
        if waiting.len() == MAX_WAITING {
            log_full(workspace);
        }
        self.schedule(&entry);
        self.entries.insert(notification.id.clone(), entry);
        if self.entries.len() > CAPACITY {
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
        self.remove(&newest);
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

    fn remove(&mut self, id: &str) {
        if let Some(entry) = self.entries.remove(id) {
            self.unschedule(&entry);
            if let Some(waiting) = self.waiting.get_mut(entry.workspace()) {
                waiting.remove(&entry.age());
                if waiting.is_empty() {
                    self.waiting.remove(entry.workspace());
                }
            }
        }
    }

    pub(super) fn remove_workspace(&mut self, workspace: &Workspace) {
        let waiting = self.waiting.get(workspace.key()).cloned();
        for (_, id) in waiting.unwrap_or_default() {
            self.remove(&id);
        }
    }

    /// Makes ready what has rested until now.
    fn resume(&mut self, now: Timestamp) {
        while let Some((due, id)) = self.resting.first()
            && *due <= now
        {
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
            let due = schedule.iter().take_while(|(due, _)| *due <= request.now);
            let ranked = due.filter_map(|(_, id)| {
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
        outbox.rest(&id, instant_after(request.now, request.duration));
        Ok(outbox.entries.get_mut(&id).map(|entry| {
            entry.round += 1;
            LeasedNotification {
                notification: entry.notification.clone(),
                round: entry.round,
            }
        }))
    }

    async fn notification_delivered(&self, id: &str) -> Result<(), StoreError> {
        self.lock().outbox.remove(id);
        Ok(())
    }

    async fn notification_failed(
        &self,
        id: &str,
        now: Timestamp,
        pause: Duration,
    ) -> Result<(), StoreError> {
        self.lock().outbox.rest(id, instant_after(now, pause));
        Ok(())
    }

    async fn notification_abandoned(&self, id: &str) -> Result<(), StoreError> {
        self.lock().outbox.remove(id);
        Ok(())
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
            created_at: Timestamp::UNIX_EPOCH,
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
