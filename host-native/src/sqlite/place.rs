//! Noticing that a database's files are no longer where they were.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The place of an open database, and the files that were found there. What is written to a file
/// that has lost its name is gone when the process ends.
#[derive(Debug)]
pub(super) struct Place {
    files: [File; 2],
}

/// A file by its name.
#[derive(Debug)]
struct File {
    path: PathBuf,
    /// Device and inode, as soon as there is one.
    identity: OnceLock<(u64, u64)>,
}

/// A file is gone.
#[derive(Debug, thiserror::Error)]
#[error("{} was deleted, moved or replaced: put it back and start the server anew", .0.display())]
pub(super) struct Gone(PathBuf);

impl Place {
    /// The place of a database.
    pub(super) fn of(database: &Path) -> Self {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        Self {
            files: [database.to_owned(), log.into()].map(|path| File {
                path,
                identity: OnceLock::new(),
            }),
        }
    }

    /// Checks that the files are those that were found there first.
    ///
    /// # Errors
    /// [`Gone`] for one that is not.
    pub(super) fn check(&self) -> Result<(), Gone> {
        let mut files = self.files.iter();
        match files.find(|file| !file.is_there()) {
            Some(file) => Err(Gone(file.path.clone())),
            None => Ok(()),
        }
    }
}

impl File {
    fn is_there(&self) -> bool {
        match std::fs::metadata(&self.path) {
            Ok(found) => {
                let found = (found.dev(), found.ino());
                *self.identity.get_or_init(|| found) == found
            }
            // SQLite makes the second file when it needs it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.identity.get().is_none(),
            // Whatever that is, the open file is not touched by it.
            Err(_) => true,
        }
    }
}
