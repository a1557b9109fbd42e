//! Measures what the server does beside what it could do at most, on every host and storage, and prints
//! the ratios.
#![forbid(unsafe_code)]

mod bench;
mod cases;
mod client;
mod hosts;
mod limits;
mod machine;
mod measure;
mod table;
mod wrk;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;

use bench::Bench;
use cases::CASES;

/// Measures each case beside its limit, in turn, and prints the ratios. Installs what it needs where it is
/// missing: wrk and PostgreSQL with apt-get, wash from PyPI.
#[derive(Parser)]
struct Arguments {
    /// Measure the cases whose names contain this; may be given several times.
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Leave out the cases whose names contain this; may be given several times.
    #[arg(long, value_name = "PATTERN")]
    except: Vec<String>,
    /// Name the cases, and measure nothing.
    #[arg(long)]
    list: bool,
    /// How often each case is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long a case and its limit are loaded in each round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// See that every case works: one round of a fraction of a second, on little data.
    #[arg(long)]
    short: bool,
    /// Take the programs as they are, where they have been built.
    #[arg(long)]
    built: bool,
    /// Write what was measured to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn serve_bytes(file: &str) -> Result<()> {
    limits::bare::serve(file).await
}

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    // The limit must be a process of its own, as the server is.
    if let (Some(limits::bare::COMMAND), Some(file)) =
        (arguments.next().as_deref(), arguments.next())
    {
        serve_bytes(&file)?;
        return Ok(ExitCode::SUCCESS);
    }

    let arguments = Arguments::parse();
    let contains =
        |patterns: &[String], name: &str| patterns.iter().any(|pattern| name.contains(&**pattern));
    let chosen: Vec<_> = CASES
        .iter()
        .filter(|case| arguments.only.is_empty() || contains(&arguments.only, case.name))
        .filter(|case| !contains(&arguments.except, case.name))
        .collect();
    ensure!(
        !chosen.is_empty(),
        "no case has such a name; --list names them"
    );
    if arguments.list {
        for case in chosen {
            println!("{}", case.name);
        }
        return Ok(ExitCode::SUCCESS);
    }

    let (rounds, seconds) = match arguments.short {
        true => (1, 0.3),
        false => (arguments.rounds, arguments.seconds),
    };
    let duration = Duration::try_from_secs_f64(seconds).context("--seconds: not a duration")?;
    let bench = Bench::new(arguments.short, arguments.built)?;
    table::print_head();
    let mut results = Vec::new();
    for case in chosen {
        let measuring = || measure::measure(case, &bench, rounds, duration);
        // What starts servers panics where it cannot; the other cases go on.
        let outcome = catch_unwind(AssertUnwindSafe(measuring))
            .unwrap_or_else(|_| Err(anyhow!("panicked, see above")));
        table::print_row(case, &outcome);
        results.push((case, outcome));
    }
    if let Some(file) = arguments.json {
        let report = table::json(&results, rounds, seconds);
        std::fs::write(&file, format!("{report:#}\n"))
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    let is_complete = results.iter().all(|(_, outcome)| outcome.is_ok());
    Ok(if is_complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
