//! Whole responses.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use twox_hash::XxHash3_128;

/// The media type of a stream of events.
pub(super) const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

pub(super) type Answer = Result<Response<Bytes>, super::ApiError>;

/// A JSON response.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Bytes> {
    json_of_size(status, body, 0)
}

/// A JSON response whose body has about this size in bytes.
pub(super) fn json_of_size(
    status: StatusCode,
    body: &impl Serialize,
    size: usize,
) -> Response<Bytes> {
    let (status, body) = match crate::json::to_vec(body, size) {
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

/// Names the body by its hash.
pub(super) fn tagged(mut response: Response<Bytes>) -> Response<Bytes> {
    // SHA-256 would take as long as making the body does; nobody is kept from anything by a tag.
    let hash = XxHash3_128::oneshot(response.body());
    if let Ok(tag) = HeaderValue::try_from(format!("\"{hash:032x}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// Names the body by its hash; leaves it out where the client says that it has it.
pub(super) fn conditional(headers: &HeaderMap, response: Response<Bytes>) -> Response<Bytes> {
    if response.status() != StatusCode::OK {
        return response;
    }
    let mut response = match response.headers().contains_key(ETAG) {
        true => response,
        false => tagged(response),
    };
    let Some(tag) = response.headers().get(ETAG).cloned() else {
        return response;
    };
    let is_known = headers.get_all(IF_NONE_MATCH).iter().any(|known| {
        let known = known.to_str().unwrap_or_default().split(',').map(str::trim);
        // What compresses an answer on its way makes a tag weak.
        let mut known = known.map(|known| known.strip_prefix("W/").unwrap_or(known));
        known.any(|known| known == "*" || known == tag)
    });
    if is_known {
        response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// Says how long the body is, and drops it where only its head was asked for. 204 and 304 have none,
/// and a stream has no length.
pub(super) fn finish(method: &Method, response: Response<Bytes>) -> Response<Bytes> {
    let (mut parts, body) = response.into_parts();
    let has_none = matches!(
        parts.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    let is_stream = parts.headers.get(CONTENT_TYPE) == Some(&EVENT_STREAM);
    if !has_none && !is_stream {
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
