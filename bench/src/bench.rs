//! What the cases share: programs, folders, a PostgreSQL cluster, and hosts that take long to start.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use anyhow::{Context, Result};
use kubeagents_contract::{COMPONENT_TARGET, build_component, succeed};
use kubeagents_test_postgres::{Cluster, Database};
use tempfile::TempDir;

use crate::hosts::{Host, Server};

/// What the cases share.
pub(crate) struct Bench {
    is_short: bool,
    is_built: bool,
    /// On the disk that the build is on; it may be no memory, whose flushes cost nothing.
    folder: TempDir,
    numbers: Cell<u32>,
    built: RefCell<HashSet<&'static str>>,
    // Before the cluster that they use.
    hosts: RefCell<HashMap<Host, Rc<Server>>>,
    cluster: OnceCell<Cluster>,
}

impl Bench {
    /// `is_built`: programs that are there are taken as they are.
    pub(crate) fn new(is_short: bool, is_built: bool) -> Result<Self> {
        let mut folder = tempfile::Builder::new();
        folder.prefix("bench-");
        Ok(Self {
            is_short,
            is_built,
            folder: folder.tempdir_in(profile()?)?,
            numbers: Cell::new(0),
            built: RefCell::default(),
            hosts: RefCell::default(),
            cluster: OnceCell::new(),
        })
    }

    pub(crate) fn is_short(&self) -> bool {
        self.is_short
    }

    /// How much of something there is to be: little, where it is only seen that a case works.
    pub(crate) fn amount(&self, full: usize, short: usize) -> usize {
        if self.is_short { short } else { full }
    }

    /// How many connections there are to be: few, where it is only seen that a case works.
    pub(crate) fn connections(&self, full: u32) -> u32 {
        if self.is_short { full.min(4) } else { full }
    }

    /// A number that was not given before.
    pub(crate) fn number(&self) -> u32 {
        self.numbers.replace(self.numbers.get() + 1)
    }

    /// A place for a new file or folder, on the disk.
    pub(crate) fn place(&self) -> PathBuf {
        self.folder.path().join(self.number().to_string())
    }

    /// A new, empty database on a cluster that flushes.
    pub(crate) fn database(&self) -> Database {
        let start = || Cluster::start(&[("max_connections", "400")]);
        self.cluster.get_or_init(start).database()
    }

    /// A host that all cases share, since it takes long to start.
    pub(crate) fn host(&self, host: Host) -> Result<Rc<Server>> {
        if let Some(server) = self.hosts.borrow().get(&host) {
            return Ok(server.clone());
        }
        let server = Rc::new(host.start(self)?);
        self.hosts.borrow_mut().insert(host, server.clone());
        Ok(server)
    }

    /// The server's program.
    pub(crate) fn server(&self) -> Result<PathBuf> {
        self.program("kubeagents", &["--package", "kubeagents"])
    }

    /// The program that runs components as Spin does.
    pub(crate) fn spin_host(&self) -> Result<PathBuf> {
        let package = ["--package", "kubeagents-spin-tests", "--example", "serve"];
        self.program("examples/serve", &package)
    }

    fn program(&self, name: &'static str, package: &[&str]) -> Result<PathBuf> {
        let program = profile()?.join(name);
        let is_there = self.is_built && program.exists();
        if !is_there && self.built.borrow_mut().insert(name) {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--quiet"]).args(package);
            if !cfg!(debug_assertions) {
                build.arg("--release");
            }
            succeed(build.current_dir(env!("CARGO_MANIFEST_DIR")));
        }
        Ok(program)
    }

    /// A component of this repository.
    pub(crate) fn component(&self, package: &'static str) -> Result<PathBuf> {
        let target = profile()?.parent().context("no target")?.to_owned();
        let name = package.replace('-', "_");
        let file = target.join(format!("{COMPONENT_TARGET}/component/{name}.wasm"));
        let is_there = self.is_built && file.exists();
        if !is_there && self.built.borrow_mut().insert(package) {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--quiet", "--package", package]);
            build.args(["--profile", "component", "--target", COMPONENT_TARGET]);
            build.arg("--target-dir").arg(&target);
            build_component(build.current_dir(env!("CARGO_MANIFEST_DIR")));
        }
        Ok(file)
    }
}

/// The folder that this program was built to, with the others beside it.
fn profile() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().map(Path::to_owned);
    folder.context("the program has no folder")
}
