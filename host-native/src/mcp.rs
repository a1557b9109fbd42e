//! `kubeagents mcp`: a Model Context Protocol server on standard input and output, for clients that
//! start a command. It passes on what agents report to a kubeagents server.

mod api;
mod outbox;
mod server;

use clap::{ArgAction, Args};
use http::HeaderValue;
use kubeagents_core::InvalidSetting;
use kubeagents_core::settings::{parse_base_url, parse_switch};
use rmcp::ServiceExt;
use rmcp::transport::io::stdio_pipes;

use api::Api;
use outbox::Outbox;
use server::Tools;

/// The configuration of `kubeagents mcp`.
#[derive(Args)]
pub(crate) struct McpOptions {
    /// The kubeagents server that reports go to.
    #[arg(long, env, default_value = "http://localhost:8080", value_parser = parse_base_url)]
    kubeagents_server_url: String,

    /// The API key, or another bearer token, for that server.
    #[arg(long, env, value_parser = parse_bearer, hide_env_values = true)]
    kubeagents_api_key: Option<HeaderValue>,

    /// Whether open sessions are kept alive by repeating their last status before they expire, and
    /// reported as failed when the client goes away.
    #[arg(long, env, default_value = "false", value_parser = parse_switch, action = ArgAction::Set)]
    kubeagents_auto_report_enabled: bool,
}

fn parse_bearer(token: &str) -> Result<HeaderValue, InvalidSetting> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| InvalidSetting("must be characters that a header can carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

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
    options: McpOptions,
    stop: impl Future<Output = ()>,
) -> Result<(), McpError> {
    let api = Api::new(options.kubeagents_server_url, options.kubeagents_api_key)?;
    let outbox = Outbox::new(api.clone(), options.kubeagents_auto_report_enabled);
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
