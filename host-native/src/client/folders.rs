//! The folders of one user, by the XDG Base Directory Specification.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use kubeagents_core::sha256_hex;

/// Ours in each of them.
const NAME: &str = "kubeagents";

/// Where settings are kept; `None` without a home.
pub(super) fn config() -> Option<PathBuf> {
    base("XDG_CONFIG_HOME", ".config")
}

/// Where state is kept; `None` without a home. Machines and containers that share a home have each their
/// own, since they do not see each other's processes.
pub(crate) fn state() -> Option<PathBuf> {
    Some(own(base("XDG_STATE_HOME", ".local/state")?, None))
}

/// Where sockets are kept; `None` where there is no folder that is private for sure. Whoever listens there
/// reads the state folder, so each state folder has its own.
pub(super) fn runtime() -> Option<PathBuf> {
    let base = absolute("XDG_RUNTIME_DIR")?;
    let metadata = fs::metadata(&base).ok()?;
    let is_private = metadata.is_dir()
        && metadata.uid() == rustix::process::getuid().as_raw()
        && metadata.mode() & 0o077 == 0;
    is_private.then(|| own(base.join(NAME), state()))
}

/// The part of a folder that is of this machine, or of this container, and of the other folder.
fn own(folder: PathBuf, other: Option<PathBuf>) -> PathBuf {
    let machine = fs::read("/etc/machine-id").unwrap_or_default();
    let processes = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let other = other.unwrap_or_default().into_os_string();
    let processes = processes.as_os_str().as_encoded_bytes();
    let name = [&machine, processes, other.as_encoded_bytes()].concat();
    match name.is_empty() {
        true => folder,
        false => folder.join(&sha256_hex(name)[..12]),
    }
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

/// Checks whether this is the administrator in a folder that is another user's, as by `sudo`: what is made
/// there would be out of its owner's hands.
pub(crate) fn is_foreign(folder: &Path) -> bool {
    let is_anothers = || fs::metadata(folder).is_ok_and(|folder| folder.uid() != 0);
    rustix::process::geteuid().is_root() && is_anothers()
}

/// Makes a folder of this user's own, where it is missing.
///
/// # Errors
/// Those of the file system; `PermissionDenied` where a link or another user's folder stands there, and for
/// the administrator below another user's folder.
pub(super) fn make_own(folder: &Path) -> io::Result<()> {
    let refusal = |problem| Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    let user = rustix::process::geteuid();
    match fs::symlink_metadata(folder) {
        Ok(there) if there.is_dir() && there.uid() == user.as_raw() => return Ok(()),
        Ok(_) => return refusal("it is a link, or another user's"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut above = folder.ancestors().skip(1);
    if above.find(|folder| folder.exists()).is_some_and(is_foreign) {
        return refusal("it is below another user's folder");
    }
    make_private(folder)
}

/// Makes a folder that only this user may look into, where it is missing.
///
/// # Errors
/// Those of the file system.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
