//! The agents' own tools, put to what is published for them.
//!
//! Their packages are installed from PyPI and npm in the versions that are pinned in `tests/agents/`,
//! below `target/`, once.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::tools::{Packages, succeed};

/// Puts the plugin for Claude Code, the bundle's manifest and the registry's entry in the root of this
/// repository to the tools that read them, without an account. `home` is a folder for what they write.
///
/// # Panics
/// When a tool cannot be installed, or refuses something: with all that it says.
pub fn check_published(root: &Path, home: &Path) {
    let packages = packages();
    let node = |script: &str| node(&packages, script, home);
    for folder in [root.to_owned(), root.join("plugins/kubeagents")] {
        succeed(
            node(CLAUDE_CODE)
                .args(["plugin", "validate", "--strict"])
                .arg(folder),
        );
    }
    succeed(
        node("mcpb/dist/cli/cli.js")
            .arg("validate")
            .arg(root.join("packaging/mcpb/manifest.json")),
    );
    let entry = home.join("registry");
    fs::create_dir_all(&entry).unwrap();
    fs::copy(root.join("server.json"), entry.join("server.json")).unwrap();
    lint(&packages, &entry, home);
}

/// Claude Code itself, in this home.
///
/// # Panics
/// When it cannot be installed.
pub fn claude_code(home: &Path) -> Command {
    node(&packages(), CLAUDE_CODE, home)
}

/// Checks the hooks that stand in a repository's own files, of the agents whose rules the linter knows.
///
/// # Panics
/// As [`check_published`] does.
pub fn check_project(project: &Path, home: &Path) {
    lint(&packages(), project, home);
}

const CLAUDE_CODE: &str = "claude-code/cli-wrapper.cjs";

/// A script of Anthropic's packages.
fn node(packages: &Packages, script: &str, home: &Path) -> Command {
    let modules = packages.folder().join("node_modules/@anthropic-ai");
    let mut command = Command::new(packages.program("node"));
    command.arg(modules.join(script)).env("HOME", home);
    command
}

fn packages() -> Packages {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("agents");
    Packages::install(&sources, "agents")
}

fn lint(packages: &Packages, folder: &Path, home: &Path) {
    succeed(
        Command::new(packages.program("skillsaw"))
            .args(["lint", "--strict", "--no-plugins", "--no-progress"])
            .arg(folder)
            .env("HOME", home),
    );
}
