//! What holds for any sequence of reports by any number of interleaved writers.

mod batch;

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta};
use futures_executor::block_on;
use kubeagents_core::store::{AgentQuery, CommitOutcome, MemoryStore, Sessions};
use kubeagents_core::{Commit, Report, SessionKey, Status, StatusKind, Workspace, decide};
use proptest::prelude::*;

/// One writer's next move: to read what its next report is decided on, or to commit that report.
#[derive(Debug, Clone)]
struct Move {
    writer: usize,
    topic: u8,
    status: StatusKind,
    ttl_minutes: Option<u32>,
    clock_skew_seconds: i64,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = (
        0..4usize,
        0..3u8,
        prop::sample::select(StatusKind::ALL.to_vec()),
        prop::option::of(1..1440u32),
        -120..120i64,
    )
        .prop_map(
            |(writer, topic, status, ttl_minutes, clock_skew_seconds)| Move {
                writer,
                topic,
                status,
                ttl_minutes,
                clock_skew_seconds,
            },
        );
    prop::collection::vec(one, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn histories_are_complete_and_in_order_and_counts_are_right(moves in moves()) {
        let store = MemoryStore::default();
        let workspace = Workspace::Shared;
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut pending: HashMap<usize, Commit> = HashMap::new();
        let mut landed: HashMap<String, Vec<String>> = HashMap::new();
        let mut clock_errors = HashSet::new();
        let mut conflicts = 0;
        let mut now = start;
        for (n, one) in moves.iter().enumerate() {
            now = start + TimeDelta::seconds(n as i64) + TimeDelta::seconds(one.clock_skew_seconds);
            if let Some(commit) = pending.remove(&one.writer) {
                match block_on(store.commit(&commit)).unwrap() {
                    CommitOutcome::Committed => landed
                        .entry(commit.key.session_topic.clone())
                        .or_default()
                        .push(commit.status.unwrap().message.clone()),
                    CommitOutcome::Conflict => conflicts += 1,
                    CommitOutcome::Refused(quota) => panic!("{quota}"),
                }
                continue;
            }
            let report = Report { message: format!("{n}"), ttl_minutes: one.ttl_minutes, ..Report::new("a", format!("t{}", one.topic), one.status) };
            let snapshot = block_on(store.load(&report.session_key(&workspace))).unwrap();
            let decision = decide(&workspace, &report, &snapshot, now, 60).unwrap();
            let head = snapshot.session;
            prop_assert_eq!(
                decision.transition.is_some(),
                head.is_some_and(|head| head.status == StatusKind::Running)
                    && one.status != StatusKind::Running
            );
            if let Some(transition) = &decision.transition {
                prop_assert!(transition.duration >= TimeDelta::zero());
            }
            if decision.clock_error.is_some() {
                clock_errors.insert(format!("{n}"));
            }
            pending.insert(one.writer, decision.commit);
        }

        let mut active = 0;
        for (topic, messages) in &landed {
            let key = SessionKey {
                workspace: workspace.clone(),
                agent_id: "a".into(),
                session_topic: topic.clone(),
            };
            let found = block_on(store.session(&key, None, 10_000)).unwrap().unwrap();
            let history: Vec<_> = found.history.items.iter().rev().collect();
            let stored: Vec<&str> = history.iter().map(|status| status.entry.message.as_str()).collect();
            prop_assert_eq!(stored, messages.iter().map(String::as_str).collect::<Vec<_>>());
            let follows = |pair: &[&Status]| {
                pair[0].entry.timestamp <= pair[1].entry.timestamp || clock_errors.contains(&pair[1].entry.message)
            };
            prop_assert!(history.windows(2).all(follows));
            prop_assert!(history.iter().zip(1..).all(|(status, seq)| status.seq == seq));
            prop_assert_eq!(found.session.last_updated, history.last().unwrap().entry.timestamp);
            prop_assert_eq!(found.session.current_status, history.last().unwrap().entry.status);
            active += u64::from(!found.session.is_expired(now));
        }
        let total: usize = landed.values().map(Vec::len).sum();
        let commits = moves.len() - total - conflicts - pending.len();
        prop_assert_eq!(commits, total + conflicts, "every move was a load or a commit");
        let query = AgentQuery { limit: 10, ..AgentQuery::default() };
        let agents = block_on(store.agents(&workspace, &query, now)).unwrap().items;
        if total > 0 {
            prop_assert_eq!(agents.len(), 1);
            prop_assert_eq!(agents[0].session_count, landed.len() as u64);
            prop_assert_eq!(agents[0].active_session_count, active);
        }
    }
}
