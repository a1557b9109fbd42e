use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The lines that a server has logged so far.
#[derive(Clone, Debug)]
pub struct Log(Source);

#[derive(Clone, Debug)]
enum Source {
    Lines(Arc<Mutex<Vec<String>>>),
    File(PathBuf),
}

impl Log {
    /// The log that a server appends to `file`. A file that does not exist yet is an empty log.
    pub fn file(file: impl AsRef<Path>) -> Self {
        Self(Source::File(file.as_ref().to_owned()))
    }

    fn of(
        lines: Arc<Mutex<Vec<String>>>,
        streams: impl IntoIterator<Item = Box<dyn Read + Send>>,
    ) -> Self {
        for stream in streams {
            let lines = lines.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    lines.lock().unwrap().push(line);
                }
            });
        }
        Self(Source::Lines(lines))
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        match &self.0 {
            Source::Lines(lines) => lines.lock().unwrap().clone(),
            Source::File(file) => {
                let text = std::fs::read(file).unwrap_or_default();
                String::from_utf8_lossy(&text)
                    .lines()
                    .map(str::to_owned)
                    .collect()
            }
        }
    }

    /// Waits for the first line that `matches`.
    ///
    /// # Panics
    /// When there is none after `deadline`, with the whole log.
    pub fn wait_for(&self, deadline: Duration, matches: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let lines = self.lines();
            if let Some(line) = lines.iter().find(|line| matches(line)) {
                return line.clone();
            }
            assert!(
                start.elapsed() < deadline,
                "not logged within {deadline:?}; the log is:\n{}",
                lines.join("\n")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The tokens of the links to `page` that were logged for `email`, oldest first.
    pub(crate) fn link_tokens(&self, page: &str, email: &str) -> Vec<String> {
        let link = format!("/{page}?token=");
        self.lines()
            .iter()
            .filter(|line| line.to_lowercase().contains(&email.to_lowercase()))
            .filter_map(|line| line.split_once(&link))
            .map(|(_, rest)| {
                rest.chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || "-_=.~%".contains(*c))
                    .collect()
            })
            .collect()
    }
}

/// A server process that ends with its owner.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: Log,
}

impl Process {
    /// Starts `command`, and collects what it writes to both of its output streams.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn start(command: &mut Command) -> io::Result<Self> {
        Self::collecting(command, Arc::default())
    }

    /// Starts `command` like [`Process::start`], with one log for both processes.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn start_beside(&self, command: &mut Command) -> io::Result<Self> {
        let lines = match &self.log.0 {
            Source::Lines(lines) => lines.clone(),
            Source::File(_) => Arc::default(),
        };
        Self::collecting(command, lines)
    }

    fn collecting(command: &mut Command, lines: Arc<Mutex<Vec<String>>>) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = child
            .stdout
            .take()
            .map(|s| Box::new(s) as Box<dyn Read + Send>);
        let stderr = child
            .stderr
            .take()
            .map(|s| Box::new(s) as Box<dyn Read + Send>);
        let log = Log::of(lines, stdout.into_iter().chain(stderr));
        Ok(Self { child, log })
    }

    /// The lines that the process has written so far.
    pub fn log(&self) -> Log {
        self.log.clone()
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process's exit status, once it has ended.
    ///
    /// # Errors
    /// As [`Child::try_wait`].
    pub fn exit_status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which only a failed scenario could tell.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
