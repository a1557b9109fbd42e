//! Append-only lists: the newest items stand in a head document, older ones in numbered pages.
//!
//! An item's page is known when it is appended, since a page is always the whole tail. A page is
//! written before the head that counts it. Until a head counts it, it means nothing; what a writer
//! that crashed or lost its race has left there is a beginning of what the next one writes.

use std::collections::BinaryHeap;

use kubeagents_core::{StoreError, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::documents::{Documents, is_zero};
use crate::{KeyValue, micros};

/// An item of a list in the order of time. `Ord` is the order of reading: the greatest comes first.
pub(crate) trait Item: Ord + Serialize + DeserializeOwned {
    /// Its time.
    fn instant(&self) -> Timestamp;
    /// Its size as a document, roughly, in bytes.
    fn size(&self) -> usize;
}

/// A list as its head document holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Log<T> {
    /// Number of pages.
    pub(crate) pages: u64,
    /// The latest instant on any page.
    #[serde(with = "micros::option")]
    paged: Option<Timestamp>,
    /// The latest instant of any item.
    #[serde(with = "micros::option")]
    latest: Option<Timestamp>,
    /// Largest lag, in microseconds, of any item behind one appended before it: clocks differ, and
    /// writers overtake one another.
    lag: i64,
    /// The items that are on no page yet, oldest first.
    pub(crate) tail: Vec<T>,
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self {
            pages: 0,
            paged: None,
            latest: None,
            lag: 0,
            tail: Vec::new(),
        }
    }
}

/// A page as it is stored, its items oldest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Page<T> {
    /// The latest instant on any older page.
    #[serde(with = "micros::option")]
    older: Option<Timestamp>,
    /// Number of items that were here and have been removed.
    #[serde(default, skip_serializing_if = "is_zero")]
    removed: usize,
    pub(crate) items: Vec<T>,
}

impl<T> Page<T> {
    /// Number of items that were written here. A writer that was held up is not to bring back those
    /// that have been removed since.
    fn written(&self) -> usize {
        self.items.len() + self.removed
    }

    /// Removes all items but these; returns false if there is none to remove.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) -> bool {
        let written = self.written();
        let before = self.items.len();
        self.items.retain(keep);
        self.removed = written - self.items.len();
        self.items.len() < before
    }
}

pub(crate) fn page_key(list: &str, page: u64) -> String {
    format!("{list}/{page}")
}

impl<T> Log<T> {
    /// An empty list that goes on counting pages.
    pub(crate) fn counting(pages: u64) -> Self {
        Self {
            pages,
            ..Self::default()
        }
    }
}

impl<T: Item> Log<T> {
    pub(crate) fn push(&mut self, item: T) {
        let instant = item.instant();
        if let Some(latest) = self.latest {
            self.lag = self
                .lag
                .max((latest - instant).num_microseconds().unwrap_or(i64::MAX));
        }
        self.latest = self.latest.max(Some(instant));
        self.tail.push(item);
    }

    pub(crate) fn extend(&mut self, items: impl IntoIterator<Item = T>) {
        items.into_iter().for_each(|item| self.push(item));
    }

    /// The latest instant of any item.
    pub(crate) fn latest(&self) -> Option<Timestamp> {
        self.latest
    }

    /// The size of the tail, roughly, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.tail.iter().map(Item::size).sum()
    }

    /// Makes the tail a page. It counts once the head is written.
    pub(crate) async fn flush<K: KeyValue>(
        &mut self,
        documents: &Documents<K>,
        list: &str,
    ) -> Result<(), StoreError> {
        let page = Page {
            older: self.paged,
            removed: 0,
            items: std::mem::take(&mut self.tail),
        };
        let longer = |there: &Page<T>| there.written() >= page.items.len();
        documents
            .grow(&page_key(list, self.pages), &page, None, longer)
            .await?;
        self.pages += 1;
        self.paged = self.latest;
        Ok(())
    }
}

/// Reads a list, newest first, as far as it is asked to.
pub(crate) struct Reader<'a, K, T> {
    documents: &'a Documents<K>,
    list: String,
    unread: u64,
    /// The latest instant on the pages not read yet.
    bound: Option<Timestamp>,
    ready: BinaryHeap<T>,
}

impl<'a, K: KeyValue, T: Item> Reader<'a, K, T> {
    /// Begins at the newest item, or where items as old as `from` may be.
    pub(crate) async fn new(
        documents: &'a Documents<K>,
        list: String,
        log: Log<T>,
        from: Option<Timestamp>,
    ) -> Result<Self, StoreError> {
        let mut reader = Self {
            documents,
            list,
            unread: log.pages,
            bound: log.paged,
            ready: BinaryHeap::from(log.tail),
        };
        if let Some(from) = from {
            reader.skip_to(from, log.lag).await?;
        }
        Ok(reader)
    }

    /// Leaves out the newest pages as far as all they hold is later than `from`: an item is never
    /// further than `lag` behind the pages before its own.
    async fn skip_to(&mut self, from: Timestamp, lag: i64) -> Result<(), StoreError> {
        let from = from.timestamp_micros();
        let later = |older: Option<Timestamp>| {
            older.is_some_and(|older| older.timestamp_micros().saturating_sub(lag) > from)
        };
        let mut low = if later(self.bound) { 0 } else { self.unread };
        while low < self.unread {
            let middle = low + (self.unread - low) / 2;
            let older = self.page(middle).await?.older;
            if later(older) {
                self.unread = middle;
                self.bound = older;
            } else {
                low = middle + 1;
            }
        }
        Ok(())
    }

    async fn page(&self, page: u64) -> Result<Page<T>, StoreError> {
        read_page(self.documents, &self.list, page).await
    }

    /// Adds items that are kept elsewhere.
    pub(crate) fn extend(&mut self, items: impl IntoIterator<Item = T>) {
        self.ready.extend(items);
    }

    /// The next item.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, StoreError> {
        loop {
            let settled = |item: &T| self.unread == 0 || Some(item.instant()) > self.bound;
            if self.ready.peek().is_some_and(settled) {
                return Ok(self.ready.pop());
            }
            if self.unread == 0 {
                return Ok(None);
            }
            self.unread -= 1;
            let page = self.page(self.unread).await?;
            self.bound = page.older;
            self.ready.extend(page.items);
        }
    }
}

/// The page of a list that a head counts.
pub(crate) async fn read_page<K: KeyValue, T: Item>(
    documents: &Documents<K>,
    list: &str,
    page: u64,
) -> Result<Page<T>, StoreError> {
    let key = page_key(list, page);
    let found = documents.read(&key).await?;
    found
        .map(|document| document.value)
        .ok_or_else(|| StoreError::unavailable(format!("the document {key} is gone")))
}
