//! The short forms of what is measured: every case of the native host yields what it is to measure, and half a
//! minute of faults leaves everything right.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The server's program, from where cargo puts it. A run of all tests has built it.
fn server() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let program = target.unwrap().join("debug/kubeagents");
    if !program.exists() {
        let mut build = Command::new(env!("CARGO"));
        let built = build.args(["build", "-q", "-p", "kubeagents"]).status();
        assert!(built.unwrap().success(), "the server is not built");
    }
    program
}

fn assert_success(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{failed}");
}

/// The benchmark without components, whose hosts take long to build and to start.
fn bench() -> Command {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_kubeagents-bench"));
    bench.args(["--except", "spin", "--except", "wasmcloud"]);
    bench
}

#[test]
fn half_a_minute_of_kills_leaves_everything_right() {
    let mut soak = Command::new(env!("CARGO_BIN_EXE_soak"));
    assert_success(&soak.arg(server()).arg("0.5").output().unwrap());
}

#[test]
fn every_case_of_the_native_host_yields_a_measure_and_no_error() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench.json");
    let short = bench()
        .args(["--short", "--built", "--json"])
        .arg(&file)
        .output();
    assert_success(&short.unwrap());
    let text = std::fs::read_to_string(&file).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let cases = report["cases"].as_array().unwrap();
    for case in cases {
        // JSON has no number that is not finite.
        let value = match case["limit"].as_str().unwrap() {
            "" => &case["measured"],
            _ => &case["ratio"],
        };
        assert!(value["median"].as_f64().is_some(), "{case}");
    }

    let list = bench().arg("--list").output().unwrap();
    let listed = String::from_utf8(list.stdout).unwrap();
    let measured = cases.iter().map(|case| case["name"].as_str().unwrap());
    assert!(listed.lines().eq(measured), "{listed}");
}
