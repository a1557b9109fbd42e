//! Passwords that a person types, that come on standard input, or that are made.

use std::io::{self, IsTerminal, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kubeagents_core::ports::Entropy;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The most that is read of one, in bytes.
const MAX_BYTES: u64 = 4096;

/// Where a password comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A person types it twice, or it is the first line of standard input.
    Person,
    /// It is made.
    Made,
}

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    #[error("standard input cannot be read")]
    Input(#[source] io::Error),
    #[error("the password is not UTF-8")]
    NotUtf8,
    #[error("the two passwords differ")]
    Differ,
    #[error("no password is given")]
    Cancelled,
}

/// A password from this source.
///
/// # Errors
/// [`PasswordError`].
pub(crate) fn ask(source: Source, entropy: &impl Entropy) -> Result<String, PasswordError> {
    if source == Source::Made {
        let mut bytes = [0; 18];
        entropy.fill(&mut bytes);
        return Ok(URL_SAFE_NO_PAD.encode(bytes));
    }
    if !io::stdin().is_terminal() {
        return first_line();
    }
    let password = typed("Password: ")?;
    match typed("The same again: ")? == password {
        true => Ok(password),
        false => Err(PasswordError::Differ),
    }
}

fn first_line() -> Result<String, PasswordError> {
    let mut text = Vec::new();
    let mut input = io::stdin().lock().take(MAX_BYTES);
    input.read_to_end(&mut text).map_err(PasswordError::Input)?;
    let line = text.split(|byte| *byte == b'\n').next();
    let line = line.unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8(line.to_vec()).map_err(|_| PasswordError::NotUtf8)
}

/// A terminal that shows nothing of what is typed; as it was again when dropped.
struct Silenced(Termios);

impl Silenced {
    fn new() -> Result<Self, PasswordError> {
        let failed = |error: rustix::io::Errno| PasswordError::Input(error.into());
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut silent = before.clone();
        // Ctrl-C comes as a character: as a signal it would leave the terminal silent.
        let off = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        silent.local_modes.remove(off);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Silenced {
    fn drop(&mut self) {
        // There is nobody to tell, and nothing else to do.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What a person types at a terminal, which does not show it.
fn typed(prompt: &str) -> Result<String, PasswordError> {
    let silenced = Silenced::new()?;
    let mut output = io::stderr();
    // Without a prompt it can still be typed.
    let _ = output.write_all(prompt.as_bytes());
    let line = edited(io::stdin().lock().take(MAX_BYTES).bytes());
    drop(silenced);
    let _ = output.write_all(b"\n");
    line
}

/// A line of typed bytes, with what was taken back left out.
fn edited(bytes: impl Iterator<Item = io::Result<u8>>) -> Result<String, PasswordError> {
    const CTRL_C: u8 = 3;
    const CTRL_D: u8 = 4;
    const BACKSPACE: u8 = 8;
    const CTRL_U: u8 = 21;
    const DELETE: u8 = 127;
    let mut line = Vec::new();
    for byte in bytes {
        match byte.map_err(PasswordError::Input)? {
            b'\r' | b'\n' => {
                return String::from_utf8(line).map_err(|_| PasswordError::NotUtf8);
            }
            CTRL_C | CTRL_D => return Err(PasswordError::Cancelled),
            CTRL_U => line.clear(),
            BACKSPACE | DELETE => {
                // All bytes of a character.
                while line.pop().is_some_and(|byte: u8| byte & 0xC0 == 0x80) {}
            }
            byte => line.push(byte),
        }
    }
    Err(PasswordError::Cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(typed: &str) -> Option<String> {
        edited(typed.bytes().map(Ok)).ok()
    }

    #[test]
    fn what_is_typed_can_be_taken_back() {
        for (typed, password) in [
            ("secret\r", Some("secret")),
            ("sex\u{7f}cret\n", Some("secret")),
            ("пас密\u{8}\u{8}сс\n", Some("пасс")),
            ("\u{7f}\u{7f}ab\n", Some("ab")),
            ("wrong\u{15}right\n", Some("right")),
            ("secret\u{3}\n", None),
            ("secret\u{4}", None),
            ("secret", None),
        ] {
            assert_eq!(line(typed).as_deref(), password, "{typed:?}");
        }
    }
}
