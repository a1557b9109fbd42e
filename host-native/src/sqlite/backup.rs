//! Copying a database, also while a server uses it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::open::{Cause, Contents, OpenError, contents, existing};
use super::pool::{Failure, connect};

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{} exists: a backup overwrites nothing", .0.display())]
    Exists(PathBuf),
    #[error("{} cannot be written", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("the database cannot be copied to {}", .0.display())]
    Copy(PathBuf, #[source] Failure),
}

/// Copies a database as it is at one instant to a new file, which is there whole or not at all.
///
/// # Errors
/// [`BackupError`]; there is no new file then.
pub(crate) fn backup(database: &Path, copy: &Path) -> Result<(), BackupError> {
    let written = |error| BackupError::Write(copy.to_owned(), error);
    if copy.try_exists().map_err(written)? {
        return Err(BackupError::Exists(copy.to_owned()));
    }
    let connection = open(database).map_err(|error| OpenError::new(database, error))?;
    let directory = match copy.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let partial = tempfile::Builder::new()
        .prefix(".kubeagents-backup-")
        .tempfile_in(directory)
        .map_err(written)?;
    let name = partial.path().to_str();
    let name = name.ok_or_else(|| written(io::ErrorKind::InvalidFilename.into()))?;
    connection
        .execute("VACUUM INTO ?1", [name])
        .map_err(|error| BackupError::Copy(copy.to_owned(), error.into()))?;
    partial.as_file().sync_all().map_err(written)?;
    match partial.persist_noclobber(copy) {
        Ok(_) => File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(written),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(BackupError::Exists(copy.to_owned()))
        }
        Err(error) => Err(written(error.error)),
    }
}

fn open(database: &Path) -> Result<Connection, Cause> {
    let file = existing(database)?;
    let connection = connect(&file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    match contents(&connection)? {
        Contents::Ours => Ok(connection),
        Contents::Nothing => Err(Cause::Nothing),
        Contents::Foreign => Err(Cause::Foreign),
    }
}
