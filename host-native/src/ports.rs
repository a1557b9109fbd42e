//! The core's ports on a native host.

use std::time::Duration;

use chrono::Utc;
use kubeagents_core::ports::{CallerTrace, Clock, Entropy, NoThread, Reports, RestAfter};
use kubeagents_core::store::MemoryStore;
use kubeagents_core::{
    Incoming, Ports, Recorded, Recorder, ReportPolicy, StoreError, Timestamp, Witness, Workspace,
};
use tracing::Span;

use crate::delivery::{Waker, WebhookClient};
use crate::events::{Changes, NativeEvents};
use crate::mail::MailSender;
use crate::metrics::Metered;
use crate::passwords::PasswordThreads;
use crate::spans;
use crate::threads::{Threads, spare_cores};

/// The system's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Utc::now()
    }
}

/// The system's random number generator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(
        clippy::expect_used,
        reason = "the kernel's generator does not fail once it has answered, and there is no going on without it"
    )]
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the system's random number generator failed");
    }
}

/// Records reports in memory. A conflict means that another report has just been stored, so there
/// is always progress and no reason to give up.
pub(crate) struct MemoryReports(Recorder<Metered<MemoryStore>, SystemClock, SystemEntropy>);

impl MemoryReports {
    pub(crate) fn new(store: Metered<MemoryStore>, policy: ReportPolicy, witness: Witness) -> Self {
        Self(Recorder {
            store,
            clock: SystemClock,
            entropy: SystemEntropy,
            policy,
            witness,
        })
    }
}

impl Reports for MemoryReports {
    async fn record(
        &self,
        workspace: &Workspace,
        incoming: impl Into<Incoming>,
    ) -> Result<Recorded, StoreError> {
        self.0
            .record(workspace, &incoming.into(), async |_| true)
            .await
    }
}

/// The native host's ports over a store and its way of recording reports.
pub(crate) struct NativePorts<S, R> {
    pub(crate) store: S,
    pub(crate) reports: R,
    pub(crate) passwords: PasswordThreads,
    /// Write long lists.
    pub(crate) leisure: Threads<Workspace>,
    pub(crate) mail: MailSender,
    pub(crate) notifier: Waker,
    pub(crate) events: NativeEvents<S>,
    pub(crate) client: WebhookClient,
}

impl<S: Changes, R: Reports> Ports for NativePorts<S, R> {
    type Store = S;
    type Clock = SystemClock;
    type Entropy = SystemEntropy;
    type Passwords = PasswordThreads;
    type Mailer = MailSender;
    type Notifier = Waker;
    type Reports = R;
    type Events = NativeEvents<S>;
    type Poster = WebhookClient;

    fn store(&self) -> &S {
        &self.store
    }
    fn clock(&self) -> &SystemClock {
        &SystemClock
    }
    fn entropy(&self) -> &SystemEntropy {
        &SystemEntropy
    }
    fn passwords(&self) -> &PasswordThreads {
        &self.passwords
    }
    fn mailer(&self) -> &MailSender {
        &self.mail
    }
    fn notifier(&self) -> &Waker {
        &self.notifier
    }
    fn reports(&self) -> &R {
        &self.reports
    }
    fn events(&self) -> &NativeEvents<S> {
        &self.events
    }
    fn poster(&self) -> &WebhookClient {
        &self.client
    }

    fn adopt(&self, span: &Span, caller: &CallerTrace) {
        spans::adopt(span, caller);
    }

    async fn pause(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn reads_beside_reports(&self) -> usize {
        spare_cores()
    }

    fn reads_rest_after(&self) -> RestAfter {
        // SQLite reads on the same cores. PostgreSQL may have others, but reports need those as well.
        RestAfter::Time
    }

    async fn at_leisure<T: Send + 'static>(
        &self,
        workspace: &Workspace,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoThread> {
        self.leisure
            .run(workspace.clone(), work)
            .await
            .ok_or(NoThread)
    }
}
