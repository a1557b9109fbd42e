//! A component that answers every request with 200 and nothing: what the platform itself costs.
#![cfg(target_arch = "wasm32")]

use wasip3::http::types::{ErrorCode, Fields, Request, Response};

struct Empty;

wasip3::http::service::export!(Empty);

impl wasip3::exports::http::handler::Guest for Empty {
    async fn handle(_: Request) -> Result<Response, ErrorCode> {
        let (_, trailers) = wasip3::wit_future::new(|| Ok(None));
        let (response, _) = Response::new(Fields::new(), None, trailers);
        Ok(response)
    }
}
