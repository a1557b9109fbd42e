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
        match text.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => postgres(text),
            _ => Err(Self::RULE.into()),
        }
    }
}

fn postgres(text: &str) -> Result<DatabaseUrl, InvalidSetting> {
    let url = Url::parse(text).map_err(|_| DatabaseUrl::RULE)?;
    let named = url.path().len() > 1 || url.query_pairs().any(|(key, _)| key == "dbname");
    match named {
        true => Ok(DatabaseUrl::Postgres(text.to_owned())),
        false => Err(DatabaseUrl::RULE.into()),
    }
}
