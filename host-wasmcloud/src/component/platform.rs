//! WASI, as far as the shared parts need it.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kubeagents_host_wasm::{Answer, Platform, PostError, answer};
use wasip3::clocks::monotonic_clock;
use wasip3::http::client;
use wasip3::http::types::ErrorCode;
use wasip3::http_compat::{http_from_wasi_response, http_into_wasi_request};

#[derive(Clone)]
pub(super) struct Wasi;

impl Platform for Wasi {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        wasip3::spawn_local(task);
    }

    async fn sleep(&self, duration: Duration) {
        let nanos = duration.as_nanos().try_into().unwrap_or(u64::MAX);
        monotonic_clock::wait_for(nanos).await;
    }

    async fn post(&self, request: Request<Bytes>) -> Result<Answer, PostError> {
        let failed = |error: ErrorCode| match error {
            ErrorCode::HttpRequestDenied => {
                PostError::Forbidden("it is not among the component's allowed hosts")
            }
            error => PostError::Failed(format!("{error:?}").into()),
        };
        let request = http_into_wasi_request(request.map(Full::new)).map_err(failed)?;
        let response = client::send(request).await.map_err(failed)?;
        let response = http_from_wasi_response(response).map_err(failed)?;
        Ok(answer(self, response).await)
    }
}
