//! Sets of names, the newest in a head document, older ones in numbered pages. A name is added before
//! what it names is created, so readers skip names of what does not exist.

use std::collections::BTreeSet;

use kubeagents_core::StoreError;
use serde::{Deserialize, Serialize};

use crate::KeyValue;
use crate::documents::{Change, Document, Documents, Rounds, is_zero};
use crate::log::page_key;

/// The head document.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Roll {
    /// Number of pages that have been taken out, which were the first. No number is given twice.
    #[serde(default, skip_serializing_if = "is_zero")]
    taken: u64,
    pages: u64,
    /// Number of names on the pages. Rolls that have not begun a page since there is a count lack it.
    #[serde(default, skip_serializing_if = "is_zero")]
    paged: u64,
    tail: Vec<String>,
}

/// Some of the names of a roll.
pub(crate) struct Part {
    pub(crate) names: Vec<String>,
    /// The page that they are on; `None`: the head.
    page: Option<u64>,
}

impl Roll {
    /// Adds a name, unless it is among the newest already. A name that two writers add at once may
    /// stand there twice.
    pub(crate) async fn add<K: KeyValue>(
        documents: &Documents<K>,
        list: &str,
        name: &str,
    ) -> Result<(), StoreError> {
        let added = Self::add_if(documents, list, name, async |_| Ok(true));
        added.await.map(drop)
    }

    /// Adds a name to a roll that `admits` it; false if it does not. Nothing is added in between.
    pub(crate) async fn add_if<K: KeyValue>(
        documents: &Documents<K>,
        list: &str,
        name: &str,
        admits: impl AsyncFn(&Self) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let mut rounds = Rounds::default();
        let mut current: Option<Document<Self>> = documents.read(list).await?;
        loop {
            let (mut roll, version) = match current {
                Some(Document { value, version }) => (value, Some(version)),
                None => (Self::default(), None),
            };
            if roll.tail.iter().any(|known| known == name) {
                return Ok(true);
            }
            if !admits(&roll).await? {
                return Ok(false);
            }
            if roll.tail.iter().map(String::len).sum::<usize>() > documents.limits.tail_bytes {
                roll.paged = match roll.paged == 0 && roll.taken < roll.pages {
                    true => roll.names(documents, list).await?.len() as u64,
                    false => roll.paged + roll.tail.len() as u64,
                };
                let page = std::mem::take(&mut roll.tail);
                let longer = |there: &Vec<String>| there.len() >= page.len();
                documents
                    .grow(&page_key(list, roll.pages), &page, None, longer)
                    .await?;
                roll.pages += 1;
            }
            roll.tail.push(name.to_owned());
            current = match version {
                Some(version) => match documents.swap(list, &roll, &version).await? {
                    None => return Ok(true),
                    Some(current) => current,
                },
                None if documents.create(list, &roll).await? => return Ok(true),
                None => documents.read(list).await?,
            };
            rounds.lost()?;
        }
    }

    /// Number of names, perhaps a few more: those that two writers added at once, or that were not
    /// among the newest any more.
    pub(crate) async fn count<K: KeyValue>(
        documents: &Documents<K>,
        list: &str,
    ) -> Result<u64, StoreError> {
        let roll = documents.read::<Self>(list).await?;
        Ok(roll.map_or(0, |roll| roll.value.paged + roll.value.tail.len() as u64))
    }

    /// All names, each once.
    pub(crate) async fn read<K: KeyValue>(
        documents: &Documents<K>,
        list: &str,
    ) -> Result<BTreeSet<String>, StoreError> {
        match documents.read::<Self>(list).await? {
            Some(roll) => roll.value.names(documents, list).await,
            None => Ok(BTreeSet::new()),
        }
    }

    /// All names, each once.
    pub(crate) async fn names<K: KeyValue>(
        &self,
        documents: &Documents<K>,
        list: &str,
    ) -> Result<BTreeSet<String>, StoreError> {
        let keys = (self.taken..self.pages).map(|page| page_key(list, page));
        let pages = documents.read_all::<Vec<String>>(keys).await?;
        let paged = pages.into_iter().flatten().flat_map(|page| page.value);
        Ok(paged.chain(self.tail.iter().cloned()).collect())
    }

    /// Some of the names, a bounded number of them; there are none when none is left.
    pub(crate) async fn part<K: KeyValue>(
        documents: &Documents<K>,
        list: &str,
    ) -> Result<Part, StoreError> {
        let roll = documents.read::<Self>(list).await?;
        let Self {
            taken, pages, tail, ..
        } = roll.map(|roll| roll.value).unwrap_or_default();
        if taken == pages {
            return Ok(Part {
                names: tail,
                page: None,
            });
        }
        let page = documents
            .read::<Vec<String>>(&page_key(list, taken))
            .await?;
        Ok(Part {
            names: page.map(|page| page.value).unwrap_or_default(),
            page: Some(taken),
        })
    }

    /// Takes out what [`Roll::part`] returned, where nobody else has.
    pub(crate) async fn take_out<K: KeyValue>(
        documents: &Documents<K>,
        list: &str,
        part: &Part,
    ) -> Result<(), StoreError> {
        documents
            .update(list, |roll: Option<Self>| {
                let Some(mut roll) = roll else {
                    return (Change::Keep, ());
                };
                match part.page {
                    Some(page) if page == roll.taken => {
                        roll.taken += 1;
                        roll.paged = roll.paged.saturating_sub(part.names.len() as u64);
                    }
                    Some(_) => return (Change::Keep, ()),
                    None => roll.tail.retain(|name| !part.names.contains(name)),
                }
                (Change::Write(roll), ())
            })
            .await?;
        match part.page {
            Some(page) => documents.delete(&page_key(list, page)).await,
            None => Ok(()),
        }
    }

    /// Removes the whole list, which nobody adds to any more.
    pub(crate) async fn delete<K: KeyValue>(
        documents: &Documents<K>,
        list: &str,
    ) -> Result<(), StoreError> {
        let Some(Document { value: roll, .. }) = documents.read::<Self>(list).await? else {
            return Ok(());
        };
        // The page after the last may be there, too: of a writer that did not come to count it.
        for page in roll.taken..=roll.pages {
            documents.delete(&page_key(list, page)).await?;
        }
        documents.delete(list).await
    }
}
