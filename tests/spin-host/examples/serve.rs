//! Serves the application until it is killed: `serve <directory> [<variable>=<value>…]`. Prints the
//! address.

use anyhow::{Context as _, Result};
use kubeagents_spin_tests::{Built, Options, SpinHost};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut options = Options::new(arguments.next().context("no directory")?);
    for argument in arguments {
        let (name, value) = argument.split_once('=').context("not <variable>=<value>")?;
        options = options.variable(name, value);
    }
    let built = Built::new()?;
    let host = SpinHost::start(&built.manifest, &built.compiled, &options).await?;
    println!("{}", host.url());
    std::future::pending().await
}
