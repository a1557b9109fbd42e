//! Sending batches of spans.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::GaiResolver;
use hyper_util::rt::TokioExecutor;
use kubeagents_core::causes;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::authorities;
use crate::delivery::tcp;

/// The most bytes of a collector's answer that are read.
const ANSWER_BYTES: usize = 64 * 1024;

/// Sends batches on this host's runtime, whatever thread they come from.
#[derive(Debug)]
pub(super) struct Sender {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
    timeout: Duration,
    unreached: Unreached,
}

/// Why the collector was last not reached. The exporter in between passes on no more than that it was not.
#[derive(Debug, Clone, Default)]
pub(super) struct Unreached(Arc<Mutex<Option<String>>>);

impl Unreached {
    fn note(&self, error: &HttpError) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(causes(&**error));
    }

    pub(super) fn take(&self) -> Option<String> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.take()
    }
}

/// The collector did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer in time")]
struct NoAnswer;

impl Sender {
    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn new(timeout: Duration, runtime: Handle) -> Result<Self, rustls::Error> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(authorities::tls_config()?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp(GaiResolver::new(), timeout));
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            runtime,
            timeout,
            unreached: Unreached::default(),
        })
    }

    /// Why it was last not reached.
    pub(super) fn unreached(&self) -> Unreached {
        self.unreached.clone()
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, limit) = (self.client.clone(), self.timeout);
        let exchange = async move {
            let response = client.request(request.map(Full::new)).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES).collect().await?.to_bytes();
            Ok::<_, Box<dyn Error + Send + Sync>>(Response::from_parts(head, body))
        };
        // The timer, too, needs the runtime around it.
        let sending = self
            .runtime
            .spawn(async move { timeout(limit, exchange).await });
        let outcome = match sending.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(NoAnswer.into()),
            Err(error) => Err(error.into()),
        };
        outcome.inspect_err(|error| self.unreached.note(error))
    }
}
