//! The JSON that an agent hands to its hooks, read with every allowance: nothing that it can hold is an
//! error, and what is kept of it has a bounded size, whatever comes.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::json::repair;

/// The most of a string that is kept, in bytes.
const MAX_STRING: usize = 4 << 10;

/// The deepest level of nesting that is kept.
const MAX_DEPTH: usize = 6;

/// The most values that are kept of each field of the object.
const MAX_VALUES: usize = 256;

/// The most fields of the object that are kept.
const MAX_FIELDS: usize = 128;

/// Fields that nothing is read from. What a tool put out may be large.
const SKIPPED: &[&str] = &["tool_response", "tool_result", "tool_output", "toolResult"];

/// A hook's JSON object, cut to a bounded size.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Payload(Map<String, Value>);

impl Payload {
    /// Reads an object; `None` when the bytes are no JSON object. Of fields that occur twice the last
    /// one counts.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        // JSON has no raw zero characters, but pipes bring some.
        let body = match body.contains(&0) {
            true => Cow::from(
                body.iter()
                    .map(|byte| (*byte).max(b' ' * u8::from(*byte == 0)))
                    .collect::<Vec<u8>>(),
            ),
            false => Cow::from(body),
        };
        let text = repair(&body);
        // The rare number that no type of ours holds is looked for only where something is wrong.
        let fields = read(&text).or_else(|| read(&without_huge_numbers(&text)?));
        fields.map(Self)
    }

    /// The same with these fields under other names. A field that has such a name already stays, and
    /// takes the other's place.
    pub(super) fn renamed(mut self, names: &[(&str, &str)]) -> Self {
        for (from, to) in names {
            if let Some(value) = self.0.remove(*from) {
                let place = self.0.entry(*to).or_insert(Value::Null);
                if place.is_null() {
                    *place = value;
                }
            }
        }
        self
    }

    /// The fields.
    pub(super) fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The first of these fields that is there and not null.
    pub(super) fn get(&self, names: &[&str]) -> Option<&Value> {
        let mut values = names.iter().filter_map(|name| self.0.get(*name));
        values.find(|value| !value.is_null())
    }

    /// The first of these fields that is a text and not blank, without white space around it.
    pub(super) fn text(&self, names: &[&str]) -> Option<&str> {
        let values = names.iter().filter_map(|name| self.0.get(*name));
        let mut texts = values.filter_map(Value::as_str).map(str::trim);
        texts.find(|text| !text.is_empty())
    }

    /// The first of these fields that is a text, or holds one as [`first_text`] finds it.
    pub(super) fn some_text(&self, names: &[&str]) -> Option<&str> {
        let mut values = names.iter().filter_map(|name| self.0.get(*name));
        values.find_map(first_text)
    }

    /// The folder that the agent works in.
    pub(super) fn cwd(&self) -> Option<&str> {
        self.some_text(&["cwd", "directory", "workspace_roots"])
    }

    /// The first of these fields that is an object.
    pub(super) fn object(&self, names: &[&str]) -> Option<Self> {
        let mut values = names.iter().filter_map(|name| self.0.get(*name));
        values.find_map(Value::as_object).cloned().map(Self)
    }

    /// Checks whether a field is there, whatever it holds.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Checks whether one of these fields is `true`.
    pub(super) fn is_true(&self, names: &[&str]) -> bool {
        let mut values = names.iter().filter_map(|name| self.0.get(*name));
        values.any(|value| *value == Value::Bool(true))
    }

    /// Checks whether one of these fields is a list or an object with something in it.
    pub(super) fn is_filled(&self, names: &[&str]) -> bool {
        let mut values = names.iter().filter_map(|name| self.0.get(*name));
        values.any(|value| match value {
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => false,
        })
    }
}

/// A text; of a list its first, of an object its name.
pub(super) fn first_text(value: &Value) -> Option<&str> {
    const NAMES: [&str; 3] = ["display_name", "modelID", "id"];
    let named = || NAMES.iter().find_map(|name| value.get(name)?.as_str());
    let first = value.as_str().or_else(|| value.get(0)?.as_str());
    first.or_else(named).filter(|text| !text.trim().is_empty())
}

/// The start of a text, of at most so many bytes.
pub(super) fn start(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Reads a text that is an object and nothing more.
fn read(text: &str) -> Option<Map<String, Value>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = (&mut deserializer).deserialize_map(Fields).ok()?;
    deserializer.end().ok()?;
    Some(fields)
}

/// The text with 0 for each number beyond the range of a double; `None` when there is none.
fn without_huge_numbers(text: &str) -> Option<String> {
    let mut replaced = String::new();
    let (mut copied, mut at) = (0, 0);
    let mut is_in_string = false;
    let bytes = text.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => is_in_string = !is_in_string,
            b'\\' if is_in_string => at += 1,
            b'-' | b'0'..=b'9' if !is_in_string => {
                let is_part =
                    |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                let length = bytes[at..].iter().take_while(|byte| is_part(byte)).count();
                let number: Option<f64> = text[at..at + length].parse().ok();
                if number.is_some_and(f64::is_infinite) {
                    replaced += &text[copied..at];
                    replaced.push('0');
                    copied = at + length;
                }
                at += length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    (copied > 0).then(|| replaced + &text[copied..])
}

/// Reads the fields of the object.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Map<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let is_kept = fields.len() < MAX_FIELDS || fields.contains_key(&*name);
            if !is_kept {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if SKIPPED.contains(&&*name) {
                map.next_value::<IgnoredAny>()?;
                fields.entry(name).or_insert(Value::Bool(true));
                continue;
            }
            let room = Cell::new(MAX_VALUES);
            let value = map.next_value_seed(Cut {
                depth: MAX_DEPTH,
                room: &room,
            })?;
            fields.insert(start(&name, MAX_STRING).to_owned(), value);
        }
        Ok(fields)
    }
}

/// Reads a value, and leaves out what is too deep or too much.
#[derive(Clone, Copy)]
struct Cut<'r> {
    depth: usize,
    room: &'r Cell<usize>,
}

impl Cut<'_> {
    /// This, one level deeper; `None` when nothing more is to be kept.
    fn within(self) -> Option<Self> {
        let depth = self.depth.checked_sub(1)?;
        self.room.set(self.room.get().checked_sub(1)?);
        Some(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Cut<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cut<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(start(value, MAX_STRING).into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut kept = Vec::new();
        loop {
            let Some(within) = self.within() else {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(kept.into());
            };
            match items.next_element_seed(within)? {
                Some(item) => kept.push(item),
                None => return Ok(kept.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match self.within() {
                Some(within) => {
                    let value = map.next_value_seed(within)?;
                    kept.insert(start(&name, MAX_STRING).to_owned(), value);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(kept.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_in_fields_too() {
        let many = (0..10_000).map(|n| format!("\"k{n}\":{n},"));
        let body = format!("{{{}\"tool_response\":[]}}", many.collect::<String>());
        let payload = Payload::parse(body.as_bytes()).unwrap();
        assert_eq!(payload.fields().len(), MAX_FIELDS);
        assert_eq!(payload.fields()["k0"], 0);
    }

    #[test]
    fn a_number_of_any_size_may_stand_anywhere() {
        let body = br#"{"a":1e999,"b":[-1e+400,"1e999 \" 1e999",5,1E999],"c":"x"}"#;
        let payload = Payload::parse(body).unwrap();
        let expected = serde_json::json!({"a": 0, "b": [0, "1e999 \" 1e999", 5, 0], "c": "x"});
        assert_eq!(Value::from(payload.fields().clone()), expected);
        for broken in [&b"{\"a\":1e999"[..], b"{\"a\":1e999}}", b"{\"a\":1e999x}"] {
            assert_eq!(Payload::parse(broken), None);
        }
    }
}
