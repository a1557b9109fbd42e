//! Serving HTTP/1.1 and HTTP/2 without TLS, on one port.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use crate::body::RequestBody;
use crate::connection::{Activity, Connection};

/// The largest head of a request, in bytes; a larger one is answered 431. Browsers send up to about
/// 16 KiB.
const MAX_HEAD_BYTES: u32 = 32 * 1024;

/// Most requests at once on an HTTP/2 connection.
const MAX_STREAMS: u32 = 128;

/// Time that requests get to finish once the server is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Pause after the system refuses a client for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Open files reserved for everything but clients: storage, receivers of notifications, mail.
const RESERVED_FILES: u64 = 256;

/// Limit on open files that the server asks the system for.
const WANTED_FILES: u64 = 1 << 20;

/// Returns how many clients may be connected at once: as many as the limit on open files allows,
/// after raising it as far as the system permits. Further clients wait until one leaves.
pub(crate) fn connection_limit() -> usize {
    let files = rlimit::increase_nofile_limit(WANTED_FILES).unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit on open files is unknown");
        1024
    });
    let connections = files.saturating_sub(RESERVED_FILES).max(files / 2);
    usize::try_from(connections)
        .unwrap_or(usize::MAX)
        .clamp(1, Semaphore::MAX_PERMITS)
}

/// Serves until `stop` ends, then lets requests finish for a while.
pub(crate) async fn serve<H, F>(
    listener: TcpListener,
    limit: usize,
    handle: H,
    stop: impl Future<Output = ()>,
) where
    H: Fn(Request<RequestBody>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Bytes>> + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The transport has its own limits, which tell an idle connection from a slow head.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES);
    let builder = Arc::new(builder);
    let connections = Arc::new(Semaphore::new(limit));
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let (stream, permit) = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let (builder, handle, watcher) = (builder.clone(), handle.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _permit = permit;
            let activity = Arc::new(Activity::default());
            let transport = TokioIo::new(Connection::new(stream, activity.clone()));
            let service =
                service_fn(move |request| respond(handle.clone(), activity.clone(), request));
            let connection = builder.serve_connection(transport, service);
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%error, "connection broke off");
            }
        });
    }
    drop(listener);
    if timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests that did not finish in {DRAIN:?} are broken off");
    }
}

/// Accepts the next client, once there is room for one.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there is always a permit in the end.
    let permit = connections.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // An answer is written whole; waiting for more to send with it only delays it.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY is not set");
                }
                return (stream, permit);
            }
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                tracing::error!(%error, "clients cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Returns whether the error concerns only the client that was about to be accepted.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    )
}

async fn respond<H, F>(
    handle: H,
    activity: Arc<Activity>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible>
where
    H: Fn(Request<RequestBody>) -> F,
    F: Future<Output = Response<Bytes>>,
{
    let multiplexed = request.version() == Version::HTTP_2;
    let _in_flight = activity.start(multiplexed);
    // Without the query, which may hold a token.
    let line = tracing::enabled!(tracing::Level::DEBUG).then(|| {
        let path = request.uri().path().to_owned();
        (request.method().clone(), path, Instant::now())
    });
    let request = request.map(|incoming| RequestBody::new(incoming, activity.clone()));
    let mut response = handle(request).await;
    if !multiplexed && activity.has_unread() {
        // The connection ends with this answer, and the client must not send its next request on it.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    if let Some((method, path, started)) = line {
        let (status, elapsed) = (response.status().as_u16(), started.elapsed());
        tracing::debug!(%method, path, status, ?elapsed, "answered");
    }
    Ok(response.map(Full::new))
}
