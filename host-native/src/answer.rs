//! Answers as hyper sends them, piece by piece, which shows how far the client has read.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::connection::{Activity, Progress};

/// The bytes of an answer that are handed to hyper at a time.
const PIECE: usize = 64 << 10;

/// The body of an answer.
pub(crate) struct AnswerBody {
    left: Bytes,
    /// Set where the transport alone would not notice that the client does not read.
    progress: Option<Arc<Progress>>,
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

impl AnswerBody {
    /// The body of an answer on a connection. The transport notices by itself that a client reads
    /// nothing, but not that it still talks of other things on a multiplexed connection, nor that
    /// it reads a large answer a byte at a time.
    pub(crate) fn new(bytes: Bytes, activity: &Activity, multiplexed: bool) -> Self {
        let is_watched = multiplexed && !bytes.is_empty() || bytes.len() > PIECE;
        Self {
            progress: is_watched.then(|| activity.watch_answer()),
            left: bytes,
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.left.len().min(PIECE);
        let mut bytes = self.left.split_to(length);
        if let Some(progress) = &self.progress {
            progress.advance();
            bytes = Bytes::from_owner(Piece {
                bytes,
                _progress: progress.clone(),
            });
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_watched_until_its_last_piece_is_gone() {
        const LONG: Duration = Duration::from_secs(60);
        let activity = Activity::default();
        for (bytes, multiplexed, is_watched) in
            [(1, false, false), (1, true, true), (PIECE + 1, false, true)]
        {
            let body = Bytes::from(vec![b'x'; bytes]);
            let mut body = AnswerBody::new(body, &activity, multiplexed);
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
