//! Recorded sequences of hooks, played through everything that is pure.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde_json::Value;

use super::*;
use crate::{Incoming, SessionHead, Snapshot, Timestamp, Unstored, Workspace};

/// Every recorded sequence, by its name.
pub(super) fn sequences() -> Vec<(String, Vec<Value>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/hooks");
    #[expect(clippy::disallowed_methods, reason = "the test reads what is recorded")]
    let files = std::fs::read_dir(folder).unwrap().map(|file| {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let steps = text.lines().map(|line| serde_json::from_str(line).unwrap());
        (
            path.file_name().unwrap().to_string_lossy().into_owned(),
            steps.collect(),
        )
    });
    files.collect()
}

/// What a hook leaves of a session, and whether that gets an entry in its history.
pub(super) fn play(intent: &Intent, before: &Snapshot, now: Timestamp) -> (Snapshot, bool) {
    let incoming = Incoming::from(intent.clone());
    match incoming.decide(&Workspace::Shared, before, now, 60) {
        Ok(decision) => (
            before.after(&decision.commit),
            decision.commit.status.is_some(),
        ),
        Err(Unstored::AlreadyReported | Unstored::SaysNothing) => (before.clone(), false),
        Err(unstored) => panic!("{unstored:?}: {intent:?}"),
    }
}

/// The intent of a recorded step.
pub(super) fn intent(step: &Value, body: &[u8], detail: Detail) -> Option<Intent> {
    let tool = Tool::parse(step["tool"].as_str().unwrap()).unwrap();
    let sequence = step["query"]["sequence"]
        .as_str()
        .map(|text| text.parse().unwrap());
    let host = step["query"]["host"]
        .as_str()
        .map(|host| ("host".to_owned(), host.to_owned()));
    let sender = Sender {
        sequence,
        context: host.into_iter().collect(),
        ..Sender::default()
    };
    Intent::read(tool, body, sender, detail).unwrap()
}

fn check(name: &str, place: usize, step: &Value, found: Option<&SessionHead>) {
    let at = format!("{name}:{}", place + 1);
    let Some(expected) = step["expect"].as_object() else {
        assert!(found.is_none(), "{at}: {found:?}");
        return;
    };
    let session = found.unwrap_or_else(|| panic!("{at}: no session"));
    for (field, value) in expected {
        let shown = match field.as_str() {
            "status" => session.status.as_str(),
            "reason" => &session.reason,
            "title" => &session.title,
            "message" => &session.message,
            other => panic!("{at}: {other}"),
        };
        assert_eq!(
            shown,
            value.as_str().unwrap(),
            "{at}: {field} of {session:?}"
        );
    }
    assert!(session.hook.len() <= super::state::MAX_BYTES);
}

/// Plays every sequence, each hook as this makes it.
fn play_all(hook: impl Fn(&Value) -> Option<Intent>) {
    // Sequences are microseconds, and not to be ahead of the clock.
    let start = Timestamp::from_timestamp(1_767_225_600, 0).unwrap();
    for (name, steps) in sequences() {
        let mut sessions: BTreeMap<String, Snapshot> = BTreeMap::new();
        for (place, step) in steps.iter().enumerate() {
            let now = start + TimeDelta::milliseconds(100 * place as i64);
            if let Some(intent) = hook(step) {
                assert_eq!(intent.event.session, step["session"].as_str().unwrap());
                let before = sessions.entry(intent.event.session.clone()).or_default();
                *before = play(&intent, before, now).0;
            }
            let session = sessions.get(step["session"].as_str().unwrap());
            let head = session.and_then(|session| session.session.as_ref());
            check(&name, place, step, head);
        }
    }
}

#[test]
fn recorded_sequences_lead_to_the_states_that_are_true() {
    play_all(|step| intent(step, step["body"].to_string().as_bytes(), Detail::Full));
}

#[test]
fn what_the_client_reduces_means_the_same() {
    play_all(|step| {
        let tool = Tool::parse(step["tool"].as_str().unwrap()).unwrap();
        let body = step["body"].to_string();
        let Some(reduced) = reduce(tool, body.as_bytes(), Detail::Full) else {
            assert_eq!(intent(step, body.as_bytes(), Detail::Full), None);
            return None;
        };
        assert!(reduced.json.len() < 2 << 10, "{}", reduced.json);
        let read = intent(step, reduced.json.as_bytes(), Detail::Full);
        assert_eq!(
            read,
            intent(step, body.as_bytes(), Detail::Full),
            "{}",
            reduced.json
        );
        read
    });
}
