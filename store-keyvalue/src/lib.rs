//! kubeagents' state on a key-value store that can compare and swap.
//!
//! [`KeyValueStore`] needs nothing of a backend but the four operations of [`KeyValue`]. The README
//! describes the documents. What holds everywhere: a change becomes visible by one
//! compare-and-swap, its commit point. What is written before it means nothing without it, and
//! what is written after it is implied by it.
#![forbid(unsafe_code)]

mod accounts;
mod api_keys;
mod audit;
mod buckets;
mod channels;
mod deletion;
mod deliveries;
mod documents;
mod key_value;
mod log;
mod micros;
mod outbox;
mod registrations;
mod roll;
mod sessions;
mod tokens;
mod watch;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use kubeagents_core::{Store, StoreError};

use api_keys::KeyDocument;
use documents::{Change, Document, Documents, Limits};
pub use key_value::{Entry, KeyValue, KeyValueError, Swap, Version};
use sessions::Loaded;

/// Number of reads of a kind that are remembered.
const REMEMBERED_READS: usize = 64;

/// A [`Store`] on a bucket that can compare and swap. Clones are the same store.
#[derive(Debug, Clone)]
pub struct KeyValueStore<K> {
    documents: Documents<K>,
    loads: Memory<String, Loaded>,
    keys: Memory<String, Document<KeyDocument>>,
}

/// Recent reads, kept for the write that follows. Only a shortcut: a swap notices when what was
/// read is not what is there any more.
#[derive(Debug)]
struct Memory<N, T>(Arc<Mutex<HashMap<N, T>>>);

impl<N, T> Clone for Memory<N, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<N: Eq + Hash, T> Memory<N, T> {
    fn remember(&self, name: N, read: T) {
        let mut reads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reads.len() >= REMEMBERED_READS {
            reads.clear();
        }
        reads.insert(name, read);
    }

    /// Takes out the read remembered under `name`: each is returned once.
    fn recall<Q: Eq + Hash + ?Sized>(&self, name: &Q) -> Option<T>
    where
        N: Borrow<Q>,
    {
        let mut reads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reads.remove(name)
    }
}

impl<K: KeyValue> KeyValueStore<K> {
    /// A store on this bucket.
    pub fn new(bucket: K) -> Self {
        Self::with_limits(bucket, Limits::default())
    }

    fn with_limits(bucket: K, limits: Limits) -> Self {
        Self {
            documents: Documents { bucket, limits },
            loads: Memory(Arc::default()),
            keys: Memory(Arc::default()),
        }
    }
}

impl<K: KeyValue> Store for KeyValueStore<K> {
    const DURABLE: bool = true;

    async fn ping(&self) -> Result<(), StoreError> {
        let key = documents::key("secret", &["ping"]);
        self.documents.read::<String>(&key).await.map(drop)
    }

    async fn secret(&self, name: &str, candidate: &str) -> Result<String, StoreError> {
        let key = documents::key("secret", &[name]);
        self.documents
            .update(&key, |secret: Option<String>| match secret {
                Some(secret) => (Change::Keep, secret),
                None => (Change::Write(candidate.to_owned()), candidate.to_owned()),
            })
            .await
    }
}
