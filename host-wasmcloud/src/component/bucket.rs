//! A bucket of the platform's key-value interface.

use std::cell::Cell;
use std::rc::Rc;

use kubeagents_core::{StoreError, yield_now};
use kubeagents_store_keyvalue::{Entry, KeyValue, KeyValueError, Swap, Version};

use super::bindings::wasmcloud::keyvalue::{cas, store, types};

/// How many documents are read before others have a turn. A bucket in memory answers at once, so that a
/// list would never make way.
const READS_AT_ONCE: u32 = 16;

/// Clones are the same bucket.
#[derive(Clone)]
pub(super) struct Bucket {
    bucket: Rc<types::Bucket>,
    name: Rc<str>,
    cannot_swap: Rc<Cell<bool>>,
    reads: Rc<Cell<u32>>,
}

/// The platform refused an operation.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("there is no bucket \"{0}\"; on NATS, create it with `nats kv add {0}`")]
    NoSuchBucket(String),
    #[error("{0:?}")]
    Other(types::Error),
}

impl Bucket {
    pub(super) async fn open(name: &str) -> Result<Self, StoreError> {
        let bucket = store::open(name.to_owned()).await;
        let bucket = bucket.map_err(|error| StoreError::unavailable(failure(error, name)))?;
        Ok(Self {
            bucket: Rc::new(bucket),
            name: name.into(),
            cannot_swap: Rc::default(),
            reads: Rc::default(),
        })
    }

    /// Returns true once the backend has turned out to lack compare-and-swap.
    pub(super) fn cannot_swap(&self) -> bool {
        self.cannot_swap.get()
    }

    fn failure(&self, error: types::Error) -> KeyValueError {
        let failure = failure(error, &self.name);
        if matches!(failure, KeyValueError::Unsupported) {
            self.cannot_swap.set(true);
        }
        failure
    }
}

fn failure(error: types::Error, bucket: &str) -> KeyValueError {
    match error {
        // The interface has no case for it, only this text.
        types::Error::Other(text) if text.contains("compare-and-swap is not supported") => {
            KeyValueError::Unsupported
        }
        types::Error::NoSuchStore => {
            KeyValueError::Failed(Refused::NoSuchBucket(bucket.to_owned()).into())
        }
        other => KeyValueError::Failed(Box::new(Refused::Other(other))),
    }
}

fn entry(entry: cas::Entry) -> Entry {
    Entry {
        value: entry.value,
        version: Version(entry.version),
    }
}

impl KeyValue for Bucket {
    async fn get(&self, key: &str) -> Result<Option<Entry>, KeyValueError> {
        let reads = self.reads.get().wrapping_add(1);
        self.reads.set(reads);
        if reads.is_multiple_of(READS_AT_ONCE) {
            yield_now().await;
        }
        let found = cas::current(&self.bucket, key.to_owned()).await;
        let found = found.map_err(|error| self.failure(error))?;
        Ok(found.map(entry))
    }

    async fn create(&self, key: &str, value: Vec<u8>) -> Result<bool, KeyValueError> {
        let options = types::SetOptions {
            ttl_ms: None,
            if_not_exists: true,
        };
        match self.bucket.set(key.to_owned(), value, Some(options)).await {
            Ok(()) => Ok(true),
            Err(types::Error::PreconditionFailed) => Ok(false),
            Err(error) => Err(self.failure(error)),
        }
    }

    async fn swap(
        &self,
        key: &str,
        value: Vec<u8>,
        version: &Version,
    ) -> Result<Swap, KeyValueError> {
        let options = cas::CasOptions {
            require_version: Some(version.0.clone()),
            require_value: None,
        };
        match cas::swap(&self.bucket, key.to_owned(), value, options).await {
            Ok(cas::CasResult::Swapped) => Ok(Swap::Swapped),
            Ok(cas::CasResult::Stale(current)) => Ok(Swap::Stale(current.map(entry))),
            Err(error) => Err(self.failure(error)),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        let deleted = self.bucket.delete(key.to_owned()).await;
        deleted.map_err(|error| self.failure(error))
    }
}
