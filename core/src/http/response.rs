//! Whole responses.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LINK};
use http::{HeaderValue, Method, Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

pub(super) type Answer = Result<Response<Bytes>, super::ApiError>;

/// A JSON response.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Bytes> {
    let (status, body) = match serde_json::to_vec(body) {
        Ok(body) => (status, body),
        Err(error) => {
            tracing::error!(%error, "response could not be serialised");
            (StatusCode::INTERNAL_SERVER_ERROR, Vec::new())
        }
    };
    json_text(status, body)
}

/// A response with this JSON text.
pub(super) fn json_text(status: StatusCode, text: Vec<u8>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A JSON response with a token or key, which no cache may keep.
pub(super) fn secret(status: StatusCode, body: &impl Serialize) -> Answer {
    let mut response = json(status, body);
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    Ok(response)
}

/// A JSON response with status 200.
pub(super) fn ok(body: &impl Serialize) -> Answer {
    Ok(json(StatusCode::OK, body))
}

/// An answer with status 200 that only confirms what was done.
pub(super) fn confirm(message: &'static str) -> Answer {
    ok(&Confirmation { message })
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Confirmation {
    message: &'static str,
}

/// Adds where the next page is: a relative reference, which holds whatever a proxy made of the path.
pub(super) fn link_next(response: &mut Response<Bytes>, target: &str) {
    // Every character of the target is percent-encoded or comes from base64.
    if let Ok(value) = HeaderValue::try_from(format!("<{target}>; rel=\"next\"")) {
        response.headers_mut().insert(LINK, value);
    }
}

/// Says how long the body is, and drops it where only its head was asked for. 204 has none.
pub(super) fn finish(method: &Method, response: Response<Bytes>) -> Response<Bytes> {
    let (mut parts, body) = response.into_parts();
    if parts.status != StatusCode::NO_CONTENT {
        parts
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let body = match *method {
        Method::HEAD => Bytes::new(),
        _ => body,
    };
    Response::from_parts(parts, body)
}
