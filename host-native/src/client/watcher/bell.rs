//! How the watcher is woken, and how there is only one.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::time::sleep;

use crate::client::folders;

/// How often the spool is looked into where nobody can ring.
const WITHOUT: Duration = Duration::from_secs(1);

/// The longest note.
const MAX_NOTE: usize = 16 << 10;

/// The socket that hooks write to.
pub(super) struct Bell {
    socket: Option<UnixDatagram>,
    path: PathBuf,
}

impl Bell {
    /// A bell in this place. Where that is not possible, as by a path that is too long, it rings by
    /// itself now and then.
    pub(super) fn hang(path: &Path) -> Self {
        let bind = || {
            folders::make_private(path.parent().unwrap_or(Path::new("/")))?;
            // One that nobody answers is left from a watcher that was killed.
            let removed = fs::remove_file(path);
            if let Err(error) = removed
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
            UnixDatagram::bind(path)
        };
        Self {
            socket: bind().ok(),
            path: path.to_owned(),
        }
    }

    /// What is written to it, as soon as something is.
    pub(super) async fn rung(&self) -> Vec<u8> {
        let mut note = vec![0; MAX_NOTE];
        let received = match &self.socket {
            Some(socket) => socket.recv(&mut note).await.ok(),
            None => None,
        };
        if received.is_none() {
            sleep(WITHOUT).await;
        }
        note.truncate(received.unwrap_or_default());
        note
    }

    /// Takes it down, and gives up the lock, in this order.
    pub(super) fn take_down(&mut self) {
        if self.socket.take().is_some() {
            // A bell that nobody answers is as good as none.
            let _ = fs::remove_file(&self.path);
        }
        // Where it is kept, the lock ends with this process.
        let _ = lock_file().and_then(|lock| lock.unlock());
    }

    /// Takes the lock again; `false` when another watcher has it.
    pub(super) fn lock_again() -> bool {
        lock_file().is_ok_and(|lock| lock.try_lock().is_ok())
    }
}

/// The lock, which whoever started this process has handed over.
fn lock_file() -> io::Result<File> {
    let input = io::stdin();
    Ok(File::from(input.as_fd().try_clone_to_owned()?))
}

/// Checks whether the lock was handed over: nobody is to start this process by hand.
pub(super) fn is_locked_by_input(lock: &Path) -> bool {
    let inputs = || Some((lock_file().ok()?.metadata().ok()?, fs::metadata(lock).ok()?));
    inputs().is_some_and(|(input, lock)| (input.dev(), input.ino()) == (lock.dev(), lock.ino()))
}
