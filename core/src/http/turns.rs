//! Turns at reading lists: a workspace has a few at once, and those who wait get theirs in order.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_channel::oneshot::{Receiver, Sender, channel};

use super::ApiError;
use crate::Workspace;

/// How long a request waits for its turn.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The turns of all workspaces. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    /// The most at once in one workspace; 0: any number.
    most: usize,
    /// Workspaces in which somebody reads.
    queues: Arc<Mutex<HashMap<Workspace, Queue>>>,
}

#[derive(Debug, Default)]
struct Queue {
    at_work: usize,
    waiting: VecDeque<Sender<Turn>>,
}

/// A turn; the next one's when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    workspace: Workspace,
}

impl Turns {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            queues: Arc::default(),
        }
    }

    /// Waits for a turn, but not beyond `patience`.
    pub(super) async fn wait(
        &self,
        workspace: &Workspace,
        patience: impl Future<Output = ()>,
    ) -> Result<Option<Turn>, ApiError> {
        if self.most == 0 {
            return Ok(None);
        }
        let mut receiver = match self.join(workspace) {
            Ok(turn) => return Ok(Some(turn)),
            Err(receiver) => receiver,
        };
        let mut patience = pin!(patience);
        let turn = poll_fn(|context| {
            if let Poll::Ready(turn) = Pin::new(&mut receiver).poll(context) {
                return Poll::Ready(turn.ok());
            }
            patience.as_mut().poll(context).map(|()| None)
        });
        turn.await.map(Some).ok_or_else(ApiError::too_many_reads)
    }

    /// A turn now, or a place in the queue.
    fn join(&self, workspace: &Workspace) -> Result<Turn, Receiver<Turn>> {
        let mut queues = self.lock();
        let queue = queues.entry(workspace.clone()).or_default();
        if queue.at_work < self.most {
            queue.at_work += 1;
            return Ok(self.turn(workspace));
        }
        // Who came first loses patience first.
        while queue.waiting.front().is_some_and(Sender::is_canceled) {
            queue.waiting.pop_front();
        }
        let (sender, receiver) = channel();
        queue.waiting.push_back(sender);
        Err(receiver)
    }

    fn turn(&self, workspace: &Workspace) -> Turn {
        Turn {
            turns: self.clone(),
            workspace: workspace.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Workspace, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a turn, unless somebody waits for it.
    fn next(&self, workspace: &Workspace) -> Option<Sender<Turn>> {
        let mut queues = self.lock();
        let queue = queues.get_mut(workspace)?;
        while let Some(next) = queue.waiting.pop_front() {
            if !next.is_canceled() {
                return Some(next);
            }
        }
        queue.at_work -= 1;
        if queue.at_work == 0 {
            queues.remove(workspace);
        }
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(next) = self.turns.next(&self.workspace) {
            // Whoever has gone meanwhile drops the turn, and so passes it on.
            let _ = next.send(self.turns.turn(&self.workspace));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::{Context, Waker};

    use super::*;
    use crate::AccountId;

    type Waiting = Pin<Box<dyn Future<Output = Result<Option<Turn>, ApiError>>>>;

    fn waiting(turns: &Turns, workspace: &Workspace) -> Waiting {
        let (turns, workspace) = (turns.clone(), workspace.clone());
        Box::pin(async move { turns.wait(&workspace, pending()).await })
    }

    /// The turn, if it has come.
    fn poll(waiting: &mut Waiting) -> Option<Turn> {
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
        let mut have: Vec<Option<Turn>> = all.iter_mut().map(poll).collect();
        let has =
            |have: &[Option<Turn>]| -> Vec<bool> { have.iter().map(Option::is_some).collect() };
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
        let refused = futures_executor::block_on(refused).unwrap_err();
        assert!(
            refused.message.contains("READS_IN_FLIGHT"),
            "{}",
            refused.message
        );
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
