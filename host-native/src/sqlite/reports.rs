//! Recording reports in groups, by the one worker that the one writer has use for.

use std::time::{Duration, Instant};

use kubeagents_core::ports::random_u32;
use kubeagents_core::{
    Incoming, Recorded, ReportPolicy, StoreError, Witness, Workspace, conflict_pause,
};

use super::NativeStore;
use crate::metrics::Metered;
use crate::recording::{GroupedReports, HostRecorder, Singly};

/// How long another process that writes to the file may be faster on a session.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tries again for a while.
pub(crate) struct Retry;

impl Singly<Metered<NativeStore>> for Retry {
    async fn record(
        &self,
        recorder: &HostRecorder<Metered<NativeStore>>,
        workspace: &Workspace,
        incoming: &Incoming,
    ) -> Result<Recorded, StoreError> {
        let start = Instant::now();
        for conflicts in 1.. {
            if let Some(recorded) = recorder.attempt(workspace, incoming).await? {
                return Ok(recorded);
            }
            if start.elapsed() > PATIENCE {
                break;
            }
            tokio::time::sleep(conflict_pause(conflicts, random_u32(&recorder.entropy))).await;
        }
        Err(StoreError::Contended)
    }
}

/// Records reports on a store, on the current runtime.
pub(crate) fn record_reports(
    store: Metered<NativeStore>,
    policy: ReportPolicy,
    witness: Witness,
) -> GroupedReports<Metered<NativeStore>, Retry> {
    let reports = GroupedReports::new(store, policy, witness, Retry, 1);
    tokio::spawn(reports.clone().work());
    reports
}
