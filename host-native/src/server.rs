//! Serving HTTP/1.1 and HTTP/2 on one port, with TLS or without.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use std::{io, iter};

use bytes::Bytes;
use futures_util::Stream;
use http::header::{CONNECTION, HOST, STRICT_TRANSPORT_SECURITY};
use http::uri::Authority;
use http::{HeaderValue, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kubeagents_core::{Crowded, Encrypted, Peer, Stopping};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::server::TlsStream;

use crate::access::AccessLog;
use crate::answer::{AnswerBody, Content};
use crate::body::RequestBody;
use crate::connection::{Activity, Connection, InFlight, Protocol};
use crate::tls::Tls;

/// The largest head of a request, in bytes; a larger one is answered 431. Browsers send up to about
/// 16 KiB.
const MAX_HEAD_BYTES: u32 = 32 * 1024;

/// Most requests at once on an HTTP/2 connection.
const MAX_STREAMS: u32 = 128;

/// Time that requests get to finish once the server is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Time that a client gets for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What has browsers ask by HTTPS alone, for a year from the last answer.
const HTTPS_ALONE: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Time that a client which has just connected gets for its request once the server drains.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Connections that the system makes before they are accepted, where it allows as many.
const BACKLOG: u32 = 1024;

/// The most bytes that the system holds back for a client that takes no more. Left to itself it holds
/// megabytes, which count as the server's memory where that is limited.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 << 10;

/// Pause after the system refuses a client for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Open files reserved for everything but clients: storage, receivers of notifications, mail.
const RESERVED_FILES: u64 = 256;

/// Limit on open files that the server asks the system for.
const WANTED_FILES: u64 = 1 << 20;

/// The most clients that are asked what they want when every place is taken.
const MAX_PROBES: u64 = 32;

/// Time that each of those gets for its request.
const PROBE: Duration = Duration::from_secs(1);

/// Longest time for which the log says only once that every place is taken.
const CROWDED_PAUSE: Duration = Duration::from_secs(60);

/// Places for clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    /// Most clients at once.
    pub(crate) clients: usize,
    /// Most clients beyond those, which are served `/health` alone.
    pub(crate) probes: usize,
}

/// Returns how many clients may be connected at once: as many as the limit on open files allows,
/// after raising it as far as the system permits. Further clients wait until one leaves.
pub(crate) fn places() -> Places {
    let files = rlimit::increase_nofile_limit(WANTED_FILES).unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit on open files is unknown");
        1024
    });
    let clients = files.saturating_sub(RESERVED_FILES).max(files / 2);
    let permits = |count| usize::try_from(count).unwrap_or(usize::MAX);
    Places {
        clients: permits(clients).clamp(1, Semaphore::MAX_PERMITS),
        probes: permits((files / 16).clamp(1, MAX_PROBES)),
    }
}

/// A client's place; free for another when dropped.
struct Place {
    /// None where the limit does not count.
    _permit: Option<OwnedSemaphorePermit>,
    /// One of the few beyond the limit.
    is_probe: bool,
}

impl Place {
    fn client(permit: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            _permit: permit,
            is_probe: false,
        }
    }

    fn probe(permit: OwnedSemaphorePermit) -> Self {
        Self {
            _permit: Some(permit),
            is_probe: true,
        }
    }
}

/// The places that are free.
struct Free {
    clients: Arc<Semaphore>,
    probes: Arc<Semaphore>,
    /// When the log last said that there is none.
    told: Option<Instant>,
    /// How it says so.
    crowded: &'static str,
}

impl Free {
    fn new(places: Places, crowded: &'static str) -> Self {
        Self {
            crowded,
            clients: Arc::new(Semaphore::new(places.clients)),
            probes: Arc::new(Semaphore::new(places.probes)),
            told: None,
        }
    }

    /// A place for a client, if one is free.
    fn client(&self) -> Option<Place> {
        let permit = self.clients.clone().try_acquire_owned().ok()?;
        Some(Place::client(Some(permit)))
    }

    /// Waits for a place of either kind.
    async fn any(&mut self) -> Place {
        if let Some(place) = self.client() {
            return place;
        }
        if self.told.is_none_or(|told| told.elapsed() > CROWDED_PAUSE) {
            self.told = Some(Instant::now());
            tracing::warn!("{}", self.crowded);
        }
        // Neither semaphore is ever closed, so there is always a permit in the end.
        tokio::select! {
            biased;
            permit = self.clients.clone().acquire_owned() => Place::client(permit.ok()),
            Ok(permit) = self.probes.clone().acquire_owned() => Place::probe(permit),
        }
    }
}

/// How far the server is on its way to the end. The order matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// Balancers are still to notice that it stops: every request is served, and its connection
    /// closed.
    Leaving,
    /// Only what is under way is finished.
    Draining,
}

/// Limits that are configured, and the one that the system sets.
pub(crate) struct Limits {
    /// How many clients there may be.
    pub(crate) places: Places,
    /// Longest pause between requests on a connection.
    pub(crate) keep_alive: Duration,
    /// Time for which new requests are still served after `stop`.
    pub(crate) shutdown_delay: Duration,
    /// What the log says when every place is taken.
    pub(crate) crowded: &'static str,
}

/// What serves each protocol.
struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Protocols {
    fn new() -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            // The transport has its own limits, which tell an idle connection from a slow head.
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD_BYTES as usize);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_BYTES);
        Self { http1, http2 }
    }
}

/// What serves one client.
struct Service<H> {
    protocols: Arc<Protocols>,
    handle: H,
    access_log: Arc<AccessLog>,
    phases: watch::Receiver<Phase>,
    /// Who the client is.
    peer: Option<Peer>,
    /// Whether it has no place of its own.
    is_probe: bool,
    is_encrypted: bool,
    keep_alive: Duration,
}

/// Listens on an address.
///
/// # Errors
/// Those of the system.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // The port of a server that has just ended is free.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop` ends, then lets requests finish for a while.
pub(crate) async fn serve<H, F, T>(
    listener: TcpListener,
    tls: Option<Tls>,
    limits: Limits,
    access_log: AccessLog,
    handle: H,
    stop: impl Future<Output = ()>,
) where
    H: Fn(Request<RequestBody>) -> F + Clone + Send + Unpin + 'static,
    F: Future<Output = Response<Content<T>>> + Send + 'static,
    T: Stream<Item = Bytes> + Send + 'static,
{
    let protocols = Arc::new(Protocols::new());
    let access_log = Arc::new(access_log);
    let mut free = Free::new(limits.places, limits.crowded);
    let (phase, phases) = watch::channel(Phase::Serving);
    let start = |stream: TcpStream, place: Place| {
        let peer = stream.peer_addr().ok().map(|address| Peer(address.ip()));
        let is_probe = place.is_probe;
        let tls = tls.clone();
        let mut service = Service {
            protocols: protocols.clone(),
            handle: handle.clone(),
            access_log: access_log.clone(),
            phases: phases.clone(),
            peer,
            is_probe,
            is_encrypted: tls.is_some(),
            keep_alive: match is_probe {
                true => PROBE,
                false => limits.keep_alive,
            },
        };
        tokio::spawn(async move {
            match tls {
                None => service.serve(stream).await,
                // On the heap, so that those without it keep no room for it.
                Some(tls) => {
                    let serving = async {
                        if let Some(stream) = service.greet(&tls, stream).await {
                            service.serve(stream).await;
                        }
                    };
                    Box::pin(serving).await;
                }
            }
            drop(place);
        });
    };
    tokio::pin!(stop);
    let mut leaving: Option<Pin<Box<Sleep>>> = None;
    loop {
        tokio::select! {
            biased;
            () = &mut stop, if leaving.is_none() => {
                phase.send_replace(Phase::Leaving);
                leaving = Some(Box::pin(sleep(limits.shutdown_delay)));
            }
            () = async { if let Some(delay) = &mut leaving { delay.await } }, if leaving.is_some() => break,
            (stream, place) = accept(&listener, &mut free) => start(stream, place),
        }
    }
    for stream in not_yet_accepted(listener) {
        // The process has no long life ahead: the limit may be passed.
        start(stream, Place::client(None));
    }
    phase.send_replace(Phase::Draining);
    drop(phases);
    // Each connection holds a receiver.
    if timeout(DRAIN, phase.closed()).await.is_err() {
        tracing::warn!("requests that did not finish in {DRAIN:?} are broken off");
    }
}

impl<H> Service<H> {
    /// Greets the client in TLS; `None` where that fails or takes too long.
    async fn greet(&mut self, tls: &Tls, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let patience = match self.is_probe {
            true => PROBE,
            false => HANDSHAKE,
        };
        let phases = &mut self.phases;
        let ending = async {
            // An error would mean that there is no server any more.
            let _ = phases.wait_for(|phase| *phase == Phase::Draining).await;
            sleep(FIRST_REQUEST).await;
        };
        let greeted = tokio::select! {
            greeted = timeout(patience, tls.greet(stream)) => greeted,
            () = ending => return None,
        };
        match greeted {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!("a TLS handshake took too long");
                None
            }
        }
    }

    /// Serves the client's requests.
    async fn serve<S, F, T>(mut self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        H: Fn(Request<RequestBody>) -> F + Clone + Send + Unpin + 'static,
        F: Future<Output = Response<Content<T>>> + Send + 'static,
        T: Stream<Item = Bytes> + Send + 'static,
    {
        let activity = Arc::new(Activity::default());
        let mut transport = Connection::new(stream, activity.clone(), self.keep_alive);
        let mut service = {
            let (activity, phases, handle) =
                (activity.clone(), self.phases.clone(), self.handle.clone());
            let access_log = self.access_log.clone();
            let (peer, is_probe, is_encrypted) = (self.peer, self.is_probe, self.is_encrypted);
            service_fn(move |mut request: Request<Incoming>| {
                if let Some(peer) = peer {
                    request.extensions_mut().insert(peer);
                }
                if is_encrypted {
                    request.extensions_mut().insert(Encrypted);
                }
                let state = match *phases.borrow() {
                    Phase::Serving if is_probe => State::Crowded,
                    Phase::Serving => State::Serving,
                    _ => State::Stopping,
                };
                let in_flight = activity.start(request.version() == Version::HTTP_2);
                let access_log = access_log.clone();
                // On the heap: hyper moves what is around it.
                Box::pin(respond(
                    handle.clone(),
                    activity.clone(),
                    in_flight,
                    access_log,
                    state,
                    request,
                ))
            })
        };
        let Self {
            protocols, phases, ..
        } = &mut self;
        loop {
            let awakened = tokio::select! {
                awakened = transport.awaken() => awakened,
                () = last_request(phases, &activity) => Ok(None),
            };
            let serving = match awakened {
                Ok(Some(Protocol::Http1)) => {
                    let connection = protocols
                        .http1
                        .serve_connection(TokioIo::new(transport), service);
                    // What it holds is given back at each rest.
                    let serving = Box::pin(serve_http1(connection, phases, &activity));
                    tokio::select! {
                        served = serving => served,
                        () = activity.unread() => return unread(),
                    }
                }
                Ok(Some(Protocol::Http2)) => {
                    let connection = protocols
                        .http2
                        .serve_connection(TokioIo::new(transport), service);
                    let serving = Box::pin(serve_http2(connection, phases, &activity));
                    tokio::select! {
                        served = serving => served.map(|()| None),
                        () = activity.unread() => return unread(),
                    }
                }
                Ok(None) => {
                    // The client may have gone.
                    let _ = transport.shutdown().await;
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "connection broke off");
                    return;
                }
            };
            match serving {
                Ok(Some(parts)) => {
                    (transport, service) = (parts.io.into_inner(), parts.service);
                    transport.resume(&parts.read_buf);
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "connection broke off");
                    return;
                }
            }
        }
    }
}

/// Serves a connection until it ends, or [rests](Activity::rests): then it goes on with these parts.
async fn serve_http1<S, F, B>(
    mut connection: http1::Connection<TokioIo<Connection<S>>, F>,
    phases: &mut watch::Receiver<Phase>,
    activity: &Activity,
) -> hyper::Result<Option<http1::Parts<TokioIo<Connection<S>>, F>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: HttpService<Incoming, ResBody = B, Error = Infallible> + Unpin,
    F::Future: Unpin,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    tokio::select! {
        biased;
        served = &mut connection => return served.map(|()| None),
        () = activity.rests() => {}
        () = last_request(phases, activity) => {
            Pin::new(&mut connection).graceful_shutdown();
            return connection.await.map(|()| None);
        }
    }
    // Nothing is under way, so this ends at once.
    Pin::new(&mut connection).graceful_shutdown();
    connection.without_shutdown().await.map(Some)
}

async fn serve_http2<S, F, B>(
    connection: http2::Connection<TokioIo<Connection<S>>, F, TokioExecutor>,
    phases: &mut watch::Receiver<Phase>,
    activity: &Activity,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: HttpService<Incoming, ResBody = B, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    TokioExecutor: Http2ServerConnExec<F::Future, B>,
{
    let mut connection = pin!(connection);
    tokio::select! {
        served = connection.as_mut() => served,
        () = last_request(phases, activity) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

fn unread() {
    tracing::debug!("client reads no answer");
}

/// Checks whether a request asks for this machine by a name that every machine has for itself: what a
/// browser is told of it would hold for whatever else is served there.
fn is_of_localhost<B>(request: &Request<B>) -> bool {
    let target = request.uri().authority().map(Authority::as_str);
    let header = || request.headers().get(HOST)?.to_str().ok();
    let name = target.or_else(header).unwrap_or_default();
    let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Ends when a connection is to take no further requests, or only those that it has begun to read.
async fn last_request(phases: &mut watch::Receiver<Phase>, activity: &Activity) {
    // An error would mean that there is no server any more.
    let _ = phases.wait_for(|phase| *phase > Phase::Serving).await;
    if activity.is_multiplexed() {
        return;
    }
    // On others the answer to the next request says that the connection closes.
    let _ = phases.wait_for(|phase| *phase == Phase::Draining).await;
    if !activity.has_started() {
        sleep(FIRST_REQUEST).await;
    }
}

/// Closes a listener and returns the clients whose connections the system has made before.
fn not_yet_accepted(listener: TcpListener) -> Vec<TcpStream> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let accepted = iter::from_fn(|| match listener.accept() {
        Ok((stream, _)) => Some(Some(stream)),
        Err(error) if is_of_one_client(&error) => Some(None),
        Err(_) => None,
    });
    let streams = accepted.flatten().filter_map(|stream| {
        stream.set_nonblocking(true).ok()?;
        let stream = TcpStream::from_std(stream).ok()?;
        prepare(&stream).ok()?;
        Some(stream)
    });
    streams.collect()
}

/// Sets how a client's connection sends.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    // An answer is written whole; waiting for more to send with it only delays it.
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}

/// Accepts the next client, once there is room for one.
async fn accept(listener: &TcpListener, free: &mut Free) -> (TcpStream, Place) {
    let place = free.any().await;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = prepare(&stream) {
                    tracing::debug!(%error, "a connection is as the system makes it");
                }
                // A client may have left while this one was waited for.
                let better = place.is_probe.then(|| free.client()).flatten();
                return (stream, better.unwrap_or(place));
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

/// What a request finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Serving,
    /// Its client has no place of its own.
    Crowded,
    Stopping,
}

async fn respond<H, F, T>(
    handle: H,
    activity: Arc<Activity>,
    in_flight: InFlight,
    access_log: Arc<AccessLog>,
    state: State,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody<T>>, Infallible>
where
    H: Fn(Request<RequestBody>) -> F,
    F: Future<Output = Response<Content<T>>>,
    T: Stream<Item = Bytes>,
{
    let multiplexed = request.version() == Version::HTTP_2;
    let mut access = access_log.begin(&request);
    let mut request = request.map(|incoming| RequestBody::new(incoming, activity.clone()));
    match state {
        State::Serving => {}
        State::Crowded => drop(request.extensions_mut().insert(Crowded)),
        State::Stopping => drop(request.extensions_mut().insert(Stopping)),
    }
    let is_sticky = request.extensions().get::<Encrypted>().is_some() && !is_of_localhost(&request);
    let mut response = handle(request).await;
    if is_sticky {
        let headers = response.headers_mut();
        headers.insert(STRICT_TRANSPORT_SECURITY, HTTPS_ALONE);
    }
    if !multiplexed && (state != State::Serving || activity.has_unread()) {
        // The connection ends with this answer, and the client must not send its next request on it.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    if let Some(access) = &mut access {
        access.answer(&response);
    }
    Ok(response.map(|content| AnswerBody::new(content, &activity, in_flight, multiplexed, access)))
}

#[cfg(test)]
mod tests {
    use futures_util::stream::Empty;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;

    /// A client of a server that answers each request with its path.
    fn client() -> (DuplexStream, watch::Sender<Phase>) {
        let (client, stream) = duplex(64 << 10);
        let (phase, phases) = watch::channel(Phase::Serving);
        let service = Service {
            protocols: Arc::new(Protocols::new()),
            handle: async |request: Request<RequestBody>| {
                let path = request.uri().path().to_owned();
                Response::new(Content::<Empty<Bytes>>::Whole(path.into()))
            },
            access_log: Arc::new(AccessLog {
                is_asked_for: false,
                trusted: None,
            }),
            phases,
            peer: None,
            is_probe: false,
            is_encrypted: false,
            keep_alive: Duration::from_secs(60),
        };
        tokio::spawn(service.serve(stream));
        (client, phase)
    }

    /// Reads until this has come.
    async fn read_until(client: &mut DuplexStream, end: &str) {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            text.push(client.read_u8().await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_come_of_a_request_before_a_rest_is_not_lost() {
        let (mut client, _phase) = client();
        for cut in [0, 1, 10, 40] {
            let next = "GET /second HTTP/1.1\r\nhost: localhost\r\n\r\n";
            let (before, after) = next.split_at(cut);
            let sent = format!("GET /first HTTP/1.1\r\nhost: localhost\r\n\r\n{before}");
            client.write_all(sent.as_bytes()).await.unwrap();
            read_until(&mut client, "/first").await;
            sleep(Duration::from_secs(5)).await;
            client.write_all(after.as_bytes()).await.unwrap();
            read_until(&mut client, "/second").await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_at_rest_is_closed_when_its_time_is_over() {
        let (mut client, _phase) = client();
        let start = Instant::now();
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
        client.write_all(request).await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap();
        let seconds = start.elapsed().as_secs();
        assert!((59..=61).contains(&seconds), "{seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_at_rest_is_closed_when_the_server_drains() {
        let (mut client, phase) = client();
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
        client.write_all(request).await.unwrap();
        read_until(&mut client, "\r\n\r\n/").await;
        sleep(Duration::from_secs(5)).await;
        let start = Instant::now();
        phase.send_replace(Phase::Draining);
        client.read_to_end(&mut Vec::new()).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
