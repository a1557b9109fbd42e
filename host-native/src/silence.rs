//! Noticing sessions that have fallen silent.

use std::time::Duration;

use kubeagents_core::ports::{Clock, Notifier};
use kubeagents_core::silence::{Noticed, notice};
use kubeagents_core::{ReportPolicy, Store, causes};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::delivery::Waker;
use crate::ports::SystemClock;

/// Pause before storage is asked again after a failure.
const STORAGE_PAUSE: Duration = Duration::from_secs(1);

/// Notices sessions as they fall silent.
pub(crate) struct Listener<S> {
    pub(crate) store: S,
    pub(crate) policy: ReportPolicy,
    /// Wakes whoever tells of them.
    pub(crate) waker: Waker,
}

impl<S: Store> Listener<S> {
    /// Listens until `stopping`.
    pub(crate) async fn run(self, mut stopping: watch::Receiver<bool>) {
        let stop = async move {
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let listening = async {
            loop {
                sleep(self.listen().await).await;
            }
        };
        tokio::select! {
            () = stop => {}
            () = listening => {}
        }
    }

    /// Notices who is silent now. Returns the longest pause before the next time.
    async fn listen(&self) -> Duration {
        match notice(&self.store, &self.policy, SystemClock.now()).await {
            Ok(Noticed {
                notifications,
                pause,
            }) => {
                if notifications {
                    self.waker.wake();
                }
                pause
            }
            Err(error) => {
                let causes = causes(&error);
                tracing::warn!(%causes, "silent sessions cannot be looked for");
                STORAGE_PAUSE
            }
        }
    }
}
