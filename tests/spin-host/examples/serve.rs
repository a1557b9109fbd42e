//! Serves the application until it is killed, and prints the address:
//! `serve <directory> [--postgres] [--fresh] [--component <file>] [<variable>=<value>…]`.
//!
//! `--postgres`: on a PostgreSQL server of its own, instead of SQLite in the directory.
//! `--fresh`: every request gets a new instance. `--component`: this file instead of the
//! application's component.

use anyhow::{Context as _, Result};
use kubeagents_spin_tests::{Built, Compiled, Options, Reuse, SpinHost};
use kubeagents_test_postgres::Cluster;
use url::Url;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut options = Options::new(arguments.next().context("no directory")?);
    // Flushes to the disk, unlike the server that tests share.
    let mut cluster = None;
    let mut component = None;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--postgres" => cluster = Some(Cluster::start(&[])),
            "--fresh" => options.reuse = vec![Reuse::NONE],
            "--component" => component = Some(arguments.next().context("no file")?),
            _ => {
                let (name, value) = argument.split_once('=').context("not <variable>=<value>")?;
                options = options.variable(name, value);
            }
        }
    }
    let database = cluster.as_ref().map(Cluster::database);
    if let Some(database) = &database {
        let url = Url::parse(&database.url())?;
        let host = url.host_str().context("a database without a host")?;
        options = options
            .variable(
                "database_host",
                format!("{host}:{}", url.port().unwrap_or(5432)),
            )
            .variable("database_url", url);
    }
    let Built {
        manifest,
        mut compiled,
        ..
    } = Built::new()?;
    if let Some(file) = component {
        compiled = Compiled::new(file.as_ref())?;
    }
    let host = SpinHost::start(&manifest, &compiled, &options).await?;
    println!("{}", host.url());
    std::future::pending().await
}
