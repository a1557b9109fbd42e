//! Turns at what would harm others at once: lists of one workspace, passwords of one account. Those who
//! wait get theirs in order.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::hash::Hash;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_channel::oneshot::{Receiver, Sender, channel};

/// How long a request waits for its turn.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Turns, for each key. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Turns<K: Clone + Eq + Hash> {
    /// The most at once with one key; 0: any number.
    most: usize,
    /// The keys with which somebody has a turn.
    queues: Arc<Mutex<HashMap<K, Queue<K>>>>,
}

#[derive(Debug)]
struct Queue<K: Clone + Eq + Hash> {
    at_work: usize,
    waiting: VecDeque<Sender<Turn<K>>>,
}

/// A turn; the next one's when dropped.
#[derive(Debug)]
pub(super) struct Turn<K: Clone + Eq + Hash> {
    turns: Turns<K>,
    key: K,
}

/// Patience came to its end before the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Impatient;

/// What is sent before `patience` ends.
pub(super) async fn await_with<T>(
    patience: impl Future<Output = ()>,
    mut receiver: Receiver<T>,
) -> Option<T> {
    let mut patience = pin!(patience);
    poll_fn(|context| {
        if let Poll::Ready(sent) = Pin::new(&mut receiver).poll(context) {
            return Poll::Ready(sent.ok());
        }
        patience.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// Drops those at the front who no longer wait: who came first loses patience first.
pub(super) fn drop_gone<T>(waiting: &mut VecDeque<Sender<T>>) {
    while waiting.front().is_some_and(Sender::is_canceled) {
        waiting.pop_front();
    }
}

impl<K: Clone + Eq + Hash> Turns<K> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            queues: Arc::default(),
        }
    }

    /// Waits for a turn, but not beyond `patience`.
    pub(super) async fn wait(
        &self,
        key: &K,
        patience: impl Future<Output = ()>,
    ) -> Result<Option<Turn<K>>, Impatient> {
        if self.most == 0 {
            return Ok(None);
        }
        match self.join(key) {
            Ok(turn) => Ok(Some(turn)),
            Err(receiver) => await_with(patience, receiver)
                .await
                .map(Some)
                .ok_or(Impatient),
        }
    }

    /// A turn now, or a place in the queue.
    fn join(&self, key: &K) -> Result<Turn<K>, Receiver<Turn<K>>> {
        let mut queues = self.lock();
        let queue = queues.entry(key.clone()).or_insert_with(|| Queue {
            at_work: 0,
            waiting: VecDeque::new(),
        });
        if queue.at_work < self.most {
            queue.at_work += 1;
            return Ok(self.turn(key));
        }
        drop_gone(&mut queue.waiting);
        let (sender, receiver) = channel();
        queue.waiting.push_back(sender);
        Err(receiver)
    }

    fn turn(&self, key: &K) -> Turn<K> {
        Turn {
            turns: self.clone(),
            key: key.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Queue<K>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a turn, unless somebody waits for it.
    fn next(&self, key: &K) -> Option<Sender<Turn<K>>> {
        let mut queues = self.lock();
        let queue = queues.get_mut(key)?;
        drop_gone(&mut queue.waiting);
        if let Some(next) = queue.waiting.pop_front() {
            return Some(next);
        }
        queue.at_work -= 1;
        if queue.at_work == 0 {
            queues.remove(key);
        }
        None
    }
}

impl<K: Clone + Eq + Hash> Drop for Turn<K> {
    fn drop(&mut self) {
        if let Some(next) = self.turns.next(&self.key) {
            // Whoever has gone meanwhile drops the turn, and so passes it on.
            let _ = next.send(self.turns.turn(&self.key));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::{Context, Waker};

    use super::*;
    use crate::{AccountId, Workspace};

    type Waiting = Pin<Box<dyn Future<Output = Result<Option<Turn<Workspace>>, Impatient>>>>;

    fn waiting(turns: &Turns<Workspace>, workspace: &Workspace) -> Waiting {
        let (turns, workspace) = (turns.clone(), workspace.clone());
        Box::pin(async move { turns.wait(&workspace, pending()).await })
    }

    /// The turn, if it has come.
    fn poll(waiting: &mut Waiting) -> Option<Turn<Workspace>> {
        let mut context = Context::from_waker(Waker::noop());
        match waiting.as_mut().poll(&mut context) {
            Poll::Ready(turn) => turn.unwrap(),
            Poll::Pending => None,
        }
    }

    #[test]
    fn turns_are_taken_in_order_and_each_workspace_has_its_own() {
        let turns = Turns::new(2);
        let shared = Workspace::Shared;
        let mut all: Vec<Waiting> = (0..5).map(|_| waiting(&turns, &shared)).collect();
        let mut have: Vec<Option<Turn<_>>> = all.iter_mut().map(poll).collect();
        let has =
            |have: &[Option<Turn<_>>]| -> Vec<bool> { have.iter().map(Option::is_some).collect() };
        assert_eq!(has(&have), [true, true, false, false, false]);

        let other = Workspace::Account(AccountId::new("a"));
        assert!(poll(&mut waiting(&turns, &other)).is_some());

        // The third has gone, and the fourth is next.
        have[1] = None;
        drop(all.remove(2));
        have.remove(2);
        have[2] = poll(&mut all[2]);
        have[3] = poll(&mut all[3]);
        assert_eq!(has(&have), [true, false, true, false]);

        // Who comes later does not come before.
        let mut late = waiting(&turns, &shared);
        assert!(poll(&mut late).is_none());
        have[0] = None;
        have[3] = poll(&mut all[3]);
        assert!(have[3].is_some() && poll(&mut late).is_none());
        have.clear();
        assert!(poll(&mut late).is_some());
        drop((all, late));
        assert!(turns.lock().is_empty(), "nothing is left");
    }

    #[test]
    fn who_has_no_patience_left_is_refused_and_takes_no_turn() {
        let turns = Turns::new(1);
        let first = turns.join(&Workspace::Shared).unwrap();
        let refused = turns.wait(&Workspace::Shared, ready(()));
        let refused = futures_executor::block_on(refused);
        assert_eq!(refused.unwrap_err(), Impatient);
        drop(first);
        assert!(poll(&mut waiting(&turns, &Workspace::Shared)).is_some());
    }

    #[test]
    fn without_a_bound_nobody_waits() {
        let turns = Turns::new(0);
        for _ in 0..100 {
            let turn = futures_executor::block_on(turns.wait(&Workspace::Shared, ready(())));
            assert!(turn.unwrap().is_none());
        }
    }
}
