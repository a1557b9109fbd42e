//! Storage: the state of an instance, behind one trait for each noun. A store executes and never
//! decides: it does not know what a status means.
//!
//! Every implementation passes the shared suite (feature `store-suite`).

use std::error::Error;

mod accounts;
mod api_keys;
mod memory;
mod outbox;
mod sessions;
#[cfg(feature = "store-suite")]
pub mod suite;
mod tokens;

pub use crate::paging::{AgentCursor, HistoryCursor, SessionCursor};
pub use accounts::{Accounts, Audience, Registration};
pub use api_keys::ApiKeys;
pub use memory::MemoryStore;
pub use outbox::{LeaseRequest, LeasedNotification, Outbox};
pub use sessions::{AgentQuery, CommitOutcome, Expiry, SessionHistory, SessionQuery, Sessions};
pub use tokens::RefreshTokens;

/// Why storage did not do what it was asked. Clients see 503 for either.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Storage did not answer, or answered with a failure. Whether a commit took effect may be
    /// unknown.
    #[error("storage is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// Storage refused what it was asked, and nothing was stored. A part of it, alone, may pass.
    #[error("storage refused the operation")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
    /// Others were at the same rows for too long; nothing was stored.
    #[error("storage is too contended")]
    Contended,
}

impl StoreError {
    /// Wraps the failure of a driver.
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, C> {
    /// The rows, in the list's order. May be fewer than the limit even where more follow.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<C>,
}

impl<T, C> Page<T, C> {
    /// The first `limit` of `rows`, and the place of the last of them if more follow.
    pub fn cut(
        rows: impl IntoIterator<Item = T>,
        limit: usize,
        place: impl FnOnce(&T) -> C,
    ) -> Self {
        let mut rows = rows.into_iter().fuse();
        let items: Vec<T> = rows.by_ref().take(limit).collect();
        let next = rows.next().and_then(|_| items.last().map(place));
        Self { items, next }
    }

    /// A page of nothing.
    pub fn empty() -> Self {
        Self {
            items: Vec::new(),
            next: None,
        }
    }
}

/// Durable (or, in memory, living) state. Each operation is atomic; a successful answer means that
/// it is stored. Futures that are dropped midway leave an operation done or not done, never half.
///
/// `now` is the caller's clock wherever expiry is a question; nothing expires by itself.
pub trait Store: Sessions + Accounts + RefreshTokens + ApiKeys + Outbox {
    /// Whether what is queued in the outbox survives the process, so that delivery can be tried
    /// for longer than a moment.
    const DURABLE: bool;

    /// Whether storage answers at all.
    fn ping(&self) -> impl Future<Output = Result<(), StoreError>>;

    /// The instance's secret of this name: `candidate` becomes it if there is none yet. Every host
    /// on one storage gets the same.
    fn secret(
        &self,
        name: &str,
        candidate: &str,
    ) -> impl Future<Output = Result<String, StoreError>>;
}
