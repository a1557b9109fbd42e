//! What collectors are told of spans: the names that OpenTelemetry has for things.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{Key, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use super::sender::Unreached;

/// How often the log says that a collector takes no spans.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// An exporter that words spans as OpenTelemetry does, and tells of its failures now and then.
#[derive(Debug)]
pub(super) struct Described<E> {
    exporter: E,
    unreached: Unreached,
    failures: Mutex<Failures>,
}

/// What was lost since the log last said so.
#[derive(Debug, Default)]
struct Failures {
    told: Option<Instant>,
    lost_spans: usize,
}

impl<E> Described<E> {
    pub(super) fn new(exporter: E, unreached: Unreached) -> Self {
        Self {
            exporter,
            unreached,
            failures: Mutex::default(),
        }
    }

    fn tell(&self, spans: usize, error: impl std::fmt::Display) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.lost_spans += spans;
        if failures
            .told
            .is_none_or(|told| told.elapsed() >= TOLD_EVERY)
        {
            failures.told = Some(Instant::now());
            let lost = std::mem::take(&mut failures.lost_spans);
            let causes = self.unreached.take();
            tracing::warn!(%error, causes, lost, "spans cannot be exported");
        }
    }
}

impl<E: SpanExporter> SpanExporter for Described<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        batch.iter_mut().for_each(describe);
        let result = self.exporter.export(batch).await;
        if let Err(error) = &result {
            self.tell(spans, error);
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Words a span by the semantic conventions.
fn describe(span: &mut SpanData) {
    let (kind, names): (_, &[(&'static str, &'static str)]) = match &*span.name {
        "request" => (
            SpanKind::Server,
            &[
                ("method", "http.request.method"),
                ("status", "http.response.status_code"),
                ("code", "error.type"),
                ("request_id", "kubeagents.request_id"),
                ("endpoint", "kubeagents.endpoint"),
                ("workspace", "kubeagents.workspace"),
            ],
        ),
        "call" => (SpanKind::Server, &[("tool", "gen_ai.tool.name")]),
        "store" => (SpanKind::Client, &[("operation", "db.operation.name")]),
        "notification" => (SpanKind::Client, &[("id", "kubeagents.notification_id")]),
        _ => return,
    };
    let text = |name: &str| {
        let mut fields = span.attributes.iter();
        let field = fields.find(|field| field.key.as_str() == name)?;
        Some(field.value.as_str().into_owned())
    };
    let words = ["method", "endpoint", "tool", "operation"].map(text);
    let words = words.into_iter().flatten().collect::<Vec<_>>().join(" ");
    // Numbers without a sign come as text.
    let status: Option<i64> = text("status").and_then(|status| status.parse().ok());
    if !words.is_empty() {
        span.name = match &*span.name {
            "store" => format!("store {words}").into(),
            _ => words.into(),
        };
    }
    span.span_kind = kind;
    if status >= Some(500) {
        span.status = Status::error("");
    }
    for field in &mut span.attributes {
        if let (true, Some(status)) = (field.key.as_str() == "status", status) {
            field.value = Value::I64(status);
        }
        let mut names = names.iter();
        let found = names.find(|(ours, _)| field.key.as_str() == *ours);
        if let Some((_, theirs)) = found {
            field.key = Key::from_static_str(theirs);
        }
    }
}
