//! Texts that come out as they went in, whatever the receiver makes of mark-up.

use std::borrow::Cow;

/// What the length of a text is counted in.
pub(super) type Measure = fn(&str) -> usize;

/// Characters.
pub(super) fn characters(text: &str) -> usize {
    text.chars().count()
}

/// Code units of UTF-16, which many chats count in.
pub(super) fn utf16(text: &str) -> usize {
    text.encode_utf16().count()
}

/// A text with its characters escaped, cut between two of them where it would be longer than `limit`.
pub(super) fn fit<'e>(
    text: &str,
    limit: usize,
    measure: Measure,
    escape: impl Fn(char) -> Cow<'e, str>,
) -> String {
    const CUT: &str = "…";
    let room = limit.saturating_sub(measure(CUT));
    let (mut fitted, mut length, mut kept) = (String::new(), 0, 0);
    for character in text.chars() {
        let escaped = escape(character);
        length += measure(&escaped);
        if length > limit {
            fitted.truncate(kept);
            fitted.push_str(CUT);
            return fitted;
        }
        fitted.push_str(&escaped);
        if length <= room {
            kept = fitted.len();
        }
    }
    fitted
}

/// A character as it is.
pub(super) fn plain(character: char) -> Cow<'static, str> {
    Cow::Owned(character.to_string())
}

/// A character of Markdown that stands for itself.
pub(super) fn markdown(character: char) -> Cow<'static, str> {
    match character {
        '\\' | '`' | '*' | '_' | '~' | '|' | '>' | '<' | '#' | '[' | ']' | '(' | ')' | '-'
        | '+' => Cow::Owned(format!("\\{character}")),
        '@' => Cow::Borrowed("@\u{2060}"),
        _ => plain(character),
    }
}

/// A character of HTML that stands for itself.
pub(super) fn html(character: char) -> Cow<'static, str> {
    match character {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '@' => "@\u{2060}".into(),
        _ => plain(character),
    }
}

/// A character of a chat whose plain texts can mention people: an invisible one keeps a mention from
/// being one.
pub(super) fn chat(character: char) -> Cow<'static, str> {
    match character {
        '@' => "@\u{2060}".into(),
        '<' => "<\u{2060}".into(),
        _ => plain(character),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_never_in_an_escape() {
        for (text, limit, fitted) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("a&b", 7, "a&amp;b"),
            ("a&bc", 7, "a&amp;…"),
            ("a&bc", 6, "a…"),
            ("", 0, ""),
        ] {
            assert_eq!(fit(text, limit, characters, html), fitted, "{text} {limit}");
        }
        assert_eq!(fit("中中", 5, str::len, plain), "…");
        assert_eq!(fit("中中", 6, str::len, plain), "中中");
        assert_eq!(fit("🦀🦀", 3, utf16, plain), "🦀…");
    }

    proptest! {
        #[test]
        fn a_text_is_never_longer_than_its_limit(text in any::<String>(), limit in 3..200_usize) {
            for measure in [characters as Measure, utf16, str::len] {
                for escape in [plain, html, markdown, chat] {
                    prop_assert!(measure(&fit(&text, limit, measure, escape)) <= limit);
                }
            }
        }
    }
}
