//! One serving process a file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The right to serve a database file. It ends with this value, and with the process, however that
/// ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("another kubeagents server is using it ({0})")]
    InUse(String),
    #[error("{} cannot be locked", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

impl Lock {
    /// Locks a database by a file beside it. That file stays when the lock ends: if it were
    /// deleted, two processes could lock two files of that name.
    ///
    /// # Errors
    /// [`LockError`] when another process has the lock, or the file cannot be made.
    pub(super) fn take(database: &Path) -> Result<Self, LockError> {
        let mut name = database.as_os_str().to_owned();
        name.push("-lock");
        let path = PathBuf::from(name);
        let failed = |error| LockError::Io(path.clone(), error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // Whoever can open it can lock it, too.
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(failed)?;
                return Err(LockError::InUse(holder));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Only others' messages depend on it, and a full disk is told elsewhere.
        let holder = format!("process {}", std::process::id());
        if let Err(error) = file
            .set_len(0)
            .and_then(|()| file.write_all(holder.as_bytes()))
        {
            tracing::warn!(%error, path = %path.display(), "the lock does not say who has it");
        }
        Ok(Self { _file: file })
    }
}
