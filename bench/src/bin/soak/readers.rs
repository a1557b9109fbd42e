//! Those who read lists, and those who follow what happens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::Failure;
use crate::accounts::Account;
use crate::client::Client;

/// What a reader waits between two lists.
const PAUSE: Duration = Duration::from_millis(500);

/// What a follower waits before it comes back.
const REST: Duration = Duration::from_millis(500);

/// The longest silence of a stream that is alive; the server breaks it every 15 seconds.
const SILENCE: Duration = Duration::from_secs(40);

const SESSIONS: &str = "/api/sessions";

/// Reads lists and histories in turn until the end. Returns how many pages it has read.
pub(crate) async fn read(
    client: Client,
    account: Account,
    number: usize,
    end: Instant,
) -> Result<usize, Failure> {
    let paths = [
        "/api/agents",
        "/api/sessions?limit=200",
        "/api/sessions?state=active",
        "/api/agents/repeating-0/history?limit=2000",
    ];
    let mut pages = 0;
    while Instant::now() < end {
        let path = paths[pages % paths.len()];
        let sent = client.until_answered(
            number + pages,
            Method::GET,
            path,
            &account.key,
            &Value::Null,
        );
        let (status, answer, _) = sent.await;
        if status != StatusCode::OK && status != StatusCode::NOT_FOUND {
            return Err(format!("{path} was answered {status} {answer}").into());
        }
        pages += 1;
        sleep(PAUSE).await;
    }
    Ok(pages)
}

/// What is known of a session: its latest message by agent and topic.
pub(crate) type Sessions = HashMap<(String, String), String>;

/// What a follower has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) sessions: Sessions,
    pub(crate) events: usize,
    /// How often it came back.
    pub(crate) returns: usize,
    /// How often it had to load the lists again.
    pub(crate) resets: usize,
}

/// What a follower has seen so far.
pub(crate) type View = Arc<Mutex<Seen>>;

/// Follows an account's sessions, and comes back whenever a stream ends.
pub(crate) async fn follow(client: Client, account: Account, number: usize, view: View) -> Failure {
    let mut last = String::new();
    loop {
        // Half of them stay with their server.
        let server = match number % 4 < 2 {
            true => number,
            false => number + with(&view, |seen| seen.returns),
        };
        match stream(&client, &account, server, &mut last, &view).await {
            Ok(()) | Err(Ended::Broken) => sleep(REST).await,
            Err(Ended::Refused(failure)) => return failure,
        }
        with(&view, |seen| seen.returns += 1);
    }
}

/// Why a stream came to its end.
enum Ended {
    /// The server is away.
    Broken,
    /// It should have gone on.
    Refused(Failure),
}

async fn stream(
    client: &Client,
    account: &Account,
    server: usize,
    last: &mut String,
    view: &View,
) -> Result<(), Ended> {
    let headers: &[_] = match last.is_empty() {
        true => &[],
        false => &[("last-event-id", &**last)],
    };
    let opened = client.open(
        server,
        &Method::GET,
        "/api/events",
        &account.key,
        headers,
        Bytes::new(),
    );
    let mut answer = opened.await.map_err(|_| Ended::Broken)?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::SERVICE_UNAVAILABLE => return Err(Ended::Broken),
        status => {
            return Err(Ended::Refused(
                format!("a stream was answered {status}").into(),
            ));
        }
    }
    if last.is_empty() {
        load(client, account, view).await.map_err(Ended::Refused)?;
    }
    let mut unread = BytesMut::new();
    loop {
        let frame = timeout(SILENCE, answer.frame()).await;
        let frame = frame.map_err(|_| Ended::Refused("a stream fell silent".into()))?;
        let Some(Ok(frame)) = frame else {
            return Err(Ended::Broken);
        };
        if let Ok(data) = frame.into_data() {
            unread.extend_from_slice(&data);
        }
        while let Some(length) = unread.windows(2).position(|end| end == b"\n\n") {
            let event = unread.split_to(length + 2);
            let event = String::from_utf8_lossy(&event);
            let field = |name| event.lines().find_map(|line| line.strip_prefix(name));
            if let Some(id) = field("id: ") {
                id.clone_into(last);
            }
            match field("event: ") {
                Some("session") => {
                    let session = field("data: ").map(serde_json::from_str::<Value>);
                    let session = session.and_then(Result::ok).unwrap_or_default();
                    with(view, |seen| {
                        seen.events += 1;
                        note(&mut seen.sessions, &session);
                    });
                }
                Some("reset") => {
                    load(client, account, view).await.map_err(Ended::Refused)?;
                    with(view, |seen| seen.resets += 1);
                }
                _ => {}
            }
        }
    }
}

/// Loads all sessions.
async fn load(client: &Client, account: &Account, view: &View) -> Result<(), Failure> {
    let sessions = sessions(client, account).await?;
    with(view, |seen| seen.sessions = sessions);
    Ok(())
}

/// All sessions of an account, as its lists have them.
pub(crate) async fn sessions(client: &Client, account: &Account) -> Result<Sessions, Failure> {
    let mut sessions = Sessions::new();
    for session in client.rows(SESSIONS, &account.key, "sessions").await? {
        note(&mut sessions, &session);
    }
    Ok(sessions)
}

fn note(sessions: &mut Sessions, session: &Value) {
    let text = |name: &str| session[name].as_str().unwrap_or_default().to_owned();
    sessions.insert((text("agent_id"), text("session_topic")), text("message"));
}

/// Looks at, or changes, what a follower has seen.
pub(crate) fn with<T>(view: &View, act: impl FnOnce(&mut Seen) -> T) -> T {
    act(&mut view.lock().unwrap_or_else(PoisonError::into_inner))
}
