//! What a component's platform does for it.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use kubeagents_core::delivery::{Answer, PostError};
use kubeagents_core::ports::RestAfter;

/// How much of an answer's body is read, and for how long: some providers say there what went wrong.
const ANSWER_BYTES: usize = 16 * 1024;
const ANSWER_TIME: Duration = Duration::from_millis(300);

/// The platform, as far as the standard library does not reach it. Clones are the same platform.
pub trait Platform: Clone + Unpin + 'static {
    /// What a list rests after while reports are under way.
    const READS_REST_AFTER: RestAfter = RestAfter::Work;

    /// Whether several instances at once last for many requests each.
    const HAS_SIBLINGS: bool = false;

    /// Runs a task beside the instance's requests, also after the answer to the one that it is
    /// spawned in. The platform may end it early together with the instance.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// Waits, without holding up the instance's other requests.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Sends a request and waits for the [answer]; redirects are not followed. May take for ever: the caller gives up by dropping the future.
    ///
    /// # Errors
    /// [`PostError`], when there is no answer.
    fn post(&self, request: Request<Bytes>) -> impl Future<Output = Result<Answer, PostError>>;
}

/// A response as far as it matters: its head and the beginning of its body, if that comes at once.
pub async fn answer<B>(platform: &impl Platform, response: Response<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = response.into_parts();
    let answer = Answer::new(head.status, &head.headers);
    let body = pin!(Limited::new(body, ANSWER_BYTES).collect());
    let time = pin!(platform.sleep(ANSWER_TIME));
    match select(body, time).await {
        Either::Left((Ok(body), _)) => answer.with_body(body.to_bytes()),
        _ => answer,
    }
}
