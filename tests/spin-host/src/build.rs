//! Builds the application from this repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{Compiled, Manifest};

/// The application as the repository has it, built as `spin build` would.
#[derive(Clone)]
pub struct Built {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its component.
    pub compiled: Compiled,
    /// The component's file.
    pub file: PathBuf,
}

impl Built {
    /// Builds the component by the manifest's own command, which is quick when nothing changed, and
    /// compiles it to machine code.
    ///
    /// # Errors
    /// When a tool is missing, or the build fails.
    pub fn new() -> Result<Self> {
        let (root, manifest) = manifest()?;
        let component = manifest.component()?;
        install_target()?;
        let mut build = Command::new("sh");
        // The manifest says where the result is, and that is where it must go.
        build
            .args(["-c", &component.build.command])
            .env("CARGO_TARGET_DIR", root.join("target"));
        run(build.current_dir(&root))?;
        let file = root.join(&component.source);
        let compiled = Compiled::new(&file)?;
        Ok(Self {
            manifest,
            compiled,
            file,
        })
    }
}

/// Builds the component of the shared store suite, unoptimised, and compiles it to machine code.
///
/// # Errors
/// When a tool is missing, or the build fails.
pub fn store_suite() -> Result<Compiled> {
    let (root, _) = manifest()?;
    install_target()?;
    let mut build = Command::new("cargo");
    build
        .args([
            "build",
            "-p",
            "kubeagents-spin",
            "--features",
            "store-suite",
        ])
        .args(["--target", TARGET])
        .env("CARGO_TARGET_DIR", root.join("target"));
    run(build.current_dir(&root))?;
    let file = format!("target/{TARGET}/debug/kubeagents_spin.wasm");
    Compiled::new(&root.join(file))
}

/// The repository's root, and the manifest there.
fn manifest() -> Result<(PathBuf, Manifest)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?;
    let text = std::fs::read_to_string(root.join("spin.toml"))?;
    Ok((root, Manifest::parse(&text)?))
}

const TARGET: &str = "wasm32-wasip2";

fn install_target() -> Result<()> {
    let mut query = Command::new("rustc");
    let libraries = query
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()?
        .stdout;
    if Path::new(String::from_utf8(libraries)?.trim()).exists() {
        return Ok(());
    }
    run(Command::new("rustup").args(["target", "add", TARGET]))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{command:?} cannot be run"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}
