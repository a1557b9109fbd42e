//! `kubeagents run`: runs a command, and reports it.
//!
//! The command does not notice: it has this process's standard streams, gets its signals, and its exit
//! code is passed on. Reports go to the spool, so no server can stop or delay it.

mod signals;
mod stderr;
mod work;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};

use clap::{Arg, ArgMatches, value_parser};

use signals::Signals;
use stderr::Passed;
use work::{Ended, Work};

/// The exit codes of shells for a command that cannot be run, and for one that is not found.
const NOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// The arguments.
pub(super) fn arguments() -> [Arg; 3] {
    [
        Arg::new("agent")
            .long("agent")
            .help("Who works [default: the command's name at this machine]"),
        Arg::new("topic")
            .long("topic")
            .help("What at [default: the command line]"),
        Arg::new("COMMAND")
            .help("The command and its arguments")
            .num_args(1..)
            .required(true)
            .last(true)
            .value_parser(value_parser!(OsString)),
    ]
}

/// Runs the command that stands in the arguments.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let words: Vec<OsString> = matches
        .get_many("COMMAND")
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let Some((program, arguments)) = words.split_first() else {
        return ExitCode::from(NOT_FOUND);
    };
    let text = |name| matches.get_one::<String>(name).cloned();
    let work = match Work::new(&words, text("agent"), text("topic")) {
        Ok(work) => Some(work.begin()),
        Err(problem) => {
            eprintln!("kubeagents: this is not reported: {problem}");
            None
        }
    };
    let mut command = Command::new(program);
    command.args(arguments);
    let (code, ended) = match follow(&mut command) {
        Ok((ended, tail)) => (code(ended), said(ended, tail)),
        Err(error) => {
            let problem = format!("{}: {error}", program.to_string_lossy());
            eprintln!("kubeagents: {problem}");
            let code = match error.kind() {
                io::ErrorKind::NotFound => NOT_FOUND,
                _ => NOT_RUN,
            };
            (code, Ended::failed(problem))
        }
    };
    if let Some(work) = work {
        work.end(ended);
    }
    ExitCode::from(code)
}

/// Runs a command to its end: how it ended, and the last of what it wrote to standard error.
fn follow(command: &mut Command) -> io::Result<(ExitStatus, String)> {
    let passed = Passed::prepare(command);
    let signals = Signals::catch();
    let mut child = command.spawn()?;
    let passed = passed.start(child.stderr.take());
    let ended = signals.pass_to_until_end(&mut child)?;
    Ok((ended, passed.end()))
}

/// What is reported of the end.
fn said(ended: ExitStatus, content: String) -> Ended {
    const BY_A_PERSON: [i32; 3] = [1, 2, 15];
    let signal = ended
        .signal()
        .or_else(|| ended.code().map(|code| code - 128));
    let is_stopped = signal.is_some_and(|signal| BY_A_PERSON.contains(&signal));
    Ended {
        is_success: ended.success(),
        reason: if is_stopped { "stopped" } else { "" },
        message: match ended.signal() {
            None if ended.success() => String::new(),
            None => format!("exit code {}", code(ended)),
            Some(signal) => format!("killed by signal {signal}"),
        },
        content,
    }
}

/// The exit code as shells have it.
fn code(ended: ExitStatus) -> u8 {
    let signal = || ended.signal().map(|signal| 128 + signal);
    let code = ended.code().or_else(signal).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
