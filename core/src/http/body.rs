//! Request bodies: read whole, up to a limit, and parsed strictly.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;

use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::ApiError;

/// The largest request body, in bytes.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// The error that a host's body ends with when the client sends it too slowly: answered 408.
#[derive(Debug, thiserror::Error)]
#[error("the request body was not received in time")]
pub struct BodyTimeout;

/// Reads a body to its end.
pub(super) async fn read<B>(body: B) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(ApiError::too_large());
    }
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => {
            let mut cause: Option<&(dyn Error + 'static)> = Some(error.as_ref());
            while let Some(error) = cause {
                if error.is::<LengthLimitError>() {
                    return Err(ApiError::too_large());
                }
                if error.is::<BodyTimeout>() {
                    return Err(ApiError::timeout());
                }
                cause = error.source();
            }
            Err(ApiError::bad_request("request body could not be read"))
        }
    }
}

/// Parses a JSON object. Unknown fields are ignored; duplicate fields, trailing data and anything
/// but an object are errors.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice::<UniqueFields>(body)?;
    serde_json::from_slice(body)
}

/// An object of any fields, none of them twice.
struct UniqueFields;

impl<'de> Deserialize<'de> for UniqueFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueFieldsVisitor)
    }
}

struct UniqueFieldsVisitor;

impl<'de> Visitor<'de> for UniqueFieldsVisitor {
    type Value = UniqueFields;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueFields, A::Error> {
        let mut seen = HashSet::new();
        while let Some(field) = map.next_key::<String>()? {
            map.next_value::<IgnoredAny>()?;
            if let Some(field) = seen.replace(field) {
                return Err(serde::de::Error::custom(format!(
                    "duplicate field `{field}`"
                )));
            }
        }
        Ok(UniqueFields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Sample {
        a: Option<String>,
    }

    #[test]
    fn only_whole_objects_without_duplicates_are_taken() {
        let some = |text: &str| Sample {
            a: Some(text.into()),
        };
        for (body, expected) in [
            (r#"{"a":"x"}"#, some("x")),
            (" {\"a\":\"x\"}\n", some("x")),
            (r#"{"a":"x","b":[1,{"a":2}],"A":"y"}"#, some("x")),
            (r#"{"a":null}"#, Sample::default()),
            ("{}", Sample::default()),
        ] {
            assert_eq!(
                parse::<Sample>(body.as_bytes()).unwrap(),
                expected,
                "{body}"
            );
        }
        for body in [
            "",
            "null",
            "[]",
            r#"["x"]"#,
            "1",
            r#""x""#,
            "{",
            r#"{"a":"x"} {}"#,
            r#"{"a":1}"#,
            r#"{"a":"x","a":"x"}"#,
            r#"{"b":1,"b":1}"#,
            r#"{"a":"\ud800"}"#,
            "{\"a\":\"\u{0}\"}",
            r#"{"a":"x",}"#,
        ] {
            assert!(parse::<Sample>(body.as_bytes()).is_err(), "{body}");
        }
        assert!(parse::<Sample>(b"{\"a\":\"\xff\"}").is_err());
    }
}
