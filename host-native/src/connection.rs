//! A client's connection as hyper sees it, with the limits that hyper lacks: on idle time, on the
//! time for a request's head, and on the time that an answer stays unread. It closes so that the
//! client can read the last answer.

mod refusal;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Longest time that a connection may stay open before its first request, unless KEEP_ALIVE_SECONDS
/// is shorter. Between requests it may be longer: whoever has sent one is likely to send another.
const FIRST_REQUEST: Duration = Duration::from_secs(75);

/// Time limit for the head of a request, from its first byte.
const HEAD: Duration = Duration::from_secs(10);

/// Longest time that a client may leave its answer unread.
const UNREAD_ANSWER: Duration = Duration::from_secs(30);

/// Pause between looks at the answers that are not sent yet.
const UNREAD_CHECK: Duration = Duration::from_secs(5);

/// Time without a request after which a connection rests. A client that has its next request at hand
/// sends it sooner.
const REST: Duration = Duration::from_millis(100);

/// What a connection of HTTP/2 begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Time and bytes for which the connection still reads, and discards, what a client sends after the
/// last answer. Closing at once would reset the connection, and the client would lose the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 8 << 20;

/// State that the requests of a connection share with its transport.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    started: AtomicUsize,
    in_flight: AtomicUsize,
    multiplexed: AtomicBool,
    unread: AtomicBool,
    rests: AtomicBool,
    answers: Mutex<Vec<Weak<Progress>>>,
    answer_begins: Notify,
}

/// The instant of an answer's last progress. The answer is sent when nothing holds this any more.
#[derive(Debug)]
pub(crate) struct Progress(Mutex<Instant>);

impl Progress {
    /// Notes that the client has made room for more.
    pub(crate) fn advance(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way; ends when dropped.
pub(crate) struct InFlight(Arc<Activity>);

impl Activity {
    /// Notes that a request's head has been read. `multiplexed`: others may follow before its answer.
    pub(crate) fn start(self: &Arc<Self>, multiplexed: bool) -> InFlight {
        self.multiplexed.store(multiplexed, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.started.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// Notes that a request was answered before it was read to its end.
    pub(crate) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// Returns whether a request has started.
    pub(crate) fn has_started(&self) -> bool {
        self.started.load(Ordering::Relaxed) > 0
    }

    /// Returns whether requests may come before the answers to earlier ones.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Ordering::Relaxed)
    }

    /// Ends when nothing is under way on the connection, nor has been for a while. It is for the task that
    /// reads from the transport.
    pub(crate) async fn rests(&self) {
        poll_fn(|_| match self.rests.swap(false, Ordering::Relaxed) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// Returns whether a request was answered before it was read to its end.
    pub(crate) fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Begins an answer that [`Activity::unread`] watches.
    pub(crate) fn watch_answer(&self) -> Arc<Progress> {
        let progress = Arc::new(Progress(Mutex::new(Instant::now())));
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() == answers.capacity() {
            answers.retain(|answer| answer.strong_count() > 0);
        }
        answers.push(Arc::downgrade(&progress));
        drop(answers);
        self.answer_begins.notify_one();
        progress
    }

    /// Ends when the client has left a watched answer unread for too long, whatever else it does.
    pub(crate) async fn unread(&self) {
        loop {
            self.answer_begins.notified().await;
            let mut slowest = Some(Instant::now());
            while let Some(since) = slowest {
                if since.elapsed() >= UNREAD_ANSWER {
                    return;
                }
                sleep(UNREAD_CHECK).await;
                slowest = self.slowest_answer();
            }
        }
    }

    /// The last progress of the answer that has made none for longest.
    fn slowest_answer(&self) -> Option<Instant> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|answer| answer.strong_count() > 0);
        let unsent = answers.iter().filter_map(Weak::upgrade);
        unsent.map(|answer| answer.last()).min()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection's transport over a stream, encrypted or not.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    stream: S,
    activity: Arc<Activity>,
    /// What has been read already, and is read again.
    early: Bytes,
    /// Longest pause between requests.
    keep_alive: Duration,
    /// Whether it is told when the connection [rests](Activity::rests).
    may_rest: bool,
    /// Number of requests that had started when `reading_head` and `deadline` were last set.
    seen: usize,
    reading_head: bool,
    /// When the last of them was seen.
    began: Instant,
    /// Time by which the client must have sent more; none while a request is under way.
    deadline: Option<Instant>,
    read_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    /// As long as what is encrypted is not all sent.
    flush_timer: Option<Pin<Box<Sleep>>>,
    lingering: Option<Linger>,
    refusal: Option<Refusal>,
}

/// What is sent instead of an answer of hyper's own.
#[derive(Debug)]
struct Refusal {
    answer: Vec<u8>,
    sent: usize,
}

#[derive(Debug)]
struct Linger {
    timer: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl<S> Connection<S> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>, keep_alive: Duration) -> Self {
        Self {
            stream,
            activity,
            early: Bytes::new(),
            keep_alive,
            may_rest: false,
            seen: 0,
            reading_head: false,
            began: Instant::now(),
            deadline: None,
            read_timer: None,
            write_timer: None,
            flush_timer: None,
            lingering: None,
            refusal: None,
        }
    }

    /// Checks whether what is answered now answers a head that was never read to its end.
    fn is_refusing(&self) -> bool {
        let activity = &self.activity;
        self.reading_head
            && activity.started.load(Ordering::Relaxed) == self.seen
            && activity.in_flight.load(Ordering::Relaxed) == 0
    }

    /// Has the reader look again in a while: hyper, which waits for bytes already, does not when it has
    /// answered.
    fn look_again(&mut self, cx: &mut Context<'_>) {
        let now = Instant::now();
        let next = now + (now - self.began).clamp(REST, UNREAD_CHECK);
        let timer = self
            .read_timer
            .get_or_insert_with(|| Box::pin(sleep_until(next)));
        if timer.deadline() > next {
            timer.as_mut().reset(next);
        }
        while timer.as_mut().poll(cx).is_ready() {
            timer.as_mut().reset(next);
        }
    }

    /// Ready when the client has been silent for too long.
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = match self.seen {
            0 => self.keep_alive.min(FIRST_REQUEST),
            _ => self.keep_alive,
        };
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + idle);
        let is_sending = self.write_timer.is_some() || self.flush_timer.is_some();
        let is_busy = self.reading_head || is_sending || self.activity.has_unread();
        let rest = (self.may_rest && !is_busy).then(|| deadline - idle.saturating_sub(REST));
        let next = rest.unwrap_or(deadline);
        let timer = self
            .read_timer
            .get_or_insert_with(|| Box::pin(sleep_until(next)));
        // A timer that fires early is set again then; most requests find it far away and leave it.
        if timer.deadline() > next {
            timer.as_mut().reset(next);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() < next {
                timer.as_mut().reset(next);
                continue;
            }
            if rest.is_none() {
                return Poll::Ready(());
            }
            self.activity.rests.store(true, Ordering::Relaxed);
            return Poll::Pending;
        }
    }

    /// Passes on the outcome of a write, unless the client has taken nothing for too long.
    fn limit_write(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = &outcome {
            self.write_timer = None;
            self.flush_timer = None;
            // The head of an answer that is still on its way may be long past: taking it counts.
            if !self.reading_head && written.as_ref().is_ok_and(|&count| count > 0) {
                self.deadline = None;
            }
            return outcome;
        }
        ready!(poll_unread(&mut self.write_timer, cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// The same for a flush, which waits only where the stream has a buffer of its own.
    fn limit_flush(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if outcome.is_ready() {
            self.flush_timer = None;
            return outcome;
        }
        ready!(poll_unread(&mut self.flush_timer, cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Ready when an answer has been left unread for too long since the timer was set.
fn poll_unread(timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + UNREAD_ANSWER)));
    timer.as_mut().poll(cx)
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl<S: AsyncRead + Unpin> Connection<S> {
    /// Goes on after a rest of the reader, which has left these bytes.
    pub(crate) fn resume(&mut self, left: &[u8]) {
        // A copy: they are a part of the reader's buffer, which is to go.
        self.early = Bytes::copy_from_slice(left);
    }

    /// Waits for what the client sends next, and tells from it what it speaks; `None` if it sends nothing
    /// more. What has come is read again. That waits with next to no memory.
    ///
    /// # Errors
    /// As reading does.
    pub(crate) async fn awaken(&mut self) -> io::Result<Option<Protocol>> {
        self.may_rest = false;
        let mut begin = [0; PREFACE.len()];
        let mut count = 0;
        loop {
            let read = self.read(&mut begin[count..]).await?;
            count += read;
            let early = &begin[..count];
            let is_preface = PREFACE.starts_with(early);
            if is_preface && read > 0 && count < PREFACE.len() {
                continue;
            }
            let protocol = match is_preface && count == PREFACE.len() {
                true => Protocol::Http2,
                false => Protocol::Http1,
            };
            // Of what was left there may be more than these.
            self.early = [early, &self.early].concat().into();
            self.may_rest = protocol == Protocol::Http1;
            return Ok((count > 0).then_some(protocol));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let outcome = match this.early.is_empty() {
            true => Pin::new(&mut this.stream).poll_read(cx, buffer),
            false => {
                let count = this.early.len().min(buffer.remaining());
                buffer.put_slice(&this.early.split_to(count));
                Poll::Ready(Ok(()))
            }
        };
        let started = this.activity.started.load(Ordering::Relaxed);
        if started != this.seen {
            this.seen = started;
            this.reading_head = false;
            this.began = Instant::now();
            this.deadline = None;
        }
        if this.activity.in_flight.load(Ordering::Relaxed) > 0 {
            if outcome.is_pending() {
                this.look_again(cx);
            }
            return outcome;
        }
        if outcome.is_pending() {
            ready!(this.poll_read_deadline(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        // Between multiplexed requests come frames that are no request.
        let multiplexed = this.activity.is_multiplexed();
        if buffer.filled().len() > before && !this.reading_head && !multiplexed {
            this.reading_head = true;
            this.deadline = Some(Instant::now() + HEAD);
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> Connection<S> {
    /// Sends something else if hyper says these bytes by itself; `None` if it does not.
    fn poll_refuse(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Option<Poll<io::Result<usize>>> {
        if self.refusal.is_none() && self.is_refusing() {
            let answer = refusal::in_words(bytes)?;
            self.refusal = Some(Refusal { answer, sent: 0 });
        }
        self.refusal.as_ref()?;
        Some(self.poll_refusal(cx).map_ok(|()| bytes.len()))
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(Refusal { answer, sent }) = &mut self.refusal {
            let outcome = Pin::new(&mut self.stream).poll_write(cx, &answer[*sent..]);
            if let Poll::Ready(Ok(count)) = outcome {
                *sent += count;
                if *sent == answer.len() {
                    self.refusal = None;
                }
            }
            if ready!(self.limit_write(cx, outcome))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(refused) = self.poll_refuse(cx, bytes) {
            return refused;
        }
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limit_write(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.first().map_or(&[][..], |slice| slice);
        if let Some(refused) = self.poll_refuse(cx, first) {
            return refused;
        }
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.limit_write(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.limit_flush(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            let outcome = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.limit_flush(cx, outcome))?;
            if !this.reading_head && !this.activity.has_unread() {
                return Poll::Ready(Ok(()));
            }
        }
        let linger = this.lingering.get_or_insert_with(|| Linger {
            timer: Box::pin(sleep_until(Instant::now() + LINGER)),
            bytes_left: LINGER_BYTES,
        });
        let mut scratch = [0; 4096];
        while linger.bytes_left > 0 && linger.timer.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer));
            let count = buffer.filled().len();
            if read.is_err() || count == 0 {
                break;
            }
            linger.bytes_left = linger.bytes_left.saturating_sub(count);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{advance, pause};

    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(620);

    /// A connection without a request under way, and its client.
    async fn connection() -> (Connection<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let connection = Connection::new(accepted.unwrap().0, Arc::default(), KEEP_ALIVE);
        (connection, client.unwrap())
    }

    fn read(connection: &mut Connection<TcpStream>) -> Poll<io::ErrorKind> {
        let mut scratch = [0; 16];
        let mut buffer = ReadBuf::new(&mut scratch);
        let outcome =
            Pin::new(connection).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
        outcome.map(|outcome| outcome.unwrap_err().kind())
    }

    fn write(connection: &mut Connection<TcpStream>) -> Poll<usize> {
        let outcome =
            Pin::new(connection).poll_write(&mut Context::from_waker(Waker::noop()), b"more");
        outcome.map(|outcome| outcome.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_progress_is_noticed_beside_others() {
        let activity = Activity::default();
        let unread = activity.unread();
        tokio::pin!(unread);
        let start = Instant::now();
        let (slow, unread_one) = (activity.watch_answer(), activity.watch_answer());
        for round in 0..20 {
            drop(activity.watch_answer());
            slow.advance();
            if tokio::time::timeout(Duration::from_secs(20), &mut unread)
                .await
                .is_ok()
            {
                assert_eq!(round, 1);
                break;
            }
        }
        assert!(start.elapsed() <= UNREAD_ANSWER + UNREAD_CHECK);
        drop(unread_one);

        let unread = activity.unread();
        tokio::pin!(unread);
        for _ in 0..20 {
            slow.advance();
            let waited = tokio::time::timeout(Duration::from_secs(20), &mut unread).await;
            assert!(waited.is_err(), "an answer that goes on is cut off");
        }
    }

    #[tokio::test]
    async fn a_silent_connection_is_closed_after_its_time() {
        let (mut connection, _client) = connection().await;
        pause();
        assert_eq!(read(&mut connection), Poll::Pending);
        advance(FIRST_REQUEST - Duration::from_secs(1)).await;
        assert_eq!(read(&mut connection), Poll::Pending);
        advance(Duration::from_secs(2)).await;
        assert_eq!(read(&mut connection), Poll::Ready(io::ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn a_connection_is_kept_longer_after_a_request() {
        let (mut connection, _client) = connection().await;
        pause();
        assert_eq!(read(&mut connection), Poll::Pending);
        drop(connection.activity.clone().start(false));
        assert_eq!(read(&mut connection), Poll::Pending);
        advance(KEEP_ALIVE - Duration::from_secs(1)).await;
        assert_eq!(read(&mut connection), Poll::Pending);
        advance(Duration::from_secs(2)).await;
        assert_eq!(read(&mut connection), Poll::Ready(io::ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn an_answer_may_take_longer_than_a_connection_may_be_idle() {
        let (mut connection, _client) = connection().await;
        pause();
        for _ in 0..5 {
            assert_eq!(read(&mut connection), Poll::Pending);
            advance(FIRST_REQUEST - Duration::from_secs(1)).await;
            assert_eq!(write(&mut connection), Poll::Ready(4));
        }
        assert_eq!(read(&mut connection), Poll::Pending);
        advance(FIRST_REQUEST + Duration::from_secs(1)).await;
        assert_eq!(read(&mut connection), Poll::Ready(io::ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn a_head_that_comes_slowly_is_not_excused_by_an_answer() {
        let (mut connection, client) = connection().await;
        client.try_write(b"G").unwrap();
        let mut scratch = [0; 16];
        let first =
            poll_fn(|cx| Pin::new(&mut connection).poll_read(cx, &mut ReadBuf::new(&mut scratch)));
        first.await.unwrap();
        pause();
        assert_eq!(write(&mut connection), Poll::Ready(4));
        assert_eq!(read(&mut connection), Poll::Pending);
        advance(HEAD + Duration::from_secs(1)).await;
        assert_eq!(read(&mut connection), Poll::Ready(io::ErrorKind::TimedOut));
    }

    /// A stream whose buffer never empties.
    struct Stuck;

    type End = fn(Pin<&mut Connection<Stuck>>, &mut Context<'_>) -> Poll<io::Result<()>>;

    impl AsyncRead for Stuck {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Stuck {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_encrypted_and_never_sent_is_given_up() {
        let mut context = Context::from_waker(Waker::noop());
        let ends: [End; 2] = [AsyncWrite::poll_flush, AsyncWrite::poll_shutdown];
        for end in ends {
            let mut connection = Connection::new(Stuck, Arc::default(), KEEP_ALIVE);
            let mut look = || end(Pin::new(&mut connection), &mut context);
            assert!(look().is_pending());
            advance(UNREAD_ANSWER - Duration::from_secs(1)).await;
            assert!(look().is_pending());
            advance(Duration::from_secs(2)).await;
            let Poll::Ready(Err(error)) = look() else {
                panic!("it still waits");
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }
}
