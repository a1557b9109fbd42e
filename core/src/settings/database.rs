//! Where storage is a database.

use url::Url;

use super::InvalidSetting;

/// The address of a database.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// PostgreSQL's, as libpq takes it, with a database's name.
    Postgres(String),
}

impl DatabaseUrl {
    /// What would be right where an address is wrong.
    pub const RULE: &str = "must be an address such as postgres://user:password@host:5432/database, \
                            with percent-encoding for special characters in user and password";

    /// Reads an address by its scheme.
    ///
    /// # Errors
    /// [`InvalidSetting`] for an unknown scheme, and for an address that breaks the scheme's rules.
    pub fn parse(text: &str) -> Result<Self, InvalidSetting> {
        let text = text.trim();
        match text.split_once(':') {
            Some(("postgres" | "postgresql", _)) => postgres(text),
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
