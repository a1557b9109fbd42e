//! JSON as `serde_json` writes it, byte for byte, but many bytes of a text at a time: lists are mostly
//! texts, and those mostly bytes that stand for themselves.

use serde::Serialize;
use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::Error;

/// So many bytes are looked at together, which processors can do at once.
const AT_ONCE: usize = 32;

/// Checks whether this byte of a text is escaped in JSON.
const fn is_special(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

/// How many bytes this byte of a text takes up in JSON beyond its own.
const fn escape(byte: u8) -> usize {
    match byte {
        _ if !is_special(byte) => 0,
        b'"' | b'\\' | b'\x08' | b'\t' | b'\n' | b'\x0c' | b'\r' => 1,
        _ => 5,
    }
}

/// Checks whether all of these bytes stand for themselves.
fn are_plain(bytes: &[u8]) -> bool {
    let (pieces, rest) = bytes.as_chunks::<AT_ONCE>();
    let mut last = [b' '; AT_ONCE];
    last[..rest.len()].copy_from_slice(rest);
    // Without a way out before the end, since a loop with one looks at single bytes.
    let mut special = last.map(is_special);
    for piece in pieces {
        for (special, byte) in special.iter_mut().zip(piece) {
            *special |= is_special(*byte);
        }
    }
    special == [false; AT_ONCE]
}

/// The most that a text of this size can take up in JSON, as [`size`] counts it.
pub(crate) fn size_at_most(text: &str) -> usize {
    text.len() * "\\u0000".len()
}

/// The size of a text in JSON, in bytes, without its quotation marks.
pub(crate) fn size(text: &str) -> usize {
    let bytes = text.as_bytes();
    let more = |bytes: &[u8]| bytes.iter().copied().map(escape).sum::<usize>();
    match are_plain(bytes) {
        true => bytes.len(),
        false => bytes.len() + more(bytes),
    }
}

/// The JSON of a value, in memory that is taken at once for about this `size`.
///
/// # Errors
/// Those of the value, and a map whose keys are no texts.
pub(crate) fn to_vec(value: &(impl Serialize + ?Sized), size: usize) -> Result<Vec<u8>, Error> {
    let json = Vec::with_capacity(size);
    let mut encoder = Encoder { json };
    value.serialize(&mut encoder)?;
    Ok(encoder.json)
}

struct Encoder {
    json: Vec<u8>,
}

impl Encoder {
    fn write(&mut self, json: &str) {
        self.json.extend_from_slice(json.as_bytes());
    }

    fn write_text(&mut self, text: &str) {
        let bytes = text.as_bytes();
        self.json.push(b'"');
        match are_plain(bytes) {
            true => self.json.extend_from_slice(bytes),
            false => bytes.chunks(AT_ONCE).for_each(|some| self.escape(some)),
        }
        self.json.push(b'"');
    }

    /// Writes the name of a field.
    fn write_name(&mut self, name: &'static str) {
        self.write_word(name, "\":");
    }

    /// Writes a word of the program itself, all of which are plain, and what ends it.
    #[inline]
    fn write_word(&mut self, word: &'static str, end: &'static str) {
        debug_assert!(are_plain(word.as_bytes()), "{word}");
        self.write("\"");
        self.write(word);
        self.write(end);
    }

    fn escape(&mut self, bytes: &[u8]) {
        if are_plain(bytes) {
            return self.json.extend_from_slice(bytes);
        }
        for byte in bytes {
            match byte {
                b'"' => self.write("\\\""),
                b'\\' => self.write("\\\\"),
                b'\x08' => self.write("\\b"),
                b'\t' => self.write("\\t"),
                b'\n' => self.write("\\n"),
                b'\x0c' => self.write("\\f"),
                b'\r' => self.write("\\r"),
                ..b' ' => {
                    const DIGITS: &[u8; 16] = b"0123456789abcdef";
                    let digits = [byte / 16, byte % 16].map(|digit| DIGITS[usize::from(digit)]);
                    self.write("\\u00");
                    self.json.extend(digits);
                }
                _ => self.json.push(*byte),
            }
        }
    }

    /// Begins what has several values, which ends with `end`.
    fn begin(&mut self, begin: &str, end: &'static str) -> Values<'_> {
        self.write(begin);
        Values {
            encoder: self,
            is_first: true,
            end,
        }
    }

    /// Begins what has several values, in an object with the name of the variant that they are of.
    fn begin_variant(&mut self, name: &'static str, begin: &str, end: &'static str) -> Values<'_> {
        self.write("{");
        self.write_name(name);
        self.begin(begin, end)
    }
}

/// Writes what `serde_json` does well.
macro_rules! as_serde_json_does {
    ($($serialize:ident: $value:ty),+) => {$(
        fn $serialize(self, value: $value) -> Result<(), Error> {
            serde_json::to_writer(&mut self.json, &value)
        }
    )+};
}

impl<'e> Serializer for &'e mut Encoder {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Values<'e>;
    type SerializeTuple = Values<'e>;
    type SerializeTupleStruct = Values<'e>;
    type SerializeTupleVariant = Values<'e>;
    type SerializeMap = Values<'e>;
    type SerializeStruct = Values<'e>;
    type SerializeStructVariant = Values<'e>;

    as_serde_json_does!(
        serialize_bool: bool, serialize_char: char, serialize_f32: f32, serialize_f64: f64,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u128: u128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_bytes: &[u8]
    );

    fn serialize_str(self, text: &str) -> Result<(), Error> {
        self.write_text(text);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.write("null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.write_word(variant, "\"");
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let mut values = self.begin("{", "}");
        values.field(variant, value)?;
        values.finish()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Values<'e>, Error> {
        Ok(self.begin("[", "]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Values<'e>, Error> {
        Ok(self.begin("[", "]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Values<'e>, Error> {
        Ok(self.begin("[", "]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Values<'e>, Error> {
        Ok(self.begin_variant(variant, "[", "]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Values<'e>, Error> {
        Ok(self.begin("{", "}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Values<'e>, Error> {
        Ok(self.begin("{", "}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Values<'e>, Error> {
        Ok(self.begin_variant(variant, "{", "}}"))
    }
}

/// The values of an array or object, one after the other.
struct Values<'e> {
    encoder: &'e mut Encoder,
    is_first: bool,
    end: &'static str,
}

impl Values<'_> {
    fn separate(&mut self) {
        if !self.is_first {
            self.encoder.write(",");
        }
        self.is_first = false;
    }

    fn item(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.separate();
        value.serialize(&mut *self.encoder)
    }

    fn field(
        &mut self,
        name: &'static str,
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), Error> {
        self.separate();
        self.encoder.write_name(name);
        value.serialize(&mut *self.encoder)
    }

    fn finish(self) -> Result<(), Error> {
        self.encoder.write(self.end);
        Ok(())
    }
}

/// Implements a trait of arrays or objects by these methods.
macro_rules! values {
    ($($of:ident: $add:ident($($name:ident)?) by $by:ident),+) => {$(
        impl $of for Values<'_> {
            type Ok = ();
            type Error = Error;

            fn $add<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Result<(), Error> {
                self.$by($($name,)? value)
            }

            fn end(self) -> Result<(), Error> {
                self.finish()
            }
        }
    )+};
}

values!(
    SerializeSeq: serialize_element() by item,
    SerializeTuple: serialize_element() by item,
    SerializeTupleStruct: serialize_field() by item,
    SerializeTupleVariant: serialize_field() by item,
    SerializeStruct: serialize_field(name) by field,
    SerializeStructVariant: serialize_field(name) by field
);

impl SerializeMap for Values<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.separate();
        let begin = self.encoder.json.len();
        key.serialize(&mut *self.encoder)?;
        match self.encoder.json.get(begin) {
            Some(b'"') => Ok(()),
            _ => Err(Error::custom("a key must be a text")),
        }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.encoder.write(":");
        value.serialize(&mut *self.encoder)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    /// Texts of lengths around those of pieces, with what is escaped and what only looks like it.
    fn text() -> impl Strategy<Value = String> {
        let special = prop::sample::select(vec![
            '"', '\\', '/', '\u{8}', '\t', '\n', '\u{c}', '\r', '\0', '\u{1f}', ' ', '\u{7f}',
            '\u{80}', '\u{a2}', '中', '\u{2028}', '\u{2029}', '\u{fffd}', '\u{feff}', '😀',
        ]);
        let rare = prop_oneof![40 => Just('x'), 1 => special.clone(), 1 => any::<char>()];
        let often = prop_oneof![special, any::<char>()];
        let of =
            |character, most| prop::collection::vec(character, 0..most).prop_map(String::from_iter);
        prop_oneof![
            of(rare.boxed(), 3 * AT_ONCE + 2),
            of(often.boxed(), AT_ONCE + 2)
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            let fields = prop::collection::vec((text(), inner.clone()), 0..5);
            prop_oneof![
                prop::collection::vec(inner, 0..5).prop_map(Value::from),
                fields.prop_map(|fields| Value::from(Map::from_iter(fields))),
            ]
        })
    }

    #[derive(Serialize)]
    enum Variant {
        Unit,
        Newtype(Box<Kinds>),
        Tuple(u8, char),
        Struct { text: String, none: Option<u8> },
    }

    #[derive(Serialize)]
    struct Newtype(Option<f32>);

    #[derive(Serialize)]
    struct Tuple(i8, i16, i32);

    #[derive(Serialize)]
    struct Unit;

    #[derive(Serialize)]
    struct Flat<T> {
        #[serde(flatten)]
        inner: T,
        last: u16,
    }

    /// All that `serde` tells apart.
    #[derive(Serialize)]
    struct Kinds {
        unit: (),
        unit_struct: Unit,
        newtype: Newtype,
        tuple: (u32, bool),
        tuple_struct: Tuple,
        variants: Vec<Variant>,
        map: BTreeMap<String, f64>,
        flat: Flat<BTreeMap<String, u8>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        skipped: Vec<u8>,
    }

    fn kinds(text: &str, variants: Vec<Variant>) -> Kinds {
        Kinds {
            unit: (),
            unit_struct: Unit,
            newtype: Newtype(Some(0.1)),
            tuple: (7, true),
            tuple_struct: Tuple(-1, 2, -3),
            variants,
            map: [(text.to_owned(), f64::NAN), ("x".to_owned(), 1e300)].into(),
            flat: Flat {
                inner: [(text.to_owned(), 1), ("y".to_owned(), 2)].into(),
                last: 3,
            },
            skipped: Vec::new(),
        }
    }

    fn assert_same(value: &impl Serialize) {
        assert_eq!(
            String::from_utf8(to_vec(value, 0).unwrap()).unwrap(),
            serde_json::to_string(value).unwrap()
        );
    }

    proptest! {
        #[test]
        fn texts_are_written_and_measured_as_serde_json_writes_them(text in text()) {
            assert_same(&text);
            prop_assert_eq!(size(&text) + 2, to_vec(&text, 0).unwrap().len());
            prop_assert!(size_at_most(&text) >= size(&text));
        }

        #[test]
        fn values_are_written_as_serde_json_writes_them(value in value()) {
            assert_same(&value);
        }

        #[test]
        fn every_kind_is_written_as_serde_json_writes_it(text in text(), character: char) {
            let inner = kinds(&text, vec![]);
            let variants = vec![
                Variant::Unit,
                Variant::Newtype(Box::new(inner)),
                Variant::Tuple(1, character),
                Variant::Struct { text: text.clone(), none: None },
            ];
            assert_same(&kinds(&text, variants));
        }
    }

    #[test]
    fn every_byte_is_written_as_serde_json_writes_it_wherever_it_stands() {
        for character in (0..=0xff).map(char::from) {
            for before in [0, 1, AT_ONCE - 1, AT_ONCE, 2 * AT_ONCE - 1] {
                for after in [0, 1, AT_ONCE] {
                    let text = format!("{}{character}{}", "x".repeat(before), "y".repeat(after));
                    assert_same(&text);
                    assert_eq!(size(&text) + 2, to_vec(&text, 0).unwrap().len());
                }
            }
        }
    }

    #[test]
    fn a_key_that_is_no_text_is_an_error() {
        assert!(to_vec(&BTreeMap::from([(1, 2)]), 0).is_err());
        assert!(to_vec(&BTreeMap::from([(Some("x"), 2)]), 0).is_ok());
    }
}
