//! State in memory: for trying the server out, and the model that other stores are tested against.

mod accounts;
mod api_keys;
mod audit;
mod buckets;
mod channels;
mod heap;
mod outbox;
mod room;
mod sessions;
mod tokens;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Store, StoreError};
use crate::bucket::MemoryBuckets;
use crate::{ApiKey, Channel, Workspace};

/// State that lives as long as the process. Clones share it.
///
/// At most 10,000 notifications wait. Beyond that the workspace with the most of them loses its
/// newest, and the log says so.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    sessions: sessions::Workspaces,
    accounts: accounts::AccountTable,
    tokens: tokens::TokenTable,
    /// By hash.
    api_keys: HashMap<String, ApiKey>,
    channels: HashMap<Workspace, Vec<Channel>>,
    audit: HashMap<Workspace, audit::Entries>,
    secrets: HashMap<String, String>,
    buckets: MemoryBuckets<String>,
    outbox: outbox::Queue,
    /// How much may be stored; `None`: any amount.
    limit: Option<room::Limit>,
}

impl MemoryStore {
    /// A store that holds at most this many MiB; 0: any number.
    ///
    /// Beyond that, whole sessions that ended or expired make room, those first that did so first; then
    /// the oldest statuses of the longest histories; and then no new agent or session is admitted, while
    /// reports on known sessions always are. An agent goes with its last session. Where known sessions
    /// themselves grow beyond it, those go that were reported on longest ago. What waits for delivery has
    /// a quarter of it.
    pub fn of_mib(mib: u32) -> Self {
        let limit = room::Limit::of_mib(mib);
        let outbox = limit.map(|limit| outbox::Queue::of_bytes(limit.of_outbox()));
        let outbox = outbox.unwrap_or_default();
        let state = State {
            limit,
            outbox,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No operation leaves the state half changed when it panics: each checks, then changes.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    const DURABLE: bool = false;

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn secret(&self, name: &str, candidate: &str) -> Result<String, StoreError> {
        let mut state = self.lock();
        let secret = state.secrets.entry(name.to_owned());
        Ok(secret.or_insert_with(|| candidate.to_owned()).clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    /// One store for all cases, in turn: none may trip over what others left.
    static STORE: LazyLock<Mutex<MemoryStore>> = LazyLock::new(Mutex::default);

    fn run(case: &str, test: impl AsyncFnOnce(&MemoryStore, &str)) {
        let store = STORE.lock().unwrap_or_else(PoisonError::into_inner);
        futures_executor::block_on(test(&store, case));
    }

    crate::store_suite!(run);

    #[test]
    fn registration_mails_are_leased_until_they_are_settled() {
        let store = MemoryStore::default();
        let case = crate::store::suite::registration_mails_are_leased_until_they_are_settled;
        futures_executor::block_on(case(&store, "mails"));
    }

    #[test]
    fn accounts_are_listed_page_by_page() {
        let case = crate::store::suite::accounts_are_listed_page_by_page;
        run("account list", async |store: &_, tag: &_| {
            case(store, tag).await;
        });
    }

    #[test]
    fn what_is_stored_is_counted() {
        let case = crate::store::suite::what_is_stored_is_counted;
        futures_executor::block_on(case(&MemoryStore::default(), "census"));
    }

    #[test]
    fn what_a_clock_that_was_ahead_let_rest_is_due() {
        let case = crate::store::suite::what_a_clock_that_was_ahead_let_rest_is_due;
        futures_executor::block_on(case(&MemoryStore::default(), "rest"));
    }

    #[test]
    fn agents_with_new_names_are_known() {
        run("new names", async |store: &_, tag: &_| {
            let renamed = async |ws: &_, since, limit| store.renamed_since(ws, since, limit).await;
            crate::store::suite::agents_with_new_names_are_known(store, tag, renamed).await;
        });
    }
}
