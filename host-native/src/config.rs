//! The configuration: environment variables, or the flags of the same names.

mod misspelt;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use kubeagents_core::settings::{
    CLIENT_SETTINGS, ClientValues, DatabaseUrl, Host, LogFormat, SETTINGS, Setting, SettingError,
    Texts, Unset, Values,
};
use kubeagents_core::{AuthMode, Settings};
use lettre::message::Mailbox;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::client::{self, config::ClientConfig, config::KEY_FILE};
use crate::delivery::Proxies;
use crate::manual;
use crate::operator::{self, Errand};
use crate::postgres::Database;
use crate::secret_file::{self, Files};
use crate::tls;

/// What a process is asked to do, and how it logs meanwhile.
pub(crate) struct Cli {
    pub(crate) log: Log,
    pub(crate) task: Task,
    /// What is likely to be a mistake.
    pub(crate) warnings: Vec<String>,
}

/// How a process logs.
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    pub(crate) filter: EnvFilter,
}

/// What to do.
pub(crate) enum Task {
    Serve(Box<Config>),
    /// Ask the server at this address whether it is alive.
    Health {
        address: SocketAddr,
        is_encrypted: bool,
    },
    /// Serve the Model Context Protocol on standard input and output.
    Mcp {
        values: ClientValues,
        /// Only the tools that read are served.
        is_read_only: bool,
    },
    /// Drop the Go server's tables from this database.
    DropGoTables(Box<Database>),
    /// Give the Go server's tables in this database back to it.
    RestoreGoTables(Box<Database>),
    /// Copy a SQLite database to a new file.
    Backup {
        database: PathBuf,
        copy: PathBuf,
    },
    /// Do what an operator does where the database is.
    Errand {
        errand: Errand,
        config: Box<Config>,
    },
}

/// The configuration of a server.
pub(crate) struct Config {
    pub(crate) values: Values,
    pub(crate) storage: Storage,
    /// The mail server, if there is one.
    pub(crate) smtp: Option<Smtp>,
    /// What clients are spoken to with, where that is TLS.
    pub(crate) tls: Option<tls::Files>,
    /// By which proxies notifications leave.
    pub(crate) proxies: Proxies,
    /// Whether invented agents report.
    pub(crate) is_demo: bool,
}

/// Where the state is.
pub(crate) enum Storage {
    /// In this process.
    Memory,
    /// In a file.
    Sqlite(PathBuf),
    Postgres(Box<Database>),
}

/// A mail server that is configured whole.
pub(crate) struct Smtp {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// User and password.
    pub(crate) credentials: Option<(String, String)>,
    pub(crate) from: Mailbox,
}

/// Why the process cannot start with this configuration: one line for a person.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub(crate) String);

impl From<SettingError> for ConfigError {
    fn from(error: SettingError) -> Self {
        Self(error.to_string())
    }
}

impl ConfigError {
    /// The refusal of a setting's value that is no secret.
    fn refuse(variable: &str, text: &str, rule: &'static str) -> Self {
        SettingError::new(variable, rule, Some(text)).into()
    }
}

const HELP: &str = "Collects what AI agents report about their work, and shows it.

Without a command, serves. Every flag has an environment variable of the same name; the flag wins, \
                    and an empty variable counts as unset. \
                    A secret may stand in a file: JWT_SECRET_FILE or --jwt-secret-file names the one \
                    that holds JWT_SECRET, and so for every secret.";

const MCP_HELP: &str = "Serve the Model Context Protocol on standard input and output.

For agents that start a command: what they report is passed on to a kubeagents server. Of the \
                        variables and flags of the server, only those of the log count here.";

/// The flag of a server that only reads.
const READ_ONLY: &str = "read-only";

/// The name of the command that shows invented agents.
const DEMO: &str = "demo";

/// The name of the file that a backup goes to.
const COPY: &str = "FILE";

/// The command line, made of the tables of settings.
pub(crate) fn command() -> Command {
    let health =
        "Ask the server at HOST and PORT whether it is alive: exit code 0 if it is, else 1.";
    let demo =
        "Serve a lively day of invented agents, in memory and without credentials, to look around.";
    let drop_go_tables = "Drop the Go server's tables, which are kept in the schema kubeagents_go \
                          after its database has been taken over.";
    let restore_go_tables = "Give the Go server's tables back to it, and drop what this server has \
                             stored since its database was taken over.";
    let backup =
        "Copy the SQLite database of DATABASE_URL to a new file, also while a server uses it.";
    let read_only = Arg::new(READ_ONLY)
        .long(READ_ONLY)
        .help("Serve only the tools that read, for agents whose hooks report")
        .action(ArgAction::SetTrue);
    let copy = Arg::new(COPY)
        .help("The new file; an existing one is not overwritten")
        .value_hint(ValueHint::FilePath)
        .value_parser(value_parser!(PathBuf))
        .required(true);
    Command::new("kubeagents")
        .version(env!("CARGO_PKG_VERSION"))
        .about(first_paragraph(HELP))
        .long_about(HELP)
        .max_term_width(100)
        .args(flags(SETTINGS))
        .subcommand(Command::new(DEMO).about(demo))
        .subcommand(Command::new("health").about(health))
        .subcommand(
            Command::new("mcp")
                .about(first_paragraph(MCP_HELP))
                .long_about(MCP_HELP)
                .args(flags(CLIENT_SETTINGS))
                .arg(read_only),
        )
        .subcommand(Command::new("drop-go-tables").about(drop_go_tables))
        .subcommand(Command::new("restore-go-tables").about(restore_go_tables))
        .subcommand(Command::new("backup").about(backup).arg(copy))
        .subcommands(operator::commands())
        .subcommands(client::commands())
        .subcommands(manual::commands())
}

fn first_paragraph(text: &'static str) -> &'static str {
    text.lines().next().unwrap_or(text)
}

/// A flag for each setting of the native server.
fn flags(settings: &'static [Setting]) -> impl Iterator<Item = Arg> {
    let native = settings
        .iter()
        .filter(|setting| setting.is_on(Host::Native));
    native.flat_map(|setting| {
        let arg = flag(setting.variable.to_owned()).hide_env_values(setting.secret);
        let arg = match setting.unset {
            Unset::Value(text) => arg.help(setting.help()).default_value(text),
            Unset::Described(text) => arg.help(format!("{} [default: {text}]", setting.help())),
            Unset::Nothing => arg.help(setting.help()),
        };
        // They would say the same a dozen times.
        let file = secret_file::variable(setting).map(|variable| flag(variable).hide(true));
        [Some(arg), file].into_iter().flatten()
    })
}

/// The flag of a variable.
fn flag(variable: String) -> Arg {
    Arg::new(variable.clone())
        .long(variable.to_lowercase().replace('_', "-"))
        .env(variable)
        .value_parser(value_parser!(OsString))
}

/// The texts that flags and environment hold for these settings.
fn texts(
    matches: &ArgMatches,
    settings: impl IntoIterator<Item = &'static Setting>,
) -> Result<Texts, ConfigError> {
    let mut texts = Texts::new();
    for setting in settings {
        let variable = setting.variable;
        if matches.value_source(variable) == Some(ValueSource::DefaultValue) {
            continue;
        }
        if let Some(text) = matches.get_one::<OsString>(variable) {
            let text = text.to_str();
            let text = text.ok_or_else(|| ConfigError(format!("{variable} must be UTF-8")))?;
            texts.insert(variable, text.to_owned());
        }
    }
    Ok(texts)
}

/// The process's arguments. Prints help and version, and exits then.
///
/// # Errors
/// [`ConfigError`] for arguments that are not understood.
pub(crate) fn arguments() -> Result<ArgMatches, ConfigError> {
    command()
        .try_get_matches()
        .map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.exit(),
            _ => explain(&error),
        })
}

impl Cli {
    /// Reads the process's arguments and environment.
    ///
    /// # Errors
    /// [`ConfigError`] for a value that breaks its rule, without the value where that is a secret.
    pub(crate) fn read(matches: &ArgMatches) -> Result<Self, ConfigError> {
        let subcommand = matches.subcommand();
        // An agent starts it in whatever environment it runs in: HOST there is not this one.
        let is_agents = matches!(subcommand, Some(("mcp", _)));
        let is_demo = matches!(subcommand, Some((DEMO, _)));
        let is_read = |setting: &&'static Setting| {
            let name = setting.variable;
            let is_of_database = name.starts_with("DATABASE") || name.starts_with("DB_");
            setting.is_on(Host::Native)
                && (!is_agents || matches!(name, "LOG_FORMAT" | "RUST_LOG"))
                && !(is_demo && is_of_database)
        };
        let settings = || SETTINGS.iter().filter(is_read);
        let mut texts_of_server = texts(matches, settings())?;
        let named = |variable: &str| matches.get_one::<OsString>(variable).cloned();
        let files = Files::read(&mut texts_of_server, settings(), named)?;
        if is_demo {
            // Whatever is configured here, it shows invented agents and asks nobody for credentials.
            texts_of_server.insert("AUTH_MODE", "open".into());
        }
        let values =
            Values::read(Host::Native, texts_of_server).map_err(|error| files.explain(&error))?;
        let log = Log {
            format: values.log_format,
            filter: log_filter(&values.rust_log)?,
        };
        let misspelt = match subcommand {
            Some(("mcp", _)) => misspelt::variables(CLIENT_SETTINGS),
            Some(_) => Vec::new(),
            None => misspelt::variables(SETTINGS),
        };
        let mut warnings: Vec<String> = misspelt.iter().map(ToString::to_string).collect();
        let task = match subcommand {
            Some(("mcp", matches)) => {
                let mut texts = texts(matches, CLIENT_SETTINGS)?;
                let file = matches.get_one::<OsString>(KEY_FILE).cloned();
                let stored = ClientConfig::read()?;
                warnings.extend(stored.add_key(&mut texts, file)?);
                stored.complete(&mut texts);
                Task::Mcp {
                    values: ClientValues::read(Host::Native, texts)?,
                    is_read_only: matches.get_flag(READ_ONLY),
                }
            }
            Some((DEMO, _)) => Task::Serve(Box::new(Config {
                is_demo: true,
                ..Config::new(values)?
            })),
            Some((name @ (operator::KEY | operator::USER), matches)) => {
                let config = Config::new(values)?;
                if matches!(config.storage, Storage::Memory) {
                    misspelt::refuse_databases(&misspelt::variables(SETTINGS))?;
                }
                Task::Errand {
                    errand: Errand::new(name, matches),
                    config: Box::new(config),
                }
            }
            Some((name, matches)) => {
                let config = Config::new(values)?;
                let address = config.address();
                match (name, config.storage) {
                    ("health", _) => Task::Health {
                        address,
                        is_encrypted: config.tls.is_some(),
                    },
                    ("backup", Storage::Sqlite(database)) => Task::Backup {
                        database,
                        copy: matches.get_one(COPY).cloned().unwrap_or_default(),
                    },
                    ("backup", _) => {
                        return Err(ConfigError(
                            "DATABASE_URL must be the address of a SQLite file: what is copied"
                                .into(),
                        ));
                    }
                    ("restore-go-tables", Storage::Postgres(database)) => {
                        Task::RestoreGoTables(database)
                    }
                    (_, Storage::Postgres(database)) => Task::DropGoTables(database),
                    _ => {
                        return Err(ConfigError(
                            "DATABASE_URL or DB_NAME must be set: where the tables are".into(),
                        ));
                    }
                }
            }
            None => {
                let config = Config::new(values)?;
                if matches!(config.storage, Storage::Memory) {
                    misspelt::refuse_databases(&misspelt)?;
                }
                Task::Serve(Box::new(config))
            }
        };
        Ok(Self {
            log,
            task,
            warnings,
        })
    }
}

/// One line that says what is wrong with the arguments, and the nearest that would be right.
fn explain(error: &clap::Error) -> ConfigError {
    let text = error.to_string();
    // What is missing stands on lines of its own.
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    let nearest = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand]
        .into_iter()
        .find_map(|kind| match error.get(kind)? {
            ContextValue::String(nearest) => Some(nearest),
            ContextValue::Strings(nearest) => nearest.last(),
            _ => None,
        });
    ConfigError(match nearest {
        Some(nearest) => format!("{line}: did you mean '{nearest}'?"),
        None => line.to_owned(),
    })
}

fn log_filter(text: &str) -> Result<EnvFilter, ConfigError> {
    // A word that is no level would be taken for a module, and all others fall silent.
    let is_sure = |directive: &str| {
        directive.contains(['=', '[']) || LevelFilter::from_str(directive.trim()).is_ok()
    };
    let rule = "must be error, warn, info, debug, trace or off, or directives such as \
                info,kubeagents=debug";
    Some(text)
        .filter(|text| text.split(',').all(is_sure))
        .and_then(|text| EnvFilter::builder().parse(text).ok())
        .ok_or_else(|| ConfigError::refuse("RUST_LOG", text, rule))
}

impl Config {
    /// A configuration whose parts fit together.
    ///
    /// # Errors
    /// [`ConfigError`] for a database, a mail server or TLS that is configured twice or by half, for a proxy
    /// that cannot be used, and for a receiver of notifications that would be told nothing.
    fn new(values: Values) -> Result<Self, ConfigError> {
        let storage = match (Database::new(&values)?, &values.database_url) {
            (Some(database), _) => Storage::Postgres(Box::new(database)),
            (None, Some(DatabaseUrl::Sqlite(file))) => Storage::Sqlite(file.clone()),
            (None, _) => Storage::Memory,
        };
        let config = Self {
            storage,
            smtp: Smtp::new(&values)?,
            tls: tls::Files::new(
                values.tls_cert_file.as_deref(),
                values.tls_key_file.as_deref(),
            )?,
            proxies: Proxies::from_env()?,
            is_demo: false,
            values,
        };
        config.values.check_places(Host::Native, config.mode())?;
        Ok(config)
    }

    /// The address of the server's own page.
    pub(crate) fn own_url(&self) -> String {
        let (host, port) = (self.values.host, self.values.port);
        let scheme = self.scheme();
        match host.is_unspecified() {
            true => format!("{scheme}://localhost:{port}"),
            false => format!("{scheme}://{}", SocketAddr::new(host, port)),
        }
    }

    /// How the server is spoken to.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.tls {
            Some(_) => "https",
            None => "http",
        }
    }

    /// The address that people reach the page under.
    pub(crate) fn page_url(&self) -> String {
        let configured = self.values.app_base_url.clone();
        configured.unwrap_or_else(|| self.own_url())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.values.host, self.values.port)
    }

    /// What storage is.
    pub(crate) fn storage(&self) -> &'static str {
        match self.storage {
            Storage::Memory => "memory",
            Storage::Sqlite(_) => "sqlite",
            Storage::Postgres(_) => "postgres",
        }
    }

    /// Who may use the server.
    pub(crate) fn mode(&self) -> AuthMode {
        let of_this_machine = !matches!(self.storage, Storage::Postgres(_));
        self.values
            .mode(of_this_machine && self.values.host.is_loopback())
    }

    /// What the configuration means to the core.
    pub(crate) fn settings(&self, jwt_secret: String) -> Settings {
        Settings {
            values: self.values.clone(),
            host: Host::Native,
            mode: self.mode(),
            loopback_only: self.values.host.is_loopback(),
            own_url: Some(self.own_url()),
            jwt_secret,
        }
    }

    /// Warns of what works but is unwise.
    pub(crate) fn warn(&self, mode: AuthMode) {
        if mode == AuthMode::Open && !self.values.host.is_loopback() {
            tracing::warn!(
                "AUTH_MODE is open and HOST is not loopback: whoever reaches this server may report and read"
            );
        }
        if self.values.smtp_host.is_some()
            && self.values.app_base_url.is_none()
            && !self.values.host.is_loopback()
        {
            tracing::warn!(
                "APP_BASE_URL is not set: links in mails lead to this machine's localhost"
            );
        }
        for (variables, without, there) in [
            (
                &["HISTORY_RETENTION_DAYS"][..],
                "a database",
                !matches!(self.storage, Storage::Memory),
            ),
            (
                &["MAX_MEMORY_MIB"],
                "storage in memory",
                matches!(self.storage, Storage::Memory),
            ),
            (
                &["SMTP_PORT", "SMTP_USER", "SMTP_PASSWORD", "SMTP_FROM"],
                "SMTP_HOST",
                self.values.smtp_host.is_some(),
            ),
        ] {
            let set = variables
                .iter()
                .filter(|variable| self.values.is_set(variable));
            for variable in set.filter(|_| !there) {
                tracing::warn!("{variable} has no effect without {without}");
            }
        }
    }
}

impl Smtp {
    /// # Errors
    /// [`ConfigError`] for a mail server that is configured by half.
    fn new(values: &Values) -> Result<Option<Self>, ConfigError> {
        let rule = "must be an address such as kubeagents@example.com, with or without a name";
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| ConfigError::refuse("SMTP_FROM", text, rule))
        };
        let from = values.smtp_from.as_deref().map(parse).transpose()?;
        let Some(host) = values.smtp_host.clone() else {
            return Ok(None);
        };
        let credentials = match (values.smtp_user.clone(), values.smtp_password.clone()) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError(
                    "SMTP_PASSWORD must be set with SMTP_USER".into(),
                ));
            }
            (None, Some(_)) => {
                return Err(ConfigError(
                    "SMTP_USER must be set with SMTP_PASSWORD".into(),
                ));
            }
        };
        Ok(Some(Self {
            host,
            port: values.smtp_port,
            credentials,
            from: from.ok_or_else(|| ConfigError("SMTP_FROM must be set with SMTP_HOST".into()))?,
        }))
    }
}
