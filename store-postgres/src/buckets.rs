//! What limits count.

use chrono::TimeDelta;
use kubeagents_core::bucket::{Draw, Drawn};
use kubeagents_core::{StoreError, Timestamp, store::Buckets};

use crate::query::Fetch;
use crate::{PostgresStore, Query, Row, Value};

/// When the bucket was full before this draw, as [`Flow::decide`](kubeagents_core::bucket::Flow::decide) takes it: `$2` is the time that makes
/// good for a draw, `$3` the bucket's depth, `$4` now.
macro_rules! full_at {
    () => {
        "CASE WHEN bucket.full_at > $4::bigint + 2 * $3::bigint THEN $4::bigint \
            ELSE greatest(bucket.full_at, $4::bigint) END"
    };
}

/// Returns a number of draws that is one or none, and when the bucket was full before.
const DRAW: &str = concat!(
    "WITH refilled AS (\
        SELECT bucket FROM kubeagents_data.buckets \
        WHERE full_at <= $4::bigint AND bucket <> $1::text \
        ORDER BY full_at LIMIT 2 FOR UPDATE SKIP LOCKED), \
    purged AS (\
        DELETE FROM kubeagents_data.buckets AS bucket USING refilled \
        WHERE bucket.bucket = refilled.bucket), \
    drawn AS (\
        INSERT INTO kubeagents_data.buckets AS bucket (bucket, full_at) \
        VALUES ($1::text, $4::bigint + $2::bigint) \
        ON CONFLICT (bucket) DO UPDATE SET full_at = ",
    full_at!(),
    " + $2::bigint WHERE ",
    full_at!(),
    " + $2::bigint <= $4::bigint + $3::bigint RETURNING 1) \
    SELECT (SELECT count(*) FROM drawn), \
        (SELECT full_at FROM kubeagents_data.buckets WHERE bucket = $1::text)"
);

const PUT_BACK: &str = "\
UPDATE kubeagents_data.buckets SET full_at = full_at - $2::bigint WHERE bucket = $1::text";

fn micros(time: TimeDelta) -> Value<'static> {
    time.num_microseconds().unwrap_or(i64::MAX / 4).into()
}

impl<Q: Query, C> Buckets for PostgresStore<Q, C> {
    async fn draw(&self, draw: &Draw, now: Timestamp) -> Result<Drawn, StoreError> {
        let params = [
            Value::from(&draw.bucket),
            micros(draw.flow.refill),
            micros(draw.flow.depth),
            now.into(),
        ];
        let read = |row: &mut Row| Ok((row.int::<i64>()?, row.optional_instant()?));
        let (drawn, full_at) = self.query.one(DRAW, &params, read).await?;
        Ok(match drawn {
            0 => Drawn::Refused(
                draw.flow
                    .decide(full_at, now)
                    .err()
                    .unwrap_or(draw.flow.refill),
            ),
            _ => Drawn::Allowed,
        })
    }

    async fn put_back(&self, draw: &Draw) -> Result<(), StoreError> {
        let params = [Value::from(&draw.bucket), micros(draw.flow.refill)];
        self.query.execute(PUT_BACK, &params).await
    }
}
