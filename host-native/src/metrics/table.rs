//! The table of metrics.

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, Result,
};

/// Upper bounds in seconds of what takes from half a millisecond to the longest wait.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Upper bounds of the sizes of groups, which hold 256 reports at most.
const REPORTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// A metric as it is documented.
#[cfg(test)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

/// A kind of metric.
trait Kind: Collector + Clone + Sized + 'static {
    #[cfg(test)]
    const NAME: &str;

    /// A metric of this kind; the buckets are for histograms.
    fn new(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Result<Self>;
}

macro_rules! kinds {
    ($($kind:ident: $name:literal, ($opts:ident, $labels:ident, $buckets:ident) => $make:expr;)*) => {
        $(impl Kind for $kind {
            #[cfg(test)]
            const NAME: &str = $name;

            fn new(name: &str, help: &str, $labels: &[&str], $buckets: &[f64]) -> Result<Self> {
                let $opts = Opts::new(name, help);
                $make
            }
        })*
    };
}

kinds! {
    Counter: "counter", (opts, _labels, _buckets) => Self::with_opts(opts);
    IntCounter: "counter", (opts, _labels, _buckets) => Self::with_opts(opts);
    IntCounterVec: "counter", (opts, labels, _buckets) => Self::new(opts, labels);
    Gauge: "gauge", (opts, _labels, _buckets) => Self::with_opts(opts);
    IntGauge: "gauge", (opts, _labels, _buckets) => Self::with_opts(opts);
    GaugeVec: "gauge", (opts, labels, _buckets) => Self::new(opts, labels);
    IntGaugeVec: "gauge", (opts, labels, _buckets) => Self::new(opts, labels);
    Histogram: "histogram", (opts, _labels, buckets) =>
        Self::with_opts(HistogramOpts::from(opts).buckets(buckets.to_vec()));
    HistogramVec: "histogram", (opts, labels, buckets) =>
        Self::new(HistogramOpts::from(opts).buckets(buckets.to_vec()), labels);
}

/// Makes a struct of the metrics, and a list of what is documented of them.
macro_rules! families {
    ($($field:ident: $kind:ident = $name:literal, [$($label:literal),*], $buckets:expr, $help:literal;)*) => {
        /// Every metric, by what it tells.
        pub(super) struct Families {
            $(pub(super) $field: $kind,)*
        }

        impl Families {
            /// Metrics that start at nothing, of a registry that has no others.
            pub(super) fn register(registry: &Registry) -> Result<Self> {
                let families = Self {
                    $($field: Kind::new($name, $help, &[$($label),*], $buckets)?,)*
                };
                $(registry.register(Box::new(families.$field.clone()))?;)*
                Ok(families)
            }
        }

        #[cfg(test)]
        pub(super) const FAMILIES: &[Family] = &[
            $(Family {
                name: $name,
                kind: <$kind as Kind>::NAME,
                labels: &[$($label),*],
                help: $help,
            }),*
        ];
    };
}

families! {
    requests: HistogramVec = "kubeagents_http_request_duration_seconds", ["endpoint", "status"],
        SECONDS, "Time from the head of a request to its answer, by the name of the endpoint and the status";
    in_flight: IntGauge = "kubeagents_http_requests_in_flight", [],
        &[], "Requests that have no answer yet";
    log_ins: IntCounterVec = "kubeagents_log_ins_total", ["outcome"],
        &[], "Log-ins with a password";
    limits: IntCounterVec = "kubeagents_limit_hits_total", ["limit"],
        &[], "What was refused for a limit";
    reports: IntCounterVec = "kubeagents_reports_total", ["outcome"],
        &[], "Reports, by what became of them";
    group_sizes: Histogram = "kubeagents_report_group_size", [],
        REPORTS, "Reports that were stored in one step";
    conflicts: IntCounter = "kubeagents_report_conflicts_total", [],
        &[], "Commits of reports that found their session changed by another";
    operations: HistogramVec = "kubeagents_store_operation_duration_seconds", ["operation"],
        SECONDS, "Time that storage took for an operation";
    store_errors: IntCounterVec = "kubeagents_store_errors_total", ["error"],
        &[], "Operations that storage failed";
    connections: IntGaugeVec = "kubeagents_store_connections", ["state"],
        &[], "Connections of this process to the database";
    connections_max: IntGauge = "kubeagents_store_connections_max", [],
        &[], "The most connections of this process to the database; 0 in memory";
    sessions: IntGaugeVec = "kubeagents_sessions", ["state"],
        &[], "Sessions in storage, of all hosts";
    notifications: IntCounterVec = "kubeagents_notifications_total", ["format", "outcome"],
        &[], "Attempts at notifications, and notifications that were not to be told any more";
    waiting: IntGaugeVec = "kubeagents_notifications_waiting", [],
        &[], "Notifications in storage that wait for delivery, of all hosts";
    oldest: GaugeVec = "kubeagents_notifications_oldest_age_seconds", [],
        &[], "Age of the oldest of these; 0 without any";
    without_room: IntGaugeVec = "kubeagents_notifications_without_room", [],
        &[], "Notifications that storage had no room for, and that no message to their channel has counted yet, of all hosts";
    streams: IntGauge = "kubeagents_event_streams", [],
        &[], "Readers of live events on this host";
    build: IntGaugeVec = "kubeagents_build_info", ["version", "storage"],
        &[], "1, with the version of the program and where its state is";
    cpu: Counter = "process_cpu_seconds_total", [],
        &[], "Processor time of the process";
    resident: IntGauge = "process_resident_memory_bytes", [],
        &[], "Memory that the process has in RAM";
    virtual_memory: IntGauge = "process_virtual_memory_bytes", [],
        &[], "Memory that the process has asked for";
    open_files: IntGauge = "process_open_fds", [],
        &[], "Open file descriptors, which connections are too";
    max_files: IntGauge = "process_max_fds", [],
        &[], "The most open file descriptors";
    start: Gauge = "process_start_time_seconds", [],
        &[], "Start of the process, in seconds since 1970";
}
