//! Threads for what takes the processor for long.

use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;

use kubeagents_core::FairQueue;
use tokio::sync::oneshot;

/// How far the threads make way for all others. With the least priority of all, lists would wait for half a
/// second while a compiler is at work.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// The cores that one kind of long work may keep busy: all but one, if there are several, so that a report
/// finds a free one.
pub(crate) fn spare_cores() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores - 1).max(1)
}

/// A thread for each [spare core](spare_cores) that makes way for others, with a queue before them in which
/// keys take turns. They start with the first job, and end when this is dropped.
pub(crate) struct Threads<K> {
    name: &'static str,
    count: usize,
    shared: Arc<Shared<K>>,
    start: Once,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    /// Something is to be done, or everything is over.
    changed: Condvar,
}

struct State<K> {
    queue: FairQueue<K, Job>,
    is_over: bool,
}

impl<K> Shared<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // Nothing that holds the lock leaves the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Shared<K> {
    /// Puts a job into the queue. What finds no place is dropped, and whoever awaits it is told.
    fn add(&self, key: K, job: Job) {
        let mut state = self.lock();
        let gone = match state.is_over {
            true => Some(job),
            false => state.queue.push(key, job),
        };
        drop(state);
        drop(gone);
        self.changed.notify_one();
    }

    /// The next job, as soon as there is one; `None` when everything is over.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return None;
            }
            if let Some(job) = state.queue.pop() {
                return Some(job);
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Threads<K> {
    /// Threads with a queue for so many jobs of each.
    pub(crate) fn new(name: &'static str, queue_per_thread: usize) -> Self {
        let count = spare_cores();
        let state = State {
            queue: FairQueue::new(count.saturating_mul(queue_per_thread)),
            is_over: false,
        };
        Self {
            name,
            count,
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: Condvar::new(),
            }),
            start: Once::new(),
        }
    }

    /// Checks whether a job would find a place in the queue.
    pub(crate) fn admits(&self, key: &K) -> bool {
        self.shared.lock().queue.admits(key)
    }

    /// Has a thread do something; `None` where the queue has no place for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        key: K,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.start.call_once(|| self.start());
        let (answer, answered) = oneshot::channel();
        let job = move || {
            // Whoever asked may have hung up meanwhile.
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        };
        self.shared.add(key, Box::new(job));
        answered.await.ok()
    }

    fn start(&self) {
        let start_one = || {
            let shared = Arc::clone(&self.shared);
            let thread = thread::Builder::new().name(self.name.into());
            thread.spawn(move || {
                give_way();
                while let Some(job) = shared.next() {
                    job();
                }
            })
        };
        for number in 0..self.count {
            if let Err(error) = start_one() {
                tracing::error!(%error, name = self.name, "a thread cannot be started");
                // Without any, nobody is to wait for one.
                self.shared.lock().is_over = number == 0;
                return;
            }
        }
    }
}

fn give_way() {
    // Elsewhere niceness is the whole process's.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "threads keep their priority");
    }
}

impl<K> Drop for Threads<K> {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
    }
}
