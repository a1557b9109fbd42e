//! API keys, remembered for a moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kubeagents_core::{AccountId, ApiKey, Timestamp};
use kubeagents_store_postgres::ApiKeyCache;

/// How long a key is remembered. Streams of events look at theirs once a second, so that another host's
/// revocation is noticed within five seconds.
const LIFETIME: Duration = Duration::from_secs(4);

/// Beyond this many keys, what is remembered is forgotten.
const CAPACITY: usize = 10_000;

#[derive(Debug, Clone, Default)]
pub(crate) struct Cache(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    by_hash: HashMap<String, (Instant, ApiKey)>,
    revocations: u64,
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock leaves the state half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ApiKeyCache for Cache {
    fn get(&self, key_hash: &str) -> Option<ApiKey> {
        let state = self.lock();
        let (since, key) = state.by_hash.get(key_hash)?;
        (since.elapsed() < LIFETIME).then(|| key.clone())
    }

    fn revocations(&self) -> u64 {
        self.lock().revocations
    }

    fn remember(&self, key: &ApiKey, revocations: u64) {
        let mut state = self.lock();
        if state.revocations != revocations {
            return;
        }
        if state.by_hash.len() >= CAPACITY {
            state.by_hash.clear();
        }
        let entry = (Instant::now(), key.clone());
        state.by_hash.insert(key.key_hash.clone(), entry);
    }

    fn touch(&self, key_hash: &str, now: Timestamp) {
        if let Some((_, key)) = self.lock().by_hash.get_mut(key_hash) {
            key.last_used_at = Some(now);
        }
    }

    fn revoke(&self, key_id: &str) {
        let mut state = self.lock();
        state.revocations += 1;
        state.by_hash.retain(|_, (_, key)| key.id != key_id);
    }

    fn revoke_all(&self, id: &AccountId) {
        let mut state = self.lock();
        state.revocations += 1;
        state.by_hash.retain(|_, (_, key)| key.account_id != *id);
    }
}
