//! JSON texts: parsed strictly, but for pieces that are no text; and written fast.

mod encoder;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::{Number, Value};

pub(crate) use encoder::{size, size_at_most, to_vec};

/// U+FFFD as an escape.
const REPLACEMENT: &str = "\\ufffd";

/// The text with each piece of invalid UTF-8, and each escape of half a surrogate pair, replaced by
/// U+FFFD. JavaScript cuts strings in the middle of a pair, and a report must not be lost over that.
pub(crate) fn repair(text: &[u8]) -> Cow<'_, str> {
    // What is text, as most is, is seen sooner than by the search for what is none.
    let text = match str::from_utf8(text) {
        Ok(text) => text.into(),
        Err(_) => String::from_utf8_lossy(text),
    };
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

/// Parses a JSON object, [repaired](repair) first. Unknown fields are ignored; fields that an object
/// has twice, trailing data and anything but an object are errors.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    let text = repair(text);
    serde_json::from_str::<UniqueFields>(&text)?;
    serde_json::from_str(&text)
}

/// Parses a JSON array as strictly as [`parse`] does an object.
pub(crate) fn parse_array(text: &[u8]) -> Result<Vec<Value>, serde_json::Error> {
    let text = repair(text);
    serde_json::from_str::<Vec<Unique>>(&text)?;
    serde_json::from_str(&text)
}

/// An object without duplicate fields, of values without them.
struct UniqueFields;

/// A value without duplicate fields, wherever in it.
struct Unique;

impl<'de> Deserialize<'de> for UniqueFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor { any: false })?;
        Ok(Self)
    }
}

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor { any: true })
    }
}

/// The name of a field, where it stands in the text.
#[derive(Deserialize)]
struct Field<'t>(#[serde(borrow)] Cow<'t, str>);

struct UniqueVisitor {
    /// Whether it takes more than objects.
    any: bool,
}

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.any { "a value" } else { "an object" })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(Field(field)) = map.next_key()? {
            map.next_value::<Unique>()?;
            if let Some(field) = seen.replace(field) {
                return Err(Error::custom(format!("duplicate field `{field}`")));
            }
        }
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
        match self.any {
            true => {
                while items.next_element::<Unique>()?.is_some() {}
                Ok(Unique)
            }
            false => Err(Error::invalid_type(Unexpected::Seq, &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Unique, E> {
        self.scalar(Unexpected::Str(text))
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Unique, E> {
        self.scalar(Unexpected::Bool(truth))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Unique, E> {
        self.scalar(Unexpected::Signed(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Unique, E> {
        self.scalar(Unexpected::Unsigned(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Unique, E> {
        self.scalar(Unexpected::Float(number))
    }

    fn visit_unit<E: Error>(self) -> Result<Unique, E> {
        self.scalar(Unexpected::Unit)
    }
}

impl UniqueVisitor {
    fn scalar<E: Error>(self, found: Unexpected<'_>) -> Result<Unique, E> {
        match self.any {
            true => Ok(Unique),
            false => Err(Error::invalid_type(found, &self)),
        }
    }
}

/// The integer that a number is, however it is written: JSON Schema counts `5.0` and `1e3` among them.
/// One beyond the range of the type is its end, which no rule for integers lets pass.
pub(crate) fn whole(number: &Number) -> Option<i64> {
    let positive = number.is_u64().then_some(i64::MAX);
    let float = |number: f64| (number.fract() == 0.0).then_some(number as i64);
    let float = || number.as_f64().and_then(float);
    number.as_i64().or(positive).or_else(float)
}

/// Reads an optional integer as [`whole`] does.
pub(crate) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let refused = match &value {
        Value::Null => return Ok(None),
        Value::Number(number) => match whole(number) {
            Some(number) => return Ok(Some(number)),
            None => Unexpected::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Bool(truth) => Unexpected::Bool(*truth),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    };
    Err(Error::invalid_type(refused, &"an integer"))
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
            r#"{"b":{"c":1,"c":1}}"#,
            r#"{"b":[1,{"c":[{"d":null,"e":"","d":true}]}]}"#,
            "{\"a\":\"\u{0}\"}",
            r#"{"a":"x",}"#,
        ] {
            assert!(parse::<Sample>(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn every_kind_of_value_may_stand_in_a_field() {
        let body = br#"{"a":"x","b":[null,true,1,-1,1.5,1e3,"",[],{}],"c":{"d":{"a":1}}}"#;
        assert!(parse::<Sample>(body).is_ok());
        let array = br#" [{"a":1},{"a":1},[1],"x"] "#;
        assert_eq!(parse_array(array).unwrap().len(), 4);
        for array in [&br#"[{"a":1,"a":1}]"#[..], b"{}", b"[1", b"[] []"] {
            assert!(parse_array(array).is_err(), "{}", array.escape_ascii());
        }
    }

    #[test]
    fn whole_numbers_are_integers_however_they_are_written() {
        #[derive(Deserialize)]
        struct Sample {
            #[serde(default, deserialize_with = "integer")]
            n: Option<i64>,
        }
        for (text, expected) in [
            ("null", None),
            ("5", Some(5)),
            ("5.0", Some(5)),
            ("1e3", Some(1000)),
            ("-0", Some(0)),
            ("-0.0", Some(0)),
            ("-5.0", Some(-5)),
            ("1e300", Some(i64::MAX)),
            ("18446744073709551615", Some(i64::MAX)),
            ("18446744073709551616", Some(i64::MAX)),
            ("-1e300", Some(i64::MIN)),
        ] {
            let body = format!(r#"{{"n":{text}}}"#);
            assert_eq!(
                parse::<Sample>(body.as_bytes()).unwrap().n,
                expected,
                "{text}"
            );
        }
        assert_eq!(parse::<Sample>(b"{}").unwrap().n, None);
        for text in ["1.5", "\"5\"", "true", "[]", "{}"] {
            let body = format!(r#"{{"n":{text}}}"#);
            let error = parse::<Sample>(body.as_bytes()).err().unwrap().to_string();
            assert!(error.contains("expected an integer"), "{error}");
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
