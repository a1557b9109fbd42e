//! The name under which a request asks for the server.

use http::header::HOST;
use http::request::Parts;
use http::uri::Scheme;

use super::ApiError;

const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The `host[:port]` that a request asks for, empty if it names none: that of its target, which
/// overrides the header (RFC 9112, section 3.2.2), else that of `Host`.
pub(super) fn asked(parts: &Parts) -> Result<&str, ApiError> {
    let mut headers = parts.headers.get_all(HOST).iter();
    let header = headers.next();
    if headers.next().is_some() {
        // Not everyone on the way would read the same one.
        return Err(ApiError::bad_request("Host must be given once"));
    }
    let header = || header.and_then(|host| host.to_str().ok());
    let target = parts.uri.authority().map(|authority| authority.as_str());
    Ok(target.or_else(header).unwrap_or_default())
}

/// Checks whether the request may have come by the scheme of this origin. A proxy may have taken TLS
/// off, and says so; what it says is believed of anyone, since a page cannot send the header without a
/// preflight.
pub(super) fn may_have_scheme(parts: &Parts, origin: &str) -> bool {
    let forwarded = parts.headers.get(FORWARDED_PROTO);
    let forwarded = forwarded.and_then(|value| value.to_str().ok());
    let known = match forwarded.and_then(|schemes| schemes.split(',').next()) {
        Some(scheme) => Some(scheme.trim()),
        None => (parts.uri.scheme() == Some(&Scheme::HTTPS)).then_some("https"),
    };
    let origin_scheme = origin.split_once("://").map(|(scheme, _)| scheme);
    known.is_none_or(|known| origin_scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(known)))
}
