//! Serves the application until it is killed, and prints the address:
//! `serve <directory> [--reuse <requests>,<concurrent>] [--component <file>] [<variable>=<value>…]`.
//!
//! Its SQLite is in the directory. `--reuse`: how many requests an instance serves before it is thrown
//! away, and how many at once; otherwise as many as under Spin. `--component`: this file instead of the
//! application's component, which is built otherwise.

use std::path::Path;

use anyhow::{Context as _, Result};
use kubeagents_spin_tests::{Built, Compiled, Options, Reuse, SpinHost, manifest};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut options = Options::new(arguments.next().context("no directory")?);
    let mut component = None;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--reuse" => {
                let reuse = arguments.next().context("no numbers")?;
                let (requests, concurrent) = reuse.split_once(',').context("not two numbers")?;
                options.reuse = vec![Reuse {
                    requests: requests.parse()?,
                    concurrent: concurrent.parse()?,
                }];
            }
            "--component" => component = Some(arguments.next().context("no file")?),
            _ => {
                let (name, value) = argument.split_once('=').context("not <variable>=<value>")?;
                options = options.variable(name, value);
            }
        }
    }
    let (manifest, compiled) = match component {
        Some(file) => (manifest()?.1, Compiled::new(Path::new(&file))?),
        None => {
            let built = Built::new()?;
            (built.manifest, built.compiled)
        }
    };
    let host = SpinHost::start(&manifest, &compiled, &options).await?;
    println!("{}", host.url());
    std::future::pending().await
}
