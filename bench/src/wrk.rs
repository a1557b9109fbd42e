//! Load from wrk.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kubeagents_test_postgres::found_or_installed;

use crate::hosts::with_many_files;

const INSTALL: &str = "apt-get update && apt-get install -y --no-install-recommends wrk";

/// The longest that a server is loaded in vain.
const PATIENCE: Duration = Duration::from_secs(120);

fn wrk() -> PathBuf {
    let find = || {
        let path = std::env::var_os("PATH")?;
        let mut places = std::env::split_paths(&path).map(|folder| folder.join("wrk"));
        places.find(|place| place.exists())
    };
    found_or_installed("wrk", find, INSTALL)
}

/// What wrk is to do.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    url: String,
    connections: u32,
    script: &'static str,
    variables: Vec<(&'static str, String)>,
}

/// What wrk has counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) per_second: f64,
    /// The 99th percentile of the latency, in milliseconds.
    pub(crate) p99: f64,
    pub(crate) errors: u64,
}

impl Rates {
    /// Microseconds for a request.
    pub(crate) fn micros(self) -> f64 {
        1e6 / self.per_second
    }
}

impl Load {
    /// Load by one of the scripts in `bench/wrk`.
    pub(crate) fn new(script: &'static str, url: impl Into<String>, connections: u32) -> Self {
        Self {
            url: url.into(),
            connections,
            script,
            variables: Vec::new(),
        }
    }

    /// Sets a variable of the script.
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.variables.push((name, value.to_string()));
        self
    }

    /// Sets the file of API keys, if there is one.
    pub(crate) fn keys(self, file: Option<&Path>) -> Self {
        match file {
            Some(file) => self.with("KEYS", file.display()),
            None => self,
        }
    }

    /// Loads a server, and waits for the end; for longer, if nothing is answered in that time.
    ///
    /// # Errors
    /// When a request is not answered 2xx.
    pub(crate) fn run(&self, duration: Duration) -> Result<Rates> {
        let mut time = duration;
        loop {
            let running = self.start()?;
            sleep(time);
            let rates = running.stop()?;
            let (script, errors) = (self.script, rates.errors);
            ensure!(errors == 0, "{script} of {}: {errors} errors", self.url);
            if rates.per_second > 0.0 {
                return Ok(rates);
            }
            time *= 2;
            ensure!(time < PATIENCE, "{script} of {}: no answer", self.url);
        }
    }

    /// Loads a server until that is stopped.
    pub(crate) fn start(&self) -> Result<Running> {
        // By lines, so that it can be seen when it has begun.
        let mut command = with_many_files(Path::new("stdbuf"));
        command
            .arg("-oL")
            .arg(wrk())
            .args(["--threads", "1", "--duration", "1h", "--timeout", "60s"])
            .args(["--connections", &self.connections.to_string()])
            .arg("--script")
            .arg(format!("wrk/{}.lua", self.script))
            .arg(&self.url)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("KEYS")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().context("wrk cannot be started")?;
        let output = child.stdout.take().context("wrk has no output")?;
        let mut running = Running {
            child,
            output: BufReader::new(output),
        };
        let mut line = String::new();
        while !line.starts_with("Running ") {
            line.clear();
            let length = running.output.read_line(&mut line)?;
            ensure!(length > 0, "wrk has not begun");
        }
        Ok(running)
    }
}

/// A wrk at work, which ends with this value.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    /// Stops it, and returns what it has counted.
    pub(crate) fn stop(mut self) -> Result<Rates> {
        // The first signal may come before it waits for one.
        while self.child.try_wait()?.is_none() {
            let mut kill = Command::new("kill");
            kill.args(["-INT", &self.child.id().to_string()]);
            kill.stderr(Stdio::null()).status()?;
            sleep(Duration::from_millis(20));
        }
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        let last = text.lines().last().unwrap_or_default();
        let mut numbers = last.split(' ').map(str::parse::<f64>);
        let mut number = || {
            let number = numbers.next().transpose().ok().flatten();
            number.with_context(|| format!("wrk says: {text}"))
        };
        Ok(Rates {
            per_second: number()?,
            p99: number()? / 1000.0,
            errors: number()? as u64,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
