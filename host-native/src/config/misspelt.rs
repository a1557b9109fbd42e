//! Variables of the environment whose names are almost those of settings.

use std::fmt;

use kubeagents_core::settings::{CLIENT_SETTINGS, Host, SETTINGS, Setting};
use strsim::{jaro_winkler, osa_distance};

use super::ConfigError;
use crate::secret_file;

/// A variable, and the setting that was likely meant.
pub(super) struct Misspelt {
    variable: String,
    meant: String,
}

impl fmt::Display for Misspelt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, meant } = self;
        write!(formatter, "{variable} is no setting, did you mean {meant}?")
    }
}

/// The variables of the process's environment that are likely meant to be one of these settings.
pub(super) fn variables(settings: &'static [Setting]) -> Vec<Misspelt> {
    let text = |variable: &str| std::env::var(variable).ok().filter(|text| !text.is_empty());
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut misspelt: Vec<_> = names
        // Kubernetes describes Services in variables of their names.
        .filter(|name| text(name).is_some_and(|text| !text.starts_with("tcp://")))
        .filter(|name| !name.contains("_SERVICE_"))
        .filter_map(|variable| {
            let meant = nearest(&variable, settings)?;
            text(&meant)
                .is_none()
                .then_some(Misspelt { variable, meant })
        })
        .collect();
    misspelt.sort_by(|left, right| left.variable.cmp(&right.variable));
    misspelt
}

/// Refuses a misspelt setting of the database: without one, storage would be memory.
///
/// # Errors
/// [`ConfigError`] for the first.
pub(super) fn refuse_databases(misspelt: &[Misspelt]) -> Result<(), ConfigError> {
    let is_of_database =
        |meant: &str| meant.starts_with("DATABASE_URL") || meant.starts_with("DB_");
    match misspelt.iter().find(|found| is_of_database(&found.meant)) {
        Some(found) => Err(ConfigError(format!(
            "{found} Storage would be memory: set {}, or unset {}",
            found.meant, found.variable
        ))),
        None => Ok(()),
    }
}

/// A variable of the process's environment that names certificate authorities, and no certificate.
const AUTHORITIES: &str = "SSL_CERT_FILE";

/// The variable that is closest to a name, if it is close enough and the name is none itself.
fn nearest(name: &str, settings: &'static [Setting]) -> Option<String> {
    let mut known = variables_of(SETTINGS.iter().chain(CLIENT_SETTINGS));
    if name == AUTHORITIES || known.any(|variable| variable == name) {
        return None;
    }
    let upper = name.to_uppercase();
    let native = settings
        .iter()
        .filter(|setting| setting.is_on(Host::Native));
    variables_of(native)
        .filter(|variable| is_close(&upper, variable))
        .min_by_key(|variable| osa_distance(&upper, variable))
}

/// The variables of settings, and those that name files of theirs.
fn variables_of(settings: impl Iterator<Item = &'static Setting>) -> impl Iterator<Item = String> {
    settings.flat_map(|setting| {
        let own = Some(setting.variable.to_owned());
        [own, secret_file::variable(setting)].into_iter().flatten()
    })
}

fn is_close(name: &str, variable: &str) -> bool {
    // RUST_LOG_STYLE is another program's; what is no secret has no file.
    let extends = name
        .strip_prefix(variable)
        .is_some_and(|rest| rest.starts_with('_') && rest != "_FILE");
    if extends {
        return false;
    }
    let few_letters = variable.len() >= 8 && osa_distance(name, variable) <= 2;
    let family = |name: &str| name.split_once('_').map(|(family, _)| family.to_owned());
    let same_family = family(variable).is_some_and(|ours| family(name) == Some(ours));
    few_letters || name == variable || same_family && jaro_winkler(name, variable) >= 0.9
}
