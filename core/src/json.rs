//! JSON texts: parsed strictly, but for pieces that are no text.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};

/// U+FFFD as an escape.
const REPLACEMENT: &str = "\\ufffd";

/// The text with each piece of invalid UTF-8, and each escape of half a surrogate pair, replaced by
/// U+FFFD. JavaScript cuts strings in the middle of a pair, and a report must not be lost over that.
pub(crate) fn repair(text: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(text);
    let mut repaired = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find('\\') {
        at += found;
        let escape = &text[at..];
        let (length, is_lone) = match (surrogate(escape), escape.get(6..).and_then(surrogate)) {
            (Some(Half::High), Some(Half::Low)) => (12, false),
            (Some(_), _) => (6, true),
            // What follows a backslash may be one, which begins no escape.
            (None, _) => (1 + escape.chars().nth(1).map_or(0, char::len_utf8), false),
        };
        if is_lone {
            repaired += &text[copied..at];
            repaired += REPLACEMENT;
            copied = at + length;
        }
        at += length;
    }
    if copied == 0 {
        return text;
    }
    repaired += &text[copied..];
    repaired.into()
}

/// One half of a surrogate pair.
enum Half {
    High,
    Low,
}

/// The half that an escape at the start of the text stands for.
fn surrogate(text: &str) -> Option<Half> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(Half::High),
        0xdc00..=0xdfff => Some(Half::Low),
        _ => None,
    }
}

/// Parses a JSON object, [repaired](repair) first. Unknown fields are ignored; duplicate fields,
/// trailing data and anything but an object are errors.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    let text = repair(text);
    serde_json::from_str::<UniqueFields>(&text)?;
    serde_json::from_str(&text)
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
            "{\"a\":\"\u{0}\"}",
            r#"{"a":"x",}"#,
        ] {
            assert!(parse::<Sample>(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn pieces_that_are_no_text_are_replaced() {
        for (text, expected) in [
            (&br#"\ud83d"#[..], "\u{fffd}"),
            (br#"\uDE00"#, "\u{fffd}"),
            (br#"\ud83d\ude00"#, "😀"),
            (br#"x\uD83D\uD83D\uDE00y"#, "x\u{fffd}😀y"),
            (br#"\ude00\ud83d"#, "\u{fffd}\u{fffd}"),
            (br#"\ud83dA"#, "\u{fffd}A"),
            (br#"\\ud83d"#, "\\ud83d"),
            (br#"\\\ud83d"#, "\\\u{fffd}"),
            (br#"\u4e2d\n\ud7ff\ue000"#, "中\n\u{d7ff}\u{e000}"),
            (b"a\xffb\xe4\xb8", "a\u{fffd}b\u{fffd}"),
            (b"\xed\xa0\xbd", "\u{fffd}\u{fffd}\u{fffd}"),
            ("中😀".as_bytes(), "中😀"),
        ] {
            let body = [br#"{"a":""#, text, br#""}"#].concat();
            let parsed = parse::<Sample>(&body).unwrap();
            assert_eq!(
                parsed.a.as_deref(),
                Some(expected),
                "{}",
                text.escape_ascii()
            );
        }
        for cut in [
            &b"\\"[..],
            b"\\u",
            b"\\ud83",
            b"\\ud83d",
            b"\\ud83d\\",
            b"\\ud83d\\u",
            b"\\+d83",
            "\\中".as_bytes(),
            "\\u中中".as_bytes(),
            b"\\u+d83",
        ] {
            assert!(parse::<Sample>(cut).is_err());
        }
    }
}
