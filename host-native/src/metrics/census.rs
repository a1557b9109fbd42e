//! Counting what storage holds, seldom enough to cost next to nothing.

use std::sync::Arc;
use std::time::Duration;

use kubeagents_core::causes;
use kubeagents_core::ports::Clock;
use kubeagents_core::store::{Census, Counts};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::ports::SystemClock;

/// Time for which a count is not repeated.
const FRESH: Duration = Duration::from_secs(10);

/// How many times as long as a count took, it is not repeated: so counting takes up a hundredth of the
/// time of one connection, however much there is to count.
const SHARE: u32 = 100;

/// Time that whoever asks waits for a new count; after that, the last one has to do.
const PATIENCE: Duration = Duration::from_secs(2);

/// The last count of what storage holds. Clones share it.
#[derive(Clone)]
pub(super) struct LastCount(Arc<Shared>);

struct Shared {
    wanted: Notify,
    last: watch::Sender<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    /// None where storage did not answer, or was not asked yet.
    counts: Option<Counts>,
    /// When it may be counted again; none while nobody counts.
    due: Option<Instant>,
}

impl LastCount {
    pub(super) fn new() -> Self {
        let nothing = Last {
            counts: None,
            due: None,
        };
        Self(Arc::new(Shared {
            wanted: Notify::new(),
            last: watch::Sender::new(nothing),
        }))
    }

    /// What storage holds, from a new count if the last is not fresh.
    pub(super) async fn get(&self) -> Option<Counts> {
        let mut last = self.0.last.subscribe();
        let due = last.borrow_and_update().due;
        if due.is_some_and(|due| due <= Instant::now()) {
            self.0.wanted.notify_one();
            // The last count is there still.
            let _ = timeout(PATIENCE, last.changed()).await;
        }
        last.borrow().counts
    }

    /// Counts at once, and then whenever somebody asks and the last count is not fresh, until
    /// `stopping`.
    pub(super) async fn keep<S: Census>(self, store: S, mut stopping: watch::Receiver<bool>) {
        let stop = async move {
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let counting = async {
            loop {
                let start = Instant::now();
                let counts = store.census(SystemClock.now()).await;
                let counts = counts.inspect_err(|error| {
                    tracing::warn!(causes = %causes(error), "sessions cannot be counted for the metrics");
                });
                let pause = FRESH.max(start.elapsed() * SHARE);
                self.0.last.send_replace(Last {
                    counts: counts.ok(),
                    due: Some(Instant::now() + pause),
                });
                sleep(pause).await;
                self.0.wanted.notified().await;
            }
        };
        tokio::select! {
            () = stop => {}
            () = counting => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use kubeagents_core::{StoreError, Timestamp};

    use super::*;

    /// A storage that takes a while for each count.
    #[derive(Clone)]
    struct Slow {
        counts: Arc<AtomicU64>,
        takes: Duration,
    }

    impl Census for Slow {
        async fn census(&self, _: Timestamp) -> Result<Counts, StoreError> {
            sleep(self.takes).await;
            let active = self.counts.fetch_add(1, Ordering::Relaxed) + 1;
            Ok(Counts {
                active,
                ..Counts::default()
            })
        }
    }

    fn counted(takes: Duration) -> (LastCount, watch::Sender<bool>) {
        let (stop, stopping) = watch::channel(false);
        let last = LastCount::new();
        let store = Slow {
            counts: Arc::default(),
            takes,
        };
        tokio::spawn(last.clone().keep(store, stopping));
        (last, stop)
    }

    async fn active(last: &LastCount) -> Option<u64> {
        last.get().await.map(|counts| counts.active)
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_is_repeated_when_it_is_asked_for_and_not_fresh() {
        let (last, _stop) = counted(Duration::from_millis(1));
        assert_eq!(active(&last).await, None);
        sleep(Duration::from_secs(1)).await;
        for _ in 0..10 {
            assert_eq!(active(&last).await, Some(1));
        }
        sleep(FRESH).await;
        assert_eq!(active(&last).await, Some(2), "whoever asks gets a new one");
        sleep(FRESH * 10).await;
        assert_eq!(active(&last).await, Some(3), "nobody has asked meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn counts_take_a_hundredth_of_the_time_and_nobody_waits_long() {
        let takes = PATIENCE * 2;
        let (last, _stop) = counted(takes);
        sleep(takes + Duration::from_secs(1)).await;
        let start = Instant::now();
        assert_eq!(active(&last).await, Some(1));
        sleep(takes * (SHARE - 10)).await;
        assert_eq!(active(&last).await, Some(1), "it is too early");
        sleep(takes * 10).await;
        let asked = Instant::now();
        assert_eq!(active(&last).await, Some(1), "the new one takes its time");
        assert_eq!(asked.elapsed(), PATIENCE);
        sleep(takes).await;
        assert_eq!(active(&last).await, Some(2));
        assert!(start.elapsed() > takes * SHARE);
    }
}
