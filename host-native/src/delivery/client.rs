//! Posting to receivers of notifications.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kubeagents_core::delivery::{Answer, PostError, Poster, Reach, reach};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{sleep, timeout};
use tower_service::Service;

/// How long an idle connection to a receiver is kept for the next notification.
const IDLE: Duration = Duration::from_secs(15);

/// How much of an answer's body is read, and for how long, so that the connection can be used again.
const ANSWER_BYTES: usize = 16 * 1024;
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// Posts notifications, to addresses that may be connected to.
#[derive(Clone)]
pub(super) struct WebhookClient {
    client: Client<HttpsConnector<GuardedConnector>, Full<Bytes>>,
    timeout: Duration,
}

/// The receiver's address is one that this host must not connect to.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("notifications may not go to this address")]
struct ForbiddenAddress;

impl WebhookClient {
    /// A client with the system's certificate authorities. `timeout` limits one attempt.
    /// `allow_private`: whether private and loopback addresses may be connected to.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn new(timeout: Duration, allow_private: bool) -> Result<Self, rustls::Error> {
        let guard = Guard { allow_private };
        let mut http = HttpConnector::new_with_resolver(guard);
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(GuardedConnector { guard, http });
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self { client, timeout })
    }
}

impl Poster for WebhookClient {
    async fn post(&self, request: Request<Bytes>) -> Result<Answer, PostError> {
        let request = self.client.request(request.map(Full::new));
        let answer = timeout(self.timeout, request).await;
        let response =
            answer.map_err(|_| PostError::Timeout)?.map_err(|error| {
                match is_forbidden(&error) {
                    true => PostError::Forbidden,
                    false => PostError::Failed(error.into()),
                }
            })?;
        let answer = Answer::new(response.status(), response.headers());
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect();
        // What the receiver says is of no interest, only that the connection is free again.
        let _ = timeout(ANSWER_TIME, body).await;
        Ok(answer)
    }

    async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
    }
}

/// Whether it was [`Guard`] that refused to connect.
fn is_forbidden(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<ForbiddenAddress>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// TLS by the system's certificate authorities, so that an operator's own are trusted. Without any,
/// as in an empty container, only HTTPS fails.
pub(crate) fn tls_config() -> Result<ClientConfig, rustls::Error> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "certificate authorities cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        tracing::warn!("no certificate authorities are found: connections by HTTPS will fail");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Decides which addresses may be connected to.
#[derive(Debug, Clone, Copy)]
struct Guard {
    allow_private: bool,
}

impl Guard {
    fn allows(self, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Public => true,
            Reach::Private => self.allow_private,
            Reach::Forbidden => false,
        }
    }
}

/// Resolves names to the addresses that may be connected to: checked here, and not before, a name
/// cannot point elsewhere by the time of connecting.
impl Service<Name> for Guard {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guard = *self;
        Box::pin(async move {
            let resolved = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<_> = resolved
                .filter(|address| guard.allows(address.ip()))
                .collect();
            match allowed.is_empty() {
                true => Err(ForbiddenAddress.into()),
                false => Ok(allowed.into_iter()),
            }
        })
    }
}

/// Connects over TCP. Addresses that stand in the URL itself are not resolved and so checked here.
#[derive(Debug, Clone)]
struct GuardedConnector {
    guard: Guard,
    http: HttpConnector<Guard>,
}

impl Service<Uri> for GuardedConnector {
    type Response = <HttpConnector<Guard> as Service<Uri>>::Response;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Uri>::poll_ready(&mut self.http, cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or_default();
        let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
        if literal.is_ok_and(|address| !self.guard.allows(address)) {
            return Box::pin(async { Err(ForbiddenAddress.into()) });
        }
        let connecting = self.http.call(uri);
        Box::pin(async move { connecting.await.map_err(Into::into) })
    }
}
