//! `kubeagents mcp`: a Model Context Protocol server on standard input and output, for clients that
//! start a command. It passes agents' reports on to a kubeagents server.

mod api;
mod outbox;
mod server;

use kubeagents_core::mcp::Guidance;
use kubeagents_core::settings::ClientValues;
use tokio::io::{BufReader, stdin, stdout};

use api::Api;
use outbox::{KEPT_ALIVE_TTL, Outbox};
use server::{Connection, Tools};

/// Reason why the tools cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum McpError {
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("standard input cannot be read")]
    Input(#[from] std::io::Error),
}

/// Serves the tools, or only those that read, until the client closes standard input, or `stop` ends.
///
/// # Errors
/// [`McpError`] when the client cannot be served at all.
pub(crate) async fn serve(
    values: ClientValues,
    is_read_only: bool,
    stop: impl Future<Output = ()>,
) -> Result<(), McpError> {
    let api = Api::new(values.server_url, values.api_key, values.host)?;
    let outbox = Outbox::new(api.clone(), values.auto_report);
    let guidance = Guidance {
        is_read_only,
        // The server's own default cannot be known by a key that may only report.
        default_ttl_minutes: values.auto_report.then_some(KEPT_ALIVE_TTL),
        ..Guidance::default()
    };
    let tools = Tools::new(api, outbox.clone(), guidance);
    let connection = Connection::new(stdout());
    let served = tokio::select! {
        served = connection.serve(tools, BufReader::new(stdin())) => served,
        () = stop => Ok(()),
    };
    outbox.close().await;
    connection.close().await;
    Ok(served?)
}
