//! The HTTP contract against the real binary, with its storage in memory, in SQLite and in PostgreSQL.

use std::error::Error;
use std::process::{Command, ExitCode};
use std::time::Duration;

use kubeagents_contract::{
    Arguments, Host, MEMBERS, Mode, Process, Receiver, SETTINGS, Trial, run, trials,
};
use kubeagents_test_postgres::database;

const STATIC_KEY: &str = "static-key-of-the-contract";
const JWT_SECRET: &str = "signs the tokens of the contract's servers";

/// Long enough for a binary to start on a machine that is busy building others.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Where it matters that another host has answered the request before.
const AREAS_OF_TWO_HOSTS: [&str; 8] = [
    "sessions",
    "tokens",
    "api_keys",
    "channels",
    "reports",
    "report_fields",
    "queries",
    "events",
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::from_args();
    let (_open, open) = server(Mode::Open, &[])?;
    let (_required, required) = server(
        Mode::Required,
        &[
            ("AUTH_MODE", "required"),
            ("JWT_ACCESS_TOKEN_EXPIRY", "10m"),
            ("NOTIFICATION_ALLOW_PRIVATE_ADDRESSES", "true"),
        ],
    )?;
    let directory = tempfile::tempdir()?;
    let file = |name| format!("sqlite://{}", directory.path().join(name).display());
    let (_open_sqlite, open_sqlite) = server(Mode::Open, &[("DATABASE_URL", &file("open.db"))])?;
    let (_required_sqlite, required_sqlite) = server(
        Mode::Required,
        &[
            ("DATABASE_URL", &file("required.db")),
            ("AUTH_MODE", "required"),
            ("JWT_ACCESS_TOKEN_EXPIRY", "10m"),
            ("NOTIFICATION_ALLOW_PRIVATE_ADDRESSES", "true"),
        ],
    )?;
    let databases = [database(), database(), database()];
    let (_open_postgres, open_postgres) = server(
        Mode::Open,
        &[("DATABASE_URL", &databases[0].url()), ("AUTH_MODE", "open")],
    )?;
    let (_required_postgres, required_postgres) = server(
        Mode::Required,
        &[
            ("DATABASE_URL", &databases[1].url()),
            ("JWT_ACCESS_TOKEN_EXPIRY", "10m"),
            ("NOTIFICATION_ALLOW_PRIVATE_ADDRESSES", "true"),
        ],
    )?;
    let shared = [
        ("DATABASE_URL", &*databases[2].url()),
        ("JWT_ACCESS_TOKEN_EXPIRY", "10m"),
        ("NOTIFICATION_ALLOW_PRIVATE_ADDRESSES", "true"),
    ];
    let (beside, two) = server(Mode::Required, &shared)?;
    let (_beside, two) = another(&beside, two, &shared)?;
    let settings = [
        &[
            ("AUTH_MODE", "required"),
            ("NOTIFICATION_ALLOW_PRIVATE_ADDRESSES", "true"),
        ],
        &SETTINGS[..],
    ]
    .concat();
    let (_configured, configured) = server(Mode::Required, &settings)?;
    let required = Host {
        access_token_expiry: Duration::from_secs(10 * 60),
        ..required
    };
    let required_sqlite = Host {
        access_token_expiry: Duration::from_secs(10 * 60),
        ..required_sqlite
    };
    let required_postgres = Host {
        access_token_expiry: Duration::from_secs(10 * 60),
        ..required_postgres
    };
    let two = Host {
        access_token_expiry: Duration::from_secs(10 * 60),
        revocation_delay: Duration::from_secs(5),
        ..two
    };
    let configured = Host {
        has_settings: true,
        ..configured
    };

    let matters = |trial: &Trial| {
        let mut areas = AREAS_OF_TWO_HOSTS.iter();
        areas.any(|area| {
            trial
                .name()
                .starts_with(&format!("postgres_two_hosts::{area}::"))
        })
    };
    let mut all = trials(&two, "postgres_two_hosts");
    all.retain(matters);
    all.extend(trials(&open, "open"));
    all.extend(trials(&required, "required"));
    all.extend(trials(&configured, "configured"));
    all.extend(trials(&open_sqlite, "sqlite_open"));
    all.extend(trials(&required_sqlite, "sqlite_required"));
    all.extend(trials(&open_postgres, "postgres_open"));
    all.extend(trials(&required_postgres, "postgres_required"));
    Ok(run(arguments, all).exit_code())
}

/// Starts a server on a free port, with nothing but these variables in its environment.
fn server(mode: Mode, environment: &[(&str, &str)]) -> Result<(Process, Host), Box<dyn Error>> {
    let receiver = Receiver::start();
    let process = Process::start(&mut command(&receiver, environment))?;
    let host = Host {
        static_key: Some(STATIC_KEY.to_owned()),
        jwt_secret: Some(JWT_SECRET.to_owned()),
        log: Some(process.log()),
        instance_receiver: Some(receiver),
        has_members: true,
        ..Host::new(address(&process, &[])?, mode)
    };
    Ok((process, host))
}

/// Starts another server beside one, to which every other request goes from now on.
fn another(
    first: &Process,
    mut host: Host,
    environment: &[(&str, &str)],
) -> Result<(Process, Host), Box<dyn Error>> {
    let receiver = host.instance_receiver.as_ref().ok_or("no receiver")?;
    let process = first.start_beside(&mut command(receiver, environment))?;
    let url = address(&process, &host.urls)?;
    host.urls.push(url);
    Ok((process, host))
}

fn command(receiver: &Receiver, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubeagents"));
    command
        .env_clear()
        .env("PORT", "0")
        .env("KUBEAGENTS_API_KEY", STATIC_KEY)
        .env("JWT_SECRET", JWT_SECRET)
        .env(MEMBERS.0, MEMBERS.1)
        .env("NOTIFICATION_WEBHOOK_URL", receiver.instance_url())
        .envs(environment.iter().copied());
    command
}

/// The base URL that the log tells of, besides those known.
fn address(process: &Process, known: &[String]) -> Result<String, Box<dyn Error>> {
    let logged = |line: &str| {
        let (_, rest) = line.split_once("listening address=")?;
        let address = rest.split_whitespace().next()?.to_owned();
        (!known.contains(&address)).then_some(address)
    };
    let listening = process
        .log()
        .wait_for(START_DEADLINE, |line| logged(line).is_some());
    logged(&listening).ok_or_else(|| "no address is logged".into())
}
