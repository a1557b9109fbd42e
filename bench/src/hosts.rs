//! Servers, on every host and storage.

pub(crate) mod native;
mod spin;
mod wasmcloud;

use std::any::Any;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use kubeagents_contract::Log;

use crate::bench::Bench;
use crate::client::{Client, write_keys};

/// A component in a host that runs it, or the native server in open mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    Native(Storage),
    Spin(Component),
    /// Spin, with an instance for each request that is under way.
    SpinInstances,
    /// Spin, with an instance for each request.
    SpinFresh(Component),
    Wasmcloud(Component),
}

/// Storage of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Storage {
    Memory,
    /// In a file on the disk.
    Sqlite,
    /// In a file in memory.
    SqliteInMemory,
    Postgres,
    KeyValue,
}

/// A component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Component {
    /// One that answers everything with nothing.
    Empty,
    /// The server, on this storage.
    Server(Storage),
}

impl Host {
    pub(crate) fn start(self, bench: &Bench) -> Result<Server> {
        match self {
            Self::Native(storage) => native::start(bench, storage, &[("AUTH_MODE", "open")]),
            Self::Spin(component) => spin::start(bench, component, &[]),
            Self::SpinInstances => {
                let server = Component::Server(Storage::SqliteInMemory);
                spin::start(bench, server, &["--reuse", "100000,1"])
            }
            Self::SpinFresh(component) => spin::start(bench, component, &["--reuse", "1,1"]),
            Self::Wasmcloud(component) => wasmcloud::start(bench, component),
        }
    }
}

/// A running server, which ends with this value.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) log: Log,
    process: u32,
    /// The file of its SQLite database.
    pub(crate) file: Option<PathBuf>,
    /// The PostgreSQL database.
    pub(crate) database: Option<kubeagents_test_postgres::Database>,
    /// The API keys of its accounts, in a file too.
    pub(crate) keys: Vec<String>,
    pub(crate) keys_file: Option<PathBuf>,
    _runs: Box<dyn Any>,
}

impl Server {
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url)
    }

    /// An API key of the first account, if there are accounts.
    pub(crate) fn key(&self) -> Option<&str> {
        self.keys.first().map(|key| &**key)
    }

    /// Registers accounts, and makes API keys of each.
    pub(crate) fn with_accounts(
        mut self,
        bench: &Bench,
        accounts: usize,
        keys: usize,
    ) -> Result<Self> {
        let client = self.client();
        for number in 0..accounts {
            self.keys.extend(client.account(&self.log, number, keys)?);
        }
        let file = bench.place();
        write_keys(&file, &self.keys)?;
        self.keys_file = Some(file);
        Ok(self)
    }

    /// The mebibytes of memory that it takes up.
    pub(crate) fn memory(&self) -> Result<f64> {
        memory(self.process)
    }
}

/// The mebibytes of memory that a process takes up.
pub(crate) fn memory(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let mut lines = status.lines();
    let size = lines.find_map(|line| line.strip_prefix("VmRSS:"));
    let size = size.context("no VmRSS")?.trim().trim_end_matches(" kB");
    Ok(size.parse::<f64>()? / 1024.0)
}

/// A command that may have as many files open as the system allows, and that ends with this process.
pub(crate) fn with_many_files(program: &Path) -> Command {
    const SCRIPT: &str = "ulimit -n \"$(ulimit -Hn)\"; exec \"$@\"";
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "sh", "-c", SCRIPT, "sh"]);
    command.arg(program);
    command
}
