//! The commands that report to a server from the machine that agents work on, and what they share.

pub(crate) mod condition;
pub(crate) mod config;
pub(crate) mod folders;
mod hook;
pub(crate) mod outlet;
mod process;
pub(crate) mod ps;
mod report;
mod run;
mod sending;
pub(crate) mod server;
mod spool;
mod statusline;
pub(crate) mod surroundings;
mod tail;
mod watcher;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use crate::{doctor, setup};

/// The exit codes for what could not be done, and for what cannot be.
pub(crate) const NOT_DONE: u8 = 1;
pub(crate) const NOT_UNDERSTOOD: u8 = 2;

/// The commands, for the program's help and arguments.
pub(crate) fn commands() -> [Command; 7] {
    let command = |name: &'static str, about: &'static str| Command::new(name).about(about);
    [
        command(
            "hook",
            "Take what a coding agent tells its hooks, on standard input. Coding agents start it: \
             kubeagents setup tells them to.",
        )
        .arg(Arg::new("TOOL").required(true).help("The agent, such as claude-code"))
        .arg(Arg::new("PAYLOAD").help("The JSON, where it does not come on standard input")),
        command(
            "statusline",
            "Pass on to Claude Code's status line what another command prints, and report what it shows: \
             model, cost, tokens.",
        )
        .arg(
            Arg::new("COMMAND")
                .help("The command that prints the line, and its arguments")
                .num_args(0..)
                .last(true),
        ),
        command("run", "Run a command, and report that it runs and how it ends.").args(run::arguments()),
        command("report", "Report once, for scripts: exit code 0 when it is stored, 1 when it is not, 2 when it cannot be.")
            .args(report::arguments()),
        command("ps", "Show the sessions, those that wait for somebody first.").args(ps::arguments()),
        setup::command(),
        doctor::command(),
    ]
}

/// Does a command that must be quick, before anything else is read.
pub(crate) fn run_at_once() -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    let command = arguments.next()?;
    if command == outlet::WATCHER {
        return Some(watch());
    }
    if command == outlet::SENDER {
        return Some(sending::run());
    }
    let arguments: Vec<OsString> = arguments.collect();
    let wants_help = arguments
        .first()
        .is_some_and(|first| first == "--help" || first == "-h");
    match command.to_str()? {
        _ if wants_help => None,
        "hook" => Some(hook::run(&arguments)),
        "statusline" => Some(statusline::run(&arguments)),
        _ => None,
    }
}

/// Sends what hooks take, and watches their agents.
pub(crate) fn watch() -> ExitCode {
    watcher::run()
}

/// Does a command that is one of these.
pub(crate) fn run(name: &str, matches: &ArgMatches) -> Option<ExitCode> {
    match name {
        "run" => Some(run::run(matches)),
        "report" => Some(report::run(matches)),
        "ps" => Some(ps::run(matches)),
        "setup" => Some(setup::run(matches)),
        "doctor" => Some(doctor::run(matches)),
        _ => None,
    }
}

/// Runs a future to its end.
///
/// # Errors
/// When there is no runtime, for a person.
pub(crate) fn blocking<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("threads cannot be started: {error}"))?;
    let done = runtime.block_on(future);
    // A name that is being resolved would be waited for.
    runtime.shutdown_background();
    Ok(done)
}
