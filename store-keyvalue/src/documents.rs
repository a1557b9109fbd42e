//! Reading and writing documents: JSON values under hashed keys.

use futures_util::{StreamExt, TryStreamExt, stream};
use kubeagents_core::{StoreError, sha256_hex};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Entry, KeyValue, KeyValueError, Swap, Version};

/// Number of rounds of lost races that an update survives. Each round that is lost is one that
/// another writer has won, so only a very crowded document gets this far.
const MAX_ROUNDS: u32 = 200;

/// Number of documents asked for at once where many are needed.
const READS_AT_ONCE: usize = 32;

/// A document as it was read, with what it takes to replace it.
#[derive(Debug, Clone)]
pub(crate) struct Document<T> {
    pub(crate) value: T,
    pub(crate) version: Version,
}

/// Effect of an update on a document.
pub(crate) enum Change<T> {
    /// Leaves it.
    Keep,
    /// Creates or replaces it.
    Write(T),
}

/// The key of a document: its kind, and the hash of what names it. The separator is a character
/// that no stored text can hold, so different names never hash the same bytes.
pub(crate) fn key(kind: &str, names: &[&str]) -> String {
    format!("{kind}/{}", sha256_hex(names.join("\0")))
}

/// Checks whether a number is left out of a document, which means 0 there.
pub(crate) fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// Computes the size of a text in a document, in bytes, without its quotation marks.
pub(crate) fn json_size(text: &str) -> usize {
    let size = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        ..b' ' => 6,
        _ => 1,
    };
    text.bytes().map(size).sum()
}

/// Counts rounds of a compare-and-swap loop.
#[derive(Default)]
pub(crate) struct Rounds(u32);

impl Rounds {
    /// Notes a lost race.
    pub(crate) fn lost(&mut self) -> Result<(), StoreError> {
        self.0 += 1;
        if self.0 < MAX_ROUNDS {
            Ok(())
        } else {
            Err(StoreError::Contended)
        }
    }
}

/// Limits to which documents grow before a part of them moves to documents of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The bytes from which the tail of a list becomes a page. What one swap adds comes on top,
    /// less than 300 KiB, so that no document comes near a mebibyte.
    pub(crate) tail_bytes: usize,
    /// The most sessions, and the bytes of them, that an agent's head holds.
    pub(crate) hot_sessions: usize,
    pub(crate) hot_bytes: usize,
    /// The bytes from which an agent's head is tidied up at any cost.
    pub(crate) crowded_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tail_bytes: 16 * 1024,
            hot_sessions: 32,
            hot_bytes: 32 * 1024,
            crowded_bytes: 256 * 1024,
        }
    }
}

/// The documents of a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Documents<K> {
    pub(crate) bucket: K,
    pub(crate) limits: Limits,
}

fn unavailable(error: KeyValueError) -> StoreError {
    StoreError::unavailable(error)
}

pub(crate) fn encode(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(StoreError::unavailable)
}

pub(crate) fn decode<T: DeserializeOwned>(entry: Entry) -> Result<Document<T>, StoreError> {
    Ok(Document {
        value: serde_json::from_slice(&entry.value).map_err(StoreError::unavailable)?,
        version: entry.version,
    })
}

impl<K: KeyValue> Documents<K> {
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<Document<T>>, StoreError> {
        let entry = self.bucket.get(key).await.map_err(unavailable)?;
        entry.map(decode).transpose()
    }

    /// Reads many documents at once, in the order of their keys.
    pub(crate) async fn read_all<T: DeserializeOwned>(
        &self,
        keys: impl IntoIterator<Item = String>,
    ) -> Result<Vec<Option<Document<T>>>, StoreError> {
        stream::iter(keys)
            .map(|key| async move { self.read(&key).await })
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await
    }

    pub(crate) async fn create(
        &self,
        key: &str,
        value: &impl Serialize,
    ) -> Result<bool, StoreError> {
        self.bucket
            .create(key, encode(value)?)
            .await
            .map_err(unavailable)
    }

    /// Writes a document, whatever is there.
    pub(crate) async fn put<T: Serialize + DeserializeOwned + Clone>(
        &self,
        key: &str,
        value: &T,
    ) -> Result<(), StoreError> {
        self.update(key, |_: Option<T>| (Change::Write(value.clone()), ()))
            .await
    }

    /// Replaces a document; where another was faster, `Some` of what is there now (if anything).
    pub(crate) async fn swap<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        value: &T,
        version: &Version,
    ) -> Result<Option<Option<Document<T>>>, StoreError> {
        match self
            .bucket
            .swap(key, encode(value)?, version)
            .await
            .map_err(unavailable)?
        {
            Swap::Swapped => Ok(None),
            Swap::Stale(entry) => entry.map(decode).transpose().map(Some),
        }
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.bucket.delete(key).await.map_err(unavailable)
    }

    /// Changes one document as one step: `change` sees what is there and says what shall be, again
    /// whenever another writer was faster.
    pub(crate) async fn update<T: Serialize + DeserializeOwned, R>(
        &self,
        key: &str,
        change: impl FnMut(Option<T>) -> (Change<T>, R),
    ) -> Result<R, StoreError> {
        let current = self.read(key).await?;
        self.update_from(key, current, change).await
    }

    /// [`Documents::update`] of a document that has been read before.
    pub(crate) async fn update_from<T: Serialize + DeserializeOwned, R>(
        &self,
        key: &str,
        mut current: Option<Document<T>>,
        mut change: impl FnMut(Option<T>) -> (Change<T>, R),
    ) -> Result<R, StoreError> {
        let mut rounds = Rounds::default();
        loop {
            let (value, version) = match current {
                Some(Document { value, version }) => (Some(value), Some(version)),
                None => (None, None),
            };
            let (change, result) = change(value);
            let Change::Write(value) = change else {
                return Ok(result);
            };
            current = match version {
                Some(version) => match self.swap(key, &value, &version).await? {
                    None => return Ok(result),
                    Some(current) => current,
                },
                None if self.create(key, &value).await? => return Ok(result),
                None => self.read(key).await?,
            };
            rounds.lost()?;
        }
    }

    /// Changes a document until it holds at least what `value` does: `covers` tells whether what
    /// is there need not be replaced. What is there only ever grows, so a writer that was held up
    /// cannot undo what came after it.
    pub(crate) async fn grow<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        value: &T,
        known: Option<&Version>,
        covers: impl Fn(&T) -> bool,
    ) -> Result<(), StoreError> {
        let mut rounds = Rounds::default();
        let mut known = known.cloned();
        loop {
            let current = match &known {
                Some(version) => match self.swap(key, value, version).await? {
                    None => return Ok(()),
                    Some(current) => current,
                },
                None if self.create(key, value).await? => return Ok(()),
                None => self.read(key).await?,
            };
            if current
                .as_ref()
                .is_some_and(|document| covers(&document.value))
            {
                return Ok(());
            }
            known = current.map(|document| document.version);
            rounds.lost()?;
        }
    }
}
