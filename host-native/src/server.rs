//! Serving HTTP/1.1 and HTTP/2 on one port, with TLS or without.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::{io, iter};

use bytes::Bytes;
use futures_util::Stream;
use http::header::{CONNECTION, HOST, STRICT_TRANSPORT_SECURITY};
use http::uri::Authority;
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use kubeagents_core::{Crowded, Encrypted, Peer, Stopping};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::server::TlsStream;

use crate::access::AccessLog;
use crate::answer::{AnswerBody, Content};
use crate::body::RequestBody;
use crate::connection::{Activity, Connection};
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

/// What serves one client.
struct Service<H> {
    builder: Arc<Builder<TokioExecutor>>,
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
    H: Fn(Request<RequestBody>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Content<T>>> + Send + 'static,
    T: Stream<Item = Bytes> + Send + 'static,
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
    let access_log = Arc::new(access_log);
    let mut free = Free::new(limits.places, limits.crowded);
    let (phase, phases) = watch::channel(Phase::Serving);
    let start = |stream: TcpStream, place: Place| {
        let peer = stream.peer_addr().ok().map(|address| Peer(address.ip()));
        let is_probe = place.is_probe;
        let tls = tls.clone();
        let mut service = Service {
            builder: builder.clone(),
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
                Some(tls) => {
                    if let Some(stream) = service.greet(&tls, stream).await {
                        service.serve(stream).await;
                    }
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
        H: Fn(Request<RequestBody>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Content<T>>> + Send + 'static,
        T: Stream<Item = Bytes> + Send + 'static,
    {
        let activity = Arc::new(Activity::default());
        let transport = Connection::new(stream, activity.clone(), self.keep_alive);
        let service = {
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
                let (activity, access_log) = (activity.clone(), access_log.clone());
                respond(handle.clone(), activity, access_log, state, request)
            })
        };
        let connection = self
            .builder
            .serve_connection(TokioIo::new(transport), service);
        tokio::pin!(connection);
        let phases = &mut self.phases;
        let serving = async {
            tokio::select! {
                served = connection.as_mut() => served,
                () = last_request(phases, &activity) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        tokio::select! {
            served = serving => if let Err(error) = served {
                tracing::debug!(%error, "connection broke off");
            },
            () = activity.unread() => tracing::debug!("client reads no answer"),
        }
    }
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
    let in_flight = activity.start(multiplexed);
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
