//! Builds the application from this repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use kubeagents_contract::{COMPONENT_TARGET, build_component};

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
    /// When the manifest or the component is not as it must be.
    ///
    /// # Panics
    /// When a tool is missing, or the build fails.
    pub fn new() -> Result<Self> {
        let (root, manifest) = manifest()?;
        let component = manifest.component()?;
        let mut build = Command::new("sh");
        // The manifest says where the result is, and that is where it must go.
        build
            .args(["-c", &component.build.command])
            .env("CARGO_TARGET_DIR", root.join("target"));
        build_component(build.current_dir(&root));
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
/// When the component is not as it must be.
///
/// # Panics
/// When a tool is missing, or the build fails.
pub fn store_suite() -> Result<Compiled> {
    let (root, _) = manifest()?;
    let mut build = Command::new("cargo");
    build
        .args([
            "build",
            "-p",
            "kubeagents-spin",
            "--features",
            "store-suite",
        ])
        .args(["--target", COMPONENT_TARGET])
        .env("CARGO_TARGET_DIR", root.join("target"));
    build_component(build.current_dir(&root));
    let file = format!("target/{COMPONENT_TARGET}/debug/kubeagents_spin.wasm");
    Compiled::new(&root.join(file))
}

/// The repository's root, and the manifest there.
///
/// # Errors
/// When it is not as it must be.
pub fn manifest() -> Result<(PathBuf, Manifest)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?;
    let text = std::fs::read_to_string(root.join("spin.toml"))?;
    Ok((root, Manifest::parse(&text)?))
}
