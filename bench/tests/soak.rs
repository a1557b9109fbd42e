//! The soak in its short form: it runs to its end, and nothing is lost, doubled, reordered or untold.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

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

#[test]
fn half_a_minute_of_kills_leaves_everything_right() {
    let mut soak = Command::new(env!("CARGO_BIN_EXE_soak"));
    let ended = soak.arg(server()).arg("0.5").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    let failed = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}\n{failed}");
}
