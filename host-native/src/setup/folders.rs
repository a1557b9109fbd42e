//! The folders that this command made: a removal takes them away again where nothing else is in them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::client::config::ClientConfig;
use crate::client::folders::make_private;
use crate::config::ConfigError;

/// The folders, as they are written down.
pub(super) struct Folders {
    record: PathBuf,
    written: BTreeSet<PathBuf>,
    made: BTreeSet<PathBuf>,
}

impl Folders {
    /// # Errors
    /// [`ConfigError`] without a home, and for a record that cannot be read.
    pub(super) fn read() -> Result<Self, ConfigError> {
        let config = ClientConfig::path().ok_or_else(|| ConfigError("HOME must be set".into()))?;
        let record = config.with_file_name("folders");
        let text = match fs::read_to_string(&record) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(refusal(&record, &error)),
        };
        let written: BTreeSet<PathBuf> = text.lines().map(PathBuf::from).collect();
        Ok(Self {
            record,
            made: written.clone(),
            written,
        })
    }

    /// Notes folders that were made.
    pub(super) fn add(&mut self, made: impl IntoIterator<Item = PathBuf>) {
        self.made.extend(made);
    }

    /// Removes what is empty of them, the innermost first.
    pub(super) fn remove_empty(&mut self) {
        let innermost_first: Vec<PathBuf> = self.made.iter().rev().cloned().collect();
        for folder in innermost_first {
            match fs::remove_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {}
                _ => {
                    self.made.remove(&folder);
                }
            }
        }
    }

    /// Writes down which there are.
    ///
    /// # Errors
    /// [`ConfigError`] for a record that cannot be written.
    pub(super) fn write(&self) -> Result<(), ConfigError> {
        if self.made == self.written {
            return Ok(());
        }
        self.put().map_err(|error| refusal(&self.record, &error))
    }

    fn put(&self) -> io::Result<()> {
        if self.made.is_empty() {
            return fs::remove_file(&self.record);
        }
        let lines = self.made.iter().filter_map(|folder| folder.to_str());
        let text: String = lines.map(|folder| format!("{folder}\n")).collect();
        let folder = self.record.parent().unwrap_or(Path::new("/"));
        make_private(folder)?;
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(&self.record)?;
        Ok(())
    }
}

fn refusal(record: &Path, error: &io::Error) -> ConfigError {
    ConfigError(format!("{}: {error}", record.display()))
}
