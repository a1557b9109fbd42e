//! The rules of fields, and the messages for fields that break them.

use std::fmt;

use crate::StatusKind;

/// The word of each of a type's `ALL`, for [`Rule::Words`]. A macro, since constants call no method of a trait.
macro_rules! words {
    ($of:ty) => {{
        let mut words = [""; <$of>::ALL.len()];
        let mut place = 0;
        while place < words.len() {
            words[place] = <$of>::ALL[place].as_str();
            place += 1;
        }
        words
    }};
}
pub(crate) use words;

/// A field that breaks its rule. Its `Display` is the message that the HTTP contract has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidField {
    /// The name of the field, parameter or argument.
    pub field: &'static str,
    /// The rule that it breaks.
    pub rule: Rule,
}

/// A rule that a field must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// It is given, and is more than white space.
    Required,
    /// It is given, in a query.
    Given,
    /// Its length is within these bounds, in characters.
    Characters {
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// It has at least this many characters.
    MinCharacters(usize),
    /// It has at most this many characters.
    MaxCharacters(usize),
    /// It has at most this many bytes.
    MaxBytes(usize),
    /// It holds no U+0000, which databases cannot keep in text.
    NoNul,
    /// It is a string.
    Text,
    /// It is an integer.
    Integer,
    /// It is a number within these bounds.
    Range {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// It is a number of days from 0 to this.
    MaxDays(i64),
    /// It is 0, or a number of minutes from 1 to this.
    MaxMinutes(u32),
    /// It is an instant as RFC 3339 writes it.
    Rfc3339,
    /// It has at most this many characters of `a-z`, `0-9` and `_`.
    Word(usize),
    /// It is an object whose values are strings.
    ObjectOfStrings,
    /// Its keys have 1 to this many characters of `a-z`, `0-9`, `_`, `.` and `-`.
    Keys(usize),
    /// Its values have at most this many characters.
    Values(usize),
    /// It has at most this many keys.
    MaxKeys(usize),
    /// It is one of these statuses.
    Statuses(&'static [StatusKind]),
    /// It lists scopes, at least one.
    Scopes,
    /// It is an e-mail address.
    Email,
    /// It is an absolute URL, short enough to be stored.
    Url,
    /// It is a URL of the scheme `http` or `https`.
    HttpUrl,
    /// It is what this sentence, which begins with its name, says.
    Sentence(&'static str),
    /// It is one of these words.
    Words(&'static [&'static str]),
    /// It lists some of these words, at least one.
    ListOf(&'static [&'static str]),
    /// Its percent signs are followed by two hexadecimal digits.
    PercentEncoding,
    /// It is UTF-8 once it is decoded.
    Utf8,
    /// It is what the server gave out.
    Cursor,
}

impl Rule {
    /// This rule, broken by `field`.
    pub(crate) const fn broken_by(self, field: &'static str) -> InvalidField {
        InvalidField { field, rule: self }
    }
}

impl std::error::Error for InvalidField {}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = self.field;
        match self.rule {
            Rule::Sentence(rule) => write!(f, "{field} {rule}"),
            Rule::Words(words) => write!(f, "{field} must be one of: {}", words.join(", ")),
            Rule::ListOf(words) => {
                write!(f, "{field} must be a list of some of: {}", words.join(", "))
            }
            Rule::Required => write!(f, "{field} is required"),
            Rule::Given => write!(f, "missing {field}"),
            Rule::Characters { min, max } => write!(f, "{field} must be {min}-{max} characters"),
            Rule::MinCharacters(min) => write!(f, "{field} must be at least {min} characters"),
            Rule::MaxCharacters(max) => write!(f, "{field} must be <= {max} characters"),
            Rule::MaxBytes(max) => write!(f, "{field} must be at most {max} bytes"),
            Rule::NoNul => write!(f, "{field} must not contain U+0000"),
            Rule::Text => write!(f, "{field} must be a string"),
            Rule::Integer => write!(f, "{field} must be an integer"),
            Rule::Range { min, max } => write!(f, "{field} must be {min}-{max}"),
            Rule::MaxDays(max) => write!(f, "{field} must be 0-{max} days"),
            Rule::MaxMinutes(max) => write!(f, "{field} must be 0 or 1-{max}"),
            Rule::Rfc3339 => write!(f, "{field} must be RFC 3339"),
            Rule::Word(max) => write!(f, "{field} must be 0-{max} of a-z, 0-9 and _"),
            Rule::ObjectOfStrings => write!(f, "{field} must be an object of strings"),
            Rule::Keys(max) => write!(f, "{field} keys must be 1-{max} of a-z, 0-9, _, . and -"),
            Rule::Values(max) => write!(f, "{field} values must be 0-{max} characters"),
            Rule::MaxKeys(max) => write!(f, "{field} must have at most {max} keys"),
            Rule::Statuses(allowed) => {
                let words: Vec<_> = allowed.iter().map(|kind| kind.as_str()).collect();
                write!(f, "{field} must be one of: {}", words.join(", "))
            }
            Rule::Scopes => write!(f, "{field} must be report, read"),
            Rule::Email => write!(f, "invalid {field} format"),
            Rule::Url => write!(f, "invalid {field}"),
            Rule::HttpUrl => write!(f, "{field} must start with http or https"),
            Rule::PercentEncoding => write!(f, "{field} is not valid percent-encoding"),
            Rule::Utf8 => write!(f, "{field} is not valid UTF-8"),
            Rule::Cursor => write!(f, "{field} is invalid"),
        }
    }
}

/// The form of a text that [`storable`] takes, as JSON Schema writes it, and as every dialect of regular
/// expressions reads it that clients may use.
pub(crate) const STORABLE: &str = r"^[^\x00]*$";

/// The form of a text that is storable and more than white space.
pub(crate) const NOT_BLANK: &str = r"^[^\x00]*[^\s\x00][^\x00]*$";

/// Checks a text that must be given, not blank, of at most `max` characters.
pub(crate) fn required(
    field: &'static str,
    value: Option<String>,
    max: usize,
) -> Result<String, InvalidField> {
    let value = value.unwrap_or_default();
    if value.trim().is_empty() {
        return Err(Rule::Required.broken_by(field));
    }
    if value.chars().count() > max {
        return Err(Rule::Characters { min: 1, max }.broken_by(field));
    }
    storable(field, &value)?;
    Ok(value)
}

/// Checks a text of at most `max` characters that may be missing.
pub(crate) fn limited(
    field: &'static str,
    value: Option<String>,
    max: usize,
) -> Result<Option<String>, InvalidField> {
    if let Some(value) = &value {
        if value.chars().count() > max {
            return Err(Rule::Characters { min: 0, max }.broken_by(field));
        }
        storable(field, value)?;
    }
    Ok(value)
}

/// Checks a word of at most `max` characters of `a-z`, `0-9` and `_` that may be missing.
pub(crate) fn word(
    field: &'static str,
    value: Option<String>,
    max: usize,
) -> Result<String, InvalidField> {
    let value = value.unwrap_or_default();
    let in_word = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    match value.len() <= max && value.bytes().all(in_word) {
        true => Ok(value),
        false => Err(Rule::Word(max).broken_by(field)),
    }
}

/// Checks that databases can keep a text.
pub(crate) fn storable(field: &'static str, value: &str) -> Result<(), InvalidField> {
    match value.contains('\0') {
        true => Err(Rule::NoNul.broken_by(field)),
        false => Ok(()),
    }
}
