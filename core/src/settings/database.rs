//! Where storage is a database.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

use super::InvalidSetting;

/// The address of a database.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// PostgreSQL's, as libpq takes it, with a database's name.
    Postgres(String),
    /// A SQLite file's.
    Sqlite(PathBuf),
}

impl DatabaseUrl {
    /// What would be right where an address is wrong.
    pub const RULE: &str = "must be an address such as postgres://user:password@host:5432/database, \
                            with percent-encoding for special characters in user and password, or \
                            sqlite:kubeagents.db or sqlite:///absolute/path";

    /// Reads an address by its scheme.
    ///
    /// # Errors
    /// [`InvalidSetting`] for an unknown scheme, and for an address that breaks the scheme's rules.
    pub fn parse(text: &str) -> Result<Self, InvalidSetting> {
        let text = text.trim();
        match text.split_once(':') {
            Some(("postgres" | "postgresql", _)) => postgres(text),
            Some(("sqlite", rest)) => sqlite(rest),
            // Nothing but a scheme is shown: the rest may be a secret.
            Some((scheme, rest)) if rest.starts_with("//") && is_scheme(scheme) => {
                Err(format!("{}, not {scheme}:…", Self::RULE).into())
            }
            _ => Err(Self::RULE.into()),
        }
    }
}

fn is_scheme(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn postgres(text: &str) -> Result<DatabaseUrl, InvalidSetting> {
    let url = Url::parse(text).map_err(|_| DatabaseUrl::RULE)?;
    let named = url.path().len() > 1 || url.query_pairs().any(|(key, _)| key == "dbname");
    // A slash, a question mark or a hash in a password would end the host, and the rest of the
    // password be taken for a port and a database.
    let behind_host = &url[url::Position::BeforePath..];
    match named && !behind_host.contains('@') && url.fragment().is_none() {
        true => Ok(DatabaseUrl::Postgres(text.to_owned())),
        false => Err(DatabaseUrl::RULE.into()),
    }
}

/// What follows the scheme: `//` and an absolute path, or a path without a host.
fn sqlite(rest: &str) -> Result<DatabaseUrl, InvalidSetting> {
    const RULE: &str = "must name a file, sqlite:kubeagents.db or sqlite:///absolute/path, without \
                        parameters";
    let path = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(RULE.into()),
        None => rest,
    };
    // Memory, as SQLite calls it, is what there is without a database.
    let no_file = path.is_empty() || path.ends_with('/') || path.starts_with(':');
    if no_file || path.contains(['?', '#']) {
        return Err(RULE.into());
    }
    let path = percent_decode_str(path).decode_utf8().map_err(|_| RULE)?;
    Ok(DatabaseUrl::Sqlite(path.into_owned().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_a_relative_or_an_absolute_path() {
        for (text, file) in [
            ("sqlite:kubeagents.db", "kubeagents.db"),
            ("sqlite:data/kubeagents.db", "data/kubeagents.db"),
            ("sqlite:../a%20file.db", "../a file.db"),
            ("sqlite:/var/lib/kubeagents.db", "/var/lib/kubeagents.db"),
            ("sqlite:///var/lib/kubeagents.db", "/var/lib/kubeagents.db"),
        ] {
            let parsed = DatabaseUrl::parse(text);
            assert!(parsed == Ok(DatabaseUrl::Sqlite(file.into())), "{text}");
        }
        for text in [
            "sqlite",
            "sqlite:",
            "sqlite:///",
            "sqlite:data/",
            "sqlite::memory:",
            "sqlite://host/kubeagents.db",
            "sqlite:kubeagents.db?mode=ro",
            "sqlite:kubeagents.db#",
            "sqlite:%ff",
        ] {
            assert!(DatabaseUrl::parse(text).is_err(), "{text}");
        }
    }
}
