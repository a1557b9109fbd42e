//! The wasmCloud component, under the real wash.

use anyhow::{Result, bail};
use kubeagents_wasmcloud_tests::{Instances, Storage as WashStorage, Wash};

use super::{Component, Server, Storage};
use crate::bench::Bench;

/// Starts wash with a component, in open mode, with instances that stay.
pub(super) fn start(bench: &Bench, component: Component) -> Result<Server> {
    let mut database = None;
    let (file, storage) = match component {
        Component::Empty => {
            let file = bench.component("kubeagents-bench-empty")?;
            (file, WashStorage::InMemory)
        }
        Component::Server(storage) => {
            let file = bench.component("kubeagents-wasmcloud")?;
            let storage = match storage {
                Storage::KeyValue => WashStorage::InMemory,
                Storage::Postgres => {
                    let database = database.insert(bench.database());
                    let url = database.url();
                    let (server, name) = url.rsplit_once('/').unwrap_or_default();
                    WashStorage::Postgres {
                        server: server.to_owned(),
                        database: name.to_owned(),
                    }
                }
                Storage::Memory | Storage::Sqlite | Storage::SqliteInMemory => {
                    bail!("wasmCloud has no {storage:?}")
                }
            };
            (file, storage)
        }
    };
    let environment = [
        ("AUTH_MODE", "open"),
        ("JWT_SECRET", "signs nothing while there are no accounts"),
    ];
    let wash = Wash::start_with(&file, &storage, Instances::Pooled, &environment)?;
    Ok(Server {
        url: wash.url().to_owned(),
        log: wash.log(),
        process: wash.id(),
        file: None,
        database,
        keys: Vec::new(),
        keys_file: None,
        _runs: Box::new(wash),
    })
}
