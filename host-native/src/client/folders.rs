//! The folders of one user, by the XDG Base Directory Specification.

use std::env;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Ours in each of them.
const NAME: &str = "kubeagents";

/// Where settings are kept; `None` without a home.
pub(super) fn config() -> Option<PathBuf> {
    base("XDG_CONFIG_HOME", ".config")
}

fn base(variable: &str, below_home: &str) -> Option<PathBuf> {
    let path = absolute(variable).or_else(|| Some(absolute("HOME")?.join(below_home)))?;
    Some(path.join(NAME))
}

/// The path that a variable holds. One that depends on the working folder is none.
fn absolute(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable)?);
    path.is_absolute().then_some(path)
}

/// Makes a folder that only this user may look into, where it is missing.
///
/// # Errors
/// Those of the file system.
pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
