//! Serving the metrics, on an address of their own.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::Empty;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use prometheus::TEXT_FORMAT;
use tokio::net::TcpListener;

use super::Metrics;
use crate::access::AccessLog;
use crate::answer::Content;
use crate::body::RequestBody;
use crate::server::{self, Limits, Places};

/// Their path.
pub(crate) const PATH: &str = "/metrics";

/// The most clients at once: whoever reads the metrics takes no place of others.
const PLACES: Places = Places {
    clients: 32,
    probes: 1,
};

/// How long a connection may be idle between requests: longer than any usual interval.
const KEEP_ALIVE: Duration = Duration::from_secs(180);

type Answer = Response<Content<Empty<Bytes>>>;

/// Serves the metrics for as long as this is polled.
pub(crate) async fn serve(listener: TcpListener, metrics: Arc<Metrics>) {
    let limits = Limits {
        places: PLACES,
        keep_alive: KEEP_ALIVE,
        shutdown_delay: Duration::ZERO,
        crowded: "too many clients ask for metrics at once: until one leaves, others wait",
    };
    let handle = move |request: Request<RequestBody>| {
        let metrics = metrics.clone();
        async move { answer(&metrics, request.method(), request.uri().path()).await }
    };
    let access_log = AccessLog::default();
    server::serve(listener, None, limits, access_log, handle, pending()).await;
}

async fn answer(metrics: &Metrics, method: &Method, path: &str) -> Answer {
    let mut answer = match (path, method) {
        (PATH, &Method::GET | &Method::HEAD) => match metrics.write().await {
            Ok(text) => text_of(StatusCode::OK, TEXT_FORMAT, text),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "the log says why")
            }
        },
        (PATH, _) => {
            let mut answer = plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD work here",
            );
            let methods = HeaderValue::from_static("GET, HEAD");
            answer.headers_mut().insert(ALLOW, methods);
            answer
        }
        _ => plain(StatusCode::NOT_FOUND, "the metrics are at /metrics"),
    };
    if method == Method::HEAD {
        *answer.body_mut() = Bytes::new();
    }
    answer.map(Content::Whole)
}

fn plain(status: StatusCode, text: &str) -> Response<Bytes> {
    text_of(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

fn text_of(status: StatusCode, kind: &'static str, text: String) -> Response<Bytes> {
    let length = text.len();
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
