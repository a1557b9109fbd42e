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
    /// Set where the transport does not notice by itself that the client reads nothing.
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
    /// The body of an answer on a connection. On a multiplexed one a client that reads nothing may
    /// still talk of other things.
    pub(crate) fn new(bytes: Bytes, activity: &Activity, multiplexed: bool) -> Self {
        let is_watched = multiplexed && !bytes.is_empty();
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
