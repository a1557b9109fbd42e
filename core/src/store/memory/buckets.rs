use std::mem::size_of;

use super::{MemoryStore, heap};
use crate::Timestamp;
use crate::bucket::{Draw, Drawn, MemoryBuckets};
use crate::store::{Buckets, StoreError};

/// What these take up.
pub(super) fn bytes(buckets: &MemoryBuckets<String>) -> usize {
    // A name is a hash.
    const BUCKET: usize = heap::table_place(size_of::<(String, Timestamp)>()) + heap::block(64);
    buckets.len() * BUCKET
}

impl Buckets for MemoryStore {
    async fn draw(&self, draw: &Draw, now: Timestamp) -> Result<Drawn, StoreError> {
        let buckets = &mut self.lock().buckets;
        Ok(buckets.draw(draw.bucket.as_str(), draw.flow, now))
    }

    async fn put_back(&self, draw: &Draw) -> Result<(), StoreError> {
        let buckets = &mut self.lock().buckets;
        buckets.put_back(draw.bucket.as_str(), draw.flow);
        Ok(())
    }
}
