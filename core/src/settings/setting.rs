//! What a setting is.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// What serves the contract, each in its own surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// The `kubeagents` binary.
    Native,
    /// The component on Spin.
    Spin,
    /// The component on wasmCloud.
    Wasmcloud,
}

impl Host {
    /// The port that it serves on unless it is told another.
    pub(crate) const fn usual_port(self) -> u16 {
        match self {
            Self::Native => 8080,
            Self::Spin => 3000,
            Self::Wasmcloud => 8000,
        }
    }
}

/// One setting: a row of the table.
#[derive(Debug)]
pub struct Setting {
    /// The name of its environment variable.
    pub variable: &'static str,
    /// What holds where it is not set.
    pub unset: Unset,
    /// The hosts that have it.
    pub hosts: &'static [Host],
    /// Whether its value is shown to nobody.
    pub secret: bool,
    /// Lines of help, as they stand in the table.
    pub(super) help: &'static [&'static str],
}

/// What holds where a setting is not set.
#[derive(Debug, Clone, Copy)]
pub enum Unset {
    /// This text.
    Value(&'static str),
    /// What this says: it depends.
    Described(&'static str),
    /// Nothing.
    Nothing,
}

/// The texts that a host found, by the names of environment variables.
pub type Texts = BTreeMap<&'static str, String>;

/// Why the text of a setting is refused: what would be right. Completes a sentence that begins with
/// the setting's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSetting(pub Cow<'static, str>);

impl From<&'static str> for InvalidSetting {
    fn from(rule: &'static str) -> Self {
        Self(rule.into())
    }
}

impl From<String> for InvalidSetting {
    fn from(rule: String) -> Self {
        Self(rule.into())
    }
}

/// A setting has a value that it cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} {problem}{}", self.not())]
pub struct SettingError {
    name: String,
    problem: InvalidSetting,
    /// The value, unless it is a secret or may hold one.
    shown: Option<String>,
}

impl SettingError {
    /// The refusal of a setting by its name, with the value unless that is a secret.
    pub fn new(
        name: impl Into<String>,
        problem: impl Into<InvalidSetting>,
        shown: Option<&str>,
    ) -> Self {
        Self {
            name: name.into(),
            problem: problem.into(),
            shown: shown.map(str::to_owned),
        }
    }

    /// The name of the setting.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn not(&self) -> String {
        let shown = self.shown.as_ref();
        shown.map_or_else(String::new, |value| format!(", not {value:?}"))
    }
}

impl Setting {
    /// The setting's name on a host.
    pub fn name(&self, host: Host) -> Cow<'static, str> {
        match host {
            Host::Native | Host::Wasmcloud => self.variable.into(),
            // An application's variables need not repeat its name.
            Host::Spin => {
                let name = self.variable.strip_prefix("KUBEAGENTS_");
                name.unwrap_or(self.variable).to_lowercase().into()
            }
        }
    }

    /// Whether a host has it.
    pub fn is_on(&self, host: Host) -> bool {
        self.hosts.contains(&host)
    }

    /// What the setting is for, on one line.
    pub fn help(&self) -> String {
        let lines: Vec<&str> = self.help.iter().map(|line| line.trim()).collect();
        lines.join(" ")
    }

    fn refuse(&self, host: Host, text: &str, problem: InvalidSetting) -> SettingError {
        // An address may hold a password.
        let may_hold_secret = self.secret || text.contains("://") && text.contains('@');
        let shown = (!may_hold_secret).then_some(text);
        SettingError::new(self.name(host), problem, shown)
    }
}

/// A value made from the text of a setting: the value itself where there is a default, an option of
/// it where there is none.
pub(super) trait FromSetting<T>: Sized {
    /// Reads the text, if there is one, or the default.
    fn from_text(
        text: Option<&str>,
        unset: Unset,
        parse: fn(&str) -> Result<T, InvalidSetting>,
    ) -> Result<Self, InvalidSetting>;
}

impl<T> FromSetting<T> for T {
    fn from_text(
        text: Option<&str>,
        unset: Unset,
        parse: fn(&str) -> Result<T, InvalidSetting>,
    ) -> Result<Self, InvalidSetting> {
        match (text, unset) {
            (Some(text), _) | (None, Unset::Value(text)) => parse(text),
            (None, Unset::Described(_) | Unset::Nothing) => Err("must be set".into()),
        }
    }
}

impl<T> FromSetting<T> for Option<T> {
    fn from_text(
        text: Option<&str>,
        _: Unset,
        parse: fn(&str) -> Result<T, InvalidSetting>,
    ) -> Result<Self, InvalidSetting> {
        text.map(parse).transpose()
    }
}

/// Reads one setting.
pub(super) fn read<T, V: FromSetting<T>>(
    host: Host,
    setting: &Setting,
    texts: &Texts,
    parse: fn(&str) -> Result<T, InvalidSetting>,
) -> Result<V, SettingError> {
    let text = texts.get(setting.variable).map(String::as_str);
    V::from_text(text, setting.unset, parse)
        .map_err(|problem| setting.refuse(host, text.unwrap_or_default(), problem))
}

/// Makes a table of settings, and a struct that has a field for each.
///
/// A row: the help as a doc comment, the field with its type, the variable, the function that reads a
/// text, what holds where it is not set, the hosts that have it, and `secret` if it is one. The type
/// is an option exactly where there is no default value.
macro_rules! settings {
    (
        $(#[$table_doc:meta])* static $TABLE:ident;
        $(#[$values_doc:meta])* struct $Values:ident;
        $(
            $(#[doc = $help:literal])+
            $field:ident: $type:ty =
                $variable:literal, $parse:expr, $unset:expr, $hosts:expr $(, $secret:ident)?;
        )*
    ) => {
        $(#[$table_doc])*
        pub static $TABLE: &[Setting] = &[
            $(settings!(@row $variable, $unset, $hosts, [$($secret)?], [$($help),+])),*
        ];

        $(#[$values_doc])*
        #[derive(Clone)]
        pub struct $Values {
            $($(#[doc = $help])+ pub $field: $type,)*
            set: BTreeSet<&'static str>,
        }

        impl $Values {
            /// Reads what a host found; an empty text counts as absent.
            ///
            /// # Errors
            /// [`SettingError`] for the first setting that breaks its rule, in the table's order.
            pub fn read(host: Host, mut texts: Texts) -> Result<Self, SettingError> {
                texts.retain(|_, text| !text.is_empty());
                $(
                    let $field = setting::read(
                        host,
                        &settings!(@row $variable, $unset, $hosts, [$($secret)?], [$($help),+]),
                        &texts,
                        $parse,
                    )?;
                )*
                Ok(Self { $($field,)* set: texts.into_keys().collect() })
            }

            /// Whether a setting has been given a value, by the name of its variable.
            pub fn is_set(&self, variable: &str) -> bool {
                self.set.contains(variable)
            }
        }
    };
    (@row $variable:literal, $unset:expr, $hosts:expr, [$($secret:ident)?], [$($help:literal),+]) => {
        Setting {
            variable: $variable,
            unset: $unset,
            hosts: $hosts,
            secret: settings!(@secret $($secret)?),
            help: &[$($help),+],
        }
    };
    (@secret secret) => { true };
    (@secret) => { false };
}
pub(super) use settings;
