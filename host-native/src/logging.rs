//! The log, on standard error: standard output belongs to what commands answer.

use std::io::{self, IsTerminal};

use kubeagents_core::settings::LogFormat;

use crate::config::Log;

/// Starts logging.
pub(crate) fn start(log: Log) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(log.filter)
        .with_writer(io::stderr);
    match log.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
