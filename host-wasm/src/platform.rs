//! What a component's platform does for it.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use kubeagents_core::delivery::{Answer, PostError};

/// The platform, as far as the standard library does not reach it. Clones are the same platform.
pub trait Platform: Clone + Unpin + 'static {
    /// Runs a task beside the instance's requests, also after the answer to the one that it is
    /// spawned in. The platform may end it early together with the instance.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// Waits, without holding up the instance's other requests.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Sends a request and waits for the answer's head; the rest of the answer is left unread, and
    /// redirects are not followed. May take for ever: the caller gives up by dropping the future.
    ///
    /// # Errors
    /// [`PostError`], when there is no answer.
    fn post(&self, request: Request<Bytes>) -> impl Future<Output = Result<Answer, PostError>>;
}
