//! Requests for the same list are coalesced: while one is being read, those who ask for it wait, and one
//! reading answers them all. It begins after the last of them has asked, so that nobody gets what is older
//! than their question. Nothing is kept beyond that: there is no cache.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::turns::{Impatient, Turns};
use crate::Workspace;

/// What is asked for: a workspace, and the path and query of a list in it.
type Question = (Workspace, String);

/// Questions under way, with what was last read for each.
#[derive(Debug)]
pub(super) struct Coalescing<A> {
    /// One reading at once for each question.
    turns: Turns<Arc<Question>>,
    asked: Mutex<HashMap<Arc<Question>, Readings<A>>>,
}

/// The readings for a question, as long as somebody asks it.
#[derive(Debug)]
struct Readings<A> {
    askers: usize,
    /// How many have begun.
    begun: u64,
    /// What the last one found, once it has.
    found: Option<A>,
}

/// Somebody who asks, until dropped.
struct Asker<'c, A> {
    coalescing: &'c Coalescing<A>,
    question: Arc<Question>,
    /// How many readings had begun before.
    begun: u64,
}

impl<A: Clone> Coalescing<A> {
    pub(super) fn new() -> Self {
        Self {
            turns: Turns::new(1),
            asked: Mutex::default(),
        }
    }

    /// What `read` finds, or another reading for the same question that has begun since it was asked. Who has
    /// waited for others until `patience` ends reads beside them.
    pub(super) async fn answer(
        &self,
        question: Question,
        patience: impl Future<Output = ()>,
        read: impl Future<Output = A>,
    ) -> A {
        let asker = self.ask(Arc::new(question));
        let _turn = match self.turns.wait(&asker.question, patience).await {
            Ok(turn) => turn,
            Err(Impatient) => return read.await,
        };
        if let Some(found) = asker.found() {
            return found;
        }
        asker.begin();
        let found = read.await;
        asker.show(&found);
        found
    }

    fn ask(&self, question: Arc<Question>) -> Asker<'_, A> {
        let mut asked = self.lock();
        let readings = asked.entry(Arc::clone(&question)).or_insert(Readings {
            askers: 0,
            begun: 0,
            found: None,
        });
        readings.askers += 1;
        Asker {
            coalescing: self,
            question,
            begun: readings.begun,
        }
    }
}

impl<A> Coalescing<A> {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<Question>, Readings<A>>> {
        // Nothing that holds the lock leaves the state half-changed.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Clone> Asker<'_, A> {
    /// What was found by a reading that has begun since.
    fn found(&self) -> Option<A> {
        let asked = self.coalescing.lock();
        let readings = asked.get(&self.question)?;
        (readings.begun > self.begun)
            .then(|| readings.found.clone())
            .flatten()
    }

    /// Begins a reading. All who have asked before the last one began have their answer.
    fn begin(&self) {
        if let Some(readings) = self.coalescing.lock().get_mut(&self.question) {
            readings.begun += 1;
            readings.found = None;
        }
    }

    /// Shows what was found to those who have asked meanwhile.
    fn show(&self, found: &A) {
        if let Some(readings) = self.coalescing.lock().get_mut(&self.question)
            && readings.askers > 1
        {
            readings.found = Some(found.clone());
        }
    }
}

impl<A> Drop for Asker<'_, A> {
    fn drop(&mut self) {
        let mut asked = self.coalescing.lock();
        if let Some(readings) = asked.get_mut(&self.question) {
            readings.askers -= 1;
            if readings.askers == 0 {
                asked.remove(&self.question);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, ready};
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use futures_channel::oneshot::{Sender, channel};

    use super::*;

    type Asking<'c> = Pin<Box<dyn Future<Output = u32> + 'c>>;

    fn question(target: &str) -> Question {
        (Workspace::Shared, target.to_owned())
    }

    /// Readings, each of which is over when a test says so. They find how many have begun.
    #[derive(Default)]
    struct Storage {
        begun: Cell<u32>,
        ends: Mutex<Vec<Sender<()>>>,
    }

    impl Storage {
        async fn read(&self) -> u32 {
            self.begun.set(self.begun.get() + 1);
            let found = self.begun.get();
            let (sender, end) = channel();
            self.ends.lock().unwrap().push(sender);
            end.await.unwrap();
            found
        }

        fn end(&self) {
            self.ends.lock().unwrap().remove(0).send(()).unwrap();
        }
    }

    fn ask<'c>(coalescing: &'c Coalescing<u32>, storage: &'c Storage, target: &str) -> Asking<'c> {
        let asking = coalescing.answer(question(target), pending(), storage.read());
        let mut asking: Asking<'c> = Box::pin(asking);
        assert_eq!(poll(&mut asking), None);
        asking
    }

    fn poll(asking: &mut Asking<'_>) -> Option<u32> {
        let mut context = Context::from_waker(Waker::noop());
        match asking.as_mut().poll(&mut context) {
            Poll::Ready(found) => Some(found),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_asks_while_a_list_is_read_is_answered_by_the_next_reading() {
        let (coalescing, storage) = (Coalescing::new(), Storage::default());
        let mut first = ask(&coalescing, &storage, "a");
        let mut second = ask(&coalescing, &storage, "a");
        let mut third = ask(&coalescing, &storage, "a");
        assert_eq!(storage.begun.get(), 1);
        storage.end();
        assert_eq!(poll(&mut first), Some(1));
        assert_eq!(poll(&mut second), None);
        assert_eq!(storage.begun.get(), 2);

        // The second reading has begun: it is too late for the fourth.
        let mut fourth = ask(&coalescing, &storage, "a");
        storage.end();
        assert_eq!(poll(&mut second), Some(2));
        drop((first, second));
        assert_eq!(poll(&mut third), Some(2));
        drop(third);
        assert_eq!(poll(&mut fourth), None);
        storage.end();
        assert_eq!(poll(&mut fourth), Some(3));
        drop(fourth);
        assert!(coalescing.lock().is_empty(), "nothing is kept");
    }

    #[test]
    fn other_lists_are_read_beside() {
        let (coalescing, storage) = (Coalescing::new(), Storage::default());
        let _first = ask(&coalescing, &storage, "a");
        let _second = ask(&coalescing, &storage, "b");
        assert_eq!(storage.begun.get(), 2);
    }

    #[test]
    fn who_goes_leaves_the_reading_to_the_next() {
        let (coalescing, storage) = (Coalescing::new(), Storage::default());
        let first = ask(&coalescing, &storage, "a");
        let second = ask(&coalescing, &storage, "a");
        let mut third = ask(&coalescing, &storage, "a");
        drop(second);
        drop(first);
        assert_eq!(poll(&mut third), None);
        assert_eq!(storage.begun.get(), 2);
        storage.ends.lock().unwrap().remove(0);
        storage.end();
        assert_eq!(poll(&mut third), Some(2));
    }

    #[test]
    fn who_has_no_patience_left_reads_beside_the_others() {
        let (coalescing, storage) = (Coalescing::new(), Storage::default());
        let _first = ask(&coalescing, &storage, "a");
        let asking = coalescing.answer(question("a"), ready(()), ready(7));
        assert_eq!(futures_executor::block_on(asking), 7);
    }
}
