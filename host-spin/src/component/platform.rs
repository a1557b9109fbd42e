//! Spin, as far as the shared parts need it.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use kubeagents_host_wasm::{Platform, PostError};
use spin_sdk::wasip3::http::types::ErrorCode;

#[derive(Clone)]
pub(super) struct Spin;

impl Platform for Spin {
    async fn sleep(&self, duration: Duration) {
        spin_sdk::time::sleep(duration).await;
    }

    async fn post(&self, request: Request<Bytes>) -> Result<StatusCode, PostError> {
        match spin_sdk::http::send(request.map(Full::new)).await {
            Ok(response) => Ok(response.status()),
            Err(ErrorCode::HttpRequestDenied) => Err(PostError::Forbidden),
            Err(error) => Err(PostError::Failed(format!("{error:?}").into())),
        }
    }
}
