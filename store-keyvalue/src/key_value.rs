//! What the store asks of a key-value backend: four operations on one key each.

use std::error::Error;

/// A version of one key's value, opaque but for equality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

/// A value with the version that a later [`KeyValue::swap`] requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The bytes.
    pub value: Vec<u8>,
    /// Changes with every write of the key, also when the same bytes are written again.
    pub version: Version,
}

/// Outcome of a swap.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a stale swap has written nothing"]
pub enum Swap {
    /// The new value is stored.
    Swapped,
    /// The version had moved and nothing is stored: this is there now.
    Stale(Option<Entry>),
}

/// Failure of a backend.
#[derive(Debug, thiserror::Error)]
pub enum KeyValueError {
    /// It cannot compare and swap at all.
    #[error("the key-value backend has no compare-and-swap: use in-memory or nats")]
    Unsupported,
    /// Anything else. Whether a write took effect may be unknown.
    #[error("the key-value backend failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// A bucket of a key-value backend.
///
/// Keys hold only letters, digits, `/`, `-` and `.`; values stay below 1 MiB.
pub trait KeyValue {
    /// The value of a key; `None` when there is none.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Entry>, KeyValueError>>;

    /// Stores a value unless the key has one; whether it did.
    fn create(
        &self,
        key: &str,
        value: Vec<u8>,
    ) -> impl Future<Output = Result<bool, KeyValueError>>;

    /// Replaces the value of a key that still has this version.
    fn swap(
        &self,
        key: &str,
        value: Vec<u8>,
        version: &Version,
    ) -> impl Future<Output = Result<Swap, KeyValueError>>;

    /// Removes a key, whatever its version. Only for what nobody will write again.
    fn delete(&self, key: &str) -> impl Future<Output = Result<(), KeyValueError>>;
}

impl<K: KeyValue> KeyValue for &K {
    async fn get(&self, key: &str) -> Result<Option<Entry>, KeyValueError> {
        (**self).get(key).await
    }

    async fn create(&self, key: &str, value: Vec<u8>) -> Result<bool, KeyValueError> {
        (**self).create(key, value).await
    }

    async fn swap(
        &self,
        key: &str,
        value: Vec<u8>,
        version: &Version,
    ) -> Result<Swap, KeyValueError> {
        (**self).swap(key, value, version).await
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        (**self).delete(key).await
    }
}
