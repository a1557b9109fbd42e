//! Hashing passwords, on threads of their own.

use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{io, thread};

use kubeagents_core::ports::{PasswordFailure, Passwords};
use kubeagents_core::{FairQueue, password};
use tokio::sync::oneshot;

/// Passwords that may wait for each thread: about ten seconds' worth. Clients that wait longer have
/// given up.
const QUEUE_PER_THREAD: usize = 64;

/// Niceness of the threads. A flood of logins may use the processor time that serving requests
/// leaves, and no more.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// A hashing thread for each core, with a bounded queue before them in which clients take turns.
pub(crate) struct PasswordThreads(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something is to be done, or everything is over.
    changed: Condvar,
}

struct State {
    queue: FairQueue<Option<IpAddr>, Job>,
    is_over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock leaves the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

impl PasswordThreads {
    /// Starts the threads. They end when this is dropped.
    ///
    /// # Errors
    /// When the system refuses threads.
    pub(crate) fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: FairQueue::new(count * QUEUE_PER_THREAD),
                is_over: false,
            }),
            changed: Condvar::new(),
        });
        let threads = Self(shared);
        for _ in 0..count {
            let shared = threads.0.clone();
            thread::Builder::new()
                .name("password".into())
                .spawn(move || work(&shared))?;
        }
        Ok(threads)
    }

    async fn run<T: Send + 'static>(
        &self,
        client: Option<IpAddr>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordFailure> {
        let (answer, answered) = oneshot::channel();
        let job = move || {
            // Whoever asked may have hung up meanwhile.
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        };
        // What has to go for want of room is dropped, and whoever awaits it is told.
        drop(self.0.lock().queue.push(client, Box::new(job)));
        self.0.changed.notify_one();
        answered.await.map_err(|_| PasswordFailure::Crowded)
    }
}

impl Drop for PasswordThreads {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_all();
    }
}

fn work(shared: &Shared) {
    // Elsewhere niceness is the whole process's.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "password threads keep their priority");
    }
    while let Some(job) = shared.next() {
        job();
    }
}

impl Passwords for PasswordThreads {
    fn admits(&self, client: Option<IpAddr>) -> bool {
        self.0.lock().queue.admits(&client)
    }

    async fn hash(
        &self,
        client: Option<IpAddr>,
        password: String,
        salt: [u8; 16],
    ) -> Result<String, PasswordFailure> {
        self.run(client, move || password::hash(&password, salt))
            .await?
    }

    async fn verify(
        &self,
        client: Option<IpAddr>,
        password: String,
        hash: String,
    ) -> Result<bool, PasswordFailure> {
        self.run(client, move || password::verify(&password, &hash))
            .await
    }
}
