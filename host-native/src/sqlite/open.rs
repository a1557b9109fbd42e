//! Getting from a file name to a database that is ready.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kubeagents_core::{Store, StoreError};
use kubeagents_store_sqlite::schema::{self, SchemaError};
use kubeagents_store_sqlite::{Connections, SqliteStore};
use rusqlite::{ErrorCode, OpenFlags};
use rustix::process::geteuid;

use super::NativeStore;
use super::lock::{Lock, LockError};
use super::place::Place;
use super::pool::{Failure, Pool, connect};

/// How many single rows are read at once.
const LOOKUPS: usize = 2;

/// How many lists are read at once.
const LISTS: usize = 4;

/// Why a database file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("DATABASE_URL: {} cannot be used", .file.display())]
pub(crate) struct OpenError {
    file: PathBuf,
    #[source]
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error("its directory cannot be entered")]
    Directory(#[source] io::Error),
    #[error("it cannot be opened")]
    Find(#[source] io::Error),
    #[error("it cannot be created")]
    Create(#[source] io::Error),
    #[error("it cannot be written to")]
    ReadOnly,
    #[error("it has more than one hard link, so that another server could use it by another name")]
    Linked,
    #[error("it is a database of another program")]
    Foreign,
    #[error("it holds nothing yet")]
    Nothing,
    #[error("the server that is using it is of another version, or just starting")]
    OtherVersion,
    #[error("it belongs to another user: run this as that user, as whom the server runs")]
    OtherUser,
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Sqlite(#[from] Failure),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    pub(super) fn new(file: &Path, cause: impl Into<Cause>) -> Self {
        Self {
            file: file.to_owned(),
            cause: cause.into(),
        }
    }

    /// Checks whether waiting would not help: the configuration names the wrong file.
    pub(crate) fn is_configuration(&self) -> bool {
        let code = match &self.cause {
            Cause::Directory(_)
            | Cause::Create(_)
            | Cause::Find(_)
            | Cause::ReadOnly
            | Cause::Linked
            | Cause::Foreign
            | Cause::Nothing
            | Cause::OtherUser => return true,
            Cause::Lock(LockError::Io(_, error)) => {
                use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
                return matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem);
            }
            Cause::Sqlite(error) => error.code(),
            Cause::Schema(SchemaError::Store(StoreError::Unavailable(cause)))
            | Cause::Store(StoreError::Unavailable(cause)) => {
                cause.downcast_ref().and_then(Failure::code)
            }
            _ => return false,
        };
        use ErrorCode::{CannotOpen, NotADatabase, ReadOnly};
        matches!(code, Some(NotADatabase | ReadOnly | CannotOpen))
    }
}

/// Locks, opens and, if need be, creates a database, and brings its schema up to date. Other servers
/// are kept off for as long as the store is there.
///
/// # Errors
/// [`OpenError`]; nothing of the file's contents is lost.
pub(crate) async fn open(file: &Path) -> Result<NativeStore, OpenError> {
    try_open(file, Company::Refused)
        .await
        .map_err(|cause| OpenError::new(file, cause))
}

/// The same for a command that changes a few rows: it may do so beside a server.
///
/// # Errors
/// [`OpenError`].
pub(crate) async fn open_beside(file: &Path) -> Result<NativeStore, OpenError> {
    let opening = async {
        check_user(file)?;
        try_open(file, Company::Allowed).await
    };
    opening.await.map_err(|cause| OpenError::new(file, cause))
}

/// Refuses root where the file is another user's, or is to be in that user's directory: the server could
/// not use what root makes there.
fn check_user(file: &Path) -> Result<(), Cause> {
    let owner = fs::metadata(file).or_else(|_| fs::metadata(directory(file)));
    let is_anothers = owner.is_ok_and(|owner| owner.uid() != 0);
    match geteuid().is_root() && is_anothers {
        true => Err(Cause::OtherUser),
        false => Ok(()),
    }
}

/// The directory that a file is in.
fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// Whether a server may be using a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Company {
    Refused,
    /// If it has the schema of this program.
    Allowed,
}

async fn try_open(file: &Path, company: Company) -> Result<NativeStore, Cause> {
    let file = create(file)?;
    if fs::metadata(&file).map_err(Cause::Find)?.nlink() > 1 {
        return Err(Cause::Linked);
    }
    let lock = match Lock::take(&file) {
        Err(LockError::InUse(_)) if company == Company::Allowed => None,
        lock => Some(lock?),
    };
    let writer = connect(&file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    if writer.is_readonly("main").map_err(Failure::from)? {
        return Err(Cause::ReadOnly);
    }
    if contents(&writer)? == Contents::Foreign {
        return Err(Cause::Foreign);
    }
    let place = Arc::new(Place::of(&file));
    if lock.is_none() && usize::try_from(version(&writer)?) != Ok(schema::VERSION) {
        return Err(Cause::OtherVersion);
    }
    let writer = Pool::new(vec![writer], place.clone());
    schema::prepare(&writer).await?;
    let writer = match (lock, company) {
        (Some(lock), Company::Refused) => writer.under(lock),
        // A server may start meanwhile.
        _ => writer,
    };
    let readers = |count| {
        let reader = |_| connect(&file, OpenFlags::SQLITE_OPEN_READ_ONLY);
        (0..count)
            .map(reader)
            .collect::<Result<_, _>>()
            .map(|connections| Pool::new(connections, place.clone()))
    };
    let store = SqliteStore::new(Connections {
        writer,
        lookups: readers(LOOKUPS)?,
        lists: readers(LISTS)?,
    });
    store.ping().await?;
    store.release_notifications().await?;
    Ok(store)
}

/// The file's one name; an empty file if there is none, for nobody else to read.
fn create(file: &Path) -> Result<PathBuf, Cause> {
    fs::metadata(directory(file)).map_err(Cause::Directory)?;
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    match created {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Cause::Create(error)),
        _ => existing(file),
    }
}

/// The one name of a file that exists.
pub(super) fn existing(file: &Path) -> Result<PathBuf, Cause> {
    let file = fs::canonicalize(file).map_err(Cause::Find)?;
    let kind = fs::metadata(&file).map_err(Cause::Find)?.file_type();
    if kind.is_dir() {
        return Err(Cause::Find(io::ErrorKind::IsADirectory.into()));
    }
    if !kind.is_file() {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
        return Err(Cause::Find(error));
    }
    Ok(file)
}

/// The owner of a database file's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    /// Nobody: it is empty.
    Nothing,
    /// A kubeagents server, of this version or another.
    Ours,
    /// Another program.
    Foreign,
}

/// Reads whose a database is, without changing it.
pub(super) fn contents(connection: &rusqlite::Connection) -> Result<Contents, Failure> {
    let version = version(connection)?;
    let count = "SELECT count(*), count(*) FILTER (WHERE name = 'statuses') FROM sqlite_schema";
    let (all, ours): (i64, i64) =
        connection.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let is_newer = usize::try_from(version).is_ok_and(|version| version > schema::VERSION);
    Ok(match (version, all, ours) {
        (0, 0, _) => Contents::Nothing,
        (1.., _, 1..) => Contents::Ours,
        // What a newer schema looks like is not known here.
        _ if is_newer => Contents::Ours,
        _ => Contents::Foreign,
    })
}

/// The version of a database's schema.
fn version(connection: &rusqlite::Connection) -> Result<i64, Failure> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}
