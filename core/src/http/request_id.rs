//! The id by which an answer and the lines that the log has of it find each other.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::ports::{Entropy, random};

/// The header that carries it, in requests and in answers.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The most characters of an id.
const MAX_CHARACTERS: usize = 64;

/// The id of a request: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The id that a request brings with it, unless that is none, or there are several: not everyone on
    /// the way would read the same one.
    pub fn given(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(REQUEST_ID).iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        let is_id = (1..=MAX_CHARACTERS).contains(&value.len())
            && value
                .as_bytes()
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte));
        is_id.then(|| Self(value.clone()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id as a header's value.
    pub(super) fn value(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Makes ids, none of which another instance makes too.
pub(super) struct RequestIds {
    /// What those of this instance begin with.
    start: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(super) fn new(entropy: &impl Entropy) -> Self {
        Self {
            start: u64::from_ne_bytes(random(entropy)),
            next: AtomicU64::new(0),
        }
    }

    /// The id that a request brings with it, or a new one.
    pub(super) fn of(&self, headers: &HeaderMap) -> RequestId {
        RequestId::given(headers).unwrap_or_else(|| {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            // Digits and a hyphen are always fit for a header.
            let made = HeaderValue::try_from(format!("{:016x}-{number:x}", self.start));
            RequestId(made.unwrap_or(HeaderValue::from_static("-")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(REQUEST_ID, HeaderValue::from_str(value).unwrap());
        }
        RequestId::given(&headers).map(|id| id.as_str().to_owned())
    }

    #[test]
    fn only_a_short_id_of_plain_characters_is_taken_over() {
        let longest = "x".repeat(MAX_CHARACTERS);
        for id in ["a", "AZaz09._-", &longest] {
            assert_eq!(given(&[id]).as_deref(), Some(id));
        }
        let too_long = "x".repeat(MAX_CHARACTERS + 1);
        for id in ["", " ", "a b", "a,b", "a/b", "a\"", "é", &too_long] {
            assert_eq!(given(&[id]), None, "{id:?}");
        }
        assert_eq!(given(&["a", "a"]), None);
        assert_eq!(given(&[]), None);
    }
}
