//! Hashing passwords, on threads of their own.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use kubeagents_core::password;
use kubeagents_core::ports::{PasswordFailure, Passwords};
use tokio::sync::oneshot;

/// Passwords that may wait for each thread: about ten seconds' worth. Clients that wait longer have
/// given up.
const QUEUE_PER_THREAD: usize = 64;

/// Niceness of the threads. A flood of logins may use the processor time that serving requests
/// leaves, and no more.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// A hashing thread for each core, with a bounded queue before them.
pub(crate) struct PasswordThreads {
    queue: SyncSender<Job>,
}

impl PasswordThreads {
    /// Starts the threads. They end when this is dropped.
    ///
    /// # Errors
    /// When the system refuses threads.
    pub(crate) fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let (queue, jobs) = sync_channel(count * QUEUE_PER_THREAD);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..count {
            let jobs = jobs.clone();
            thread::Builder::new()
                .name("password".into())
                .spawn(move || work(&jobs))?;
        }
        Ok(Self { queue })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordFailure> {
        let (answer, answered) = oneshot::channel();
        let job = move || {
            // Whoever asked may have hung up meanwhile.
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        };
        self.queue
            .try_send(Box::new(job))
            .map_err(|_| PasswordFailure("too many passwords are waiting".into()))?;
        answered
            .await
            .map_err(|_| PasswordFailure("the hashing thread is gone".into()))
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    // Elsewhere niceness is the whole process's.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "password threads keep their priority");
    }
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

impl Passwords for PasswordThreads {
    async fn hash(&self, password: String, salt: [u8; 16]) -> Result<String, PasswordFailure> {
        self.run(move || password::hash(&password, salt)).await?
    }

    async fn verify(&self, password: String, hash: String) -> Result<bool, PasswordFailure> {
        self.run(move || password::verify(&password, &hash)).await
    }
}
