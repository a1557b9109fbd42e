//! Asking a running server whether it is alive, for health checks of containers without a shell.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

/// Time limit for the server's answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Reason why the server does not count as alive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unhealthy {
    #[error("the server cannot be asked")]
    Request(#[from] http::Error),
    #[error("the server does not answer")]
    NoAnswer(#[from] hyper_util::client::legacy::Error),
    #[error("the server does not answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("the server answers {0}")]
    Status(StatusCode),
}

/// Asks the server that listens on this address.
///
/// # Errors
/// [`Unhealthy`] unless it answers 200.
pub(crate) async fn check(mut address: SocketAddr) -> Result<(), Unhealthy> {
    // "Any address" is one to listen on, not one to ask.
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            address.set_ip(Ipv4Addr::LOCALHOST.into())
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            address.set_ip(Ipv6Addr::LOCALHOST.into())
        }
        _ => {}
    }
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let request = http::Request::get(format!("http://{address}/health")).body(Empty::new())?;
    let answer = timeout(TIMEOUT, client.request(request)).await??;
    match answer.status() {
        StatusCode::OK => Ok(()),
        status => Err(Unhealthy::Status(status)),
    }
}
