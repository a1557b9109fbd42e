//! Letting others have a turn.

use std::future::poll_fn;
use std::task::Poll;

/// Lets the other tasks of the executor run before the caller goes on.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| match std::mem::replace(&mut yielded, true) {
        true => Poll::Ready(()),
        false => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}
