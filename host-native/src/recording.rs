//! Group commit on this host: workers that record the waiting reports, and single recording for the
//! reports that a group leaves over.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use futures_util::stream::{self, StreamExt};
use kubeagents_core::batch::{Batcher, Leftover};
use kubeagents_core::ports::Reports;
use kubeagents_core::{
    Incoming, Recorded, Recorder, ReportPolicy, Store, StoreError, Witness, Workspace,
};
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::ports::{SystemClock, SystemEntropy};

/// Longest time that a session left over by a group waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// A recorder with this host's clock and randomness.
pub(crate) type HostRecorder<S> = Recorder<S, SystemClock, SystemEntropy>;

/// Recording of single reports, for those that a group left over.
pub(crate) trait Singly<S> {
    /// Stores the report, after waiting a while for others on its session.
    fn record(
        &self,
        recorder: &HostRecorder<S>,
        workspace: &Workspace,
        incoming: &Incoming,
    ) -> impl Future<Output = Result<Recorded, StoreError>>;
}

/// Records reports in groups, as soon as tasks run [`GroupedReports::work`].
pub(crate) struct GroupedReports<S, L>(Arc<Shared<S, L>>);

struct Shared<S, L> {
    batcher: Batcher<S, SystemClock, SystemEntropy>,
    waiting: Notify,
    singly: L,
    /// Leftover reports may wait for locks, and must not take all connections meanwhile.
    turns: Semaphore,
}

impl<S, L> Clone for GroupedReports<S, L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Store, L: Singly<S>> GroupedReports<S, L> {
    /// Reports on a store. Of those that a group leaves over, the reports of at most `leftovers`
    /// sessions are recorded at a time, by `singly`.
    pub(crate) fn new(
        store: S,
        policy: ReportPolicy,
        witness: Witness,
        singly: L,
        leftovers: usize,
    ) -> Self {
        let recorder = Recorder {
            store,
            clock: SystemClock,
            entropy: SystemEntropy,
            policy,
            witness,
        };
        Self(Arc::new(Shared {
            batcher: Batcher::new(recorder),
            waiting: Notify::new(),
            singly,
            turns: Semaphore::new(leftovers),
        }))
    }

    /// Records groups one at a time, and the reports that they leave over beside them. Never ends.
    /// With two workers, one flushes its statements to disk while the other prepares the next
    /// group.
    ///
    /// The caller spawns it: the store is generic here, so the compiler cannot tell whether its
    /// futures are `Send`.
    pub(crate) async fn work(self) {
        let shared = &*self.0;
        let (leave, mut left) = mpsc::unbounded_channel();
        let groups = async {
            loop {
                shared.waiting.notified().await;
                while let Some(leftovers) = shared.batcher.record_group().await {
                    shared.wake();
                    for leftover in leftovers {
                        // The other half receives for as long as this one sends.
                        let _ = leave.send(leftover);
                    }
                }
            }
        };
        let leftovers = stream::poll_fn(|context| left.poll_recv(context)).for_each_concurrent(
            None,
            |leftover| {
                let shared = Arc::clone(&self.0);
                async move { shared.record_leftover(leftover).await }
            },
        );
        join(groups, leftovers).await;
    }
}

impl<S: Store, L: Singly<S>> Shared<S, L> {
    /// Wakes a worker if reports are waiting.
    fn wake(&self) {
        if self.batcher.is_ready() {
            self.waiting.notify_one();
        }
    }

    async fn record_leftover(&self, leftover: Leftover) {
        let turn = tokio::time::timeout(PATIENCE, self.turns.acquire()).await;
        let has_turn = turn.is_ok();
        let record = |workspace: Workspace, incoming: Incoming| async move {
            if !has_turn {
                return Err(StoreError::Contended);
            }
            let recorder = self.batcher.recorder();
            self.singly.record(recorder, &workspace, &incoming).await
        };
        self.batcher.record_leftover(leftover, record).await;
        self.wake();
    }
}

impl<S: Store, L: Singly<S>> Reports for GroupedReports<S, L> {
    async fn record(
        &self,
        workspace: &Workspace,
        incoming: impl Into<Incoming>,
    ) -> Result<Recorded, StoreError> {
        let pending = self.0.batcher.enter(workspace, incoming);
        self.0.wake();
        pending.answer().await
    }
}
