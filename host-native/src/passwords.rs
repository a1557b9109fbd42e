//! Hashing passwords, on threads of their own.

use std::net::IpAddr;

use kubeagents_core::password;
use kubeagents_core::ports::{PasswordFailure, Passwords};

use crate::threads::Threads;

/// Passwords that may wait for each thread: about ten seconds' worth. Clients that wait longer have
/// given up.
const QUEUE_PER_THREAD: usize = 64;

/// Threads that hash, before which clients take turns.
pub(crate) struct PasswordThreads(Threads<Option<IpAddr>>);

impl PasswordThreads {
    pub(crate) fn new() -> Self {
        Self(Threads::new("password", QUEUE_PER_THREAD))
    }

    async fn run<T: Send + 'static>(
        &self,
        client: Option<IpAddr>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordFailure> {
        let done = self.0.run(client, work).await;
        done.ok_or(PasswordFailure::Crowded)
    }
}

impl Passwords for PasswordThreads {
    fn admits(&self, client: Option<IpAddr>) -> bool {
        self.0.admits(&client)
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
