//! The page in a browser.
//!
//! The scenarios in `tests/web/` are played in Debian's Chromium, which is installed when it is missing;
//! their packages and Node.js are installed from npm and PyPI in the versions that are pinned there, below
//! `target/`, once. Pictures of the views go to `target/screenshots/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use kubeagents_test_postgres::found_or_installed;

use crate::tools::{Packages, succeed};

const CHROMIUM: &str = "/usr/bin/chromium";

/// Plays every scenario with servers that the binary at `kubeagents` is started as.
///
/// # Panics
/// When something cannot be installed, or a scenario fails: with all that it says.
pub fn play(kubeagents: &Path) {
    run("PAGE_SERVER", kubeagents.as_os_str().to_owned());
}

/// Plays what needs no other state with the server at `base_url`, which is in open mode.
///
/// # Panics
/// As [`play`] does.
pub fn play_at(base_url: &str) {
    run("PAGE_URL", base_url.into());
}

/// Checks the types of the page's modules, and those that need no browser by their tests.
///
/// # Panics
/// As [`play`] does.
pub fn check_modules() {
    let packages = Packages::install(&sources(), "web");
    for project in ["tsconfig.json", "tsconfig.worker.json"] {
        let compiler = packages.folder().join("node_modules/typescript/bin/tsc");
        succeed(
            Command::new(packages.program("node"))
                .arg(compiler)
                .arg("--project")
                .arg(sources().join(project)),
        );
    }
    succeed(
        Command::new(packages.program("node"))
            .arg("--test")
            .arg(sources().join("modules/*.test.mjs")),
    );
}

fn run(variable: &str, value: std::ffi::OsString) {
    let find = || Path::new(CHROMIUM).exists().then_some(CHROMIUM);
    let script = "apt-get update && \
        apt-get install -y --no-install-recommends chromium fonts-noto-cjk";
    let chromium = found_or_installed("chromium", find, script);
    let packages = Packages::install(&sources(), "web");
    let output = succeed(
        Command::new(packages.program("node"))
            .arg(sources().join("run.mjs"))
            .current_dir(packages.folder())
            .env("PAGE_CHROMIUM", chromium)
            .env(variable, value),
    );
    println!("{output}");
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("web")
}
