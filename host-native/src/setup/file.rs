//! The files of agents' configurations: read whole, compared, and put in place at once.

use std::error::Error;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use similar::TextDiff;
use tempfile::NamedTempFile;

use super::Wish;

/// The most bytes of a file that is changed.
const MAX_BYTES: u64 = 64 << 20;

/// What some editors begin a text with. It stays.
pub(super) const BOM: char = '\u{feff}';

/// What the name of a copy of a file as it was ends in.
const BACKUP: &str = ".before-kubeagents";

/// Reason why a file is left as it is.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub(crate) struct Refusal {
    path: PathBuf,
    problem: String,
}

impl Refusal {
    pub(super) fn new(path: &Path, problem: impl ToString) -> Self {
        Self {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }
}

/// A file, as it is and as it is to be. `None`: there is no file.
pub(super) struct Change {
    pub(super) path: PathBuf,
    before: Option<String>,
    after: Option<String>,
    /// Whether what was there first is kept beside it.
    keeps_backup: bool,
    /// Whether what is there now is what was there first.
    is_first: bool,
}

/// How a file's text is changed for a wish; the error is what is wrong with the text.
pub(super) type Edit<'a> = &'a dyn Fn(&str, Wish) -> Result<String, String>;

impl Change {
    /// The change that an edit makes to the file at `path`. A file that is missing has the text `blank`, and a file
    /// that holds no more than that after a removal goes, unless it was there before.
    ///
    /// # Errors
    /// [`Refusal`] for a file that cannot be read or understood.
    pub(super) fn plan(
        path: PathBuf,
        blank: &str,
        wish: Wish,
        keeps_backup: bool,
        edit: Edit<'_>,
    ) -> Result<Self, Refusal> {
        let before = read(&path)?;
        let edit: Edit<'_> = &|text, wish| match text.strip_prefix(BOM) {
            Some(rest) => Ok(format!("{BOM}{}", edit(rest, wish)?)),
            None => edit(text, wish),
        };
        let refuse = |problem| Refusal::new(&path, problem);
        let after = match (&before, wish) {
            (None, Wish::Remove) => None,
            (None, Wish::Install) => {
                Some(edit(blank, wish).map_err(refuse)?).filter(|text| text != blank)
            }
            (Some(text), Wish::Install) => Some(edit(text, wish).map_err(refuse)?),
            (Some(text), Wish::Remove) => {
                let left = edit(text, wish).map_err(refuse)?;
                let first = read(&backup(&path))?.filter(|_| keeps_backup);
                match first {
                    // Nobody has changed it since: every byte is as it was.
                    Some(first) if edit(&first, Wish::Install).is_ok_and(|made| made == *text) => {
                        Some(first)
                    }
                    None if left != *text && left.trim() == blank.trim() => None,
                    _ => Some(left),
                }
            }
        };
        let is_first = wish == Wish::Install
            && before.as_ref().is_some_and(|text| {
                edit(text, Wish::Remove).is_ok_and(|without_ours| without_ours == *text)
            });
        Ok(Self {
            path,
            before,
            after,
            keeps_backup,
            is_first,
        })
    }

    /// Checks whether the file is to become another.
    pub(super) fn is_one(&self) -> bool {
        self.before != self.after
    }

    /// The difference between the file as it is and as it is to be.
    pub(super) fn diff(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (before, after) = (text(&self.before), text(&self.after));
        let name = |text: &Option<String>| match text {
            Some(_) => self.path.display().to_string(),
            None => "/dev/null".to_owned(),
        };
        TextDiff::from_lines(&before, &after)
            .unified_diff()
            .header(&name(&self.before), &name(&self.after))
            .to_string()
    }

    /// Checks whether there is nothing of others in the file.
    pub(super) fn is_ours_alone(&self) -> bool {
        self.before.is_some() && self.after.is_none()
    }

    /// The text of the file as it is.
    pub(super) fn text(&self) -> &str {
        self.before.as_deref().unwrap_or_default()
    }

    /// Checks that the file may be changed. Putting another in its place would pass over that it may not be
    /// written.
    ///
    /// # Errors
    /// [`Refusal`] for a file, or a folder for it, that this user may not write.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let refuse = |what: &str, error: rustix::io::Errno| {
            Refusal::new(&self.path, format!("{what} may not be written: {error}"))
        };
        let target = target(&self.path);
        if self.before.is_some() {
            access(&target, Access::WRITE_OK).map_err(|error| refuse("it", error))?;
        }
        let mut folders = target.ancestors().skip(1);
        match folders.find(|folder| folder.exists()) {
            Some(folder) => access(folder, Access::WRITE_OK | Access::EXEC_OK)
                .map_err(|error| refuse("its folder", error)),
            None => Ok(()),
        }
    }

    /// Makes the change, and says what was done and which folders were made for it.
    ///
    /// # Errors
    /// [`Refusal`] for a file that has changed meanwhile or cannot be written.
    pub(super) fn make(&self) -> Result<(String, Vec<PathBuf>), Refusal> {
        let refuse = |error: io::Error| Refusal::new(&self.path, reason(&error));
        if read(&self.path)? != self.before {
            return Err(Refusal::new(
                &self.path,
                "has changed meanwhile: run this again",
            ));
        }
        let shown = self.path.display();
        let backup = backup(&self.path);
        let Some(after) = &self.after else {
            // A link that leads there stays, as it was there first.
            fs::remove_file(target(&self.path)).map_err(refuse)?;
            return Ok((format!("removed {shown}"), Vec::new()));
        };
        let mut done = match self.before {
            Some(_) => format!("changed {shown}"),
            None => format!("wrote {shown}"),
        };
        let mut is_kept = false;
        if let (true, Some(before)) = (self.keeps_backup && self.is_first, &self.before)
            && read(&backup)?.is_none()
        {
            // By the same way, so that it is as private as the file itself.
            put(&backup, before, Some(&self.path)).map_err(refuse)?;
            done += &format!(", which is kept as {}", backup.display());
            is_kept = true;
        }
        let made = put(&self.path, after, None).map_err(|error| {
            if is_kept {
                // It is a copy of nothing but what is there.
                let _ = fs::remove_file(&backup);
            }
            refuse(error)
        })?;
        Ok((done, made))
    }

    /// Removes the copy of the file as it was, when the file is just that again.
    ///
    /// # Errors
    /// [`Refusal`] when it cannot be removed.
    pub(super) fn drop_backup(&self) -> Result<(), Refusal> {
        let backup = backup(&self.path);
        if self.keeps_backup && self.after.is_some() && read(&backup)? == self.after {
            fs::remove_file(&backup).map_err(|error| Refusal::new(&backup, error))?;
        }
        Ok(())
    }
}

/// Why a file could not be put in place, without the name that it had until then.
fn reason(error: &io::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

/// A file's text; `None` where there is none.
///
/// # Errors
/// [`Refusal`] for a file that cannot be read or is no text.
pub(super) fn read(path: &Path) -> Result<Option<String>, Refusal> {
    match fs::metadata(path) {
        // Opening a pipe would wait.
        Ok(file) if !file.is_file() => return Err(Refusal::new(path, "is no file")),
        Ok(file) if file.len() > MAX_BYTES => {
            return Err(Refusal::new(path, "is larger than 64 MiB"));
        }
        _ => {}
    }
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Refusal::new(path, "is not UTF-8"))
        }
        Err(error) => Err(Refusal::new(path, error)),
    }
}

fn backup(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(BACKUP);
    path.with_file_name(name)
}

/// Puts a file in place at once, with the mode and the owner that it has, or that `like` has; the folders
/// that were made for it.
fn put(path: &Path, text: &str, like: Option<&Path>) -> io::Result<Vec<PathBuf>> {
    let target = target(path);
    let folder = target.parent().unwrap_or(Path::new("/"));
    let missing = folder.ancestors().take_while(|folder| !folder.exists());
    let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    if let Ok(old) = fs::metadata(like.unwrap_or(&target)) {
        let mode = fs::Permissions::from_mode(old.mode() & 0o7777);
        // Only an administrator can give a file away; for everyone else it is theirs already.
        let _ = fchown(file.as_file(), Some(old.uid()), Some(old.gid()));
        file.as_file().set_permissions(mode)?;
    } else {
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    file.as_file().sync_all()?;
    file.persist(&target)?;
    Ok(missing)
}

/// The file that a path leads to, through links, whether there is one or not.
fn target(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    // As many as a Unix system follows.
    for _ in 0..40 {
        let Ok(next) = fs::read_link(&target) else {
            break;
        };
        target = match target.parent() {
            Some(folder) => folder.join(next),
            None => next,
        };
    }
    target
}
