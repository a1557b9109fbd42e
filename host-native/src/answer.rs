//! Answers as hyper sends them, piece by piece, which shows how far the client has read.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body, Frame, SizeHint};

use crate::access::Access;
use crate::connection::{Activity, InFlight, Progress};

/// The bytes of an answer that are handed to hyper at a time.
const PIECE: usize = 64 << 10;

/// What an answer holds.
pub(crate) enum Content<T> {
    Whole(Bytes),
    /// Pieces that come in their time.
    Stream(T),
}

/// The body of an answer.
pub(crate) struct AnswerBody<T> {
    left: Left<T>,
    /// Set where the transport alone would not notice that the client does not read.
    progress: Option<Arc<Progress>>,
    /// Ends with the last piece.
    access: Option<Box<Access>>,
}

/// What is not sent yet.
enum Left<T> {
    Whole(Bytes),
    /// The request is under way for as long as its stream is: the connection is not idle.
    Stream {
        stream: Pin<Box<T>>,
        _in_flight: InFlight,
    },
}

/// Bytes that belong to an answer until hyper has written them.
struct Piece {
    bytes: Bytes,
    _progress: Arc<Progress>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T: Stream<Item = Bytes>> AnswerBody<T> {
    /// The body of an answer on a connection. The transport notices by itself that a client reads
    /// nothing, but not that it still talks of other things on a multiplexed connection, nor that
    /// it reads a large answer a byte at a time. A stream makes progress as long as its client makes
    /// room, since there is a piece of it in every [`UNREAD_ANSWER`](crate::connection).
    pub(crate) fn new(
        content: Content<T>,
        activity: &Activity,
        in_flight: InFlight,
        multiplexed: bool,
        access: Option<Box<Access>>,
    ) -> Self {
        let (left, is_watched) = match content {
            Content::Whole(bytes) => {
                let is_watched = multiplexed && !bytes.is_empty() || bytes.len() > PIECE;
                (Left::Whole(bytes), is_watched)
            }
            Content::Stream(stream) => {
                let stream = Box::pin(stream);
                let left = Left::Stream {
                    stream,
                    _in_flight: in_flight,
                };
                (left, true)
            }
        };
        Self {
            progress: is_watched.then(|| activity.watch_answer()),
            left,
            access,
        }
    }
}

impl<T: Stream<Item = Bytes>> Body for AnswerBody<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let mut bytes = match &mut this.left {
            Left::Stream { stream, .. } => match ready!(stream.as_mut().poll_next(cx)) {
                Some(piece) => piece,
                None => return Poll::Ready(None),
            },
            Left::Whole(left) if left.is_empty() => return Poll::Ready(None),
            Left::Whole(left) => {
                let length = left.len().min(PIECE);
                left.split_to(length)
            }
        };
        if let Some(access) = &mut this.access {
            access.send(bytes.len());
        }
        if let Some(progress) = &this.progress {
            progress.advance();
            bytes = Bytes::from_owner(Piece {
                bytes,
                _progress: progress.clone(),
            });
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.left, Left::Whole(left) if left.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.left {
            Left::Whole(left) => SizeHint::with_exact(left.len() as u64),
            Left::Stream { .. } => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream::{self, Empty};
    use http_body_util::BodyExt;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_goes_on_as_long_as_its_client_makes_room() {
        let activity = Arc::new(Activity::default());
        let heartbeats = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_secs(15)).await;
            Some((Bytes::from_static(b":\n\n"), ()))
        });
        let content = Content::Stream(heartbeats);
        let mut body = AnswerBody::new(content, &activity, activity.start(true), true, None);
        let unread = activity.unread();
        tokio::pin!(unread);
        for _ in 0..10 {
            tokio::select! {
                piece = body.frame() => assert!(piece.is_some()),
                () = &mut unread => panic!("a stream whose client reads is cut off"),
            }
        }
        let minute = Duration::from_secs(60);
        assert!(timeout(minute, unread).await.is_ok(), "nobody reads it");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_watched_until_its_last_piece_is_gone() {
        const LONG: Duration = Duration::from_secs(60);
        let activity = Arc::new(Activity::default());
        for (bytes, multiplexed, is_watched) in
            [(1, false, false), (1, true, true), (PIECE + 1, false, true)]
        {
            let body = Bytes::from(vec![b'x'; bytes]);
            let in_flight = activity.start(multiplexed);
            let body = Content::<Empty<Bytes>>::Whole(body);
            let mut body = AnswerBody::new(body, &activity, in_flight, multiplexed, None);
            let mut pieces = Vec::new();
            while let Some(piece) = body.frame().await {
                pieces.push(piece.unwrap().into_data().unwrap());
            }
            assert_eq!(pieces.concat().len(), bytes);
            drop(body);
            let unread = timeout(LONG, activity.unread()).await;
            assert_eq!(unread.is_ok(), is_watched, "{bytes} {multiplexed}");
            drop(pieces);
            let unread = timeout(LONG, activity.unread()).await;
            assert!(unread.is_err(), "{bytes} {multiplexed}");
        }
    }
}
