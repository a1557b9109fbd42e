//! Removal of what deleted accounts have left behind, as far as the request that deleted one did not
//! get to it.

use std::time::Duration;

use kubeagents_core::ports::Clock;
use kubeagents_core::{Store, causes};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::ports::SystemClock;

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(60);

/// Removes what is there to be removed, at once and then every minute, until `stopping`.
pub(crate) async fn sweep<S: Store>(store: S, mut stopping: watch::Receiver<bool>) {
    let stop = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let sweeping = async {
        loop {
            match store.purge_deleted(SystemClock.now()).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(
                    causes = %causes(&error),
                    "what deleted accounts have left is not removed yet"
                ),
            }
            sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        () = stop => {}
        () = sweeping => {}
    }
}
