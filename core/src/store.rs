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

use crate::{Agent, Session, Status};

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

/// The most bytes of rows in one page, beyond which only its last row may go.
pub const MAX_PAGE_BYTES: usize = 4 << 20;

/// A row of a list, which takes up a part of a page.
pub trait Row {
    /// Its texts' length in bytes, with an allowance for the rest of it.
    fn bytes(&self) -> usize;
}

impl<T: Row, C> Page<T, C> {
    /// The first of `rows`: `limit` of them, or as many as reach [`MAX_PAGE_BYTES`], whichever comes
    /// first; and the place of the last of them if more follow. No row after those is asked for but
    /// one.
    pub fn cut(
        rows: impl IntoIterator<Item = T>,
        limit: usize,
        place: impl FnOnce(&T) -> C,
    ) -> Self {
        let mut rows = rows.into_iter().fuse();
        let mut items = Vec::new();
        let mut bytes = 0;
        while items.len() < limit && bytes < MAX_PAGE_BYTES {
            let Some(row) = rows.next() else { break };
            bytes += row.bytes();
            items.push(row);
        }
        let next = rows.next().and_then(|_| items.last().map(place));
        Self { items, next }
    }
}

impl<T, C> Page<T, C> {
    /// A page of nothing.
    pub fn empty() -> Self {
        Self {
            items: Vec::new(),
            next: None,
        }
    }
}

/// What the names, times and numbers of a row take up in JSON.
const ROW_BYTES: usize = 300;

impl Row for Agent {
    fn bytes(&self) -> usize {
        let Self {
            agent_id,
            name,
            source,
            latest_message,
            ..
        } = self;
        ROW_BYTES + agent_id.len() + name.len() + source.len() + latest_message.len()
    }
}

impl Row for Session {
    fn bytes(&self) -> usize {
        ROW_BYTES + self.agent_id.len() + self.session_topic.len()
    }
}

impl Row for Status {
    fn bytes(&self) -> usize {
        let Self {
            agent_id,
            session_topic,
            message,
            content,
            ..
        } = self;
        ROW_BYTES + agent_id.len() + session_topic.len() + message.len() + content.len()
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

    /// Checks whether storage answers at all.
    fn ping(&self) -> impl Future<Output = Result<(), StoreError>>;

    /// The instance's secret of this name: `candidate` becomes it if there is none yet. Every host
    /// on one storage gets the same.
    fn secret(
        &self,
        name: &str,
        candidate: &str,
    ) -> impl Future<Output = Result<String, StoreError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sized(usize);

    impl Row for Sized {
        fn bytes(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn a_page_ends_at_its_rows_or_its_bytes() {
        let half = MAX_PAGE_BYTES / 2;
        for (rows, limit, kept, more) in [
            (&[][..], 2, 0, false),
            (&[1, 1], 2, 2, false),
            (&[1, 1, 1], 2, 2, true),
            (&[half, half, 1], 9, 2, true),
            (&[half, half], 9, 2, false),
            (&[half, half - 1, 1, 1], 9, 3, true),
            (&[9 * MAX_PAGE_BYTES, 1], 9, 1, true),
        ] {
            let page = Page::cut(rows.iter().copied().map(Sized), limit, |row| row.0);
            assert_eq!(page.items.len(), kept, "{rows:?} {limit}");
            assert_eq!(page.next.is_some(), more, "{rows:?} {limit}");
        }
    }
}
