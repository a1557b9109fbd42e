//! `kubeagents mcp`: a Model Context Protocol server on standard input and output, for clients that
//! start a command. It passes on what agents report to a kubeagents server.

mod api;
mod outbox;
mod server;

use kubeagents_core::settings::ClientValues;
use rmcp::ServiceExt;
use rmcp::transport::io::stdio_pipes;

use api::Api;
use outbox::Outbox;
use server::Tools;

/// Why the tools cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum McpError {
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("the tools are not defined as the protocol wants it")]
    Tools(#[from] serde_json::Error),
    #[error("the client does not speak the protocol")]
    Client(#[source] Box<rmcp::service::ServerInitializeError>),
    #[error("the connection to the client has failed")]
    Connection(#[from] tokio::task::JoinError),
}

/// Serves the tools until the client closes standard input, or `stop` ends.
///
/// # Errors
/// [`McpError`] when the client cannot be served at all.
pub(crate) async fn serve(
    values: ClientValues,
    stop: impl Future<Output = ()>,
) -> Result<(), McpError> {
    let api = Api::new(values.server_url, values.api_key)?;
    let outbox = Outbox::new(api.clone(), values.auto_report);
    let tools = Tools::new(api, outbox.clone())?;
    let served = tokio::select! {
        served = talk(tools) => served,
        () = stop => Ok(()),
    };
    outbox.close().await;
    served
}

/// Answers the client until it closes the connection.
async fn talk(tools: Tools) -> Result<(), McpError> {
    let connected = tools.serve(stdio_pipes()).await;
    let connected = connected.map_err(|error| McpError::Client(Box::new(error)))?;
    connected.waiting().await?;
    Ok(())
}
