//! Secrets in files, as Docker and Kubernetes mount them: `JWT_SECRET_FILE` names the file that holds
//! `JWT_SECRET`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use kubeagents_core::settings::{Host, Setting, SettingError, Texts};
use rustix::fs::OFlags;

use crate::config::ConfigError;

/// The most that such a file may hold, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// The variable that names the file of a setting; `None` for a setting that is no secret.
pub(crate) fn variable(setting: &Setting) -> Option<String> {
    let has_file = setting.secret && setting.is_on(Host::Native);
    has_file.then(|| format!("{}_FILE", setting.variable))
}

/// The settings that were read from files, with the variables that name these.
#[derive(Default)]
pub(crate) struct Files(BTreeMap<&'static str, String>);

impl Files {
    /// Adds the secrets whose files are named. `named` has the value of a variable.
    ///
    /// # Errors
    /// [`ConfigError`] for a secret that is given twice, and for a file that cannot be used.
    pub(crate) fn read(
        texts: &mut Texts,
        settings: impl IntoIterator<Item = &'static Setting>,
        named: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let mut files = Self::default();
        for setting in settings {
            let Some(variable) = variable(setting) else {
                continue;
            };
            let Some(path) = named(&variable).filter(|path| !path.is_empty()) else {
                continue;
            };
            let given = texts.get(setting.variable);
            if given.is_some_and(|text| !text.is_empty()) {
                let name = setting.variable;
                let problem = format!("{name} and {variable} are both set: unset one of them");
                return Err(ConfigError(problem));
            }
            texts.insert(setting.variable, read(&variable, Path::new(&path))?);
            files.0.insert(setting.variable, variable);
        }
        Ok(files)
    }

    /// The refusal of a setting, with the variable that names its file.
    pub(crate) fn explain(&self, error: &SettingError) -> ConfigError {
        ConfigError(match self.0.get(error.name()) {
            Some(variable) => format!("{error} (from the file of {variable})"),
            None => error.to_string(),
        })
    }
}

/// The secret in a file, without the newline that ends it.
fn read(variable: &str, path: &Path) -> Result<String, ConfigError> {
    let refuse = |problem: &dyn std::fmt::Display| {
        ConfigError(format!("{variable}: {}: {problem}", path.display()))
    };
    let bytes = bytes(path).map_err(|error| refuse(&error))?;
    let bytes = bytes.ok_or_else(|| refuse(&"is not a regular file"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(refuse(&format!("is larger than {} KiB", MAX_BYTES >> 10)));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| refuse(&"is not UTF-8"))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    match text.is_empty() {
        true => Err(refuse(&"is empty")),
        false => Ok(text),
    }
}

/// What a regular file holds, or a little more than is allowed of it; `None` for what is none.
fn bytes(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = OpenOptions::new()
        .read(true)
        // Opening a pipe would wait for its writer.
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn one_newline_at_the_end_is_no_part_of_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (content, secret) in [
            ("secret", "secret"),
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            ("secret\n\n", "secret\n"),
            (" secret ", " secret "),
            ("\nsecret", "\nsecret"),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(read("X_FILE", &path).unwrap(), secret, "{content:?}");
        }
        let longest = "x".repeat(MAX_BYTES as usize);
        fs::write(&path, &longest).unwrap();
        assert_eq!(read("X_FILE", &path).unwrap(), longest);
    }
}
