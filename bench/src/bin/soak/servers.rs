//! The servers under load, and what befalls them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kubeagents_contract::{Log, Process};
use kubeagents_test_postgres::free_port;

use crate::Failure;

/// How long a server may take to start, and to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that may be killed and started again at the same address.
pub(crate) struct Server {
    program: PathBuf,
    database: String,
    port: u16,
    process: Option<Process>,
}

impl Server {
    /// Starts a server on a free port.
    pub(crate) fn start(program: &Path, database: &str) -> Result<Self, Failure> {
        let mut server = Self {
            program: program.to_owned(),
            database: database.to_owned(),
            port: free_port(),
            process: None,
        };
        server.launch()?;
        Ok(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it has logged since it was last started.
    pub(crate) fn log(&self) -> Result<Log, Failure> {
        Ok(self.running()?.log())
    }

    /// The kibibytes of memory that it takes up.
    pub(crate) fn memory(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.running()?.id()))?;
        let mut lines = status.lines();
        let size = lines.find_map(|line| line.strip_prefix("VmRSS:"));
        let size = size.unwrap_or_default().trim().trim_end_matches(" kB");
        Ok(size.parse()?)
    }

    /// Kills it with SIGKILL, and starts it again.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        self.check()?;
        self.process = None;
        self.launch()
    }

    /// Has it end by SIGTERM, and starts it again.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        self.check()?;
        let mut process = self.process.take().ok_or("the server does not run")?;
        Command::new("kill")
            .arg(process.id().to_string())
            .status()?;
        let start = Instant::now();
        let status = loop {
            match process.exit_status()? {
                Some(status) => break status,
                None if start.elapsed() > PATIENCE => {
                    return Err("a server outlived SIGTERM by a minute".into());
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        if !status.success() {
            return Err(format!("a server ended with {status} after SIGTERM").into());
        }
        self.launch()
    }

    /// Whether it still runs, and has not panicked.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        let process = self.process.as_mut().ok_or("the server does not run")?;
        if let Some(status) = process.exit_status()? {
            let log = process.log().lines().join("\n");
            return Err(format!("a server ended by itself, with {status}:\n{log}").into());
        }
        let lines = process.log().lines();
        match lines.iter().find(|line| line.contains("panicked")) {
            Some(line) => Err(format!("a server panicked: {line}").into()),
            None => Ok(()),
        }
    }

    fn running(&self) -> Result<&Process, Failure> {
        Ok(self.process.as_ref().ok_or("the server does not run")?)
    }

    fn launch(&mut self) -> Result<(), Failure> {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("AUTH_MODE", "required")
            .env("DATABASE_URL", &self.database)
            .env("JWT_SECRET", "a secret of the soak, and of no other use")
            .env("NOTIFICATION_ALLOW_PRIVATE_ADDRESSES", "true")
            .env("PORT", self.port.to_string())
            .env("REPORTS_PER_MINUTE", "0");
        let process = Process::start(&mut command)?;
        let log = process.log();
        self.process = Some(process);
        let start = Instant::now();
        while !log.lines().iter().any(|line| line.contains("listening")) {
            self.check()?;
            if start.elapsed() > PATIENCE {
                return Err("a server does not start".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}
