//! Spin, as far as the shared parts need it.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kubeagents_core::ports::RestAfter;
use kubeagents_host_wasm::{Answer, Platform, PostError, answer};
use spin_sdk::wasip3::http::types::ErrorCode;

#[derive(Clone)]
pub(super) struct Spin;

impl Platform for Spin {
    // Each row of a database is an event, for which Spin works more than the component.
    const READS_REST_AFTER: RestAfter = RestAfter::Time;
    const HAS_SIBLINGS: bool = true;

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        spin_sdk::wasip3::spawn(task);
    }

    async fn sleep(&self, duration: Duration) {
        spin_sdk::time::sleep(duration).await;
    }

    async fn post(&self, request: Request<Bytes>) -> Result<Answer, PostError> {
        match spin_sdk::http::send(request.map(Full::new)).await {
            Ok(response) => Ok(answer(self, response).await),
            Err(ErrorCode::HttpRequestDenied) => Err(PostError::Forbidden(
                "it is neither https nor the place that notification_host names",
            )),
            Err(error) => Err(PostError::Failed(format!("{error:?}").into())),
        }
    }
}
