//! What limits count.

use chrono::TimeDelta;
use kubeagents_core::bucket::{Draw, Drawn};
use kubeagents_core::store::Buckets;
use kubeagents_core::{StoreError, Timestamp};
use kubeagents_store_sql::Row;

use crate::{Connection, SqliteStore, Value};

/// When the bucket was full before this draw, as [`Flow::decide`](kubeagents_core::bucket::Flow::decide) takes it: ?2 is the time that makes
/// good for a draw, ?3 the bucket's depth, ?4 now.
macro_rules! full_at {
    () => {
        "iif(buckets.full_at > ?4 + 2 * ?3, ?4, max(buckets.full_at, ?4))"
    };
}

const DRAW: &str = concat!(
    "INSERT INTO buckets VALUES (?1, ?4 + ?2, ?4)
    ON CONFLICT (bucket) DO UPDATE SET full_at = ",
    full_at!(),
    " + ?2 WHERE ",
    full_at!(),
    " + ?2 <= ?4 + ?3 RETURNING TRUE"
);

const FULL_AT: &str = "SELECT full_at FROM buckets WHERE bucket = ?1";

const PUT_BACK: &str = "UPDATE buckets SET full_at = full_at - ?2 WHERE bucket = ?1";

fn micros(time: TimeDelta) -> Value {
    Value::Integer(time.num_microseconds().unwrap_or(i64::MAX / 4))
}

impl<C: Connection> Buckets for SqliteStore<C> {
    async fn draw(&self, draw: &Draw, now: Timestamp) -> Result<Drawn, StoreError> {
        let bucket = Value::from(&draw.bucket);
        let parameters = [
            bucket.clone(),
            micros(draw.flow.refill),
            micros(draw.flow.depth),
            now.into(),
        ];
        if !self.writer.run(DRAW, parameters).await?.is_empty() {
            return Ok(Drawn::Allowed);
        }
        let full_at = self.lookups.first(FULL_AT, [bucket], Row::instant).await?;
        let wait = draw
            .flow
            .decide(full_at, now)
            .err()
            .unwrap_or(draw.flow.refill);
        Ok(Drawn::Refused(wait))
    }

    async fn put_back(&self, draw: &Draw) -> Result<(), StoreError> {
        let parameters = [(&draw.bucket).into(), micros(draw.flow.refill)];
        self.writer.run(PUT_BACK, parameters).await.map(drop)
    }
}
