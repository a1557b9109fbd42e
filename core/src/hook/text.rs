//! Texts that people read: without secrets and UUIDs, on one line, short.

use std::sync::LazyLock;

use regex_lite::Regex;

use super::payload::start;
use super::secrets::redact;

/// The most of a text that is looked at, in bytes. Whatever is shown is far shorter.
const LOOKED_AT: usize = 4 << 10;

/// The longest title that is made of a prompt, in characters.
const MAX_TITLE: usize = 80;

static UUID: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern = "(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    Regex::new(pattern).ok()
});

/// The start of a text on one line, at most so many characters.
pub(super) fn line(text: &str, characters: usize) -> String {
    // What has no width could keep a secret from being recognised.
    let visible: String = start(text, LOOKED_AT)
        .chars()
        .filter(|c| !is_invisible(*c))
        .collect();
    let text = redact(&visible);
    let text = match &*UUID {
        Some(uuid) if text.contains('-') => uuid.replace_all(&text, "…"),
        _ => text,
    };
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let mut line = String::new();
    for word in words.filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line.chars()
        .take(characters)
        .collect::<String>()
        .trim_end()
        .to_owned()
}

/// Characters that have no width or turn the direction of what follows.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The first line of a prompt, short; `None` when the prompt says nothing, or was made by the agent
/// around what it says.
pub(super) fn prompt(text: &str) -> Option<String> {
    let text = redact(start(text, LOOKED_AT));
    let lines = text.lines().map(|text| line(text, MAX_TITLE));
    let first = lines.into_iter().find(|line| !line.is_empty())?;
    (!is_made_up(&first)).then_some(first)
}

/// Checks whether a line begins with a tag such as agents put around what no person wrote.
fn is_made_up(line: &str) -> bool {
    const TAGS: &[&str] = &[
        "<command-",
        "<local-command",
        "<system-reminder",
        "<task-notification",
        "<bash-",
        "<ide_",
    ];
    TAGS.iter().any(|tag| line.starts_with(tag))
}

/// Checks whether a prompt's line is a command to the agent, such as `/compact`. A path is none.
pub(super) fn is_command(line: &str) -> bool {
    let word = line.split(' ').next().unwrap_or_default();
    let name = word.strip_prefix('/').unwrap_or_default();
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | ':' | '.');
    !name.is_empty() && name.chars().all(is_name)
}

/// A reason in the form that reports have: of what a tool calls an error.
pub(super) fn reason(text: &str) -> String {
    const MAX_REASON: usize = 50;
    let mut reason = String::new();
    let mut after_lower = false;
    for c in text.trim().chars().take(2 * MAX_REASON) {
        match c {
            'A'..='Z' => {
                if after_lower {
                    reason.push('_');
                }
                reason.push(c.to_ascii_lowercase());
            }
            'a'..='z' | '0'..='9' => reason.push(c),
            _ if reason.is_empty() || reason.ends_with('_') => {}
            _ => reason.push('_'),
        }
        after_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    reason.truncate(MAX_REASON);
    reason.trim_end_matches('_').to_owned()
}

/// Checks whether a text is the name of an error rather than a sentence about it.
pub(super) fn is_code(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=50).contains(&text.len()) && text.chars().all(is_part) && redact(text) == text
}
