//! Where configurations are, and how they name this program.

use std::env;
use std::path::{Path, PathBuf};

use crate::config::ConfigError;

/// This program's name, as it is found by a shell.
const NAME: &str = "kubeagents";

/// The folder of an agent.
pub(crate) struct Folder {
    /// Its path below the home, and below a repository.
    pub(super) name: &'static str,
    pub(super) moved: Moved,
}

/// What moves the user's folder of an agent. A relative path moves it to another place for every working
/// folder, so it does not count.
pub(crate) enum Moved {
    Never,
    /// This variable names the folder.
    Itself(&'static str),
    /// This variable names what stands for the home.
    WithHome(&'static str),
    /// `XDG_CONFIG_HOME` stands for `.config`.
    WithConfiguration,
}

impl Folder {
    pub(super) const fn new(name: &'static str, moved: Moved) -> Self {
        Self { name, moved }
    }
}

/// The absolute path that a variable holds.
pub(super) fn moved(variable: &str) -> Option<PathBuf> {
    let moved = PathBuf::from(env::var_os(variable)?);
    moved.is_absolute().then_some(moved)
}

/// A user's home or a repository, and how this program is called from there.
#[derive(Clone)]
pub(crate) struct Place {
    home: PathBuf,
    /// The repository, for its own files.
    project: Option<PathBuf>,
    /// This program, by a path that an upgrade leaves as it is.
    program: PathBuf,
    /// Whether a shell finds this program by its name.
    is_in_path: bool,
    /// Whether the status line is to be reported, also where it is not yet.
    has_status_line: bool,
}

impl Place {
    /// # Errors
    /// [`ConfigError`] without a home.
    pub(crate) fn of_user() -> Result<Self, ConfigError> {
        let home = env::home_dir().filter(|home| home.is_absolute());
        let home = home.ok_or_else(|| ConfigError("HOME must be set: an absolute path".into()))?;
        let (program, is_in_path) = own_program()?;
        Ok(Self {
            home,
            project: None,
            program,
            is_in_path,
            has_status_line: false,
        })
    }

    /// The same, with a status line that is reported.
    pub(super) fn with_status_line(self) -> Self {
        Self {
            has_status_line: true,
            ..self
        }
    }

    /// Checks whether the status line is to be reported, also where it is not yet.
    pub(super) fn has_status_line(&self) -> bool {
        self.has_status_line
    }

    /// The repository that the working folder is in.
    ///
    /// # Errors
    /// [`ConfigError`] without a home or a working folder, outside a repository, and in one that is
    /// the home itself: its files are the user's own.
    pub(crate) fn of_project() -> Result<Self, ConfigError> {
        let user = Self::of_user()?;
        let folder = env::current_dir()
            .map_err(|error| ConfigError(format!("the working folder cannot be told: {error}")))?;
        let root = folder
            .ancestors()
            .find(|folder| folder.join(".git").exists())
            .filter(|root| *root != user.home)
            .ok_or_else(|| {
                ConfigError(format!(
                    "--project: {} is not in a Git repository, or in one that is the home folder",
                    folder.display()
                ))
            })?;
        Ok(Self {
            project: Some(root.to_owned()),
            ..user
        })
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The user's, whatever the repository.
    pub(super) fn without_project(&self) -> Self {
        Self {
            project: None,
            ..self.clone()
        }
    }

    pub(super) fn is_project(&self) -> bool {
        self.project.is_some()
    }

    /// A file of the repository's folder of an agent, or of the user's.
    pub(super) fn file(&self, folder: &Folder, file: &str) -> PathBuf {
        match &self.project {
            Some(root) => root.join(folder.name).join(file),
            None => self.folder(folder).join(file),
        }
    }

    /// The user's folder of an agent.
    pub(super) fn folder(&self, folder: &Folder) -> PathBuf {
        let moved = match folder.moved {
            Moved::Never => None,
            Moved::Itself(variable) => moved(variable),
            Moved::WithHome(variable) => moved(variable).map(|home| home.join(folder.name)),
            Moved::WithConfiguration => moved("XDG_CONFIG_HOME").and_then(|configuration| {
                let name = Path::new(folder.name).strip_prefix(".config").ok()?;
                Some(configuration.join(name))
            }),
        };
        moved.unwrap_or_else(|| self.home.join(folder.name))
    }

    /// The repository, for its own files.
    pub(super) fn project(&self) -> Option<&Path> {
        self.project.as_deref()
    }

    /// The program of this name that a shell finds.
    pub(super) fn program_in_path(&self, name: &str) -> Option<PathBuf> {
        in_path(name)
    }

    /// The command line of a hook. In a repository it does nothing where this program is missing.
    pub(super) fn hook_command(&self, tool: &str) -> String {
        match self.project {
            Some(_) => format!("if command -v {NAME} >/dev/null 2>&1; then {NAME} hook {tool}; fi"),
            None => format!("{} hook {tool}", quoted(&self.mcp_program())),
        }
    }

    /// The same for an agent that is started from a desktop, where `PATH` is not the shell's.
    pub(super) fn hook_command_by_path(&self, tool: &str) -> String {
        match self.project {
            Some(_) => self.hook_command(tool),
            None => format!("{} hook {tool}", quoted(&self.program.to_string_lossy())),
        }
    }

    /// What starts this program.
    pub(super) fn mcp_program(&self) -> String {
        match self.is_in_path {
            true => NAME.to_owned(),
            false => self.program.to_string_lossy().into_owned(),
        }
    }

    /// What hooks start.
    pub(crate) fn hook_program(&self) -> String {
        self.mcp_program()
    }

    /// Checks whether a command of hooks starts this program.
    pub(crate) fn runs_as(&self, command: &str) -> bool {
        command == self.mcp_program() || command == self.program()
    }

    /// This program's path.
    pub(super) fn program(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }
}

/// The program of a name in the folders of `PATH`.
fn in_path(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(is_program)
}

/// The path of this program that an upgrade leaves as it is, and whether a shell finds it by its name.
///
/// Package managers put a link in `PATH` that leads to a folder of one version.
fn own_program() -> Result<(PathBuf, bool), ConfigError> {
    let own = env::current_exe()
        .map_err(|error| ConfigError(format!("this program's path cannot be told: {error}")))?;
    let is_own = |path: &Path| match (path.canonicalize(), own.canonicalize()) {
        (Ok(path), Ok(own)) => path == own,
        _ => false,
    };
    if let Some(found) = in_path(NAME).filter(|found| is_own(found)) {
        return Ok((found, true));
    }
    let called = env::args_os().next().map(PathBuf::from);
    let called = called.filter(|path| path.components().count() > 1);
    let called = called.and_then(|path| std::path::absolute(path).ok());
    Ok((called.filter(|path| is_own(path)).unwrap_or(own), false))
}

/// A word of a shell's command line.
pub(super) fn quoted(word: &str) -> String {
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// The word that [`quoted`] makes a text of; `None` for what it does not make.
pub(super) fn unquoted(text: &str) -> Option<String> {
    let mut word = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '\'' => {
                let (inside, after) = rest.split_once('\'')?;
                word.push_str(inside);
                rest = after;
            }
            '\\' => {
                rest = rest.strip_prefix('\'')?;
                word.push('\'');
            }
            plain if is_plain(plain) => word.push(plain),
            _ => return None,
        }
    }
    Some(word)
}

/// Checks whether a character means nothing to a shell.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/._-+@".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_shell_are_quoted_where_they_must_be() {
        assert_eq!(
            quoted("/usr/local/bin/kubeagents"),
            "/usr/local/bin/kubeagents"
        );
        assert_eq!(
            quoted("/opt/it's here/kubeagents"),
            r"'/opt/it'\''s here/kubeagents'"
        );
        for word in [
            "/usr/local/bin/kubeagents",
            "it's",
            "''",
            r"\' ; $x",
            "状态",
        ] {
            assert_eq!(unquoted(&quoted(word)).as_deref(), Some(word));
        }
        for line in ["two words", "a;b", "'open", r"a\b"] {
            assert_eq!(unquoted(line), None, "{line}");
        }
    }
}
