//! The end of a text that may be of any length and need not be UTF-8.

use std::collections::VecDeque;

/// The last bytes of what comes.
#[derive(Default)]
pub(super) struct Tail {
    bytes: VecDeque<u8>,
    is_cut: bool,
}

impl Tail {
    /// Takes more, and forgets what is more than so many bytes before the end.
    pub(super) fn push(&mut self, more: &[u8], most: usize) {
        self.bytes.extend(more);
        let surplus = self.bytes.len().saturating_sub(most);
        self.bytes.drain(..surplus);
        self.is_cut |= surplus > 0;
    }

    /// It as a text: from the beginning of a line where there is one, and with U+FFFD for what is none.
    pub(super) fn text(&mut self) -> String {
        let bytes: &[u8] = self.bytes.make_contiguous();
        let line = bytes.iter().position(|byte| *byte == b'\n');
        let line = line.map(|end| end + 1).filter(|begin| *begin < bytes.len());
        // Half a line may be half a secret, which is not known for one; half a character is none.
        let begin = match line {
            _ if !self.is_cut => 0,
            Some(begin) => begin,
            None => bytes
                .iter()
                .take(3)
                .take_while(|byte| **byte & 0xc0 == 0x80)
                .count(),
        };
        String::from_utf8_lossy(&bytes[begin..]).replace('\0', "\u{fffd}")
    }
}

/// The last characters of a text.
pub(super) fn last(text: &str, characters: usize) -> &str {
    match text.char_indices().rev().nth(characters.saturating_sub(1)) {
        Some((begin, _)) if characters > 0 => &text[begin..],
        _ => text,
    }
}

/// The first characters of a text.
pub(super) fn first(text: &str, characters: usize) -> &str {
    match text.char_indices().nth(characters) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(text: &[u8], most: usize) -> String {
        let mut tail = Tail::default();
        for chunk in text.chunks(3) {
            tail.push(chunk, most);
        }
        tail.text()
    }

    #[test]
    fn it_begins_with_a_whole_line_or_at_least_a_whole_character() {
        assert_eq!(
            tail("one\ntwo\nthree\n".as_bytes(), 100),
            "one\ntwo\nthree\n"
        );
        assert_eq!(tail("one\ntwo\nthree\n".as_bytes(), 8), "three\n");
        assert_eq!(tail("中文字".as_bytes(), 8), "文字");
        assert_eq!(tail("中文字\n".as_bytes(), 5), "字\n");
        assert_eq!(tail(b"a\xff\0b", 100), "a\u{fffd}\u{fffd}b");
        assert_eq!(tail(b"", 8), "");
    }

    #[test]
    fn characters_are_counted_from_either_end() {
        assert_eq!((last("中文字", 2), first("中文字", 2)), ("文字", "中文"));
        assert_eq!((last("ab", 2), first("ab", 2)), ("ab", "ab"));
        assert_eq!((last("ab", 9), first("ab", 9)), ("ab", "ab"));
    }
}
