//! `spin.toml`, as far as this application uses it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

/// An application of one component.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    /// The variables that whoever runs the application may set.
    pub variables: BTreeMap<String, Variable>,
    component: BTreeMap<String, Component>,
}

/// The declaration of a variable.
#[derive(Debug, Clone, Deserialize)]
pub struct Variable {
    /// Its value when nobody sets it.
    pub default: Option<String>,
}

/// Declaration of a component: what it is and may do.
#[derive(Debug, Clone, Deserialize)]
pub struct Component {
    /// Its `.wasm`, relative to the manifest.
    pub source: String,
    /// Hosts to which it may connect, with variables in double braces.
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<String>,
    /// The SQLite databases that it may open.
    #[serde(default)]
    pub sqlite_databases: Vec<String>,
    /// The variables that it can read, made of those of the application.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Command that builds it.
    pub build: BuildCommand,
}

/// Command that builds a component.
#[derive(Debug, Clone, Deserialize)]
pub struct BuildCommand {
    /// A shell command.
    pub command: String,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// When it is no valid TOML, or lacks what is needed here.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// The application's component.
    ///
    /// # Errors
    /// When it has none or several.
    pub fn component(&self) -> Result<&Component> {
        match self.component.values().collect::<Vec<_>>()[..] {
            [component] => Ok(component),
            _ => bail!("the application has not exactly one component"),
        }
    }

    /// Fills the variables into a template.
    ///
    /// # Errors
    /// When it names a variable that is not declared, or that has neither a value nor a default.
    pub fn resolve(&self, template: &str, values: &BTreeMap<String, String>) -> Result<String> {
        let mut parts = template.split("{{");
        let mut resolved = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once("}}").context("a brace is not closed")?;
            let name = name.trim();
            let declared = self
                .variables
                .get(name)
                .with_context(|| format!("{name} is not declared"))?;
            let value = values.get(name).or(declared.default.as_ref());
            resolved += value.with_context(|| format!("{name} is not set"))?;
            resolved += rest;
        }
        Ok(resolved)
    }
}

/// One entry of `allowed_outbound_hosts`: `scheme://host:port`.
#[derive(Debug, Clone)]
pub(crate) struct AllowedHost {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl AllowedHost {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (scheme, rest) = text
            .split_once("://")
            .with_context(|| format!("no scheme: {text}"))?;
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, "*")) => (host, None),
            Some((host, port)) => (host, Some(port.parse().with_context(|| text.to_owned())?)),
            None => (
                rest,
                Some(default_port(scheme).with_context(|| format!("no port: {text}"))?),
            ),
        };
        ensure!(
            !host.is_empty() && !rest.contains('/'),
            "not scheme://host:port: {text}"
        );
        Ok(Self {
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            port,
        })
    }

    pub(crate) fn allows(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        let host_matches = match self.host.strip_prefix("*.") {
            Some(domain) => host
                .strip_suffix(domain)
                .is_some_and(|rest| rest.ends_with('.')),
            None => self.host == "*" || self.host == host,
        };
        let port = port.or(default_port(scheme));
        host_matches
            && (self.scheme == "*" || self.scheme == scheme)
            && (self.port.is_none() || self.port == port)
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        "postgres" => Some(5432),
        _ => None,
    }
}
