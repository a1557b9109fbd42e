//! What limits count, for all hosts on a storage together.

use super::StoreError;
use crate::Timestamp;
use crate::bucket::{Draw, Drawn};

/// Buckets of draws. They hold nothing that would be missed: one may forget a bucket that is full.
pub trait Buckets {
    /// Draws from a bucket as [`Flow::decide`](crate::bucket::Flow::decide) has it, in one step. Two buckets that are full again
    /// go with each that is new, so that they do not pile up.
    fn draw(&self, draw: &Draw, now: Timestamp) -> impl Future<Output = Result<Drawn, StoreError>>;

    /// Takes back a draw that was allowed.
    fn put_back(&self, draw: &Draw) -> impl Future<Output = Result<(), StoreError>>;
}
