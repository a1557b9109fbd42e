//! When old rows are deleted.

use std::time::Duration;

use kubeagents_core::StoreError;
use kubeagents_store_postgres::retention;
use sqlx::postgres::PgPool;
use tokio::sync::watch;

use super::driver::{Lent, Pinned};

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Purges at once and then every hour, until `stopping`. `history_days`: how long statuses are
/// kept; `None`: for ever.
pub(crate) async fn purge(
    pool: PgPool,
    history_days: Option<u32>,
    mut stopping: watch::Receiver<bool>,
) {
    let stop = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let purging = async {
        loop {
            match purge_once(&pool, history_days).await {
                Ok(0) => {}
                Ok(statuses) => tracing::info!(statuses, "old statuses were deleted"),
                Err(error) => tracing::warn!(
                    error = crate::causes(&error),
                    "what is old could not be deleted; trying again in an hour"
                ),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        () = stop => {}
        () = purging => {}
    }
}

/// Purges what is old now, unless another host is at it; returns how many statuses went.
pub(super) async fn purge_once(
    pool: &PgPool,
    history_days: Option<u32>,
) -> Result<i64, StoreError> {
    let connection = Pinned::new(Lent::of(pool).await?);
    retention::purge(&connection, history_days).await
}
