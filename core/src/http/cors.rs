//! Cross-origin resource sharing: which web pages may use the instance from a browser.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::settings::CorsPolicy;

/// The answer to a preflight request, but for what [`decorate`] adds to every answer.
pub(super) fn preflight(policy: &CorsPolicy, origin: Option<&HeaderValue>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if allows(policy, origin) {
        for (name, value) in [
            (
                ACCESS_CONTROL_ALLOW_METHODS,
                "GET, POST, PUT, DELETE, OPTIONS",
            ),
            (
                ACCESS_CONTROL_ALLOW_HEADERS,
                "Accept, Authorization, Content-Type, X-CSRF-Token",
            ),
            (ACCESS_CONTROL_MAX_AGE, "300"),
        ] {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// Adds the headers by which a browser lets the page read the answer, if it may.
pub(super) fn decorate(policy: &CorsPolicy, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    if *policy != CorsPolicy::Any {
        // Caches must not hand one origin's answer to another.
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    let Some(origin) = origin.filter(|origin| allows(policy, Some(origin))) else {
        return;
    };
    let allowed = match policy {
        CorsPolicy::Any => HeaderValue::from_static("*"),
        CorsPolicy::Loopback | CorsPolicy::Origins(_) => {
            headers.insert(
                ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
            origin.clone()
        }
    };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Link"),
    );
}

fn allows(policy: &CorsPolicy, origin: Option<&HeaderValue>) -> bool {
    origin
        .and_then(|origin| origin.to_str().ok())
        .is_some_and(|origin| policy.allows(origin))
}
