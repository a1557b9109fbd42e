//! The name under which a request asks for the server.

use http::header::HOST;
use http::request::Parts;

use super::ApiError;

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
