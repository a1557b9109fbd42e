use std::collections::HashMap;
use std::mem::size_of;

use super::{MemoryStore, heap};
use crate::Timestamp;
use crate::limits::{Draw, Drawn};
use crate::store::{Buckets, StoreError};

#[derive(Debug, Default)]
pub(super) struct BucketTable {
    /// When each bucket is full again.
    full_at: HashMap<String, Timestamp>,
    /// The number of buckets at which full ones are dropped.
    purge_at: usize,
}

impl BucketTable {
    /// What they take up.
    pub(super) fn bytes(&self) -> usize {
        // A name is a word and a hash, or an address.
        const BUCKET: usize =
            heap::table_place(size_of::<(String, Timestamp)>()) + heap::block(100);
        self.full_at.len() * BUCKET
    }
}

impl Buckets for MemoryStore {
    async fn draw(&self, draw: &Draw, now: Timestamp) -> Result<Drawn, StoreError> {
        let table = &mut self.lock().buckets;
        if table.full_at.len() >= table.purge_at {
            table.full_at.retain(|_, full_at| now < *full_at);
            table.purge_at = 2 * table.full_at.len() + 1000;
        }
        let full_at = table.full_at.get(&draw.bucket).copied();
        Ok(match draw.decide(full_at, now) {
            Ok(full_at) => {
                table.full_at.insert(draw.bucket.clone(), full_at);
                Drawn::Allowed
            }
            Err(wait) => Drawn::Refused(wait),
        })
    }

    async fn put_back(&self, draw: &Draw) -> Result<(), StoreError> {
        let table = &mut self.lock().buckets;
        if let Some(full_at) = table.full_at.get_mut(&draw.bucket) {
            *full_at = draw.put_back(*full_at);
        }
        Ok(())
    }
}
