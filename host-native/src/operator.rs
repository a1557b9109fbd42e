//! `kubeagents key` and `kubeagents user`: what an operator does where the database is.

mod password;

use std::array;
use std::io::{self, IsTerminal, Write};

use chrono::SecondsFormat;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use kubeagents_core::operator::{KeyOwner, KeyRequest, Operator, Refusal};
use kubeagents_core::store::AccountList;
use kubeagents_core::{Account, ApiKey, Store, Timestamp, WorkspaceChoice};
use unicode_width::UnicodeWidthStr;

use crate::client::ps::printable;
use crate::config::{Config, ConfigError, Storage};
use crate::ports::{SystemClock, SystemEntropy};
use crate::{postgres, sqlite};
use password::{PasswordError, Source, ask};

/// What is asked for, of an operator's commands.
pub(crate) enum Errand {
    MakeKey(NewKey),
    ListKeys {
        owner: Option<String>,
    },
    RevokeKey {
        owner: Option<String>,
        id: String,
    },
    AddUser {
        email: String,
        name: String,
        source: Source,
    },
    ListUsers,
    SetPassword {
        email: String,
        source: Source,
    },
    RemoveUser {
        email: String,
        is_sure: bool,
    },
}

/// The key that is asked for.
pub(crate) struct NewKey {
    owner: Option<String>,
    name: String,
    scopes: Vec<String>,
    expires_in: Option<i64>,
    is_shared: bool,
}

/// Why an errand is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ErrandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Refusal(#[from] Refusal),
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
}

impl ErrandError {
    /// Checks whether an argument or a setting is wrong.
    pub(crate) fn is_configuration(&self) -> bool {
        match self {
            Self::Config(_)
            | Self::Refusal(Refusal::Invalid(_))
            | Self::Postgres(postgres::OpenError::Config(_)) => true,
            Self::Sqlite(error) => error.is_configuration(),
            _ => false,
        }
    }
}

pub(crate) const KEY: &str = "key";
pub(crate) const USER: &str = "user";

const LIST: &str = "list";
const REVOKE: &str = "revoke";
const ADD: &str = "add";
const PASSWORD: &str = "password";
const REMOVE: &str = "remove";

/// The commands, for the program's help and arguments.
pub(crate) fn commands() -> [Command; 2] {
    let text = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help);
    let switch = |name, help| text(name, help).action(ArgAction::SetTrue);
    let about = "Make an API key where the database is, and print it.";
    let key = Command::new(KEY)
        .about(about)
        .long_about(format!(
            "{about}\n\nThe key alone goes to standard output. It works in the shared workspace, or with --user in \
             that account's, at once, also where a server runs. The settings say where the database is, as they do \
             for the server: kubeagents --database-url sqlite:kubeagents.db key."
        ))
        .args_conflicts_with_subcommands(true)
        .arg(
            text("user", "Address of the account that the key is for")
                .value_name("EMAIL")
                .global(true),
        )
        .arg(text("name", "What the key is called")
                .value_name("NAME")
                .default_value("made by the operator"))
        .arg(
            text("scopes", "What the key may do: report, read, or report,read")
                .value_name("SCOPES")
                .value_delimiter(',')
                .default_value("report"),
        )
        .arg(
            text("expires-in", "For how many days the key works; 0: for ever")
                .value_name("DAYS")
                .value_parser(value_parser!(i64)),
        )
        .arg(switch(
            "shared",
            "Have the key of a member work in the shared workspace",
        ).requires("user"))
        .subcommand(Command::new(LIST).about("List the keys for the shared workspace, or of an account."))
        .subcommand(
            Command::new(REVOKE)
                .about("Revoke a key: servers refuse it within 5 seconds.")
                .arg(Arg::new("ID").required(true).help("The key's id, as the list has it")),
        );
    let email = || {
        Arg::new("EMAIL")
            .required(true)
            .help("Address of the account")
    };
    let generate = || {
        switch(
            "generate",
            "Make a password, and print it; without this it is asked for, or read from standard input",
        )
    };
    let user = Command::new(USER)
        .about("Add, list and remove accounts where the database is.")
        .subcommand_required(true)
        .subcommand(
            Command::new(ADD)
                .about("Add an account, whose address counts as verified.")
                .arg(email())
                .arg(
                    text("name", "What to call its owner")
                        .value_name("NAME")
                        .default_value(""),
                )
                .arg(generate()),
        )
        .subcommand(Command::new(LIST).about("List the accounts."))
        .subcommand(
            Command::new(PASSWORD)
                .about("Give an account another password, and end its log-ins.")
                .arg(email())
                .arg(generate()),
        )
        .subcommand(
            Command::new(REMOVE)
                .about("Remove an account, its keys and everything in its workspace.")
                .arg(email())
                .arg(switch("yes", "Ask nothing")),
        );
    [key, user]
}

impl Errand {
    /// What the arguments of one of these commands ask for.
    pub(crate) fn new(name: &str, matches: &ArgMatches) -> Self {
        let (part, matches) = matches.subcommand().unwrap_or(("", matches));
        let text = |name: &str| matches.get_one::<String>(name).cloned();
        let given = |name: &str| text(name).unwrap_or_default();
        let owner = || text("user").filter(|email| !email.is_empty());
        let source = || match matches.get_flag("generate") {
            true => Source::Made,
            false => Source::Person,
        };
        match (name, part) {
            (KEY, LIST) => Self::ListKeys { owner: owner() },
            (KEY, REVOKE) => Self::RevokeKey {
                owner: owner(),
                id: given("ID"),
            },
            (KEY, _) => Self::MakeKey(NewKey {
                owner: owner(),
                name: given("name"),
                scopes: matches
                    .get_many::<String>("scopes")
                    .into_iter()
                    .flatten()
                    .map(|word| word.trim().to_owned())
                    .collect(),
                expires_in: matches.get_one("expires-in").copied(),
                is_shared: matches.get_flag("shared"),
            }),
            (_, ADD) => Self::AddUser {
                email: given("EMAIL"),
                name: given("name"),
                source: source(),
            },
            (_, PASSWORD) => Self::SetPassword {
                email: given("EMAIL"),
                source: source(),
            },
            (_, REMOVE) => Self::RemoveUser {
                email: given("EMAIL"),
                is_sure: matches.get_flag("yes"),
            },
            _ => Self::ListUsers,
        }
    }
}

/// Does an errand.
///
/// # Errors
/// [`ErrandError`].
pub(crate) async fn perform(errand: Errand, config: &Config) -> Result<(), ErrandError> {
    match &config.storage {
        Storage::Memory => Err(ConfigError(
            "DATABASE_URL must be set: without a database a server keeps accounts and keys in its own memory, \
             where no other process reaches them; KUBEAGENTS_API_KEY gives it a static key"
                .into(),
        )
        .into()),
        Storage::Sqlite(path) => {
            let store = sqlite::open_beside(path).await?;
            perform_on(&store, errand, config).await
        }
        Storage::Postgres(database) => {
            let pool = postgres::open(database, config.values.default_ttl_minutes).await?;
            let store = postgres::store(pool);
            perform_on(&store, errand, config).await
        }
    }
}

async fn perform_on<S: Store + AccountList>(
    store: &S,
    errand: Errand,
    config: &Config,
) -> Result<(), ErrandError> {
    let operator = Operator {
        store,
        clock: &SystemClock,
        entropy: &SystemEntropy,
        values: &config.values,
    };
    match errand {
        Errand::MakeKey(new) => {
            let request = KeyRequest {
                owner: owner(new.owner.as_deref()),
                name: new.name,
                expires_in: new.expires_in,
                scopes: Some(new.scopes),
                is_shared: new.is_shared,
            };
            let (key, text) = operator.make_key(request).await?;
            eprintln!("{}", described(&key, new.owner.as_deref()));
            print(&format!("{text}\n"))
        }
        Errand::ListKeys { owner: email } => {
            let keys = operator.keys(owner(email.as_deref())).await?;
            let now = chrono::Utc::now();
            let rows = keys.iter().map(|key| key_row(key, now));
            print(&table(KEY_HEADINGS, rows))
        }
        Errand::RevokeKey { owner: email, id } => {
            operator.revoke_key(owner(email.as_deref()), &id).await?;
            eprintln!("The key is revoked.");
            Ok(())
        }
        Errand::AddUser {
            email,
            name,
            source,
        } => {
            let password = ask(source, &SystemEntropy)?;
            let account = operator.add_account(&email, &name, &password).await?;
            eprintln!("The account {} is added.", account.email);
            show_made(source, &password)
        }
        Errand::ListUsers => {
            let accounts = operator.accounts().await.map_err(Refusal::from)?;
            let rows = accounts.iter().map(account_row);
            print(&table(USER_HEADINGS, rows))
        }
        Errand::SetPassword { email, source } => {
            let password = ask(source, &SystemEntropy)?;
            operator.set_password(&email, &password).await?;
            eprintln!("The password of {} is set.", printable(&email));
            show_made(source, &password)
        }
        Errand::RemoveUser { email, is_sure } => {
            if !is_sure {
                confirm(&email)?;
            }
            operator.remove_account(&email).await?;
            eprintln!("The account {} is removed.", printable(&email));
            Ok(())
        }
    }
}

fn owner(email: Option<&str>) -> KeyOwner<'_> {
    email.map_or(KeyOwner::Operator, KeyOwner::Account)
}

/// A password that was made is shown, once.
fn show_made(source: Source, password: &str) -> Result<(), ErrandError> {
    match source {
        Source::Made => print(&format!("{password}\n")),
        Source::Person => Ok(()),
    }
}

/// Has a person confirm that an account goes.
fn confirm(email: &str) -> Result<(), ErrandError> {
    if !io::stdin().is_terminal() {
        return Err(ConfigError("--yes must be given where nobody can be asked".into()).into());
    }
    eprint!(
        "The account {0}, its keys and everything in its workspace will be removed for good. Type its address to go \
         on: ",
        printable(email)
    );
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line);
    read.map_err(PasswordError::Input)?;
    match line.trim() == email {
        true => Ok(()),
        false => Err(ConfigError("nothing is removed".into()).into()),
    }
}

/// What a person is told of a new key.
fn described(key: &ApiKey, owner: Option<&str>) -> String {
    let place = match (key.workspace, owner) {
        (WorkspaceChoice::Own, Some(email)) => format!("in the workspace of {}", printable(email)),
        _ => "in the shared workspace".to_owned(),
    };
    let end = match key.expires_at {
        Some(end) => format!("until {}", instant(end)),
        None => "for ever".to_owned(),
    };
    format!(
        "The key {} works {place}, {end}, with the scopes {}. It is shown this once.",
        key.id,
        key.scopes.to_text()
    )
}

const KEY_HEADINGS: [&str; 7] = [
    "ID",
    "BEGINS",
    "STATE",
    "SCOPES",
    "WORKSPACE",
    "LAST USED",
    "NAME",
];

fn key_row(key: &ApiKey, now: Timestamp) -> [String; 7] {
    let state = match (key.revoked, key.expires_at) {
        (true, _) => "revoked".to_owned(),
        (false, Some(end)) if end <= now => "expired".to_owned(),
        (false, Some(end)) => format!("until {}", instant(end)),
        (false, None) => "valid".to_owned(),
    };
    [
        key.id.clone(),
        key.key_prefix.clone(),
        state,
        key.scopes.to_text(),
        key.workspace.as_str().to_owned(),
        key.last_used_at.map_or("never".to_owned(), instant),
        printable(&key.name),
    ]
}

const USER_HEADINGS: [&str; 4] = ["ADDRESS", "VERIFIED", "ADDED", "NAME"];

fn account_row(account: &Account) -> [String; 4] {
    let verified = match account.email_verified {
        true => "yes",
        false => "no",
    };
    [
        printable(&account.email),
        verified.to_owned(),
        instant(account.created_at),
        printable(&account.name),
    ]
}

/// Rows in columns below their headings.
fn table<const N: usize>(headings: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut all = vec![headings.map(str::to_owned)];
    all.extend(rows);
    let widths: [usize; N] = array::from_fn(|column| {
        let cells = all.iter().map(|row| row[column].width());
        cells.max().unwrap_or_default()
    });
    let lines = all.iter().map(|row| {
        let cells = row.iter().zip(widths);
        let padded = cells.map(|(text, width)| format!("{text}{:1$}  ", "", width - text.width()));
        let line: String = padded.collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

fn instant(time: Timestamp) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn print(text: &str) -> Result<(), ErrandError> {
    let mut output = io::stdout().lock();
    let written = output.write_all(text.as_bytes());
    let written = written.and_then(|()| output.flush());
    written.map_err(ErrandError::Output)
}
