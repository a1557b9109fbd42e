//! Posting to receivers of notifications.

use std::error::Error;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::PROXY_AUTHORIZATION;
use http::uri::Scheme;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kubeagents_core::ChannelMail;
use kubeagents_core::delivery::{Answer, PostError, Poster, Reach, reach, reach_by_name};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tower_service::Service;

use super::Proxies;
use crate::authorities;
use crate::mail::Postbox;

/// How long an idle connection to a receiver is kept for the next notification.
const IDLE: Duration = Duration::from_secs(15);

/// How much of an answer's body is read, and for how long at least: some providers say there what went
/// wrong, and the connection can be used again after it.
const ANSWER_BYTES: usize = 16 * 1024;
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// Posts notifications, to addresses that may be connected to.
#[derive(Clone)]
pub(crate) struct WebhookClient {
    client: Client<HttpsConnector<GuardedConnector>, Full<Bytes>>,
    proxies: Proxies,
    timeout: Duration,
    mail: Option<Postbox>,
}

/// The receiver's address is one that this host must not connect to, by what that would mean.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("notifications may not go to this address: {}", .0.refusal())]
struct ForbiddenAddress(Reach);

impl WebhookClient {
    /// A client with the system's certificate authorities. `timeout` limits one attempt. `mail`: what
    /// sends mail, where there is a mail server.
    /// `allow_private`: whether private and loopback addresses may be connected to.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(crate) fn new(
        timeout: Duration,
        allow_private: bool,
        proxies: Proxies,
        mail: Option<Postbox>,
    ) -> Result<Self, rustls::Error> {
        let guard = Guard { allow_private };
        let connector = GuardedConnector {
            guard,
            direct: tcp(guard, timeout),
            proxies: proxies.clone(),
            to_proxy: tcp(GaiResolver::new(), timeout),
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(authorities::tls_config()?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self {
            client,
            proxies,
            timeout,
            mail,
        })
    }
}

/// A connector that also takes `https` URLs, for a TLS connector to wrap, and gives up after
/// `timeout`.
pub(crate) fn tcp<R>(resolver: R, timeout: Duration) -> HttpConnector<R> {
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(timeout));
    connector
}

impl Poster for WebhookClient {
    async fn post(&self, mut request: Request<Bytes>) -> Result<Answer, PostError> {
        if let Some(authorization) = self.proxies.authorization(request.uri()) {
            let headers = request.headers_mut();
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        let begin = Instant::now();
        let request = self.client.request(request.map(Full::new));
        let answer = timeout(self.timeout, request).await;
        let response = answer
            .map_err(|_| PostError::Timeout)?
            .map_err(|error| match forbidden(&error) {
                Some(ForbiddenAddress(reach)) => PostError::Forbidden(reach.refusal()),
                None => PostError::Failed(error.into()),
            })?;
        let answer = Answer::new(response.status(), response.headers());
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect();
        let rest = self.timeout.saturating_sub(begin.elapsed());
        Ok(match timeout(rest.max(ANSWER_TIME), body).await {
            Ok(Ok(body)) => answer.with_body(body.to_bytes()),
            _ => answer,
        })
    }

    async fn mail(&self, mail: ChannelMail) -> Result<Answer, PostError> {
        match &self.mail {
            Some(postbox) => postbox.send(mail).await,
            None => Err(PostError::Forbidden("there is no mail server")),
        }
    }

    async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
    }
}

/// The refusal of [`Guard`], if that is what the error comes from.
fn forbidden<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e ForbiddenAddress> {
    match error.downcast_ref() {
        Some(refusal) => Some(refusal),
        None => forbidden(error.source()?),
    }
}

/// Decides which addresses may be connected to.
#[derive(Debug, Clone, Copy)]
struct Guard {
    allow_private: bool,
}

impl Guard {
    fn check(self, address: IpAddr) -> Result<(), ForbiddenAddress> {
        match reach(address) {
            Reach::Public if is_own(address) => self.judge(Reach::Private),
            reach => self.judge(reach),
        }
    }

    fn check_by_name(self, uri: &Uri) -> Result<(), ForbiddenAddress> {
        let host = uri.host().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse() {
            Ok(address) => self.check(address),
            Err(_) => self.judge(reach_by_name(uri)),
        }
    }

    fn judge(self, reach: Reach) -> Result<(), ForbiddenAddress> {
        let allowed = match reach {
            Reach::Public => true,
            Reach::Private => self.allow_private,
            Reach::Forbidden => false,
        };
        allowed.then_some(()).ok_or(ForbiddenAddress(reach))
    }
}

/// Whether connecting to this address leads back to this machine: then the system chooses it as the
/// sender's too. Nothing is sent.
fn is_own(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let any = match address {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let sender = || -> std::io::Result<SocketAddr> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((address, 9))?;
        socket.local_addr()
    };
    sender().is_ok_and(|sender| sender.ip() == address)
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
            let mut refused = None;
            let allowed: Vec<_> = resolved
                .filter(|address| match guard.check(address.ip()) {
                    Ok(()) => true,
                    Err(refusal) => {
                        refused = Some(refusal);
                        false
                    }
                })
                .collect();
            match refused {
                Some(refusal) if allowed.is_empty() => Err(refusal.into()),
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}

/// Connects over TCP, by a proxy where there is one. Addresses that stand in the URL itself are not
/// resolved and so checked here. Names that a proxy resolves are for the proxy to judge.
#[derive(Debug, Clone)]
struct GuardedConnector {
    guard: Guard,
    direct: HttpConnector<Guard>,
    proxies: Proxies,
    /// The operator's choice, and so not guarded.
    to_proxy: HttpConnector,
}

impl Service<Uri> for GuardedConnector {
    type Response = Stream;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self {
            guard,
            mut direct,
            proxies,
            mut to_proxy,
        } = self.clone();
        Box::pin(async move {
            guard.check_by_name(&uri)?;
            let Some(proxy) = proxies.proxy(&uri) else {
                let stream = direct.call(uri).await?;
                return Ok(Stream::new(stream, false));
            };
            if uri.scheme() == Some(&Scheme::HTTP) {
                let stream = to_proxy.call(proxy.uri().clone()).await?;
                return Ok(Stream::new(stream, true));
            }
            let mut tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
            if let Some(authorization) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            Ok(Stream::new(tunnel.call(uri).await?, false))
        })
    }
}

/// A connection to a receiver, or to a proxy.
struct Stream {
    io: TokioIo<TcpStream>,
    /// True if a proxy reads the requests themselves, which then name the whole URL.
    to_proxy: bool,
}

impl Stream {
    fn new(io: TokioIo<TcpStream>, to_proxy: bool) -> Self {
        Self { io, to_proxy }
    }

    fn io(self: Pin<&mut Self>) -> Pin<&mut TokioIo<TcpStream>> {
        Pin::new(&mut self.get_mut().io)
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.to_proxy)
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.io().poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write_vectored(cx, slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_back_to_this_machine_is_recognised_by_its_address() {
        for own in ["127.0.0.1", "::ffff:127.0.0.1"] {
            assert!(is_own(own.parse().unwrap()), "{own}");
        }
        for other in ["192.0.2.1", "8.8.8.8", "2001:db8::1"] {
            assert!(!is_own(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn the_addresses_of_this_machines_interfaces_are_private() {
        let towards_others = || -> std::io::Result<SocketAddr> {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            // Nothing is sent. No such host exists.
            socket.connect(("192.0.2.1", 9))?;
            socket.local_addr()
        };
        // A machine without a network has none.
        let Some(own) = towards_others().ok().map(|own| own.ip()) else {
            return;
        };
        assert!(!own.is_loopback() && is_own(own), "{own}");
        let next = match own {
            IpAddr::V4(own) => Ipv4Addr::from_bits(own.to_bits() ^ 1),
            IpAddr::V6(_) => unreachable!("it was asked for IPv4"),
        };
        assert!(!is_own(next.into()), "{next}");
        let strict = Guard {
            allow_private: false,
        };
        assert!(strict.check(own).is_err());
    }

    #[tokio::test]
    async fn what_a_name_leads_to_is_judged_when_it_is_resolved() {
        let resolve = async |allow_private| {
            let mut guard = Guard { allow_private };
            let resolved = guard.call("localhost".parse().unwrap()).await;
            resolved.map(|addresses| addresses.count())
        };
        let refused = resolve(false).await.unwrap_err();
        assert!(forbidden(&*refused).is_some(), "{refused}");
        assert_ne!(resolve(true).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn private_addresses_are_connected_to_only_when_allowed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connect = async |host: &str, allow_private| {
            let patience = Duration::from_secs(5);
            let client =
                WebhookClient::new(patience, allow_private, Proxies::default(), None).unwrap();
            let request = Request::get(format!("http://{host}:{port}/")).body(Bytes::new());
            client.post(request.unwrap()).await
        };
        for host in [
            "127.0.0.1",
            "localhost",
            "[::ffff:127.0.0.1]",
            "[::1]",
            "10.0.0.1",
        ] {
            let outcome = connect(host, false).await;
            assert!(matches!(outcome, Err(PostError::Forbidden(_))), "{host}");
        }
        for host in ["169.254.169.254", "[fe80::1]", "0.0.0.0", "100.100.100.200"] {
            let outcome = connect(host, true).await;
            assert!(matches!(outcome, Err(PostError::Forbidden(_))), "{host}");
        }
        let accepted = tokio::spawn(async move { listener.accept().await.unwrap() });
        let outcome = tokio::time::timeout(Duration::from_secs(60), async {
            tokio::select! {
                outcome = connect("localhost", true) => panic!("not connected: {outcome:?}"),
                accepted = accepted => accepted.is_ok(),
            }
        });
        assert!(outcome.await.unwrap());
    }
}
