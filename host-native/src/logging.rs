//! The log, on standard error: standard output belongs to what commands answer.

use std::io::{self, IsTerminal};

use kubeagents_core::settings::LogFormat;
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

use crate::config::Log;
use crate::spans::Export;

/// Starts logging, and the export of spans beside it.
pub(crate) fn start(log: Log, export: Option<&Export>) {
    match export {
        None => registry().with(log.filter).with(lines(log.format)).init(),
        // What is exported does not depend on what is logged.
        Some(export) => registry()
            .with(lines(log.format).with_filter(log.filter))
            .with(export.layer())
            .init(),
    }
}

/// What writes lines.
fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        // The outermost span has the request's id; the list has every span, once.
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .boxed(),
    }
}
