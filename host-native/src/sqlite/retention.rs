//! Deleting old history.

use std::time::Duration;

use chrono::TimeDelta;
use kubeagents_core::causes;
use kubeagents_core::ports::Clock;
use tokio::sync::watch;

use super::NativeStore;
use crate::ports::SystemClock;

/// How often old statuses are deleted.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Deletes statuses older than this many days, at once and then every hour, until `stopping`.
pub(crate) async fn purge(store: NativeStore, days: u32, mut stopping: watch::Receiver<bool>) {
    let stop = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let purging = async {
        loop {
            let before = SystemClock.now() - TimeDelta::days(days.into());
            match store.purge_history(before).await {
                Ok(0) => {}
                Ok(statuses) => tracing::info!(statuses, "old statuses were deleted"),
                Err(error) => tracing::warn!(
                    causes = %causes(&error),
                    "old statuses could not be deleted; trying again in an hour"
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
