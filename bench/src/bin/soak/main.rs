//! A soak: servers under a steady load, while they and their database are killed again and again. In the
//! end it counts what was acknowledged against what is stored, told and shown.
//! usage: soak SERVER MINUTES [postgres|sqlite]
#![forbid(unsafe_code)]

mod accounts;
mod client;
mod faults;
mod readers;
mod receiver;
mod reporters;
mod servers;
mod verdict;

use std::env;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kubeagents_test_postgres::Cluster;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use accounts::Account;
use client::Client;
use faults::Site;
use readers::View;
use receiver::Receiver;
use servers::Server;

type Failure = Box<dyn Error + Send + Sync>;

const ACCOUNTS: usize = 4;

/// Reporters that repeat a report until it is acknowledged.
const REPEATING: usize = 32;

/// Reporters that send each report once.
const SINGLE: usize = 8;

const READERS: usize = 4;

const FOLLOWERS: usize = 8;

/// Everything that is under way while the soak lasts.
struct Load {
    reporters: Vec<JoinHandle<Result<reporters::Reported, Failure>>>,
    readers: Vec<JoinHandle<Result<usize, Failure>>>,
    followers: Vec<(usize, View, JoinHandle<Failure>)>,
    log_ins: JoinHandle<Result<usize, Failure>>,
    guesses: JoinHandle<Result<usize, Failure>>,
}

impl Load {
    fn start(client: &Client, accounts: &[Account], end: Instant) -> Self {
        let account = |number: usize| accounts[number % ACCOUNTS].clone();
        let repeating = (0..REPEATING).map(|number| {
            tokio::spawn(reporters::repeat(
                client.clone(),
                accounts.to_vec(),
                number,
                end,
            ))
        });
        let single = (0..SINGLE).map(|number| {
            tokio::spawn(reporters::once(
                client.clone(),
                accounts.to_vec(),
                number,
                end,
            ))
        });
        let readers = (0..READERS).map(|number| {
            tokio::spawn(readers::read(client.clone(), account(number), number, end))
        });
        let followers = (0..FOLLOWERS).map(|number| {
            let view = View::default();
            let following = readers::follow(client.clone(), account(number), number, view.clone());
            (number % ACCOUNTS, view, tokio::spawn(following))
        });
        Self {
            reporters: repeating.chain(single).collect(),
            readers: readers.collect(),
            followers: followers.collect(),
            log_ins: tokio::spawn(accounts::log_in(client.clone(), account(0), end)),
            guesses: tokio::spawn(accounts::guess(client.clone(), account(1), end)),
        }
    }
}

/// The microseconds since 1970.
fn micros_since_epoch() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let micros = now.map(|now| now.as_micros()).unwrap_or_default();
    u64::try_from(micros).unwrap_or(u64::MAX)
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (program, minutes, storage) = match &arguments[..] {
        [program, minutes] => (program, minutes, "postgres"),
        [program, minutes, storage] => (program, minutes, &**storage),
        _ => return Err("usage: soak SERVER MINUTES [postgres|sqlite]".into()),
    };
    let program = Path::new(program);
    let length = Duration::from_secs_f64(minutes.parse::<f64>()? * 60.0);
    let directory = tempfile::tempdir()?;
    let (receiver, address) = Receiver::start().await?;

    let site = match storage {
        "postgres" => {
            let cluster = Cluster::start(&[]);
            let database = cluster.url();
            let servers = vec![
                Server::start(program, &database)?,
                Server::start(program, &database)?,
            ];
            Site {
                servers,
                cluster: Some(cluster),
            }
        }
        "sqlite" => {
            let database = format!("sqlite:{}", directory.path().join("soak.db").display());
            Site {
                servers: vec![Server::start(program, &database)?],
                cluster: None,
            }
        }
        _ => return Err(format!("{storage} is neither postgres nor sqlite").into()),
    };
    let client = Client::new(site.servers.iter().map(Server::url).collect());
    let log = site.servers[0].log()?;
    let mut accounts = Vec::new();
    for number in 0..ACCOUNTS {
        let webhook = format!("http://{address}/{number}");
        accounts.push(Account::register(&client, &log, number, &webhook).await?);
    }

    let end = Instant::now() + length;
    let load = Load::start(&client, &accounts, end);
    let accounts = Arc::new(accounts);
    let befallen = tokio::task::spawn_blocking(move || faults::befall(site, length)).await??;
    verdict::reach(&client, &accounts, &receiver, load, befallen).await
}
