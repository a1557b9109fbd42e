//! What hooks leave behind, as a program of its own: without the server it takes half the memory.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    kubeagents::watch()
}
