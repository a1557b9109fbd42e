//! `wash dev` with the component.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use kubeagents_contract::{Log, Process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tools;

/// Long enough to compile the component to machine code on a machine that is busy with others.
const START_DEADLINE: Duration = Duration::from_secs(180);

/// Storage for the component's state.
#[derive(Debug, Clone)]
pub enum Storage {
    /// wash's own memory.
    InMemory,
    /// A bucket on a NATS server.
    Nats {
        /// The server.
        url: String,
        /// The bucket, which exists.
        bucket: String,
    },
    /// Files, which cannot compare and swap.
    Filesystem,
    /// A PostgreSQL database.
    Postgres {
        /// The server with user and password, without a database.
        server: String,
        /// The database.
        database: String,
    },
}

/// Lifetime of the component's instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instances {
    /// For one request, as `wash dev` has it.
    Fresh,
    /// One serves all requests, as the manifests for production have it but for the number.
    Pooled,
}

/// A component without anything in it.
const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// A running `wash dev`, which ends with this value.
#[derive(Debug)]
pub struct Wash {
    url: String,
    process: Process,
    _directory: TempDir,
}

impl Wash {
    /// Starts wash with the component on this storage and with these environment variables, and
    /// waits until it serves. It ends with the thread that called this at the latest.
    ///
    /// # Errors
    /// When something cannot be installed, built or started.
    pub fn start(
        storage: &Storage,
        instances: Instances,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        Self::start_with(&tools::component()?, storage, instances, environment)
    }

    /// Starts wash like [`Wash::start`], with the component in this file.
    ///
    /// # Errors
    /// When something cannot be installed or started.
    pub fn start_with(
        component: &Path,
        storage: &Storage,
        instances: Instances,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        Self::launch(component, storage, instances, environment, None)
    }

    /// Starts another wash like [`Wash::start`], with one log for both.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_beside(
        &self,
        storage: &Storage,
        instances: Instances,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let component = tools::component()?;
        Self::launch(&component, storage, instances, environment, Some(self))
    }

    fn launch(
        component: &Path,
        storage: &Storage,
        instances: Instances,
        environment: &[(&str, &str)],
        beside: Option<&Self>,
    ) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        // wash does not tell which port it was given, so it is told one.
        let address = free_address()?;

        let mut config: serde_json::Map<String, Value> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let mut dev = json!({
            "address": address,
            "host_interfaces": [
                interface("keyvalue", &["store", "cas"], &keyvalue(storage, directory.path())),
                interface("postgres", &["query"], &json!({"database": database(storage)})),
            ],
        });
        match storage {
            Storage::InMemory | Storage::Filesystem => {}
            Storage::Nats { bucket, .. } => {
                config.insert("BUCKET".to_owned(), json!(bucket));
            }
            Storage::Postgres { server, .. } => {
                config.insert("STORAGE".to_owned(), json!("postgres"));
                dev["postgres_url"] = json!(server);
            }
        }
        let main = match instances {
            Instances::Fresh => component.to_owned(),
            Instances::Pooled => {
                // `wash dev` pools only what stands beside the main component.
                dev["components"] = json!([{
                    "name": "kubeagents",
                    "file": component,
                    "poolSize": 1,
                    "maxConcurrency": 256,
                }]);
                let empty = directory.path().join("empty.wasm");
                std::fs::write(&empty, EMPTY_COMPONENT)?;
                empty
            }
        };
        // JSON is YAML.
        let settings = json!({
            "build": {"command": "true", "component_path": main},
            "dev": dev,
            "workload": {
                "environment": {"config": config},
                "allowedHosts": ["127.0.0.1"],
            },
        });
        let folder = directory.path().join(".wash");
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("config.yaml"), settings.to_string())?;

        let mut command = tools::bound_to_this_thread(tools::wash()?);
        command
            .args(["--non-interactive", "dev"])
            .current_dir(directory.path())
            .process_group(0);
        // With a backtrace a request, wash is twenty times slower.
        command.env_remove("RUST_BACKTRACE");
        let process = match beside {
            Some(first) => first.process.start_beside(&mut command)?,
            None => Process::start(&mut command)?,
        };
        let url = format!("http://{address}");
        process.log().wait_for(START_DEADLINE, |line| {
            line.contains("listening for HTTP requests") && line.ends_with(&url)
        });
        Ok(Self {
            url,
            process,
            _directory: directory,
        })
    }

    /// Returns the URL at which the component is served.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the id of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the output of wash and the component so far.
    pub fn log(&self) -> Log {
        self.process.log()
    }
}

impl Drop for Wash {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        drop(Command::new("kill").args(["-KILL", "--", &group]).status());
    }
}

/// An address that nobody listens on, and that no outgoing connection gets: those have ports above
/// these.
fn free_address() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16;
    let mut ports = std::iter::repeat_with(|| {
        let place = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        20_000 + place % 10_000
    });
    let free = ports.by_ref().take(1000).find_map(|port| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        listener.local_addr().ok()
    });
    free.context("no port is free")
}

fn interface(package: &str, interfaces: &[&str], config: &Value) -> Value {
    json!({
        "namespace": "wasmcloud",
        "package": package,
        "interfaces": interfaces,
        "version": "0.2.0",
        "config": config,
    })
}

fn keyvalue(storage: &Storage, directory: &Path) -> Value {
    match storage {
        Storage::Nats { url, .. } => json!({"backend": "nats", "url": url}),
        Storage::Filesystem => json!({"backend": "filesystem", "root": directory}),
        Storage::InMemory | Storage::Postgres { .. } => json!({"backend": "in-memory"}),
    }
}

/// The interface asks for a name also where it is not used.
fn database(storage: &Storage) -> &str {
    match storage {
        Storage::Postgres { database, .. } => database,
        _ => "unused",
    }
}
