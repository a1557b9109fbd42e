//! Removing what limited histories no longer keep.

use std::collections::HashMap;

use kubeagents_core::{StoreError, Workspace};

use super::{Head, HistoryEntry};
use crate::documents::Document;
use crate::log::{Page, page_key};
use crate::{KeyValue, KeyValueStore};

/// How many times as far back as the one before it lies each page that is looked at.
const STRIDE: u64 = 4;

impl<K: KeyValue> KeyValueStore<K> {
    /// Removes what sessions no longer keep from the newest of so many pages, and from those 4, 16, 64…
    /// pages back. Called whenever there is one more, this comes to every page time and again: what its
    /// session loses while on the page is gone before the page is four times as far back, and the work
    /// is the logarithm of the history's length.
    pub(super) async fn sweep(
        &self,
        workspace: &Workspace,
        list: &str,
        pages: u64,
        head: &Head,
    ) -> Result<(), StoreError> {
        let mut gone = HashMap::new();
        let mut back = 1;
        while let Some(number) = pages.checked_sub(back) {
            back *= STRIDE;
            let key = page_key(list, number);
            let found = self.documents.read(&key).await?;
            let Some(Document::<Page<HistoryEntry>> {
                value: mut page,
                version,
            }) = found
            else {
                continue;
            };
            self.find_gone(workspace, head, &page.items, &mut gone)
                .await?;
            let is_needed = |entry: &HistoryEntry| {
                let gone = gone.get(&entry.topic).copied().unwrap_or(0);
                entry.is_needed(gone, head.last_seen)
            };
            if page.retain(is_needed) {
                // Where another host was faster, it has removed as much.
                self.documents.swap(&key, &page, &version).await?;
            }
        }
        Ok(())
    }
}
