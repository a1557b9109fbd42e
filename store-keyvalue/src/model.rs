//! A key-value backend in memory that misbehaves as real ones may: operations of several writers
//! interleave, swaps lose races, and a writer can die before or after any operation.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use crate::{Entry, KeyValue, KeyValueError, Swap, Version};

/// NATS' default limit of a message, headers included.
const MAX_VALUE_BYTES: usize = 1024 * 1024 - 4096;

/// A bucket; clones are other clients of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bucket {
    state: Arc<Mutex<State>>,
    /// Remaining life of this client; `None`: it does not die.
    life: Arc<Mutex<Option<Life>>>,
    /// Of how many swaps one loses a race against a writer that writes the same again.
    lose_one_in: Option<u64>,
    /// A key whose swaps always lose.
    crowded: Option<String>,
    hold: Option<Hold>,
}

/// What holds a client up after some operations, until it is released. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Hold(Arc<Mutex<Held>>);

#[derive(Debug)]
struct Held {
    /// The operations that come before it.
    operations: u64,
    reached: bool,
    released: bool,
}

impl Hold {
    pub(crate) fn after(operations: u64) -> Self {
        Self(Arc::new(Mutex::new(Held {
            operations,
            reached: false,
            released: false,
        })))
    }

    /// Waits until the client is held up, or [`Hold::release`] says that it never will be.
    pub(crate) async fn reached(&self) {
        self.until(|held| held.reached || held.released).await;
    }

    pub(crate) fn release(&self) {
        self.0.lock().unwrap().released = true;
    }

    /// Passes, or holds the client up.
    async fn pass(&self) {
        self.until(|held| {
            held.reached |= held.operations == 0;
            held.operations = held.operations.saturating_sub(1);
            !held.reached || held.released
        })
        .await;
    }

    async fn until(&self, mut is_over: impl FnMut(&mut Held) -> bool) {
        std::future::poll_fn(|context| {
            if is_over(&mut self.0.lock().unwrap()) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<String, (Vec<u8>, u64)>,
    writes: u64,
    operations: u64,
    random: u64,
    largest: usize,
}

/// Remaining life of a client, and how it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    /// The operations that it still completes.
    pub(crate) operations: u64,
    /// True if the operation after them takes effect, though its client never learns of it.
    pub(crate) last_takes_effect: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the writer has died")]
struct Died;

impl State {
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn entry(&self, key: &str) -> Option<Entry> {
        self.entries.get(key).map(|(value, version)| Entry {
            value: value.clone(),
            version: Version(version.to_string()),
        })
    }

    fn put(&mut self, key: &str, value: Vec<u8>) {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"/=_-.".contains(&c);
        assert!(
            key.bytes().all(allowed) && key.len() < 256,
            "a key that NATS refuses: {key}"
        );
        assert!(
            value.len() < MAX_VALUE_BYTES,
            "{key} has {} bytes",
            value.len()
        );
        self.largest = self.largest.max(value.len());
        self.writes += 1;
        self.entries.insert(key.to_owned(), (value, self.writes));
    }
}

impl Bucket {
    /// A bucket whose swaps often lose.
    pub(crate) fn contended() -> Self {
        Self {
            lose_one_in: Some(8),
            ..Self::default()
        }
    }

    /// Another client, whose swaps of this key always lose.
    pub(crate) fn crowded(&self, key: String) -> Self {
        Self {
            crowded: Some(key),
            ..self.clone()
        }
    }

    /// Another client, which dies as told.
    pub(crate) fn mortal(&self, life: Life) -> Self {
        Self {
            life: Arc::new(Mutex::new(Some(life))),
            ..self.clone()
        }
    }

    /// Another client, which is held up as told.
    pub(crate) fn held(&self, hold: Hold) -> Self {
        Self {
            hold: Some(hold),
            ..self.clone()
        }
    }

    /// Returns the number of operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.state.lock().unwrap().operations
    }

    /// The keys that have values.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap().entries.keys().cloned().collect()
    }

    /// The largest value ever written, in bytes.
    pub(crate) fn largest(&self) -> usize {
        self.state.lock().unwrap().largest
    }

    async fn operate<R>(
        &self,
        operation: impl FnOnce(&mut State) -> R,
    ) -> Result<R, KeyValueError> {
        if let Some(hold) = &self.hold {
            hold.pass().await;
        }
        let turns = Cell::new(self.state.lock().unwrap().random() % 4);
        std::future::poll_fn(|context| {
            if turns.get() == 0 {
                return Poll::Ready(());
            }
            turns.set(turns.get() - 1);
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        let mut state = self.state.lock().unwrap();
        state.operations += 1;
        let died = || KeyValueError::Failed(Box::new(Died));
        match &mut *self.life.lock().unwrap() {
            None => {}
            Some(Life { operations, .. }) if *operations > 0 => *operations -= 1,
            Some(life) => {
                if std::mem::replace(&mut life.last_takes_effect, false) {
                    operation(&mut state);
                }
                return Err(died());
            }
        }
        Ok(operation(&mut state))
    }
}

impl KeyValue for Bucket {
    async fn get(&self, key: &str) -> Result<Option<Entry>, KeyValueError> {
        self.operate(|state| state.entry(key)).await
    }

    async fn create(&self, key: &str, value: Vec<u8>) -> Result<bool, KeyValueError> {
        self.operate(|state| {
            let absent = !state.entries.contains_key(key);
            if absent {
                state.put(key, value);
            }
            absent
        })
        .await
    }

    async fn swap(
        &self,
        key: &str,
        value: Vec<u8>,
        version: &Version,
    ) -> Result<Swap, KeyValueError> {
        self.operate(|state| {
            let loses = self.crowded.as_deref() == Some(key)
                || self.lose_one_in.is_some_and(|n| state.random() % n == 0);
            if loses && let Some(entry) = state.entry(key) {
                state.put(key, entry.value);
            }
            let current = state.entry(key);
            if current
                .as_ref()
                .is_some_and(|entry| entry.version == *version)
            {
                state.put(key, value);
                Swap::Swapped
            } else {
                Swap::Stale(current)
            }
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.operate(|state| {
            state.entries.remove(key);
        })
        .await
    }
}
