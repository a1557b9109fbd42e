//! The page: what people see of all this in a browser. Its files lie in `web/`, and are a part of the
//! program.

use std::io::Read;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::ApiError;
use super::response::{Answer, conditional};

include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// A file of the page.
pub(super) struct File {
    media_type: &'static str,
    /// Whether its path names its content.
    never_changes: bool,
    body: Body,
}

/// The content of a file.
enum Body {
    /// What compression makes smaller.
    Text {
        brotli: Option<&'static [u8]>,
        gzip: &'static [u8],
    },
    /// What is compressed by its nature.
    Binary(&'static [u8]),
}

/// The first segments of the addresses at which the page is shown. It tells apart what follows.
const ADDRESSES: [&str; 10] = [
    "activity", "agents", "board", "forgot", "login", "register", "reset", "sessions", "settings",
    "verify",
];

/// What holds for every file.
const HEADERS: [(HeaderName, &str); 2] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (VARY, "Accept-Encoding"),
];

/// What holds for files that browsers show or run by themselves; for the others it would be of no effect,
/// and is longer than some of them. The policy lets the page run, show and ask only what comes from its
/// own origin; `data:` is for the icon, which the page draws.
const RULES: [(HeaderName, &str); 3] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'",
    ),
    (REFERRER_POLICY, "no-referrer"),
    (X_FRAME_OPTIONS, "DENY"),
];

const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// The file at a path, which is the page itself at each of its addresses.
pub(super) fn find(path: &str) -> Option<&'static File> {
    if let Ok(place) = FILES.binary_search_by_key(&path, |(path, _)| path) {
        return Some(&FILES[place].1);
    }
    let path = path.strip_prefix('/')?;
    let first = path.split('/').next().unwrap_or_default();
    (path.is_empty() || ADDRESSES.contains(&first)).then_some(&INDEX)
}

/// The answer with a file, in the best of the codings that the client takes.
pub(super) fn serve(file: &'static File, headers: &HeaderMap) -> Answer {
    let (coding, body) = file.body.encoded(headers)?;
    let mut response = Response::new(body);
    if let Some(coding) = coding {
        let coding = HeaderValue::from_static(coding);
        response.headers_mut().insert(CONTENT_ENCODING, coding);
    }
    let media_type = HeaderValue::from_static(file.media_type);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    let kept = match file.never_changes {
        true => FOR_EVER,
        false => {
            response = conditional(headers, response);
            "no-cache"
        }
    };
    let is_shown = !file.never_changes || file.media_type.starts_with("image/svg");
    let rules = RULES.into_iter().filter(|_| is_shown);
    let kept = [(CACHE_CONTROL, kept)];
    for (name, value) in HEADERS.into_iter().chain(rules).chain(kept) {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

impl Body {
    /// The content, and the coding that it is in.
    fn encoded(&self, headers: &HeaderMap) -> Result<(Option<&'static str>, Bytes), ApiError> {
        Ok(match *self {
            Self::Binary(bytes) => (None, Bytes::from_static(bytes)),
            Self::Text {
                brotli: Some(brotli),
                ..
            } if accepts(headers, "br") => (Some("br"), Bytes::from_static(brotli)),
            Self::Text { gzip, .. } if accepts(headers, "gzip") => {
                (Some("gzip"), Bytes::from_static(gzip))
            }
            // Hardly anybody asks for it, so that the program does not carry it.
            Self::Text { gzip, .. } => {
                let mut text = Vec::new();
                let read = GzDecoder::new(gzip).read_to_end(&mut text);
                read.map_err(|error| ApiError::internal(format!("a file of the page: {error}")))?;
                (None, text.into())
            }
        })
    }
}

/// Checks whether the client takes a coding.
fn accepts(headers: &HeaderMap, coding: &str) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|value| {
        let (name, weight) = value.split_once(';').unwrap_or((value, ""));
        let weight = weight.trim().strip_prefix("q=");
        let is_refused = weight.is_some_and(|weight| weight.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case(coding) && !is_refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coding_with_weight_0_is_refused() {
        for (value, brotli, gzip) in [
            ("gzip, deflate, br, zstd", true, true),
            ("GZIP;q=0.5", false, true),
            ("br;q=0, gzip;q=0.001", false, true),
            ("br; q=0.0,gzip ; q=1", false, true),
            ("identity", false, false),
            ("", false, false),
            ("brotli, x-gzip", false, false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, value.parse().unwrap())]);
            assert_eq!(accepts(&headers, "br"), brotli, "{value}");
            assert_eq!(accepts(&headers, "gzip"), gzip, "{value}");
        }
        assert!(!accepts(&HeaderMap::new(), "gzip"));
    }

    #[test]
    fn the_smallest_coding_is_chosen() {
        let headers =
            |value: &str| HeaderMap::from_iter([(ACCEPT_ENCODING, value.parse().unwrap())]);
        for (asked, coding) in [("gzip, br", Some("br")), ("gzip", Some("gzip")), ("", None)] {
            let answer = serve(&INDEX, &headers(asked)).ok().unwrap();
            let chosen = answer.headers().get(CONTENT_ENCODING);
            assert_eq!(chosen.map(HeaderValue::as_bytes), coding.map(str::as_bytes));
        }
    }

    #[test]
    fn only_its_own_addresses_are_the_page() {
        for path in [
            "/",
            "/board",
            "/agents/a",
            "/agents/a/b/c",
            "/settings/",
            "/sessions/a/%2F",
        ] {
            assert!(
                find(path).is_some_and(|file| std::ptr::eq(file, &INDEX)),
                "{path}"
            );
        }
        for path in [
            "",
            "//",
            "//agents",
            "/Agents",
            "/agentsx",
            "/index.html",
            "/app.js",
            "/assets/",
            "/api",
        ] {
            assert!(find(path).is_none(), "{path}");
        }
    }
}
