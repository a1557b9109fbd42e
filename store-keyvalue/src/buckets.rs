//! What limits count: buckets in a fixed number of documents, of which each forgets those that are full
//! again. So anybody may think of any number of addresses.

use std::collections::BTreeMap;

use chrono::DateTime;
use kubeagents_core::bucket::{Draw, Drawn};
use kubeagents_core::store::Buckets;
use kubeagents_core::{StoreError, Timestamp};

use crate::documents::Change;
use crate::{KeyValue, KeyValueStore};

/// The most buckets in a document. Beyond it the one that is full first is forgotten, which is the one
/// that has been drawn from least.
const BUCKETS: usize = 1000;

/// Characters of a bucket's name that tell it from others: 128 bits.
const NAME: usize = 32;

/// When each bucket is full again, in microseconds since 1970.
type Shard = BTreeMap<String, i64>;

/// Key of the document that holds a bucket: one of 64.
fn shard_key(bucket: &str) -> String {
    let number = u8::from_str_radix(bucket.get(..2).unwrap_or_default(), 16);
    format!("buckets/{}", number.unwrap_or(0) % 64)
}

fn name(draw: &Draw) -> &str {
    draw.bucket.get(..NAME).unwrap_or(&draw.bucket)
}

impl<K: KeyValue> Buckets for KeyValueStore<K> {
    async fn draw(&self, draw: &Draw, now: Timestamp) -> Result<Drawn, StoreError> {
        self.documents
            .update(&shard_key(&draw.bucket), |shard: Option<Shard>| {
                let mut shard = shard.unwrap_or_default();
                let full_at = shard.get(name(draw)).copied();
                let full_at = full_at.and_then(DateTime::from_timestamp_micros);
                let full_at = match draw.flow.decide(full_at, now) {
                    Err(wait) => return (Change::Keep, Drawn::Refused(wait)),
                    Ok(full_at) => full_at,
                };
                shard.retain(|_, full_at| *full_at > now.timestamp_micros());
                shard.insert(name(draw).to_owned(), full_at.timestamp_micros());
                while shard.len() > BUCKETS {
                    let first = shard.iter().min_by_key(|(_, full_at)| **full_at);
                    let Some(first) = first.map(|(name, _)| name.clone()) else {
                        break;
                    };
                    shard.remove(&first);
                }
                (Change::Write(shard), Drawn::Allowed)
            })
            .await
    }

    async fn put_back(&self, draw: &Draw) -> Result<(), StoreError> {
        self.documents
            .update(&shard_key(&draw.bucket), |shard: Option<Shard>| {
                let mut shard = shard.unwrap_or_default();
                let Some(full_at) = shard.get_mut(name(draw)) else {
                    return (Change::Keep, ());
                };
                let Some(drawn) = DateTime::from_timestamp_micros(*full_at) else {
                    return (Change::Keep, ());
                };
                *full_at = draw.flow.put_back(drawn).timestamp_micros();
                (Change::Write(shard), ())
            })
            .await
    }
}
