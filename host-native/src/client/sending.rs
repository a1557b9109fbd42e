//! Sending an event, and the process that sends one where none can wait.

use std::env;
use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use kubeagents_core::hook::Tool;
use tokio::time::sleep;

use super::blocking;
use super::config::{ClientConfig, KEY, normalised};
use super::outlet::fingerprint;
use super::server::Server;
use super::spool::{Destination, Event};

/// How often to try where nothing is kept, and the first pause between.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// What became of an attempt to send an event.
pub(super) enum Outcome {
    /// It is stored.
    Stored {
        /// For how many minutes, where the server says so.
        ttl_minutes: Option<u64>,
    },
    /// It never will be stored.
    Refused,
    /// It may be stored another time.
    Unavailable,
}

/// Checks whether a path is one of reports: who can write into a spool calls nothing else with its owner's
/// key.
fn is_of_report(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let tool = path.strip_prefix("/hooks/");
    path == "/webhook/status" || tool.is_some_and(|tool| Tool::parse(tool).is_some())
}

/// Sends an event under its number.
pub(super) async fn send(server: &Server, event: Event, number: u64) -> Outcome {
    if !is_of_report(&event.message.path) {
        return Outcome::Refused;
    }
    let message = event.message.numbered(number);
    let body = Bytes::from(message.body.to_string());
    let Ok(answer) = server.ask(Method::POST, &message.path, body).await else {
        return Outcome::Unavailable;
    };
    // What stands between may answer anything, also that all is well.
    match (answer.own_of_report(), answer.status) {
        (Some(_), StatusCode::OK) => Outcome::Stored {
            ttl_minutes: answer.ttl_minutes,
        },
        // A key that is refused may be mended.
        (
            Some(_),
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::CONFLICT,
        ) => Outcome::Refused,
        _ => Outcome::Unavailable,
    }
}

/// What shows a key to a server.
pub(super) fn authorization(key: &str) -> Option<HeaderValue> {
    let mut authorization = HeaderValue::try_from(format!("Bearer {key}")).ok()?;
    authorization.set_sensitive(true);
    Some(authorization)
}

/// The stored key, where this is the address that it is stored for.
pub(super) fn stored_key(url: &str) -> Option<HeaderValue> {
    let stored = ClientConfig::read_leniently(&mut Vec::new()).ok()?;
    let is_its = normalised(stored.url).as_deref() == Some(url);
    authorization(&stored.key?).filter(|_| is_its)
}

/// Sends the event that comes on standard input with its number, for as long as that is worth it.
pub(super) fn run() -> ExitCode {
    // So that it does not end with the terminal or the agent that it was started from.
    let _ = rustix::process::setsid();
    match send_input() {
        Some(()) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

fn send_input() -> Option<()> {
    let mut input = Vec::new();
    std::io::stdin().lock().read_to_end(&mut input).ok()?;
    let (number, event): (u64, Event) = serde_json::from_slice(&input).ok()?;
    let server = Server::new(event.to.url.clone(), key(&event.to)?).ok()?;
    blocking(async {
        for attempt in 0..ATTEMPTS {
            match send(&server, event.clone(), number).await {
                Outcome::Stored { .. } => return Some(()),
                Outcome::Refused => return None,
                Outcome::Unavailable => sleep(PAUSE * 2_u32.pow(attempt)).await,
            }
        }
        None
    })
    .ok()?
}

/// The key for a server, if there is one; `None` where the one is not known that it must be.
fn key(to: &Destination) -> Option<Option<HeaderValue>> {
    match &to.key {
        None => Some(stored_key(&to.url)),
        Some(expected) => {
            let given = env::var(KEY)
                .ok()
                .filter(|key| fingerprint(key) == *expected)?;
            Some(authorization(&given))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_reports_is_sent() {
        for path in [
            "/hooks/claude-code?agent_id=a&host=h",
            "/hooks/codex",
            "/webhook/status",
        ] {
            assert!(is_of_report(path), "{path}");
        }
        for path in [
            "/api/channels",
            "/hooks/../api/channels",
            "/hooks/codex/../../api/channels?x",
            "/hooks/",
            "/webhook/status/",
            "@elsewhere.example.com/webhook/status",
            "",
        ] {
            assert!(!is_of_report(path), "{path}");
        }
    }
}
