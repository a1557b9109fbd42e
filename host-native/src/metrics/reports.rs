//! Reports that are counted.

use std::sync::Arc;

use kubeagents_core::ports::Reports;
use kubeagents_core::{Incoming, Recorded, StoreError, Workspace};

use super::Metrics;

/// Records reports, and counts what becomes of them.
pub(crate) struct MeteredReports<R> {
    pub(crate) reports: R,
    pub(crate) metrics: Arc<Metrics>,
}

impl<R: Reports> Reports for MeteredReports<R> {
    async fn record(
        &self,
        workspace: &Workspace,
        incoming: impl Into<Incoming>,
    ) -> Result<Recorded, StoreError> {
        let recorded = self.reports.record(workspace, incoming).await;
        self.metrics.report(&recorded);
        recorded
    }
}
