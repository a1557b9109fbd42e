//! The file that `kubeagents setup` writes: which server this user's agents report to, and with which
//! key.
//!
//! A repository can set variables of the environment for the agents that work in it. So the stored key
//! goes to the stored address and to no other, whatever the environment says; and where an address is
//! stored, a file that the environment names is read as a key for it alone: the file may be any of the
//! user's secrets.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kubeagents_core::hook::Detail;
use kubeagents_core::settings::{CLIENT_SETTINGS, ClientValues, Host, Texts};
use tempfile::NamedTempFile;
use toml_edit::{Document, DocumentMut, Item, TomlError, value};

use super::folders;
use crate::config::ConfigError;
use crate::secret_file::Files;

/// Variables of the settings that the file holds values of.
pub(super) const URL: &str = "KUBEAGENTS_SERVER_URL";
pub(super) const KEY: &str = "KUBEAGENTS_API_KEY";
pub(crate) const KEY_FILE: &str = "KUBEAGENTS_API_KEY_FILE";
const HOST: &str = "KUBEAGENTS_HOST";
pub(super) const DETAIL: &str = "HOOK_DETAIL";

/// What the file holds.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct ClientConfig {
    /// The server's address.
    pub(crate) url: Option<String>,
    /// The API key for it, and for no other.
    pub(crate) key: Option<String>,
    /// The name of this machine.
    pub(crate) host: Option<String>,
    /// How much of what agents do is told.
    pub(crate) detail: Option<Detail>,
}

impl ClientConfig {
    /// The file's path, by `XDG_CONFIG_HOME` or `HOME`; `None` without either.
    pub(crate) fn path() -> Option<PathBuf> {
        Some(folders::config()?.join("config.toml"))
    }

    /// Reads the file. Nothing is stored where there is none.
    ///
    /// # Errors
    /// [`ConfigError`] for a file that cannot be read or understood.
    pub(crate) fn read() -> Result<Self, ConfigError> {
        match Self::path() {
            Some(path) => Self::read_from(&path, &mut Err),
            None => Ok(Self::default()),
        }
    }

    /// Reads the file, and notes what is wrong in it and need not be known: a machine's name is then none,
    /// and of details the least counts.
    ///
    /// # Errors
    /// [`ConfigError`] for a file that cannot be read, and for a server or a key that is no text.
    pub(super) fn read_leniently(problems: &mut Vec<String>) -> Result<Self, ConfigError> {
        let mut pass_over = |problem: ConfigError| {
            problems.push(problem.to_string());
            Ok(())
        };
        match Self::path() {
            Some(path) => Self::read_from(&path, &mut pass_over),
            None => Ok(Self::default()),
        }
    }

    /// Reads a file. `pass_over` is asked what to do about what need not be known.
    fn read_from(
        path: &Path,
        pass_over: &mut dyn FnMut(ConfigError) -> Result<(), ConfigError>,
    ) -> Result<Self, ConfigError> {
        let text = text_of(path)?;
        let document =
            Document::parse(text.as_str()).map_err(|error| not_toml(path, &text, &error))?;
        let wrong = |name: &str, item: &Item, rule: &str| {
            let line = line(&text, item.span().map(|span| span.start));
            refusal(path, format!("{name} on line {line} {rule}"))
        };
        let text = |name: &str| match document.get(name) {
            None => Ok(None),
            Some(item) => match item.as_str() {
                Some(text) => Ok(Some(text.to_owned()).filter(|text| !text.is_empty())),
                None => Err(wrong(name, item, "must be a text in quotes")),
            },
        };
        let host = match text("host") {
            Ok(host) => host,
            Err(problem) => pass_over(problem).map(|()| None)?,
        };
        let detail = document.get("detail").map(|item| {
            let word = item.as_str().unwrap_or_default();
            let rule = format!("must be full, title or none, not {word:?}");
            Detail::parse(word).ok_or_else(|| wrong("detail", item, &rule))
        });
        let detail = match detail.transpose() {
            Ok(detail) => detail,
            Err(problem) => pass_over(problem).map(|()| Some(Detail::None))?,
        };
        Ok(Self {
            url: text("url")?,
            key: text("key")?,
            host,
            detail,
        })
    }

    /// Writes the file, for this user's eyes only. Whatever else stands in it stays.
    ///
    /// # Errors
    /// [`ConfigError`] without a home, and for a file or folder that cannot be written.
    pub(crate) fn write(&self) -> Result<(), ConfigError> {
        let path = Self::path().ok_or_else(|| ConfigError("HOME must be set".into()))?;
        self.write_to(&path)
    }

    fn write_to(&self, path: &Path) -> Result<(), ConfigError> {
        let mut document = document(path)?;
        for (name, text) in [
            ("url", self.url.as_deref()),
            ("key", self.key.as_deref()),
            ("host", self.host.as_deref()),
            ("detail", self.detail.map(Detail::as_str)),
        ] {
            match text {
                Some(text) => match document.get_mut(name) {
                    Some(item) => {
                        // A comment behind the old value stays.
                        let decor = item.as_value().map(|value| value.decor().clone());
                        *item = value(text);
                        if let (Some(decor), Some(value)) = (decor, item.as_value_mut()) {
                            *value.decor_mut() = decor;
                        }
                    }
                    None => {
                        document.insert(name, value(text));
                    }
                },
                None => {
                    document.remove(name);
                }
            }
        }
        let written = replace(path, document.to_string().as_bytes());
        written.map_err(|error| refusal(path, error))
    }

    /// Adds the key in the file that is named, if one is; or else says why it is not read.
    ///
    /// # Errors
    /// [`ConfigError`] for a key that is given, too, and for a file that cannot be used.
    pub(crate) fn add_key(
        &self,
        texts: &mut Texts,
        file: Option<OsString>,
    ) -> Result<Option<String>, ConfigError> {
        let Some(file) = file.filter(|file| !file.is_empty()) else {
            return Ok(None);
        };
        let given = texts.get(URL).filter(|url| !url.is_empty()).cloned();
        let is_elsewhere = given.is_some() && normalised(given) != normalised(self.url.clone());
        if self.url.is_some() && is_elsewhere {
            return Ok(Some(format!(
                "{KEY_FILE} is not read: {URL} is another server than the stored one"
            )));
        }
        let named = |name: &str| (name == KEY_FILE).then(|| file.clone());
        Files::read(texts, CLIENT_SETTINGS, named)?;
        Ok(None)
    }

    /// Completes what the environment or flags say by what is stored, for [`ClientValues::read`].
    ///
    /// The stored key is added only for the stored address, and taken away from any other. The least
    /// detail counts.
    pub(crate) fn complete(&self, texts: &mut Texts) {
        texts.retain(|_, text| !text.is_empty());
        let stored_url = normalised(self.url.clone());
        let given = texts.get(URL).cloned();
        let is_stored = given.is_none() || normalised(given) == stored_url;
        if let (true, Some(url)) = (is_stored, &self.url) {
            texts.insert(URL, url.clone());
        }
        if let Some(key) = &self.key {
            if is_stored {
                texts.entry(KEY).or_insert_with(|| key.clone());
            } else if texts.get(KEY) == Some(key) {
                texts.remove(KEY);
            }
        }
        if let Some(host) = &self.host {
            texts.entry(HOST).or_insert_with(|| host.clone());
        }
        if let Some(stored) = self.detail {
            let given = texts.get(DETAIL).and_then(|word| Detail::parse(word));
            let is_refused = given.is_none() && texts.contains_key(DETAIL);
            if !is_refused {
                let least = given.map_or(stored, |given| given.min(stored));
                texts.insert(DETAIL, least.as_str().to_owned());
            }
        }
    }
}

/// What people call the places that address and key come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources {
    pub(crate) url: String,
    pub(crate) key: String,
}

impl Default for Sources {
    /// The environment.
    fn default() -> Self {
        let is_file = env::var_os(KEY_FILE).is_some_and(|file| !file.is_empty());
        Self {
            url: URL.into(),
            key: if is_file { KEY_FILE } else { KEY }.into(),
        }
    }
}

impl ClientConfig {
    /// Where the values come from that [`ClientConfig::complete`] makes of what is given.
    pub(crate) fn sources(&self, given: &Texts) -> Sources {
        let mut sources = Sources::default();
        let stored = |name: &str| match Self::path() {
            Some(path) => format!("{name} in {}", path.display()),
            None => name.to_owned(),
        };
        let mut completed = given.clone();
        self.complete(&mut completed);
        let is_given = |name: &str| {
            let text = given.get(name).filter(|text| !text.is_empty());
            text.is_some() && text == completed.get(name)
        };
        if !is_given(URL) {
            sources.url = match &self.url {
                Some(_) => stored("url"),
                None => "the default address".into(),
            };
        }
        if !is_given(KEY) && self.key.is_some() {
            sources.key = stored("key");
        }
        sources
    }
}

/// An address as settings have it, the default one for none; `None` when it is refused.
pub(super) fn normalised(url: Option<String>) -> Option<String> {
    let texts = Texts::from_iter(url.map(|url| (URL, url)));
    Some(ClientValues::read(Host::Native, texts).ok()?.server_url)
}

fn document(path: &Path) -> Result<DocumentMut, ConfigError> {
    let text = text_of(path)?;
    let document = text.parse();
    document.map_err(|error| not_toml(path, &text, &error))
}

/// The file's text, without what some editors begin it with.
fn text_of(path: &Path) -> Result<String, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim_start_matches('\u{feff}').to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(refusal(path, "is not UTF-8"))
        }
        Err(error) => Err(refusal(path, error)),
    }
}

/// The parser's own words show the line itself, which may hold the key.
fn not_toml(path: &Path, text: &str, error: &TomlError) -> ConfigError {
    let start = error.span().map(|span| span.start);
    refusal(path, format!("line {} is not TOML", line(text, start)))
}

/// The line of a place in a text, counted from 1.
fn line(text: &str, place: Option<usize>) -> usize {
    let before = place.and_then(|place| text.get(..place));
    before.unwrap_or_default().matches('\n').count() + 1
}

/// Puts a file in the place of another at once, readable by this user only.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    // What a link points to is replaced, and not the link.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(Path::new("/"));
    folders::make_private(folder)?;
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}

fn refusal(path: &Path, problem: impl std::fmt::Display) -> ConfigError {
    ConfigError(format!("{}: {problem}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn stored() -> ClientConfig {
        ClientConfig {
            url: Some("https://agents.example.com/".into()),
            key: Some("stored".into()),
            host: Some("laptop".into()),
            detail: Some(Detail::Title),
        }
    }

    fn completed(config: &ClientConfig, given: &[(&'static str, &str)]) -> Texts {
        let given = given.iter().map(|(name, text)| (*name, (*text).to_owned()));
        let mut texts = given.collect();
        config.complete(&mut texts);
        texts
    }

    #[test]
    fn the_stored_key_goes_to_the_stored_address_only() {
        for (given, key) in [
            (&[][..], Some("stored")),
            (&[(URL, "")], Some("stored")),
            (&[(URL, "https://agents.example.com")], Some("stored")),
            (&[(URL, "HTTPS://agents.example.com:443/")], Some("stored")),
            (&[(URL, "https://evil.example.com")], None),
            (&[(URL, "http://agents.example.com")], None),
            (&[(URL, "https://agents.example.com:444")], None),
            (&[(URL, "https://agents.example.com.evil.org")], None),
            (&[(URL, "not a url")], None),
            (&[(URL, "https://evil.example.com"), (KEY, "stored")], None),
            (&[(URL, "https://x.example.com"), (KEY, "own")], Some("own")),
            (&[(KEY, "own")], Some("own")),
        ] {
            let texts = completed(&stored(), given);
            assert_eq!(texts.get(KEY).map(String::as_str), key, "{given:?}");
        }
        let without_address = ClientConfig {
            url: None,
            ..stored()
        };
        let local = completed(&without_address, &[(URL, "http://localhost:8080/")]);
        assert_eq!(local[KEY], "stored");
        let elsewhere = completed(&without_address, &[(URL, "http://localhost:8081")]);
        assert_eq!(elsewhere.get(KEY), None);
    }

    #[test]
    fn the_environment_can_tell_less_but_not_more() {
        let detail = |given: &[(&'static str, &str)]| completed(&stored(), given)[DETAIL].clone();
        assert_eq!(detail(&[]), "title");
        assert_eq!(detail(&[(DETAIL, "full")]), "title");
        assert_eq!(detail(&[(DETAIL, "none")]), "none");
        assert_eq!(detail(&[(DETAIL, "some")]), "some", "refused later");
        assert_eq!(completed(&stored(), &[(HOST, "desk")])[HOST], "desk");
    }

    #[test]
    fn what_is_written_is_read_back_and_the_rest_of_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("config.toml");
        stored().write_to(&path).unwrap();
        assert!(ClientConfig::read_from(&path, &mut Err).unwrap() == stored());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);

        fs::write(&path, "# mine\nkey = \"old\" # secret\nother = 1\n").unwrap();
        let link = folder.path().join("link.toml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let config = ClientConfig {
            host: None,
            detail: None,
            ..stored()
        };
        config.write_to(&link).unwrap();
        assert!(link.is_symlink());
        let expected = "# mine\nkey = \"stored\" # secret\nother = 1\nurl = \
                        \"https://agents.example.com/\"\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_refused_without_its_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        for (text, problem) in [
            ("url = \"http://x\"\n\nkey = hunter2", "line 3 is not TOML"),
            ("\nkey = 1", "key on line 2 must be a text in quotes"),
            (
                "\u{feff}# mine\ndetail = \"all\"",
                "detail on line 2 must be full, title or none, not \"all\"",
            ),
        ] {
            fs::write(&path, text).unwrap();
            let error = ClientConfig::read_from(&path, &mut Err).err().unwrap();
            assert_eq!(error.to_string(), format!("{}: {problem}", path.display()));
        }
        let missing = folder.path().join("none");
        assert!(ClientConfig::read_from(&missing, &mut Err).unwrap() == ClientConfig::default());
    }

    #[test]
    fn a_mistake_in_what_need_not_be_known_is_passed_over_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(
            &path,
            "url = \"u\"\nkey = \"k\"\nhost = 7\ndetail = \"all\"\n",
        )
        .unwrap();
        let mut problems = Vec::new();
        let read = ClientConfig::read_from(&path, &mut |problem| {
            problems.push(problem.to_string());
            Ok(())
        });
        let expected = ClientConfig {
            url: Some("u".into()),
            key: Some("k".into()),
            host: None,
            detail: Some(Detail::None),
        };
        assert!(read.unwrap() == expected);
        assert!(
            problems[0].ends_with("host on line 3 must be a text in quotes"),
            "{problems:?}"
        );
        assert!(
            problems[1].contains("detail on line 4 must be"),
            "{problems:?}"
        );
    }
}
