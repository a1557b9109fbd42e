//! Where, when and of what was measured.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

/// The first value of a name in one of the tables below `/proc`.
fn proc_value(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// The first line that a program prints.
fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().next()?.to_owned())
}

/// The machine.
pub(crate) fn description() -> Value {
    json!({
        "cores": cores(),
        "processor": proc_value("/proc/cpuinfo", "model name"),
        "memory": proc_value("/proc/meminfo", "MemTotal"),
        "kernel": first_line("uname", &["-sr"]),
    })
}

/// Now.
pub(crate) fn date() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The revision of the source, as git describes it.
pub(crate) fn revision() -> Option<String> {
    let folder = env!("CARGO_MANIFEST_DIR");
    let describe = ["-C", folder, "describe", "--always", "--dirty"];
    first_line("git", &describe)
}

/// All of that in a line.
pub(crate) fn summary() -> String {
    let revision = revision().unwrap_or_else(|| "unknown".to_owned());
    let build = match cfg!(debug_assertions) {
        true => ", not optimised",
        false => "",
    };
    format!("{} cores, {}, revision {revision}{build}", cores(), date())
}
