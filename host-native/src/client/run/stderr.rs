//! The command's standard error: passed on as it comes, and its end kept.

use std::io::{self, IsTerminal, Read, Write};
use std::process::{ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::client::tail::Tail;

/// How much of the end is kept, in bytes and in lines.
const TAIL: usize = 8 << 10;
const LINES: usize = 40;

/// How long to wait for the last of it once the command has ended: what the command leaves running may
/// hold it open.
const LAST: Duration = Duration::from_secs(1);

/// Standard error on its way.
pub(super) struct Passed {
    tail: Arc<Mutex<Tail>>,
    ended: Option<Receiver<()>>,
}

impl Passed {
    /// Prepares a command. A terminal is left to it: it may ask whether it has one.
    pub(super) fn prepare(command: &mut Command) -> Self {
        if !io::stderr().is_terminal() {
            command.stderr(Stdio::piped());
        }
        Self {
            tail: Arc::default(),
            ended: None,
        }
    }

    /// Begins to pass on what comes.
    pub(super) fn start(mut self, from: Option<ChildStderr>) -> Self {
        if let Some(mut from) = from {
            let (tail, (end, ended)) = (self.tail.clone(), channel());
            thread::spawn(move || {
                let mut buffer = [0; 8 << 10];
                while let Ok(length @ 1..) = from.read(&mut buffer) {
                    let read = &buffer[..length];
                    // Nobody may be there to read it.
                    let _ = io::stderr().write_all(read);
                    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                    tail.push(read, TAIL);
                }
                // Nobody may wait any more.
                let _ = end.send(());
            });
            self.ended = Some(ended);
        }
        self
    }

    /// The last lines.
    pub(super) fn end(self) -> String {
        if let Some(ended) = self.ended {
            // What has come by then is enough.
            let _ = ended.recv_timeout(LAST);
        }
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        last_lines(&tail.text())
    }
}

fn last_lines(text: &str) -> String {
    let text = text.trim_end();
    let mut lines: Vec<&str> = text.rsplit('\n').take(LINES).collect();
    lines.reverse();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let text: String = (0..100).map(|number| format!("{number}\n")).collect();
        let kept = last_lines(&text);
        assert!(kept.starts_with("60\n") && kept.ends_with("\n99"), "{kept}");
        assert_eq!(last_lines(""), "");
    }
}
