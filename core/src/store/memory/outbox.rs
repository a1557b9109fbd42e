use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::MemoryStore;
use crate::store::{LeaseRequest, LeasedNotification, Outbox, StoreError};
use crate::{Notification, Timestamp};

/// How many notifications wait at most, and how many of them for one receiving host: one that hangs
/// must not use up the room of the others.
const OUTBOX_CAPACITY: usize = 10_000;
const OUTBOX_CAPACITY_PER_HOST: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: HashMap<String, Entry>,
    /// The entries of each receiving host by when they are next to be taken on: at once, after a
    /// pause, or when their lease runs out.
    by_host: BTreeMap<String, BTreeSet<(Timestamp, String)>>,
    dropped: u64,
}

#[derive(Debug)]
struct Entry {
    notification: Notification,
    round: u32,
    due: Timestamp,
}

impl Queue {
    pub(super) fn add(&mut self, notification: &Notification) {
        let waiting_for_host = self
            .by_host
            .get(&notification.host)
            .map_or(0, BTreeSet::len);
        if self.entries.len() >= OUTBOX_CAPACITY || waiting_for_host >= OUTBOX_CAPACITY_PER_HOST {
            self.dropped += 1;
            tracing::warn!(
                receiver = notification.host,
                dropped = self.dropped,
                "a notification was dropped: too many are waiting"
            );
            return;
        }
        let (id, due) = (notification.id.clone(), notification.created_at);
        let queue = self.by_host.entry(notification.host.clone()).or_default();
        queue.insert((due, id.clone()));
        let entry = Entry {
            notification: notification.clone(),
            round: 0,
            due,
        };
        self.entries.insert(id, entry);
    }

    fn set_due(&mut self, id: &str, due: Timestamp) {
        if let Some(entry) = self.entries.get_mut(id)
            && let Some(queue) = self.by_host.get_mut(&entry.notification.host)
        {
            queue.remove(&(entry.due, id.to_owned()));
            queue.insert((due, id.to_owned()));
            entry.due = due;
        }
    }

    fn remove(&mut self, id: &str) {
        if let Some(entry) = self.entries.remove(id)
            && let Some(queue) = self.by_host.get_mut(&entry.notification.host)
        {
            queue.remove(&(entry.due, id.to_owned()));
            if queue.is_empty() {
                self.by_host.remove(&entry.notification.host);
            }
        }
    }

    /// The longest due entry of each host that is not busy, longest due first.
    fn due(&self, request: &LeaseRequest) -> Vec<String> {
        let mut due: Vec<&(Timestamp, String)> = self
            .by_host
            .iter()
            .filter(|(host, _)| !request.busy_hosts.contains(host))
            .filter_map(|(_, queue)| queue.first())
            .filter(|(due, _)| *due <= request.now)
            .collect();
        due.sort();
        due.truncate(request.limit);
        due.into_iter().map(|(_, id)| id.clone()).collect()
    }
}

fn instant_after(now: Timestamp, duration: Duration) -> Timestamp {
    now + chrono::TimeDelta::from_std(duration).unwrap_or(chrono::TimeDelta::MAX)
}

impl Outbox for MemoryStore {
    async fn lease_notifications(
        &self,
        request: &LeaseRequest,
    ) -> Result<Vec<LeasedNotification>, StoreError> {
        let mut state = self.lock();
        let outbox = &mut state.outbox;
        let until = instant_after(request.now, request.duration);
        Ok(outbox
            .due(request)
            .into_iter()
            .filter_map(|id| {
                outbox.set_due(&id, until);
                let entry = outbox.entries.get_mut(&id)?;
                entry.round += 1;
                Some(LeasedNotification {
                    notification: entry.notification.clone(),
                    round: entry.round,
                })
            })
            .collect())
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
        self.lock().outbox.set_due(id, instant_after(now, pause));
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

    fn notification(n: usize, host: &str) -> Notification {
        Notification {
            id: format!("{host} {n}"),
            url: format!("http://{host}"),
            host: host.to_owned(),
            body: String::new(),
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_full_outbox_drops_what_is_more_and_no_host_fills_it_alone() {
        let mut outbox = Queue::default();
        for n in 0..OUTBOX_CAPACITY_PER_HOST + 5 {
            outbox.add(&notification(n, "hanging"));
        }
        assert_eq!(
            (outbox.entries.len(), outbox.dropped),
            (OUTBOX_CAPACITY_PER_HOST, 5)
        );
        for n in 0..OUTBOX_CAPACITY {
            outbox.add(&notification(n, &format!("host {}", n % 100)));
        }
        assert_eq!(outbox.entries.len(), OUTBOX_CAPACITY);
        assert_eq!(outbox.dropped as usize, 5 + OUTBOX_CAPACITY_PER_HOST);
        outbox.remove("hanging 0");
        outbox.add(&notification(0, "another"));
        assert_eq!(outbox.entries.len(), OUTBOX_CAPACITY);
    }
}
