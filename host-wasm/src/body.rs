//! Request bodies that must arrive at a certain speed: platforms wait for them for ever.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use kubeagents_core::BodyTimeout;

use crate::Platform;

/// The body of a request.
pub(crate) struct RequestBody<B, P> {
    body: Pin<Box<B>>,
    /// Number of bytes that it has, where the head says so. Platforms tell its end only when asked for
    /// more.
    length: Option<u64>,
    platform: P,
    /// Time that a body may take, given how many bytes of it have come.
    patience: fn(u64) -> Duration,
    started: Instant,
    received: u64,
    timer: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<B, P> RequestBody<B, P> {
    /// The body of a request whose head has just arrived. `length`: number of bytes that it has, where the
    /// head says so.
    pub(crate) fn new(
        body: B,
        length: Option<u64>,
        platform: P,
        patience: fn(u64) -> Duration,
    ) -> Self {
        Self {
            body: Box::pin(body),
            length,
            platform,
            patience,
            started: Instant::now(),
            received: 0,
            timer: None,
        }
    }
}

impl<B, P> Body for RequestBody<B, P>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    P: Platform,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = this.body.as_mut().poll_frame(context) {
            let frame = frame.transpose().map_err(Into::into)?;
            let data = frame.as_ref().and_then(Frame::data_ref);
            this.received += data.map_or(0, |data| data.len() as u64);
            return Poll::Ready(frame.map(Ok));
        }
        loop {
            let left = (this.patience)(this.received).saturating_sub(this.started.elapsed());
            if left.is_zero() {
                return Poll::Ready(Some(Err(BodyTimeout.into())));
            }
            let timer = this.timer.get_or_insert_with(|| {
                let platform = this.platform.clone();
                Box::pin(async move { platform.sleep(left).await })
            });
            ready!(timer.as_mut().poll(context));
            // More may have come since it was set.
            this.timer = None;
        }
    }

    fn is_end_stream(&self) -> bool {
        self.length == Some(self.received) || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;
    use std::pin::pin;

    use http::Request;
    use http_body_util::{BodyExt, StreamBody};
    use kubeagents_core::delivery::{Answer, PostError};

    use super::*;

    #[derive(Clone)]
    struct Timed;

    impl Platform for Timed {
        fn spawn(&self, _: impl Future<Output = ()> + 'static) {}

        async fn sleep(&self, duration: Duration) {
            tokio::time::sleep(duration).await;
        }

        async fn post(&self, _: Request<Bytes>) -> Result<Answer, PostError> {
            pending().await
        }
    }

    /// A body whose pieces come every 5 ms: so many and never an end, or four and the end.
    fn body(pieces: Option<u8>) -> impl Body<Data = Bytes, Error = Infallible> {
        let stream = futures_util::stream::unfold(0, move |sent| async move {
            match pieces {
                Some(pieces) if sent == pieces => pending().await,
                None if sent == 4 => None,
                _ => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Some((Ok(Frame::data(Bytes::from_static(b"x"))), sent + 1))
                }
            }
        });
        StreamBody::new(stream)
    }

    #[tokio::test]
    async fn a_body_that_stays_away_ends_in_a_timeout() {
        let patience = |received| Duration::from_millis(20 + received);
        for pieces in [0, 1] {
            let body = pin!(RequestBody::new(body(Some(pieces)), None, Timed, patience));
            let error = body.collect().await.err().unwrap();
            assert!(error.is::<BodyTimeout>(), "{error}");
        }
    }

    #[tokio::test]
    async fn a_body_that_comes_in_time_is_whole() {
        let patience = |received| Duration::from_secs(600 * (received + 1));
        let body = pin!(RequestBody::new(body(None), None, Timed, patience));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "xxxx");
    }

    #[tokio::test]
    async fn a_body_is_over_when_all_that_was_announced_has_come() {
        let patience = |_| Duration::from_secs(600);
        for length in [0, 2] {
            let mut body = pin!(RequestBody::new(
                body(Some(2)),
                Some(length),
                Timed,
                patience
            ));
            for _ in 0..length {
                assert!(!body.is_end_stream());
                assert!(body.frame().await.unwrap().is_ok());
            }
            assert!(body.is_end_stream());
        }
    }
}
