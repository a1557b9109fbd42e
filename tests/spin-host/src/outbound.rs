//! Outgoing HTTP, to the allowed hosts only. Receivers in tests speak plain HTTP.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use wasmtime_wasi::TrappableError;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p3::{RequestOptions, WasiHttpHooks};

use crate::state::Application;

/// Spin's default for each phase of a request.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) struct Outbound(pub(crate) Arc<Application>);

type Body = UnsyncBoxBody<Bytes, ErrorCode>;
type Ended = Box<dyn Future<Output = Result<(), ErrorCode>> + Send>;
type Sent = Result<(http::Response<Body>, Ended), TrappableError<ErrorCode>>;

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: http::Request<Body>,
        options: Option<RequestOptions>,
        _: Ended,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let application = self.0.clone();
        Box::new(async move {
            let response = send(&application, request, options.as_ref()).await?;
            Ok((response, Box::new(async { Ok(()) }) as Ended))
        })
    }
}

async fn send(
    application: &Application,
    mut request: http::Request<Body>,
    options: Option<&RequestOptions>,
) -> Result<http::Response<Body>, ErrorCode> {
    let uri = request.uri().clone();
    let scheme = uri.scheme().unwrap_or(&Scheme::HTTPS);
    let host = uri.host().ok_or(ErrorCode::HttpRequestUriInvalid)?;
    if !application.allows(scheme.as_str(), host, uri.port_u16()) {
        return Err(ErrorCode::HttpRequestDenied);
    }
    if *scheme != Scheme::HTTP {
        return Err(ErrorCode::TlsProtocolError);
    }
    let phase = |limit: Option<Duration>| limit.unwrap_or(PATIENCE);
    let connect = TcpStream::connect((host, uri.port_u16().unwrap_or(80)));
    let stream = timeout(
        phase(options.and_then(|options| options.connect_timeout)),
        connect,
    )
    .await
    .map_err(|_| ErrorCode::ConnectionTimeout)?
    .map_err(|_| ErrorCode::ConnectionRefused)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| ErrorCode::HttpProtocolError)?;
    tokio::spawn(connection);
    *request.uri_mut() = uri
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .parse()
        .map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
    let first_byte = phase(options.and_then(|options| options.first_byte_timeout));
    let response = timeout(first_byte, sender.send_request(request))
        .await
        .map_err(|_| ErrorCode::ConnectionReadTimeout)?
        .map_err(|_| ErrorCode::HttpProtocolError)?;
    Ok(response.map(|body| {
        body.map_err(|_| ErrorCode::HttpProtocolError)
            .boxed_unsync()
    }))
}
