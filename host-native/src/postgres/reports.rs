//! Recording of reports, on connections of the pool.

use kubeagents_core::ports::random_u32;
use kubeagents_core::{
    Incoming, Recorded, Recorder, ReportPolicy, StoreError, Witness, Workspace, conflict_pause,
};
use kubeagents_store_postgres::PostgresStore;
use sqlx::Connection;
use sqlx::postgres::PgPool;

use super::NativeStore;
use super::driver::{Lent, Pinned, within_deadline};
use crate::metrics::Metered;
use crate::recording::{GroupedReports, HostRecorder, Singly};

/// One worker's statements reach the disk while the other's are put together.
const WORKERS: usize = 2;

/// How often another host may be faster on a session before its agent's row is locked.
const MAX_CONFLICTS: u32 = 3;

/// Reports on PostgreSQL.
pub(crate) type PostgresReports = GroupedReports<Metered<NativeStore>, Locking>;

/// Starts the workers on the current runtime.
pub(crate) fn record_reports(
    store: Metered<NativeStore>,
    policy: ReportPolicy,
    witness: Witness,
) -> PostgresReports {
    let pool = store.store().driver().pool().clone();
    let leftovers = (pool.options().get_max_connections() / 4).max(1) as usize;
    let reports = GroupedReports::new(store, policy, witness, Locking { pool }, leftovers);
    for _ in 0..WORKERS {
        tokio::spawn(reports.clone().work());
    }
    reports
}

/// Tries on its own first, and locks the agent's row when other hosts are faster.
pub(crate) struct Locking {
    pool: PgPool,
}

impl Singly<Metered<NativeStore>> for Locking {
    async fn record(
        &self,
        recorder: &HostRecorder<Metered<NativeStore>>,
        workspace: &Workspace,
        incoming: &Incoming,
    ) -> Result<Recorded, StoreError> {
        for conflicts in 1..=MAX_CONFLICTS {
            if let Some(recorded) = recorder.attempt(workspace, incoming).await? {
                return Ok(recorded);
            }
            tokio::time::sleep(conflict_pause(conflicts, random_u32(&recorder.entropy))).await;
        }
        self.record_locked(recorder, workspace, incoming).await
    }
}

impl Locking {
    /// Records a report while its agent's row is locked, so that no other host can be faster.
    async fn record_locked(
        &self,
        recorder: &HostRecorder<Metered<NativeStore>>,
        workspace: &Workspace,
        incoming: &Incoming,
    ) -> Result<Recorded, StoreError> {
        let mut connection = Lent::of(&self.pool).await?;
        let transaction = Pinned::new(within_deadline(connection.begin()).await?);
        let store = PostgresStore::new(transaction);
        store.lock_agent(&incoming.session_key(workspace)).await?;
        let store = Metered::new(store, recorder.store.metrics().clone());
        let Recorder {
            clock,
            entropy,
            policy,
            ..
        } = recorder.clone();
        let recorder = Recorder {
            store,
            clock,
            entropy,
            policy,
            // Not before the transaction is committed.
            witness: Witness::default(),
        };
        let recorded = recorder
            .record(workspace, incoming, async |_| false)
            .await?;
        recorder.store.into_store().into_driver().commit().await?;
        Ok(recorded)
    }
}
