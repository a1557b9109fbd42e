//! The program `kubeagents`: server and client in one.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    kubeagents::run()
}
