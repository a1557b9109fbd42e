//! The contract, put to the Spin component: in both modes, on SQLite and on PostgreSQL, with
//! instances reused as Spin does and thrown away early.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::process::ExitCode;
use std::time::Duration;

use kubeagents_contract::{
    Arguments, Host, Log, MEMBERS, Mode, Receiver, SETTINGS, Trial, run, trials,
};
use kubeagents_spin_tests::{Built, Options, Reuse, SpinHost};
use kubeagents_test_postgres::Database;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use url::Url;

const API_KEY: &str = "static-key-0123456789";
const JWT_SECRET: &str = "a secret of more than thirty-two bytes";

/// Longest time that another instance may go on accepting what was revoked in one.
const REVOCATION_DELAY: Duration = Duration::from_secs(5);

/// Instances that live for many requests, for one, and for a few.
const MIXED: [Reuse; 3] = [
    Reuse::SPIN,
    Reuse::NONE,
    Reuse {
        requests: 5,
        concurrent: 3,
    },
];

struct Hosts {
    built: Built,
    running: Vec<SpinHost>,
    runtime: Runtime,
    directories: Vec<TempDir>,
    databases: Vec<Database>,
    trials: Vec<Trial>,
}

impl Hosts {
    /// Starts the application and adds the contract's trials against it.
    fn add(&mut self, name: &str, mode: Mode, reuse: &[Reuse], variables: &[(&str, &str)]) {
        let directory = tempfile::tempdir().unwrap();
        let receiver = Receiver::start();
        let mut options = Options::new(directory.path())
            .variable(
                "auth_mode",
                if mode == Mode::Open {
                    "open"
                } else {
                    "required"
                },
            )
            .variable("api_key", API_KEY)
            .variable("jwt_secret", JWT_SECRET)
            .variable(&MEMBERS.0.to_lowercase(), MEMBERS.1)
            .variable("notification_host", "http://127.0.0.1:*")
            .variable("notification_webhook_url", receiver.instance_url())
            // On a busy machine a notification may take long, which must not look like a delay by
            // another one.
            .variable("notification_timeout_seconds", "60")
            .variable("jwt_access_token_expiry", "20m");
        for (name, value) in variables {
            options = options.variable(name, *value);
        }
        options.reuse = reuse.to_vec();
        let start = SpinHost::start(&self.built.manifest, &self.built.compiled, &options);
        let spin = self.runtime.block_on(start).unwrap();
        let mut host = Host::new(spin.url(), mode);
        host.static_key = Some(API_KEY.to_owned());
        host.jwt_secret = Some(JWT_SECRET.to_owned());
        host.log = Some(Log::file(options.log()));
        host.instance_receiver = Some(receiver);
        host.access_token_expiry = Duration::from_secs(20 * 60);
        host.streams = false;
        host.has_members = true;
        host.counts_deliveries_together = !name.starts_with("postgres");
        host.has_settings = name == "configured";
        host.revocation_delay = REVOCATION_DELAY;
        self.trials.extend(trials(&host, name));
        self.running.push(spin);
        self.directories.push(directory);
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut hosts = Hosts {
        built: Built::new().unwrap(),
        running: Vec::new(),
        runtime: Runtime::new().unwrap(),
        directories: Vec::new(),
        databases: Vec::new(),
        trials: Vec::new(),
    };
    hosts.add("sqlite_open", Mode::Open, &[Reuse::SPIN], &[]);
    hosts.add("sqlite_required", Mode::Required, &MIXED, &[]);
    let settings = SETTINGS.map(|(name, value)| (name.to_lowercase(), value));
    let settings = settings
        .each_ref()
        .map(|(name, value)| (name.as_str(), *value));
    hosts.add("configured", Mode::Required, &[Reuse::SPIN], &settings);
    for (name, mode) in [
        ("postgres_open", Mode::Open),
        ("postgres_required", Mode::Required),
    ] {
        let database = kubeagents_test_postgres::database();
        let url = Url::parse(&database.url()).unwrap();
        let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
        let variables = [("database_url", url.as_str()), ("database_host", &address)];
        hosts.add(name, mode, &[Reuse::SPIN], &variables);
        hosts.databases.push(database);
    }
    let conclusion = run(arguments, std::mem::take(&mut hosts.trials));
    drop(hosts);
    conclusion.exit_code()
}
