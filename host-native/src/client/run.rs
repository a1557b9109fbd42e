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
        Ok(followed) => (code(followed.ended), said(followed)),
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

/// A command that has ended.
struct Followed {
    ended: ExitStatus,
    /// True if this process was told to stop, by a person or by what manages services.
    is_stopped: bool,
    /// The last of what it wrote to standard error.
    tail: String,
}

/// Runs a command to its end.
fn follow(command: &mut Command) -> io::Result<Followed> {
    let passed = Passed::prepare(command);
    let signals = Signals::catch();
    let mut child = command.spawn()?;
    let passed = passed.start(child.stderr.take());
    let (ended, is_stopped) = signals.pass_to_until_end(&mut child)?;
    Ok(Followed {
        ended,
        is_stopped,
        tail: passed.end(),
    })
}

/// What is reported of the end.
fn said(followed: Followed) -> Ended {
    let ended = followed.ended;
    let name = ended.signal().map(signal_name);
    Ended {
        is_success: ended.success(),
        reason: match &name {
            _ if followed.is_stopped => "stopped".into(),
            Some(name) => name.to_lowercase(),
            None => String::new(),
        },
        message: match (&name, ended.code()) {
            (Some(name), _) => format!("killed by {name}"),
            (None, _) if ended.success() => String::new(),
            // What shells say of a command that was killed.
            (None, Some(code @ 129..=159)) => {
                format!("exit code {code} ({})", signal_name(code - 128))
            }
            (None, _) => format!("exit code {}", code(ended)),
        },
        content: followed.tail,
    }
}

/// The name of a signal, such as `SIGKILL`.
fn signal_name(number: i32) -> String {
    // It stands in parentheses.
    let text = ExitStatus::from_raw(number).to_string();
    let name = text.split(['(', ')']).nth(1);
    let name = name.filter(|name| name.starts_with("SIG"));
    name.map_or_else(|| format!("signal_{number}"), str::to_owned)
}

/// The exit code as shells have it.
pub(super) fn code(ended: ExitStatus) -> u8 {
    let signal = || ended.signal().map(|signal| 128 + signal);
    let code = ended.code().or_else(signal).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_their_names() {
        let names = [9, 11, 15, 40].map(signal_name);
        assert_eq!(names, ["SIGKILL", "SIGSEGV", "SIGTERM", "signal_40"]);
    }

    #[test]
    fn only_what_stops_this_process_is_stopped() {
        let said = |raw: i32, is_stopped: bool| {
            let ended = ExitStatus::from_raw(raw);
            let said = said(Followed {
                ended,
                is_stopped,
                tail: String::new(),
            });
            format!("{} {} {}", said.is_success, said.reason, said.message)
        };
        assert_eq!(said(0, false), "true  ");
        assert_eq!(said(9, false), "false sigkill killed by SIGKILL");
        assert_eq!(said(15, false), "false sigterm killed by SIGTERM");
        assert_eq!(said(15, true), "false stopped killed by SIGTERM");
        assert_eq!(said(3 << 8, false), "false  exit code 3");
        assert_eq!(said(137 << 8, false), "false  exit code 137 (SIGKILL)");
        assert_eq!(said(255 << 8, false), "false  exit code 255");
    }
}
