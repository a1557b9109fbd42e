//! What was acknowledged, against what is stored, told and shown.

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::accounts::Account;
use crate::client::Client;
use crate::faults::Befallen;
use crate::readers::{self, Sessions};
use crate::receiver::Receiver;
use crate::reporters::{Reported, Session};
use crate::{Failure, Load};

/// How long the last notifications may take: a message whose second attempt fails too waits five minutes
/// for the third.
const TELLING: Duration = Duration::from_secs(420);

/// How long the last events may take.
const SHOWING: Duration = Duration::from_secs(30);

/// Between two looks at what has arrived.
const LOOK: Duration = Duration::from_millis(500);

/// How much memory a server may gain, in KiB.
const GAIN: u64 = 32 * 1024;

/// What is wrong with the statuses that are stored.
#[derive(Default)]
struct Stored {
    statuses: usize,
    lost: usize,
    doubled: usize,
    /// Statuses that nobody reported, or out of their order.
    wrong: usize,
}

impl Stored {
    fn compare(&mut self, session: &Session, stored: &[String]) {
        self.statuses += stored.len();
        let mut times: HashMap<&str, usize> = HashMap::new();
        for message in stored {
            *times.entry(message).or_default() += 1;
        }
        self.doubled += times.values().map(|times| times - 1).sum::<usize>();
        let acknowledged = session
            .reports
            .iter()
            .filter(|report| report.is_acknowledged);
        self.lost += acknowledged
            .filter(|report| !times.contains_key(&*report.message))
            .count();
        let place = |message: &String| {
            session
                .reports
                .iter()
                .position(|report| report.message == *message)
        };
        let places: Vec<_> = stored.iter().map(place).collect();
        if places.contains(&None) || !places.is_sorted() {
            self.wrong += 1;
        }
    }
}

/// Waits until everything has ended, counts, and prints what came of it.
pub(crate) async fn reach(
    client: &Client,
    accounts: &[Account],
    receiver: &Receiver,
    load: Load,
    befallen: Befallen,
) -> Result<ExitCode, Failure> {
    let mut reported = Reported::default();
    for reporter in load.reporters {
        let more = reporter.await??;
        reported.sessions.extend(more.sessions);
        reported.took.extend(more.took);
        reported.failed_attempts += more.failed_attempts;
    }
    let mut pages = 0;
    for reader in load.readers {
        pages += reader.await??;
    }
    let (log_ins, limited) = (load.log_ins.await??, load.guesses.await??);

    let mut stored = Stored::default();
    let mut transitions = HashSet::new();
    for session in &reported.sessions {
        let messages = history(client, accounts, session).await?;
        stored.compare(session, &messages);
        let told = session.reports.iter().filter(|report| report.is_transition);
        transitions.extend(
            told.filter(|report| messages.contains(&report.message))
                .map(|report| &*report.message),
        );
    }

    let (start, mut told) = (Instant::now(), receiver.messages());
    let is_untold =
        |told: &HashMap<String, usize>| transitions.iter().any(|m| !told.contains_key(*m));
    while is_untold(&told) && start.elapsed() < TELLING {
        sleep(LOOK).await;
        told = receiver.messages();
    }
    let untold = transitions
        .iter()
        .filter(|message| !told.contains_key(**message))
        .count();
    let untrue = told
        .keys()
        .filter(|message| !transitions.contains(&***message))
        .count();
    let repeated: usize = told.values().map(|times| times - 1).sum();

    let mut behind = 0;
    let (mut events, mut returns, mut resets) = (0, 0, 0);
    for (account, view, following) in load.followers {
        let is = readers::sessions(client, &accounts[account]).await?;
        let start = Instant::now();
        let lags = || readers::with(&view, |seen| differences(&is, &seen.sessions));
        while lags() > 0 && start.elapsed() < SHOWING {
            sleep(LOOK).await;
        }
        behind += lags();
        if following.is_finished() {
            return Err(following.await?);
        }
        following.abort();
        readers::with(&view, |seen| {
            events += seen.events;
            returns += seen.returns;
            resets += seen.resets;
        });
    }

    reported.took.sort_unstable();
    let took = |share: usize| {
        let place = (reported.took.len() * share / 100).min(reported.took.len().saturating_sub(1));
        reported.took.get(place).copied().unwrap_or_default() as f64 / 1000.0
    };
    let acknowledged = reported.took.len();
    let (early, late) = befallen.memory;
    println!(
        "faults         {} servers killed, {} restarted, {} databases killed",
        befallen.kills, befallen.restarts, befallen.database_kills
    );
    println!(
        "reports        {acknowledged} acknowledged, p50 {:.1} ms, p99 {:.1} ms; {} attempts failed",
        took(50),
        took(99),
        reported.failed_attempts
    );
    println!(
        "stored         {} statuses of {} sessions: {} lost, {} doubled, {} histories wrong",
        stored.statuses,
        reported.sessions.len(),
        stored.lost,
        stored.doubled,
        stored.wrong
    );
    println!(
        "notifications  {} due: {untold} untold, {untrue} untrue; {repeated} repeated",
        transitions.len()
    );
    println!(
        "followers      {events} events, {returns} returns, {resets} resets: {behind} sessions not as they are"
    );
    println!("readers        {pages} pages");
    println!("log-ins        {log_ins} right; {limited} guesses refused unseen");
    println!(
        "memory         {:.1} MiB early, {:.1} MiB at the end",
        early as f64 / 1024.0,
        late as f64 / 1024.0
    );
    let is_right = acknowledged > 0
        && stored.lost + stored.doubled + stored.wrong + untold + untrue + behind == 0
        && late <= early + GAIN;
    println!("{}", if is_right { "right" } else { "wrong" });
    drop(befallen.site);
    Ok(if is_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The messages of a session's history, oldest first.
async fn history(
    client: &Client,
    accounts: &[Account],
    session: &Session,
) -> Result<Vec<String>, Failure> {
    let key = &accounts[session.account].key;
    let path = format!("/api/agents/{}/sessions/{}", session.agent, session.topic);
    // A session whose only reports failed may not be there.
    if !session.reports.iter().any(|report| report.is_acknowledged) {
        return Ok(Vec::new());
    }
    let statuses = client.rows(&path, key, "status_history").await?;
    let message = |status: &Value| status["message"].as_str().unwrap_or_default().to_owned();
    Ok(statuses.iter().rev().map(message).collect())
}

fn differences(is: &Sessions, seen: &Sessions) -> usize {
    let wrong = is
        .iter()
        .filter(|(session, message)| seen.get(*session) != Some(message));
    wrong.count()
}
