//! Metrics in the text form of Prometheus.
//!
//! What happens is counted where it happens: requests where they are answered, reports and the
//! operations of storage in wrappers around both. What is so at a moment is looked at when somebody
//! asks. No label has the name of anything that clients have made up.

mod census;
#[cfg(target_os = "linux")]
mod process;
mod reports;
mod serve;
mod store;
mod table;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::Response;
use kubeagents_core::delivery::Fate;
use kubeagents_core::ports::Clock;
use kubeagents_core::store::{Census, CommitOutcome};
use kubeagents_core::{Limit, Outcome, Recorded, StoreError, Unstored};
use prometheus::{Registry, TextEncoder};
use tokio::sync::{Mutex, watch};
use tracing::{Instrument, Span};

pub(crate) use reports::MeteredReports;
pub(crate) use serve::{PATH, serve};
pub(crate) use store::Metered;

use crate::events::Hub;
use crate::ports::SystemClock;
use crate::spans;
use census::LastCount;
use table::Families;

/// What becomes of a log-in.
const LOG_INS: [&str; 5] = ["success", "refused", "unverified", "limited", "failed"];

/// What becomes of a report.
const REPORTS: [&str; 7] = [
    "stored",
    "already_reported",
    "nothing_new",
    "refused",
    "limited",
    "contended",
    "failed",
];

/// How storage fails.
const STORE_ERRORS: [&str; 3] = ["unavailable", "refused", "contended"];

/// Connections to a database.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Connections {
    pub(crate) in_use: usize,
    pub(crate) idle: usize,
    pub(crate) max: usize,
}

/// A storage whose connections can be counted.
pub(crate) trait Connected {
    /// Its connections now; none where there is no database.
    fn connections(&self) -> Connections {
        Connections::default()
    }
}

impl Connected for kubeagents_core::store::MemoryStore {}

type Look = Box<dyn Fn() -> Connections + Send + Sync>;

/// What is counted of this process, and what can be looked at.
pub(crate) struct Metrics {
    registry: Registry,
    families: Families,
    hub: Hub,
    /// How to look at the connections, once storage is ready.
    connections: OnceLock<Look>,
    last_count: LastCount,
    /// Held while what is so at a moment is brought up to date and written.
    writing: Mutex<()>,
}

impl Metrics {
    /// Metrics of a process that keeps its state in `storage`, where nothing has happened yet.
    ///
    /// # Errors
    /// When the table of metrics has an invalid name, or one twice.
    pub(crate) fn new(hub: Hub, storage: &str) -> prometheus::Result<Arc<Self>> {
        let registry = Registry::new();
        let families = Families::register(&registry)?;
        // What has not happened yet is there, as 0: a rate needs a start.
        for (family, names) in [
            (&families.log_ins, &LOG_INS[..]),
            (&families.reports, &REPORTS),
            (&families.store_errors, &STORE_ERRORS),
        ] {
            for name in names {
                family.with_label_values(&[name]);
            }
        }
        for limit in Limit::ALL {
            families.limits.with_label_values(&[limit.as_str()]);
        }
        let build = [env!("CARGO_PKG_VERSION"), storage];
        families.build.with_label_values(&build).set(1);
        Ok(Arc::new(Self {
            registry,
            families,
            hub,
            connections: OnceLock::new(),
            last_count: LastCount::new(),
            writing: Mutex::new(()),
        }))
    }

    /// Looks at the connections of this storage from now on.
    pub(crate) fn watch<S: Connected + Clone + Send + Sync + 'static>(&self, store: &S) {
        let store = store.clone();
        // There is one storage.
        let _ = self.connections.set(Box::new(move || store.connections()));
    }

    /// Counts what the storage holds, when somebody asks for the metrics, until `stopping`.
    pub(crate) fn count<S: Census>(
        &self,
        store: S,
        stopping: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + use<S> {
        self.last_count.clone().keep(store, stopping)
    }

    /// Notes what a request came to, beyond its status.
    fn note(&self, outcome: &Outcome) {
        for limit in &outcome.limits {
            let limits = &self.families.limits;
            limits.with_label_values(&[limit.as_str()]).inc();
        }
        if outcome.endpoint == "login" {
            let log_in = match outcome.code {
                None => "success",
                Some("unauthorized") => "refused",
                Some("email_not_verified") => "unverified",
                Some("too_many_requests") => "limited",
                Some(_) => "failed",
            };
            self.families.log_ins.with_label_values(&[log_in]).inc();
        }
    }

    /// Notes what became of a report.
    fn report(&self, recorded: &Result<Recorded, StoreError>) {
        let outcome = match recorded {
            Ok(Recorded::Stored { .. }) => "stored",
            Ok(Recorded::Unstored(Unstored::AlreadyReported)) => "already_reported",
            Ok(Recorded::Unstored(Unstored::SaysNothing)) => "nothing_new",
            Ok(Recorded::Unstored(Unstored::Refused(_))) => "refused",
            Ok(Recorded::Unstored(Unstored::LimitReached(_))) => "limited",
            Err(StoreError::Contended) => "contended",
            Err(_) => "failed",
        };
        self.families.reports.with_label_values(&[outcome]).inc();
    }

    /// Notes reports that were committed in one step.
    fn group(&self, reports: usize, outcomes: &[CommitOutcome]) {
        self.families.group_sizes.observe(reports as f64);
        let conflicts = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, CommitOutcome::Conflict));
        self.families.conflicts.inc_by(conflicts.count() as u64);
    }

    /// Notes what became of a notification of this form.
    pub(crate) fn notification(&self, format: &str, fate: Fate) {
        let labels = [format, fate.as_str()];
        let notifications = &self.families.notifications;
        notifications.with_label_values(&labels).inc();
    }

    /// All metrics as they are now, in the text form of Prometheus.
    ///
    /// # Errors
    /// When a metric cannot be written.
    async fn write(&self) -> prometheus::Result<String> {
        let _writing = self.writing.lock().await;
        self.look().await;
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Looks at what is so at this moment.
    async fn look(&self) {
        let families = &self.families;
        let connections = self.connections.get().map(|look| look());
        let Connections { in_use, idle, max } = connections.unwrap_or_default();
        for (state, count) in [("in_use", in_use), ("idle", idle)] {
            let connections = families.connections.with_label_values(&[state]);
            connections.set(whole(count as u64));
        }
        families.connections_max.set(whole(max as u64));
        families.streams.set(whole(self.hub.readers() as u64));
        #[cfg(target_os = "linux")]
        process::measure(families);
        match self.last_count.get().await {
            Some(counts) => {
                for (state, count) in [
                    ("active", counts.active),
                    ("idle", counts.idle),
                    ("ended", counts.ended),
                    ("expired", counts.expired),
                ] {
                    let sessions = families.sessions.with_label_values(&[state]);
                    sessions.set(whole(count));
                }
                let nothing: [&str; 0] = [];
                let waiting = families.waiting.with_label_values(&nothing);
                waiting.set(whole(counts.waiting));
                let without_room = families.without_room.with_label_values(&nothing);
                without_room.set(whole(counts.without_room));
                let age = counts.oldest.map(|oldest| SystemClock.now() - oldest);
                let age = age.and_then(|age| age.to_std().ok()).unwrap_or_default();
                let oldest = families.oldest.with_label_values(&nothing);
                oldest.set(age.as_secs_f64());
            }
            // What is not known is left out, rather than said to be what it was.
            None => {
                families.sessions.reset();
                families.waiting.reset();
                families.without_room.reset();
                families.oldest.reset();
            }
        }
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// An operation of storage. One that is given up on the way counts for nothing.
struct Operation<'m> {
    families: &'m Families,
    name: &'static str,
    begin: Instant,
}

impl<'m> Operation<'m> {
    fn begin(metrics: &'m Metrics, name: &'static str) -> Self {
        Self {
            families: &metrics.families,
            name,
            begin: Instant::now(),
        }
    }

    /// Waits until it is done, and notes what it came to.
    async fn end<T>(
        self,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        // What belongs to nobody, such as looking for work, would make spans without end.
        let span = match spans::are_exported() && !Span::current().is_none() {
            true => tracing::debug_span!("store", operation = self.name),
            false => Span::none(),
        };
        let result = operation.instrument(span).await;
        let operations = &self.families.operations;
        let operations = operations.with_label_values(&[self.name]);
        operations.observe(self.begin.elapsed().as_secs_f64());
        if let Err(error) = &result {
            let error = match error {
                StoreError::Unavailable(_) => "unavailable",
                StoreError::Refused(_) => "refused",
                StoreError::Contended => "contended",
            };
            self.families.store_errors.with_label_values(&[error]).inc();
        }
        result
    }
}

/// A request that has no answer yet; its client may leave meanwhile.
pub(crate) struct InFlight {
    metrics: Arc<Metrics>,
    begin: Instant,
}

impl InFlight {
    pub(crate) fn begin(metrics: Arc<Metrics>) -> Self {
        metrics.families.in_flight.inc();
        Self {
            metrics,
            begin: Instant::now(),
        }
    }

    /// Notes the answer.
    pub(crate) fn end<T>(self, response: &Response<T>) {
        if let Some(outcome) = response.extensions().get::<Outcome>() {
            let status = response.status();
            let labels = [outcome.endpoint, status.as_str()];
            let requests = self.metrics.families.requests.with_label_values(&labels);
            requests.observe(self.begin.elapsed().as_secs_f64());
            self.metrics.note(outcome);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.families.in_flight.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::Limit;
    use super::table::{FAMILIES, Family};

    fn guide() -> String {
        let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
        fs::read_to_string(guide).unwrap()
    }

    fn row(family: &Family) -> String {
        let labels: Vec<String> = family
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let Family {
            name, kind, help, ..
        } = family;
        format!("| `{name}` | {kind} | {} | {help}. |\n", labels.join(", "))
    }

    #[test]
    fn the_guide_has_every_metric_and_no_other() {
        let guide = guide();
        let rows: String = FAMILIES.iter().map(row).collect();
        assert!(
            guide.contains(&format!("|---|---|---|---|\n{rows}\n")),
            "docs/operations.md should have these rows and no others:\n{rows}"
        );
    }

    #[test]
    fn the_guide_has_every_limit() {
        for limit in Limit::ALL {
            let row = format!("\n| `{}` | ", limit.as_str());
            assert!(guide().contains(&row), "docs/operations.md lacks {limit:?}");
        }
    }

    #[test]
    fn names_are_those_of_prometheus() {
        for family in FAMILIES {
            let name = family.name;
            assert!(
                name.starts_with("kubeagents_") || name.starts_with("process_"),
                "{name}"
            );
            assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}");
        }
    }
}
