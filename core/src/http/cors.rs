//! Cross-origin resource sharing: which web pages may use the instance from a browser.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::ApiError;
use super::endpoints::{Endpoint, Route};
use crate::settings::CorsPolicy;

/// The answer to a preflight request, but for what [`decorate`] adds to every answer.
pub(super) fn preflight(
    policy: &CorsPolicy,
    origin: Option<&HeaderValue>,
    route: Option<Route<'_>>,
) -> Response<Bytes> {
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
                match route {
                    Some(route) if route.leads_to(Endpoint::Mcp) => {
                        "Accept, Authorization, Content-Type, Last-Event-ID, Mcp-Method, Mcp-Name, \
                         MCP-Protocol-Version, Mcp-Session-Id, Traceparent, Tracestate, \
                         X-CSRF-Token, X-Request-Id, X-Workspace"
                    }
                    _ => {
                        "Accept, Authorization, Content-Type, If-None-Match, Last-Event-ID, \
                         Traceparent, Tracestate, X-CSRF-Token, X-Request-Id, X-Workspace"
                    }
                },
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
        HeaderValue::from_static("ETag, Link, Retry-After, X-Request-Id"),
    );
}

/// Refuses what a web page sends that may not use the instance. The Model Context Protocol asks for
/// it: a page can send requests even where it cannot read the answers. Pages of this machine may.
pub(super) fn check_origin(
    policy: &CorsPolicy,
    origin: Option<&HeaderValue>,
) -> Result<(), ApiError> {
    match origin.is_none() || allows(policy, origin) || allows(&CorsPolicy::Loopback, origin) {
        true => Ok(()),
        false => Err(ApiError::origin_not_allowed()),
    }
}

/// Checks whether pages of this origin may use the instance.
pub(super) fn allows(policy: &CorsPolicy, origin: Option<&HeaderValue>) -> bool {
    origin
        .and_then(|origin| origin.to_str().ok())
        .is_some_and(|origin| policy.allows(origin))
}
