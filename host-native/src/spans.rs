//! Export of spans to a collector, by the protocol of OpenTelemetry (OTLP) over HTTP.
//!
//! The variables are those of the OpenTelemetry specification, and stand in no table of settings: most of
//! them are the environment's, which other programs share.

mod exporter;
mod sender;
mod variables;

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use http::HeaderMap;
use kubeagents_core::ports::CallerTrace;
use opentelemetry::context::FutureExt;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use exporter::Described;
use sender::Sender;
use variables::Variables;

/// The name of the service, unless the environment has another.
const SERVICE: &str = "kubeagents";

/// Whether callers' traces are continued, once spans are exported.
static CONTINUES: OnceLock<bool> = OnceLock::new();

/// The export of this process's spans.
pub(crate) struct Export {
    provider: SdkTracerProvider,
}

impl Export {
    /// The export that the environment asks for, if it does, and what is wrong with that environment: a
    /// mistake there keeps no server from serving. Batches are sent on this runtime.
    pub(crate) fn from_env(runtime: &Handle) -> (Option<Self>, Vec<String>) {
        let names = std::env::vars().map(|(name, _)| name);
        let (variables, mut warnings) = Variables::read(names, |name| std::env::var(name).ok());
        let export = variables.and_then(|variables| {
            let export = Self::begin(&variables, runtime);
            export
                .map_err(|error| warnings.push(format!("spans are not exported: {error}")))
                .ok()
        });
        (export, warnings)
    }

    fn begin(
        variables: &Variables,
        runtime: &Handle,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let sender = Sender::new(variables.timeout, runtime.clone())?;
        let unreached = sender.unreached();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(sender)
            .build()?;
        // What the environment says comes last, and so wins.
        let resource = Resource::builder_empty()
            .with_attribute(KeyValue::new("service.name", SERVICE))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_detector(Box::new(EnvResourceDetector::new()));
        let resource = match &variables.service_name {
            Some(name) => resource.with_service_name(name.clone()),
            None => resource,
        };
        // It bounds what waits, and its thread is the only one that a collector can keep waiting.
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Described::new(exporter, unreached))
            .with_resource(resource.build())
            .build();
        let _ = CONTINUES.set(variables.continues_traces);
        Ok(Self { provider })
    }

    /// What takes spans as they end.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        // Neither events, which may hold what only the log is to know, nor what libraries do, the
        // sending of spans among it.
        let is_exported =
            filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("kubeagents"));
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("kubeagents"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(is_exported.with_max_level_hint(Level::DEBUG))
    }

    /// Sends what waits, and gives up after a while.
    pub(crate) fn finish(&self, limit: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(limit) {
            tracing::warn!(%error, "the last spans are not exported");
        }
    }
}

/// Whether spans are exported.
pub(crate) fn are_exported() -> bool {
    CONTINUES.get().is_some()
}

/// The trace that a request's headers say it belongs to.
pub(crate) struct Trace(Option<Context>);

impl Trace {
    /// The trace that these headers name.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self(continued(&HeaderExtractor(headers)))
    }

    /// The same answer, in whose making spans belong to this trace.
    pub(crate) async fn within<F: Future>(self, answering: F) -> F::Output {
        match self.0 {
            Some(context) => answering.with_context(context).await,
            None => answering.await,
        }
    }
}

/// Makes a span a part of its caller's trace.
pub(crate) fn adopt(span: &Span, caller: &CallerTrace) {
    let mut headers = HashMap::from([("traceparent".to_owned(), caller.parent.clone())]);
    headers.extend(
        caller
            .state
            .clone()
            .map(|state| ("tracestate".to_owned(), state)),
    );
    if let Some(context) = continued(&headers) {
        // A span refuses only where nobody exports it.
        let _ = span.set_parent(context);
    }
}

/// What continues a caller's trace; `None` without one, and where none is continued.
fn continued(caller: &dyn Extractor) -> Option<Context> {
    if CONTINUES.get() != Some(&true) || caller.get("traceparent").is_none() {
        return None;
    }
    let propagator = TraceContextPropagator::new();
    let context = propagator.extract_with_context(&Context::new(), caller);
    context.has_active_span().then_some(context)
}
