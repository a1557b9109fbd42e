//! What is made of the command line: completions for shells, and the pages of the manual.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::EnumValueParser;
use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};
use clap_complete::{Shell, generate};

use crate::client::NOT_DONE;
use crate::config;

/// The names of the commands.
const COMPLETIONS: &str = "completions";
const MAN: &str = "man";

/// The names of their arguments.
const SHELL: &str = "SHELL";
const FOLDER: &str = "FOLDER";

/// The commands, for the program's help and arguments.
pub(crate) fn commands() -> [Command; 2] {
    [
        Command::new(COMPLETIONS)
            .about("Print what makes a shell complete this program's arguments.")
            .arg(
                Arg::new(SHELL)
                    .help("The shell")
                    .required(true)
                    .value_parser(EnumValueParser::<Shell>::new()),
            ),
        // For those who package the program.
        Command::new(MAN)
            .about("Write the pages of the manual, one for each command.")
            .hide(true)
            .arg(
                Arg::new(FOLDER)
                    .help("Where to; it is made if it is missing")
                    .required(true)
                    .value_hint(ValueHint::DirPath)
                    .value_parser(value_parser!(PathBuf)),
            ),
    ]
}

/// Does a command that is one of these.
pub(crate) fn run(name: &str, matches: &ArgMatches) -> Option<ExitCode> {
    let done = match name {
        COMPLETIONS => matches
            .get_one(SHELL)
            .map(|shell| print_completions(*shell)),
        MAN => matches
            .get_one(FOLDER)
            .map(|folder: &PathBuf| write_pages(folder)),
        _ => None,
    };
    done.map(|done| match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("kubeagents: {problem}");
            ExitCode::from(NOT_DONE)
        }
    })
}

fn print_completions(shell: Shell) -> Result<(), String> {
    let mut command = config::command();
    let name = command.get_name().to_owned();
    // Written at once, it would panic where nobody reads.
    let mut script = Vec::new();
    generate(shell, &mut command, name, &mut script);
    let mut output = io::stdout();
    match output.write_all(&script).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("standard output cannot be written: {error}"))
        }
        _ => Ok(()),
    }
}

fn write_pages(folder: &Path) -> Result<(), String> {
    // All settings in one synopsis would say nothing.
    let command =
        with_value_names(config::command()).override_usage("kubeagents [OPTIONS] [COMMAND]");
    let written =
        fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    written.map_err(|error| format!("{} cannot be written: {error}", folder.display()))
}

/// A command whose options name their values, as its help does.
fn with_value_names(command: Command) -> Command {
    let name = |arg: Arg| match arg.get_action().takes_values() && arg.get_value_names().is_none() {
        true => {
            let name = arg.get_id().as_str().to_uppercase();
            arg.value_name(name)
        }
        false => arg,
    };
    command.mut_args(name).mut_subcommands(with_value_names)
}
