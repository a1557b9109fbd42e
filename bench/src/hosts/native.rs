//! The native server.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kubeagents_contract::Process;
use kubeagents_test_postgres::Database;

use super::{Server, Storage, with_many_files};
use crate::bench::Bench;

const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a server with these settings. Nothing that it takes up is limited by an account.
pub(crate) fn start(bench: &Bench, storage: Storage, settings: &[(&str, &str)]) -> Result<Server> {
    let (mut file, mut database) = (None, None);
    let address = match storage {
        Storage::Memory => None,
        Storage::Sqlite => {
            let place = bench.place();
            let address = format!("sqlite:{}", place.display());
            file = Some(place);
            Some(address)
        }
        Storage::Postgres => Some(database.insert(bench.database()).url()),
        Storage::SqliteInMemory | Storage::KeyValue => bail!("{storage:?} is for components"),
    };
    let mut command = with_many_files(&bench.server()?);
    command.env_clear();
    // For sh.
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    if let Some(address) = address {
        command.env("DATABASE_URL", address);
    }
    let process = launch(&mut command, settings)?;
    let log = process.log();
    let line = log.wait_for(PATIENCE, |line| line.contains("listening"));
    let url = line
        .split_once("address=")
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .context("no address is logged")?;
    Ok(Server {
        url: url.to_owned(),
        log,
        process: process.id(),
        file,
        database,
        keys: Vec::new(),
        keys_file: None,
        _runs: Box::new(process),
    })
}

/// A second server on a database, where it begins to delete what is older than a day.
pub(crate) fn start_retention(program: &Path, database: &Database) -> Result<Process> {
    let mut command = Command::new(program);
    command.env_clear().env("DATABASE_URL", database.url());
    launch(&mut command, &[("HISTORY_RETENTION_DAYS", "1")])
}

fn launch(command: &mut Command, settings: &[(&str, &str)]) -> Result<Process> {
    command
        .env("AUTH_MODE", "required")
        .env("MAX_MEMORY_MIB", "0")
        .env("PORT", "0")
        .env("REPORTS_PER_MINUTE", "0")
        .envs(settings.iter().copied());
    Ok(Process::start(command)?)
}
