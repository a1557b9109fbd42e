//! Reports, and what of them was acknowledged.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::accounts::Account;
use crate::client::Client;
use crate::{Failure, micros_since_epoch};

/// Reports on one session. The last one ends it.
const REPORTS: usize = 500;

/// One report in so many is a transition from `running`, which is notified.
const TRANSITION: usize = 20;

/// What a reporter waits between two reports.
const PAUSE: Duration = Duration::from_millis(100);

const PATH: &str = "/webhook/status";

/// A session, and the messages of the reports on it, in their order.
pub(crate) struct Session {
    pub(crate) account: usize,
    pub(crate) agent: String,
    pub(crate) topic: String,
    pub(crate) reports: Vec<Report>,
    /// Whether each report was sent until it was acknowledged.
    pub(crate) is_repeated: bool,
}

/// A report.
pub(crate) struct Report {
    pub(crate) message: String,
    pub(crate) is_transition: bool,
    /// Whether it was answered 200.
    pub(crate) is_acknowledged: bool,
}

/// What a reporter has done.
#[derive(Default)]
pub(crate) struct Reported {
    pub(crate) sessions: Vec<Session>,
    /// How long each acknowledged report took, attempts that failed included, in µs.
    pub(crate) took: Vec<u64>,
    /// Attempts that were not answered, or with 503.
    pub(crate) failed_attempts: usize,
}

/// Reports on one session after the other until the end, each report until it is acknowledged: its
/// `sequence` keeps a repetition from being stored twice.
pub(crate) async fn repeat(
    client: Client,
    accounts: Vec<Account>,
    number: usize,
    end: Instant,
) -> Result<Reported, Failure> {
    let mut reported = Reported::default();
    let mut sequence = 0;
    while Instant::now() < end {
        let mut session = session(&accounts, "repeating", number, reported.sessions.len());
        session.is_repeated = true;
        for place in 0..REPORTS {
            if Instant::now() >= end {
                break;
            }
            sequence = micros_since_epoch().max(sequence + 1);
            let (report, mut body) = report(&session, place);
            body["sequence"] = json!(sequence);
            body["context"] = json!({"host": "soak"});
            let start = Instant::now();
            let token = &accounts[session.account].key;
            let sent = client.until_answered(number, Method::POST, PATH, token, &body);
            let (status, answer, attempts) = sent.await;
            if status != StatusCode::OK {
                return Err(format!("a report was answered {status} {answer}").into());
            }
            reported
                .took
                .push(u64::try_from(start.elapsed().as_micros())?);
            reported.failed_attempts += attempts - 1;
            session.reports.push(Report {
                is_acknowledged: true,
                ..report
            });
            sleep(PAUSE).await;
        }
        reported.sessions.push(session);
    }
    Ok(reported)
}

/// Reports on one session after the other until the end, each report once.
pub(crate) async fn once(
    client: Client,
    accounts: Vec<Account>,
    number: usize,
    end: Instant,
) -> Result<Reported, Failure> {
    let mut reported = Reported::default();
    while Instant::now() < end {
        let mut session = session(&accounts, "single", number, reported.sessions.len());
        for place in 0..REPORTS {
            if Instant::now() >= end {
                break;
            }
            let (mut report, body) = report(&session, place);
            let start = Instant::now();
            let token = &accounts[session.account].key;
            let server = number + place;
            match client.once(server, &Method::POST, PATH, token, &body).await {
                Ok((StatusCode::OK, _)) => {
                    reported
                        .took
                        .push(u64::try_from(start.elapsed().as_micros())?);
                    report.is_acknowledged = true;
                }
                Ok((StatusCode::SERVICE_UNAVAILABLE, _)) | Err(_) => reported.failed_attempts += 1,
                Ok((status, answer)) => {
                    return Err(format!("a report was answered {status} {answer}").into());
                }
            }
            session.reports.push(report);
            sleep(PAUSE).await;
        }
        reported.sessions.push(session);
    }
    Ok(reported)
}

fn session(accounts: &[Account], kind: &str, number: usize, place: usize) -> Session {
    Session {
        account: number % accounts.len(),
        agent: format!("{kind}-{}", number / accounts.len()),
        topic: format!("{kind}-{number}-{place}"),
        reports: Vec::new(),
        is_repeated: false,
    }
}

fn report(session: &Session, place: usize) -> (Report, Value) {
    let status = match place % TRANSITION {
        _ if place == REPORTS - 1 => "success",
        last if last == TRANSITION - 1 => "pending",
        _ => "running",
    };
    let message = format!("{} {place}", session.topic);
    let body = json!({
        "agent_id": session.agent,
        "session_topic": session.topic,
        "status": status,
        "timestamp": "2026-01-01T00:00:00Z",
        "message": message,
    });
    let report = Report {
        message,
        is_transition: status != "running",
        is_acknowledged: false,
    };
    (report, body)
}
