//! Which page a browser's request comes from, and by which scheme it has it.

use http::header::ORIGIN;
use http::request::Parts;
use http::uri::Scheme;

use super::client::Client;
use super::host;
use crate::settings::{is_origin_of, is_same_origin};

const FORWARDED_HOST: &str = "x-forwarded-host";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Whether the browser asks for its page's own origin. No script can set it.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Marks a request that came by HTTPS, in its extensions. A host that sees it puts it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encrypted;

fn header<'p>(parts: &'p Parts, name: &str) -> Option<&'p str> {
    parts.headers.get(name)?.to_str().ok()
}

/// The scheme that the first of several proxies has seen.
fn forwarded_scheme(parts: &Parts) -> Option<&str> {
    let schemes = header(parts, FORWARDED_PROTO)?;
    schemes.split(',').next().map(str::trim)
}

/// Checks whether the request itself came by HTTPS.
fn is_encrypted(parts: &Parts) -> bool {
    parts.extensions.get::<Encrypted>().is_some() || parts.uri.scheme() == Some(&Scheme::HTTPS)
}

/// Checks whether the request may have come by the scheme of this origin. A proxy may have taken TLS
/// off, and says so; what it says is believed of anyone, since a page cannot send the header without a
/// preflight.
pub(super) fn may_have_scheme(parts: &Parts, origin: &str) -> bool {
    let known = forwarded_scheme(parts).or_else(|| is_encrypted(parts).then_some("https"));
    let origin_scheme = origin.split_once("://").map(|(scheme, _)| scheme);
    known.is_none_or(|known| origin_scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(known)))
}

fn is_same_site(parts: &Parts) -> bool {
    header(parts, SEC_FETCH_SITE) == Some("same-origin")
}

/// The origin of the page, if that is the one that the request asks for.
fn own_origin(parts: &Parts, client: Client) -> Option<&str> {
    let origin = header(parts, ORIGIN.as_str())?;
    let forwarded = header(parts, FORWARDED_HOST).filter(|_| client.is_proxied);
    let mut names = forwarded.unwrap_or_default().split(',').map(str::trim);
    let is_own = |name: &str| is_origin_of(origin, name) && may_have_scheme(parts, origin);
    let is_asked = || host::asked(parts).is_ok_and(is_own);
    (is_same_site(parts) || is_asked() || names.any(is_own)).then_some(origin)
}

/// Checks whether a request comes from a page of the server, or of the dashboard at this address.
pub(super) fn is_own(parts: &Parts, client: Client, dashboard: Option<&str>) -> bool {
    let is_dashboard = |origin| dashboard.is_some_and(|url| is_same_origin(origin, url));
    is_same_site(parts)
        || own_origin(parts, client).is_some()
        || header(parts, ORIGIN.as_str()).is_some_and(is_dashboard)
}

/// Checks whether the client has what it is sent by HTTPS: by what is known of the request, by the
/// word of a trusted proxy, or by the origin of the server's own page.
pub(super) fn is_secure(parts: &Parts, client: Client) -> bool {
    let is_https = |scheme: &str| scheme.eq_ignore_ascii_case("https");
    let forwarded = forwarded_scheme(parts).filter(|_| client.is_proxied);
    own_origin(parts, client).is_some_and(|origin| origin.starts_with("https://"))
        || forwarded.map_or_else(|| is_encrypted(parts), is_https)
}
