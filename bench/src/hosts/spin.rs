//! The Spin component, in the host that its tests run it in.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kubeagents_contract::{Log, Process};

use super::{Component, Server, Storage, with_many_files};
use crate::bench::Bench;

/// Long enough to compile a component to machine code.
const PATIENCE: Duration = Duration::from_secs(300);

/// Starts the host with a component, in open mode.
pub(super) fn start(bench: &Bench, component: Component, options: &[&str]) -> Result<Server> {
    let mut directory = bench.place();
    let mut database = None;
    let mut arguments = Vec::new();
    let file = match component {
        Component::Empty => bench.component("kubeagents-bench-empty")?,
        Component::Server(storage) => {
            match storage {
                Storage::Sqlite => {}
                Storage::SqliteInMemory => {
                    let mut memory = tempfile::Builder::new();
                    memory.prefix("kubeagents-bench-");
                    directory = memory.tempdir_in("/dev/shm")?.keep();
                }
                Storage::Postgres => {
                    let database = database.insert(bench.database());
                    let url = database.url();
                    let place = url
                        .rsplit_once('@')
                        .and_then(|(_, rest)| rest.split('/').next());
                    let place = place.context("a database without a host")?;
                    arguments.push(format!("database_host={place}"));
                    arguments.push(format!("database_url={url}"));
                }
                Storage::Memory | Storage::KeyValue => bail!("Spin has no {storage:?}"),
            }
            bench.component("kubeagents-spin")?
        }
    };
    std::fs::create_dir_all(&directory)?;
    let mut command = with_many_files(&bench.spin_host()?);
    command
        .arg(&directory)
        .arg("--component")
        .arg(file)
        .args(options)
        .arg("auth_mode=open")
        .args(arguments)
        // With a backtrace a request, components are twenty times slower.
        .env_remove("RUST_BACKTRACE");
    let process = Process::start(&mut command)?;
    let listening = |line: &str| line.starts_with("http://");
    let url = process.log().wait_for(PATIENCE, listening);
    Ok(Server {
        url,
        log: Log::file(directory.join("stderr.log")),
        process: process.id(),
        file: Some(directory.join("sqlite_db.db")),
        database,
        keys: Vec::new(),
        keys_file: None,
        _runs: Box::new((process, Folder(directory))),
    })
}

/// A folder that is removed with this value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
