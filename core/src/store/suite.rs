//! What every [`Store`] must do, as test cases generic over it.
//!
//! A case is an `async fn(&S, &str)`: the store, shared with other cases and possibly with earlier
//! runs, and a tag that is unique to this call, from which the case makes its workspaces, accounts
//! and addresses. [`store_suite!`](crate::store_suite) makes a `#[test]` of each case. A case panics
//! with what it saw.

#![expect(
    clippy::unwrap_used,
    reason = "a case fails by panicking, like any test"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::{
    AgentQuery, Audience, CommitOutcome, Expiry, HistoryCursor, LeaseRequest, MemoryStore, Page,
    Registration, SessionQuery, Store,
};
use crate::{
    AccountId, Agent, ApiKey, NewAccount, Notification, RefreshToken, Report, Scopes, Session,
    SessionKey, Status, StatusKind, Timestamp, Verification, Workspace, decide, email_key,
    search_key, sha256_hex,
};

/// `store_suite!(run)` makes a `#[test]` of every case. `run` is a function that takes a case's name
/// and the case, and runs it on a store: `fn run(name: &str, case: impl AsyncFnOnce(&MyStore, &str))`.
///
/// Where there are no tests, `store_suite!(run name, store, tag)` runs the case of that name, and
/// says whether there is one; `store_suite!(names)` is an array of all names.
#[macro_export]
macro_rules! store_suite {
    (names) => {
        $crate::store_suite!(@all names [])
    };
    (run $name:expr, $store:expr, $tag:expr) => {
        $crate::store_suite!(@all run [$name, $store, $tag])
    };
    ($run:path) => {
        $crate::store_suite! { @all tests [$run] }
    };
    (@all $what:ident [$($arguments:tt)*]) => {
        $crate::store_suite! { @$what [$($arguments)*]
            reports_register_agents_and_sessions
            a_patch_keeps_what_it_does_not_name
            a_moved_version_is_a_conflict_and_changes_nothing
            a_first_report_conflicts_with_another_first_report
            concurrent_first_reports_store_exactly_one
            concurrent_reports_on_one_session_all_land_once
            two_sessions_of_one_agent_never_undo_each_other
            last_seen_never_goes_back
            a_renewed_session_goes_on
            expiry_has_its_edge_in_every_list
            agents_are_listed_last_seen_first_then_by_code_point
            agent_pages_visit_everything_once
            session_pages_visit_everything_once
            history_pages_visit_everything_once_while_reports_go_on
            search_folds_case_beyond_ascii
            search_takes_pattern_characters_literally
            texts_come_back_as_they_were
            names_that_collations_confuse_are_different
            workspaces_see_nothing_of_each_other
            nothing_is_found_where_nothing_is
            accounts_are_found_by_address_in_any_case
            an_address_is_registered_once
            a_verification_works_once_and_until_it_expires
            notification_addresses_are_set_cleared_and_listed
            a_refresh_token_is_spent_once
            a_revoked_family_stays_revoked
            logging_out_revokes_what_there_is_and_not_what_comes
            api_keys_are_listed_found_touched_and_revoked
            a_secret_is_made_once
            a_notification_is_queued_with_its_commit_only
            a_lease_excludes_others_until_it_ends
            hosts_take_turns_and_busy_ones_wait
            random_operations_match_the_model
        }
    };
    (@names [] $($case:ident)+) => {
        [$(stringify!($case)),+]
    };
    (@run [$name:expr, $store:expr, $tag:expr] $($case:ident)+) => {
        match $name {
            $(stringify!($case) => {
                $crate::store::suite::$case($store, $tag).await;
                true
            })+
            _ => false,
        }
    };
    (@tests [$run:path] $($case:ident)+) => {
        $(
            #[test]
            fn $case() {
                $run(stringify!($case), async |store: &_, tag: &str| {
                    $crate::store::suite::$case(store, tag).await;
                });
            }
        )+
    };
}

/// The instant at which every case begins; a whole second, so that offsets read well.
fn start() -> Timestamp {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default()
}

fn seconds(n: i64) -> TimeDelta {
    TimeDelta::seconds(n)
}

/// One microsecond: the resolution of what is stored.
const TICK: TimeDelta = TimeDelta::microseconds(1);

fn workspace(tag: &str) -> Workspace {
    Workspace::Account(AccountId::new(uuid_of(tag)))
}

/// Something unique to the tag, in the form of a UUID.
fn uuid_of(tag: &str) -> String {
    let hash = sha256_hex(tag);
    format!(
        "{}-{}-4{}-8{}-{}",
        &hash[..8],
        &hash[8..12],
        &hash[12..15],
        &hash[15..18],
        &hash[18..30]
    )
}

fn report(agent: &str, topic: &str, status: StatusKind) -> Report {
    Report {
        agent_id: agent.into(),
        agent_name: None,
        agent_source: None,
        session_topic: topic.into(),
        status,
        message: String::new(),
        content: String::new(),
        ttl_minutes: None,
    }
}

fn running(agent: &str, topic: &str) -> Report {
    report(agent, topic, StatusKind::Running)
}

fn key(workspace: &Workspace, agent: &str, topic: &str) -> SessionKey {
    SessionKey {
        workspace: workspace.clone(),
        agent_id: agent.into(),
        session_topic: topic.into(),
    }
}

/// Loads, decides and commits until it is stored; answers the conflicts on the way.
async fn record<S: Store>(
    store: &S,
    workspace: &Workspace,
    report: &Report,
    now: Timestamp,
) -> u32 {
    let key = report.session_key(workspace);
    let mut conflicts = 0;
    loop {
        let snapshot = store.load(&key).await.unwrap();
        let commit = decide(workspace, report, &snapshot, now, 60).commit;
        match store.commit(&commit).await.unwrap() {
            CommitOutcome::Committed => return conflicts,
            CommitOutcome::Conflict => conflicts += 1,
        }
        assert!(conflicts < 10_000, "a report never lands");
    }
}

async fn agents<S: Store>(store: &S, workspace: &Workspace, now: Timestamp) -> Vec<Agent> {
    let query = AgentQuery {
        limit: 10_000,
        ..AgentQuery::default()
    };
    store.agents(workspace, &query, now).await.unwrap().items
}

async fn find_agent<S: Store>(
    store: &S,
    workspace: &Workspace,
    agent: &str,
    now: Timestamp,
) -> Agent {
    let found = store.agent(workspace, agent, now).await.unwrap();
    found.unwrap_or_else(|| panic!("no agent {agent:?}"))
}

async fn topics<S: Store>(
    store: &S,
    workspace: &Workspace,
    agent: &str,
    expiry: Expiry,
    now: Timestamp,
) -> Vec<String> {
    let query = SessionQuery {
        expiry,
        limit: 10_000,
        ..SessionQuery::default()
    };
    let page = store.sessions(workspace, agent, &query, now).await.unwrap();
    page.items
        .into_iter()
        .map(|session| session.session_topic)
        .collect()
}

async fn session_statuses<S: Store>(store: &S, key: &SessionKey) -> Vec<Status> {
    let found = store.session(key, None, 10_000).await.unwrap();
    found.map(|found| found.history.items).unwrap_or_default()
}

/// A first report makes an agent and a session, with every field as reported.
pub async fn reports_register_agents_and_sessions<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let first = Report {
        agent_name: Some("Alice".into()),
        agent_source: Some("cursor".into()),
        message: "begun".into(),
        content: "details".into(),
        ttl_minutes: Some(5),
        ..running("a", "t")
    };
    record(store, &ws, &first, start()).await;
    let snapshot = store.load(&key(&ws, "a", "t")).await.unwrap();
    assert_eq!(snapshot.agent_name.as_deref(), Some("Alice"));
    let head = snapshot.session.unwrap();
    assert_eq!(
        (head.seq, head.ttl_minutes, head.status),
        (1, 5, StatusKind::Running)
    );
    assert_eq!((head.created, head.last_updated), (start(), start()));
    assert_eq!(head.run_started, Some(start()));

    let agent = find_agent(store, &ws, "a", start()).await;
    let expected = Agent {
        agent_id: "a".into(),
        user_id: ws.account().cloned(),
        name: "Alice".into(),
        source: "cursor".into(),
        registered: start(),
        last_seen: start(),
        session_count: 1,
        active_session_count: 1,
        latest_status: Some(StatusKind::Running),
        latest_message: "begun".into(),
    };
    assert_eq!(agent, expected);
    assert_eq!(agents(store, &ws, start()).await, [expected]);

    let found = store
        .session(&key(&ws, "a", "t"), None, 10)
        .await
        .unwrap()
        .unwrap();
    let session = Session {
        agent_id: "a".into(),
        session_topic: "t".into(),
        created: start(),
        last_updated: start(),
        ttl_minutes: 5,
        current_status: StatusKind::Running,
    };
    assert_eq!(found.session, session);
    let status = Status {
        agent_id: "a".into(),
        session_topic: "t".into(),
        status: StatusKind::Running,
        timestamp: start(),
        message: "begun".into(),
        content: "details".into(),
        seq: 1,
    };
    assert_eq!(
        found.history,
        Page {
            items: vec![status.clone()],
            next: None
        }
    );
    let history = store.history(&ws, "a", None, 10).await.unwrap();
    assert_eq!(
        history,
        Page {
            items: vec![status],
            next: None
        }
    );
}

/// Names and sources stay until a report names others.
pub async fn a_patch_keeps_what_it_does_not_name<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let named = Report {
        agent_name: Some("Alice".into()),
        agent_source: Some("cursor".into()),
        ..running("a", "t")
    };
    record(store, &ws, &named, start()).await;
    record(store, &ws, &running("a", "t"), start() + seconds(1)).await;
    let renamed = Report {
        agent_name: Some("Bob".into()),
        ..running("a", "u")
    };
    record(store, &ws, &renamed, start() + seconds(2)).await;
    let agent = find_agent(store, &ws, "a", start()).await;
    assert_eq!(
        (agent.name.as_str(), agent.source.as_str()),
        ("Bob", "cursor")
    );
    assert_eq!(
        (agent.registered, agent.last_seen),
        (start(), start() + seconds(2))
    );
    assert_eq!(agent.session_count, 2);
}

/// Of two commits on one version the second changes nothing at all.
pub async fn a_moved_version_is_a_conflict_and_changes_nothing<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    record(store, &ws, &running("a", "t"), start()).await;
    let snapshot = store.load(&key(&ws, "a", "t")).await.unwrap();
    let fast = decide(&ws, &running("a", "t"), &snapshot, start() + seconds(1), 60).commit;
    let slow = Report {
        agent_name: Some("Slow".into()),
        ..report("a", "t", StatusKind::Failed)
    };
    let mut slow = decide(&ws, &slow, &snapshot, start() + seconds(2), 60).commit;
    slow.notifications
        .push(notification(tag, "stale", "stale.example:443"));
    assert_eq!(store.commit(&fast).await.unwrap(), CommitOutcome::Committed);
    assert_eq!(store.commit(&slow).await.unwrap(), CommitOutcome::Conflict);

    let agent = find_agent(store, &ws, "a", start()).await;
    assert_eq!(
        (agent.name.as_str(), agent.last_seen),
        ("", start() + seconds(1))
    );
    assert_eq!(session_statuses(store, &key(&ws, "a", "t")).await.len(), 2);
    assert!(
        lease(store, start() + seconds(9), &[], tag)
            .await
            .is_empty()
    );
}

/// A commit that expects no session conflicts where there is one.
pub async fn a_first_report_conflicts_with_another_first_report<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let nothing = store.load(&key(&ws, "a", "t")).await.unwrap();
    let commit = decide(&ws, &running("a", "t"), &nothing, start(), 60).commit;
    assert_eq!(
        store.commit(&commit).await.unwrap(),
        CommitOutcome::Committed
    );
    assert_eq!(
        store.commit(&commit).await.unwrap(),
        CommitOutcome::Conflict
    );
    let mut missing = commit;
    missing.key.session_topic = "other".into();
    missing.expected_seq = 3;
    missing.session.seq = 4;
    assert_eq!(
        store.commit(&missing).await.unwrap(),
        CommitOutcome::Conflict
    );
    assert_eq!(find_agent(store, &ws, "a", start()).await.session_count, 1);
}

/// Eight hosts that all saw no session: one creates it, the others learn that they did not.
pub async fn concurrent_first_reports_store_exactly_one<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let nothing = store.load(&key(&ws, "a", "t")).await.unwrap();
    let commit = decide(&ws, &running("a", "t"), &nothing, start(), 60).commit;
    let outcomes = join_all((0..8).map(|_| store.commit(&commit))).await;
    let committed = outcomes
        .into_iter()
        .filter(|outcome| *outcome.as_ref().unwrap() == CommitOutcome::Committed);
    assert_eq!(committed.count(), 1);
    assert_eq!(session_statuses(store, &key(&ws, "a", "t")).await.len(), 1);
}

/// 16 writers on one session: nothing lost, nothing twice, in one order.
pub async fn concurrent_reports_on_one_session_all_land_once<S: Store>(store: &S, tag: &str) {
    const WRITERS: u32 = 16;
    const REPORTS: u32 = 10;
    let ws = workspace(tag);
    join_all((0..WRITERS).map(|writer| {
        let ws = &ws;
        async move {
            for n in 0..REPORTS {
                let message = format!("{writer}/{n}");
                let report = Report {
                    message,
                    ..running("a", "t")
                };
                record(store, ws, &report, start() + seconds(n.into())).await;
            }
        }
    }))
    .await;
    let history = session_statuses(store, &key(&ws, "a", "t")).await;
    let seqs: Vec<u64> = history.iter().rev().map(|status| status.seq).collect();
    assert_eq!(seqs, (1..=u64::from(WRITERS * REPORTS)).collect::<Vec<_>>());
    assert!(
        history
            .windows(2)
            .all(|pair| pair[0].timestamp >= pair[1].timestamp)
    );
    for writer in 0..WRITERS {
        let prefix = format!("{writer}/");
        let own = history
            .iter()
            .rev()
            .filter_map(|status| status.message.strip_prefix(&prefix));
        let expected: Vec<String> = (0..REPORTS).map(|n| n.to_string()).collect();
        assert_eq!(own.collect::<Vec<_>>(), expected, "writer {writer}");
    }
}

/// Sessions of one agent commit at the same time; patches add up.
pub async fn two_sessions_of_one_agent_never_undo_each_other<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let named = Report {
        agent_name: Some("Alice".into()),
        ..running("a", "t0")
    };
    record(store, &ws, &named, start()).await;
    let stale = store.load(&key(&ws, "a", "t1")).await.unwrap();
    let renamed = Report {
        agent_name: Some("Bob".into()),
        ..running("a", "t0")
    };
    record(store, &ws, &renamed, start() + seconds(5)).await;
    let late = decide(&ws, &running("a", "t1"), &stale, start() + seconds(1), 60).commit;
    assert_eq!(store.commit(&late).await.unwrap(), CommitOutcome::Committed);
    let agent = find_agent(store, &ws, "a", start()).await;
    assert_eq!(
        (agent.name.as_str(), agent.last_seen),
        ("Bob", start() + seconds(5))
    );

    join_all((0..16).map(|n| {
        let (ws, report) = (&ws, running("a", &format!("parallel {n}")));
        async move { record(store, ws, &report, start() + seconds(n)).await }
    }))
    .await;
    let agent = find_agent(store, &ws, "a", start()).await;
    assert_eq!(
        (agent.session_count, agent.last_seen),
        (18, start() + seconds(15))
    );
}

/// Clocks of hosts differ; what was seen stays seen, and history stays in order.
pub async fn last_seen_never_goes_back<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    record(store, &ws, &running("a", "t"), start() + seconds(60)).await;
    record(store, &ws, &running("a", "t"), start()).await;
    record(store, &ws, &running("a", "u"), start()).await;
    let agent = find_agent(store, &ws, "a", start()).await;
    assert_eq!(agent.last_seen, start() + seconds(60));
    let history = session_statuses(store, &key(&ws, "a", "t")).await;
    let timestamps: Vec<_> = history.iter().map(|status| status.timestamp).collect();
    assert_eq!(timestamps, [start() + seconds(60); 2]);
}

/// A report on an expired session renews it: same session, history goes on.
pub async fn a_renewed_session_goes_on<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let short = Report {
        ttl_minutes: Some(1),
        ..running("a", "t")
    };
    record(store, &ws, &short, start()).await;
    let later = start() + TimeDelta::days(30);
    assert_eq!(
        find_agent(store, &ws, "a", later)
            .await
            .active_session_count,
        0
    );
    record(store, &ws, &running("a", "t"), later).await;
    let agent = find_agent(store, &ws, "a", later).await;
    assert_eq!((agent.session_count, agent.active_session_count), (1, 1));
    let found = store
        .session(&key(&ws, "a", "t"), None, 10)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.session.created, found.session.ttl_minutes),
        (start(), 1)
    );
    assert_eq!(found.history.items.len(), 2);
}

/// A session is expired exactly when `now >= last_updated + ttl`, in counts, in what is latest, and
/// in every filter.
pub async fn expiry_has_its_edge_in_every_list<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let with_ttl = |topic: &str, minutes, message: &str| Report {
        ttl_minutes: Some(minutes),
        message: message.into(),
        ..running("a", topic)
    };
    record(store, &ws, &with_ttl("long", 1440, "old"), start()).await;
    let new = Report {
        status: StatusKind::Success,
        ..with_ttl("short", 1, "new")
    };
    record(store, &ws, &new, start() + seconds(1)).await;
    let edge = start() + seconds(61);
    let end = start() + TimeDelta::days(1);
    let (success, running) = (Some(StatusKind::Success), Some(StatusKind::Running));
    for (now, active, latest, message, unexpired, expired) in [
        (
            edge - TICK,
            2,
            success,
            "new",
            vec!["short", "long"],
            vec![],
        ),
        (edge, 1, running, "old", vec!["long"], vec!["short"]),
        (end - TICK, 1, running, "old", vec!["long"], vec!["short"]),
        (end, 0, None, "", vec![], vec!["short", "long"]),
    ] {
        let agent = find_agent(store, &ws, "a", now).await;
        assert_eq!(agents(store, &ws, now).await, std::slice::from_ref(&agent));
        assert_eq!(agent.session_count, 2);
        assert_eq!(agent.active_session_count, active, "at {now}");
        assert_eq!(
            (agent.latest_status, agent.latest_message.as_str()),
            (latest, message)
        );
        assert_eq!(
            topics(store, &ws, "a", Expiry::Unexpired, now).await,
            unexpired
        );
        assert_eq!(topics(store, &ws, "a", Expiry::Expired, now).await, expired);
        assert_eq!(
            topics(store, &ws, "a", Expiry::Any, now).await,
            ["short", "long"]
        );
        for kind in StatusKind::ALL {
            let query = AgentQuery {
                status: Some(kind),
                limit: 10,
                ..AgentQuery::default()
            };
            let found = store.agents(&ws, &query, now).await.unwrap().items;
            assert_eq!(
                found.len(),
                usize::from(latest == Some(kind)),
                "{kind:?} at {now}"
            );
        }
    }
}

/// Ties in any order are broken by code point, not by a language's rules.
pub async fn agents_are_listed_last_seen_first_then_by_code_point<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    for id in ["b", "Z", "é", "a", "中", "🦀", "_", "A", "\u{ffff}"] {
        record(store, &ws, &running(id, "t"), start()).await;
    }
    record(store, &ws, &running("late", "t"), start() + TICK).await;
    let listed = agents(store, &ws, start()).await;
    let ids: Vec<&str> = listed.iter().map(|agent| agent.agent_id.as_str()).collect();
    assert_eq!(
        ids,
        ["late", "A", "Z", "_", "a", "b", "é", "中", "\u{ffff}", "🦀"]
    );

    for topic in ["b", "Z", "é", "中", "🦀"] {
        record(store, &ws, &running("sessions", topic), start()).await;
    }
    let listed = topics(store, &ws, "sessions", Expiry::Any, start()).await;
    assert_eq!(listed, ["Z", "b", "é", "中", "🦀"]);
    let latest = find_agent(store, &ws, "sessions", start())
        .await
        .latest_status;
    assert_eq!(latest, Some(StatusKind::Running));
}

/// Walks through agents end, and show every agent once, whatever the size of a page.
pub async fn agent_pages_visit_everything_once<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    for n in 0..7 {
        let report = running(&format!("a{n}"), "t");
        record(store, &ws, &report, start() + seconds(n / 2)).await;
    }
    let whole = agents(store, &ws, start()).await;
    assert_eq!(whole.len(), 7);
    for limit in [1, 2, 3, 7, 8] {
        let mut walked = Vec::new();
        let mut query = AgentQuery {
            limit,
            ..AgentQuery::default()
        };
        loop {
            let page = store.agents(&ws, &query, start()).await.unwrap();
            assert!(page.items.len() <= limit);
            walked.extend(page.items);
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
            assert!(walked.len() <= 7, "the walk does not end");
        }
        assert_eq!(walked, whole, "limit {limit}");
    }

    // With a filter a page may be short, but the walk must not end early.
    let mut query = AgentQuery {
        limit: 1,
        search: Some("a5".into()),
        ..AgentQuery::default()
    };
    let mut found = Vec::new();
    loop {
        let page = store.agents(&ws, &query, start()).await.unwrap();
        found.extend(page.items.into_iter().map(|agent| agent.agent_id));
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    assert_eq!(found, ["a5"]);
}

/// Walks through sessions end, and show every session once, under every filter.
pub async fn session_pages_visit_everything_once<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    for n in 0..9u32 {
        let ttl_minutes = Some(if n % 3 == 0 { 1 } else { 60 });
        let report = Report {
            ttl_minutes,
            ..running("a", &format!("t{n}"))
        };
        record(store, &ws, &report, start() + seconds((n / 2).into())).await;
    }
    let now = start() + seconds(300);
    for expiry in [Expiry::Any, Expiry::Unexpired, Expiry::Expired] {
        let whole = topics(store, &ws, "a", expiry, now).await;
        assert!(!whole.is_empty());
        for limit in [1, 2, 5, 9] {
            let mut walked = Vec::new();
            let mut query = SessionQuery {
                expiry,
                limit,
                after: None,
            };
            loop {
                let page = store.sessions(&ws, "a", &query, now).await.unwrap();
                assert!(page.items.len() <= limit);
                walked.extend(page.items.into_iter().map(|session| session.session_topic));
                match page.next {
                    Some(next) => query.after = Some(next),
                    None => break,
                }
                assert!(walked.len() <= 9, "the walk does not end");
            }
            assert_eq!(walked, whole, "{expiry:?}, limit {limit}");
        }
    }
}

/// A walk through a history shows what was there at its start, once each, while more is reported.
pub async fn history_pages_visit_everything_once_while_reports_go_on<S: Store>(
    store: &S,
    tag: &str,
) {
    let ws = workspace(tag);
    let mut expected = BTreeSet::new();
    for n in 0..12u64 {
        let topic = format!("t{}", n % 3);
        let at = start() + seconds((n / 4) as i64);
        record(store, &ws, &running("a", &topic), at).await;
        expected.insert((topic, n / 3 + 1));
    }
    let whole = store.history(&ws, "a", None, 100).await.unwrap().items;
    let mut sorted = whole.clone();
    sorted.sort_by(|a, b| {
        let by_time = b.timestamp.cmp(&a.timestamp);
        let by_topic = || a.session_topic.cmp(&b.session_topic);
        by_time.then_with(by_topic).then_with(|| b.seq.cmp(&a.seq))
    });
    assert_eq!(whole, sorted);

    let mut walked = Vec::new();
    let mut before: Option<HistoryCursor> = None;
    for extra in 0.. {
        let page = store.history(&ws, "a", before.as_ref(), 5).await.unwrap();
        walked.extend(
            page.items
                .into_iter()
                .map(|status| (status.session_topic, status.seq)),
        );
        let at = start() + seconds(60 + extra);
        record(store, &ws, &running("a", "t1"), at).await;
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
        assert!(extra < 12, "the walk does not end");
    }
    assert_eq!(walked.len(), expected.len());
    assert_eq!(walked.into_iter().collect::<BTreeSet<_>>(), expected);

    let key = key(&ws, "a", "t1");
    let total = session_statuses(store, &key).await.len() as u64;
    let mut walked = Vec::new();
    let mut before = None;
    loop {
        let found = store.session(&key, before, 3).await.unwrap().unwrap();
        walked.extend(found.history.items.iter().map(|status| status.seq));
        record(store, &ws, &running("a", "t1"), start() + seconds(600)).await;
        match found.history.next {
            Some(next) => before = Some(next),
            None => break,
        }
        assert!(walked.len() as u64 <= total, "the walk does not end");
    }
    assert_eq!(walked, (1..=total).rev().collect::<Vec<_>>());
    assert!(
        store
            .session(&key, Some(1), 3)
            .await
            .unwrap()
            .unwrap()
            .history
            .items
            .is_empty()
    );
}

async fn search<S: Store>(store: &S, workspace: &Workspace, text: &str) -> BTreeSet<String> {
    let query = AgentQuery {
        search: Some(search_key(text)),
        limit: 100,
        ..AgentQuery::default()
    };
    let page = store.agents(workspace, &query, start()).await.unwrap();
    page.items.into_iter().map(|agent| agent.agent_id).collect()
}

/// Search finds ids and names in any case of any script.
pub async fn search_folds_case_beyond_ascii<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    for (id, name) in [("Étude", "МОСКВА"), ("straße", "🦀 Crab"), ("plain", "")] {
        let report = Report {
            agent_name: Some(name.to_owned()).filter(|name| !name.is_empty()),
            ..running(id, "t")
        };
        record(store, &ws, &report, start()).await;
    }
    for (text, expected) in [
        ("étude", vec!["Étude"]),
        ("ÉTU", vec!["Étude"]),
        ("москва", vec!["Étude"]),
        ("ОСКВ", vec!["Étude"]),
        ("STRAß", vec!["straße"]),
        ("🦀 c", vec!["straße"]),
        ("a", vec!["plain", "straße"]),
        ("etude", vec![]),
        ("e москва", vec![]),
    ] {
        let expected: BTreeSet<String> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(search(store, &ws, text).await, expected, "{text}");
    }
}

/// Search is for substrings: what other languages take for patterns stands for itself.
pub async fn search_takes_pattern_characters_literally<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    for id in ["100%", "a_b", "axb", r"c\d", "e'f", "[g]", "*"] {
        record(store, &ws, &running(id, "t"), start()).await;
    }
    for (text, id) in [
        ("%", "100%"),
        ("_", "a_b"),
        (r"\", r"c\d"),
        ("'", "e'f"),
        ("[g", "[g]"),
        ("*", "*"),
    ] {
        assert_eq!(
            search(store, &ws, text).await,
            BTreeSet::from([id.to_owned()]),
            "{text}"
        );
    }
}

/// Every character but U+0000 is kept as it came.
pub async fn texts_come_back_as_they_were<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let odd = "a/b\\c\"d'e\r\n\t\u{1}\u{7f}é e\u{301}中🦀\u{feff}\u{202e}$1 :x ?%_";
    let longest = "🦀".repeat(100);
    let report = Report {
        agent_name: Some(odd.into()),
        agent_source: Some(odd.into()),
        message: odd.into(),
        content: "中".repeat(10_000),
        ..running(odd, odd)
    };
    record(store, &ws, &report, start()).await;
    record(store, &ws, &running(&longest, &"中".repeat(500)), start()).await;
    let agent = find_agent(store, &ws, odd, start()).await;
    assert_eq!((agent.name.as_str(), agent.source.as_str()), (odd, odd));
    let history = session_statuses(store, &key(&ws, odd, odd)).await;
    assert_eq!(history[0].message, odd);
    assert_eq!(history[0].content, report.content);
    assert_eq!(
        find_agent(store, &ws, &longest, start()).await.agent_id,
        longest
    );
}

/// Ids that differ in a code point are different ids.
pub async fn names_that_collations_confuse_are_different<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let ids = [
        "a",
        "A",
        "á",
        "a\u{301}",
        "a ",
        " a",
        "a\u{200b}",
        "ss",
        "ß",
        "ﬀ",
        "ff",
    ];
    for (n, id) in ids.iter().enumerate() {
        let report = Report {
            message: n.to_string(),
            ..running(id, id)
        };
        record(store, &ws, &report, start()).await;
    }
    assert_eq!(agents(store, &ws, start()).await.len(), ids.len());
    for (n, id) in ids.iter().enumerate() {
        let history = session_statuses(store, &key(&ws, id, id)).await;
        assert_eq!(history.len(), 1, "{id:?}");
        assert_eq!(history[0].message, n.to_string());
    }
}

/// The same ids in two workspaces are two agents.
pub async fn workspaces_see_nothing_of_each_other<S: Store>(store: &S, tag: &str) {
    let (one, two) = (workspace(tag), workspace(&format!("{tag} two")));
    let named = Report {
        agent_name: Some("One".into()),
        ..running("a", "t")
    };
    record(store, &one, &named, start()).await;
    assert!(agents(store, &two, start()).await.is_empty());
    assert_eq!(store.agent(&two, "a", start()).await.unwrap(), None);
    record(store, &two, &report("a", "t", StatusKind::Failed), start()).await;
    let (a, b) = (
        find_agent(store, &one, "a", start()).await,
        find_agent(store, &two, "a", start()).await,
    );
    assert_eq!(
        (a.name.as_str(), a.latest_status),
        ("One", Some(StatusKind::Running))
    );
    assert_eq!(
        (b.name.as_str(), b.latest_status),
        ("", Some(StatusKind::Failed))
    );
    assert_eq!(b.user_id.as_ref(), two.account());
}

/// Unknown names are no errors.
pub async fn nothing_is_found_where_nothing_is<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let unknown = key(&ws, "nobody", "nothing");
    assert_eq!(
        store.load(&unknown).await.unwrap(),
        crate::Snapshot::default()
    );
    assert_eq!(store.session(&unknown, None, 10).await.unwrap(), None);
    assert_eq!(store.agent(&ws, "nobody", start()).await.unwrap(), None);
    assert!(agents(store, &ws, start()).await.is_empty());
    assert!(
        topics(store, &ws, "nobody", Expiry::Any, start())
            .await
            .is_empty()
    );
    assert!(
        store
            .history(&ws, "nobody", None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    record(store, &ws, &running("somebody", "something"), start()).await;
    let other = key(&ws, "somebody", "nothing");
    assert_eq!(store.session(&other, None, 10).await.unwrap(), None);
    let snapshot = store.load(&other).await.unwrap();
    assert_eq!(
        (snapshot.agent_name.as_deref(), snapshot.session),
        (Some(""), None)
    );
    let id = AccountId::new(uuid_of(tag));
    assert_eq!(store.account(&id).await.unwrap(), None);
    assert_eq!(store.account_by_email(&email(tag)).await.unwrap(), None);
    assert_eq!(
        store
            .verify_account(&sha256_hex(tag), start())
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        store
            .set_notification_url(&id, "http://x", start())
            .await
            .unwrap(),
        None
    );
    assert_eq!(store.refresh_token(&sha256_hex(tag)).await.unwrap(), None);
    assert_eq!(store.api_key_by_hash(&sha256_hex(tag)).await.unwrap(), None);
    assert!(!store.revoke_api_key(&id, &uuid_of(tag)).await.unwrap());
    assert!(!store.revoke_api_key(&id, "no uuid ' at all").await.unwrap());
    let nobody = Audience::Account(id);
    assert!(store.notification_urls(&nobody).await.unwrap().is_empty());
}

fn email(tag: &str) -> String {
    format!("User.{}@Example.com", &sha256_hex(tag)[..12])
}

fn verification(tag: &str) -> Verification {
    Verification {
        token_hash: sha256_hex(format!("verification {tag}")),
        expires_at: start() + TimeDelta::hours(24),
    }
}

async fn register<S: Store>(store: &S, tag: &str) -> AccountId {
    let email = email(tag);
    let account = NewAccount {
        id: AccountId::new(uuid_of(tag)),
        email_key: email_key(&email),
        email,
        password_hash: format!("hash of {tag}"),
        name: "Ünïcode".into(),
        verification: verification(tag),
        created_at: start(),
    };
    let outcome = store.create_account(&account).await.unwrap();
    assert_eq!(outcome, Registration::Created);
    account.id
}

/// Addresses that differ in case are one; the account keeps the form that was registered.
pub async fn accounts_are_found_by_address_in_any_case<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let account = store.account(&id).await.unwrap().unwrap();
    assert_eq!(account.email, email(tag));
    assert_eq!(account.name, "Ünïcode");
    assert_eq!(account.password_hash, format!("hash of {tag}"));
    assert_eq!((account.created_at, account.updated_at), (start(), start()));
    assert_eq!(account.notification_webhook_url, "");
    assert!(!account.email_verified);
    for address in [
        email(tag),
        email(tag).to_lowercase(),
        email(tag).to_uppercase(),
    ] {
        let found = store.account_by_email(&address).await.unwrap();
        assert_eq!(found.as_ref(), Some(&account), "{address}");
    }
}

/// A taken address stays its owner's, also when several ask at once.
pub async fn an_address_is_registered_once<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let again = |n: u32| NewAccount {
        id: AccountId::new(uuid_of(&format!("{tag} again {n}"))),
        email: email(tag).to_uppercase(),
        email_key: email_key(&email(tag)),
        password_hash: String::new(),
        name: String::new(),
        verification: verification(&format!("{tag} again {n}")),
        created_at: start(),
    };
    let outcome = store.create_account(&again(0)).await.unwrap();
    assert_eq!(outcome, Registration::EmailTaken);
    assert_eq!(store.account(&again(0).id).await.unwrap(), None);
    let found = store.account_by_email(&email(tag)).await.unwrap().unwrap();
    assert_eq!(found.id, id);

    let racers: Vec<NewAccount> = (1..5)
        .map(|n| NewAccount {
            email: format!("race.{}", email(tag)),
            email_key: email_key(&format!("race.{}", email(tag))),
            ..again(n)
        })
        .collect();
    let outcomes = join_all(racers.iter().map(|account| store.create_account(account))).await;
    let created = outcomes
        .into_iter()
        .filter(|outcome| *outcome.as_ref().unwrap() == Registration::Created);
    assert_eq!(created.count(), 1);
}

/// A verification token works once, before it expires, and only the newest.
pub async fn a_verification_works_once_and_until_it_expires<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let first = verification(tag);
    let now = first.expires_at - TICK;
    assert_eq!(
        store
            .verify_account(&first.token_hash, first.expires_at)
            .await
            .unwrap(),
        None
    );
    let second = verification(&format!("{tag} second"));
    store.set_verification(&id, &second).await.unwrap();
    assert_eq!(
        store.verify_account(&first.token_hash, now).await.unwrap(),
        None
    );
    assert!(!store.account(&id).await.unwrap().unwrap().email_verified);

    let outcomes = join_all((0..4).map(|_| store.verify_account(&second.token_hash, now))).await;
    let verified: Vec<_> = outcomes.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(verified.len(), 1);
    assert_eq!((&verified[0].id, verified[0].email_verified), (&id, true));
    assert_eq!(verified[0].updated_at, now);
    assert_eq!(store.account(&id).await.unwrap().unwrap(), verified[0]);
    assert_eq!(
        store.verify_account(&second.token_hash, now).await.unwrap(),
        None
    );
}

/// An account's address for notifications is one row of the list of all.
pub async fn notification_addresses_are_set_cleared_and_listed<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let own = Audience::Account(id.clone());
    assert!(store.notification_urls(&own).await.unwrap().is_empty());
    let url = format!("https://example.com/{}", uuid_of(tag));
    let now = start() + seconds(1);
    let account = store
        .set_notification_url(&id, &url, now)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (
            account.notification_webhook_url.as_str(),
            account.updated_at
        ),
        (url.as_str(), now)
    );
    assert_eq!(store.account(&id).await.unwrap().unwrap(), account);
    assert_eq!(
        store.notification_urls(&own).await.unwrap(),
        std::slice::from_ref(&url)
    );
    let all = store
        .notification_urls(&Audience::EveryAccount)
        .await
        .unwrap();
    assert_eq!(all.iter().filter(|other| **other == url).count(), 1);
    let account = store
        .set_notification_url(&id, "", now)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(account.notification_webhook_url, "");
    assert!(store.notification_urls(&own).await.unwrap().is_empty());
    let all = store
        .notification_urls(&Audience::EveryAccount)
        .await
        .unwrap();
    assert!(!all.contains(&url) && !all.contains(&String::new()));
}

fn token(tag: &str, account: &AccountId, family: &str, n: u32) -> RefreshToken {
    RefreshToken {
        token_hash: sha256_hex(format!("{tag} {family} {n}")),
        account_id: account.clone(),
        family_id: uuid_of(&format!("{tag} {family}")),
        created_at: start(),
        expires_at: start() + TimeDelta::days(7),
        spent_at: None,
        revoked: false,
    }
}

/// Of concurrent uses of a refresh token one succeeds, and leaves one successor.
pub async fn a_refresh_token_is_spent_once<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let first = token(tag, &id, "f", 0);
    store.insert_refresh_token(&first).await.unwrap();
    assert_eq!(
        store.refresh_token(&first.token_hash).await.unwrap(),
        Some(first.clone())
    );

    let spent_at = start() + seconds(1);
    let successors: Vec<_> = (1..9).map(|n| token(tag, &id, "f", n)).collect();
    let uses = successors
        .iter()
        .map(|successor| store.rotate_refresh_token(&first.token_hash, spent_at, successor));
    let outcomes: Vec<bool> = join_all(uses)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(outcomes.iter().filter(|rotated| **rotated).count(), 1);
    for (successor, rotated) in successors.iter().zip(outcomes) {
        let stored = store.refresh_token(&successor.token_hash).await.unwrap();
        assert_eq!(stored.as_ref(), rotated.then_some(successor));
    }
    let spent = store
        .refresh_token(&first.token_hash)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(spent.spent_at, Some(spent_at));
}

/// No rotation outruns a revocation.
pub async fn a_revoked_family_stays_revoked<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let tokens: Vec<_> = (0..3).map(|n| token(tag, &id, "f", n)).collect();
    let other = token(tag, &id, "other", 0);
    store.insert_refresh_token(&tokens[0]).await.unwrap();
    store.insert_refresh_token(&other).await.unwrap();
    let hash = &tokens[0].token_hash;
    assert!(
        store
            .rotate_refresh_token(hash, start(), &tokens[1])
            .await
            .unwrap()
    );
    store
        .revoke_token_family(&tokens[0].family_id)
        .await
        .unwrap();
    for token in &tokens[..2] {
        assert!(
            store
                .refresh_token(&token.token_hash)
                .await
                .unwrap()
                .unwrap()
                .revoked
        );
    }
    let hash = &tokens[1].token_hash;
    assert!(
        !store
            .rotate_refresh_token(hash, start(), &tokens[2])
            .await
            .unwrap()
    );
    assert_eq!(
        store.refresh_token(&tokens[2].token_hash).await.unwrap(),
        None
    );
    assert!(
        !store
            .refresh_token(&other.token_hash)
            .await
            .unwrap()
            .unwrap()
            .revoked
    );

    for n in 0..8 {
        let (old, new) = (
            token(tag, &id, &format!("race {n}"), 0),
            token(tag, &id, &format!("race {n}"), 1),
        );
        store.insert_refresh_token(&old).await.unwrap();
        let rotate = store.rotate_refresh_token(&old.token_hash, start(), &new);
        let revoke = store.revoke_token_family(&old.family_id);
        let (rotated, revoked) = futures_util::join!(rotate, revoke);
        revoked.unwrap();
        let stored = store.refresh_token(&new.token_hash).await.unwrap();
        assert_eq!(stored.is_some(), rotated.unwrap());
        assert!(
            stored.is_none_or(|token| token.revoked),
            "a successor outran the revocation"
        );
    }
}

/// Logging out ends every login there is; a later login works.
pub async fn logging_out_revokes_what_there_is_and_not_what_comes<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let stranger = register(store, &format!("{tag} stranger")).await;
    let (a, b) = (token(tag, &id, "a", 0), token(tag, &id, "b", 0));
    let foreign = token(tag, &stranger, "foreign", 0);
    for token in [&a, &b, &foreign] {
        store.insert_refresh_token(token).await.unwrap();
    }
    store.revoke_refresh_tokens(&id).await.unwrap();
    let later = token(tag, &id, "later", 0);
    store.insert_refresh_token(&later).await.unwrap();
    for (token, revoked) in [(&a, true), (&b, true), (&foreign, false), (&later, false)] {
        let stored = store
            .refresh_token(&token.token_hash)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(stored.revoked, revoked, "{}", token.family_id);
    }
}

/// Keys belong to their account; the newest comes first.
pub async fn api_keys_are_listed_found_touched_and_revoked<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let stranger = register(store, &format!("{tag} stranger")).await;
    let key = |n: u32| ApiKey {
        id: uuid_of(&format!("{tag} key {n}")),
        account_id: id.clone(),
        name: format!("Schlüssel {n}"),
        key_hash: sha256_hex(format!("{tag} key {n}")),
        key_prefix: "prefix_8".into(),
        scopes: if n == 0 { Scopes::REPORT } else { Scopes::ALL },
        expires_at: (n == 1).then(|| start() + TimeDelta::days(1)),
        last_used_at: None,
        created_at: start() + seconds(n.into()),
        revoked: false,
    };
    for n in 0..3 {
        store.insert_api_key(&key(n)).await.unwrap();
    }
    assert_eq!(store.api_keys(&id).await.unwrap(), [key(2), key(1), key(0)]);
    assert!(store.api_keys(&stranger).await.unwrap().is_empty());
    assert_eq!(
        store.api_key_by_hash(&key(1).key_hash).await.unwrap(),
        Some(key(1))
    );

    let used = start() + seconds(90);
    store.touch_api_key(&key(1), used).await.unwrap();
    let found = store
        .api_key_by_hash(&key(1).key_hash)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.last_used_at, Some(used));

    assert!(!store.revoke_api_key(&stranger, &key(0).id).await.unwrap());
    assert!(store.revoke_api_key(&id, &key(0).id).await.unwrap());
    assert!(store.revoke_api_key(&id, &key(0).id).await.unwrap());
    let revoked = ApiKey {
        revoked: true,
        ..key(0)
    };
    assert_eq!(
        store.api_key_by_hash(&key(0).key_hash).await.unwrap(),
        Some(revoked.clone())
    );
    let listed = store.api_keys(&id).await.unwrap();
    assert_eq!(listed[2], revoked);
    assert!(!listed[0].revoked && !listed[1].revoked);
}

/// All hosts get the secret that the first one made.
pub async fn a_secret_is_made_once<S: Store>(store: &S, tag: &str) {
    let name = format!("secret {}", uuid_of(tag));
    let candidates = ["one", "two", "three", "four"];
    let secrets = join_all(candidates.map(|candidate| store.secret(&name, candidate))).await;
    let secrets: BTreeSet<String> = secrets.into_iter().map(Result::unwrap).collect();
    assert_eq!(secrets.len(), 1);
    let again = store.secret(&name, "five").await.unwrap();
    assert_eq!(secrets, BTreeSet::from([again]));
}

fn notification(tag: &str, n: &str, host: &str) -> Notification {
    Notification {
        id: uuid_of(&format!("{tag} notification {n}")),
        url: format!("https://{host}/{n}"),
        host: format!("{}.{host}", &sha256_hex(tag)[..8]),
        body: format!("{{\"text\":\"→ {n}\"}}"),
        created_at: start(),
    }
}

async fn queue<S: Store>(store: &S, workspace: &Workspace, notifications: Vec<Notification>) {
    let report = running("outbox", "t");
    let snapshot = store.load(&report.session_key(workspace)).await.unwrap();
    let mut commit = decide(workspace, &report, &snapshot, start(), 60).commit;
    commit.notifications = notifications;
    assert_eq!(
        store.commit(&commit).await.unwrap(),
        CommitOutcome::Committed
    );
}

/// Leases what this case queued; what others did is left to run out.
async fn lease<S: Store>(
    store: &S,
    now: Timestamp,
    busy: &[String],
    tag: &str,
) -> Vec<(String, u32)> {
    lease_for(store, now, busy, tag, Duration::from_secs(600)).await
}

async fn lease_for<S: Store>(
    store: &S,
    now: Timestamp,
    busy: &[String],
    tag: &str,
    duration: Duration,
) -> Vec<(String, u32)> {
    let request = LeaseRequest {
        now,
        duration,
        limit: 10_000,
        busy_hosts: busy.to_vec(),
    };
    let leased = store.lease_notifications(&request).await.unwrap();
    let own_prefix = &sha256_hex(tag)[..8];
    leased
        .into_iter()
        .filter(|leased| leased.notification.host.starts_with(own_prefix))
        .map(|leased| (leased.notification.id, leased.round))
        .collect()
}

/// What is queued comes back whole.
pub async fn a_notification_is_queued_with_its_commit_only<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let (one, two) = (
        notification(tag, "1", "a.example:443"),
        notification(tag, "2", "b.example:443"),
    );
    queue(store, &ws, vec![one.clone(), two.clone()]).await;
    let request = LeaseRequest {
        now: start() + seconds(1),
        duration: Duration::from_secs(600),
        limit: 10_000,
        busy_hosts: Vec::new(),
    };
    let leased = store.lease_notifications(&request).await.unwrap();
    let leased: HashMap<String, Notification> = leased
        .into_iter()
        .map(|leased| (leased.notification.id.clone(), leased.notification))
        .collect();
    assert_eq!(leased.get(&one.id), Some(&one));
    assert_eq!(leased.get(&two.id), Some(&two));
}

/// One deliverer at a time; what failed comes again after its pause, what ran out at once, what was
/// delivered or given up never.
pub async fn a_lease_excludes_others_until_it_ends<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let names = ["failed", "lost", "delivered", "abandoned"];
    let all: Vec<_> = names
        .iter()
        .map(|name| notification(tag, name, &format!("{name}.example:443")))
        .collect();
    queue(store, &ws, all.clone()).await;
    let now = start() + seconds(1);
    let moment = Duration::from_millis(1);
    let first = lease_for(store, now, &[], tag, Duration::from_secs(600)).await;
    assert_eq!(first.len(), 4);
    assert!(first.iter().all(|(_, round)| *round == 1));
    assert!(lease(store, now, &[], tag).await.is_empty(), "leased twice");

    store
        .notification_failed(&all[0].id, now, moment)
        .await
        .unwrap();
    store.notification_delivered(&all[2].id).await.unwrap();
    store.notification_abandoned(&all[3].id).await.unwrap();
    let again = eventually(store, tag, &all[0].id, Duration::from_secs(600)).await;
    assert_eq!(again, 2);

    // A lease that ends by itself, as after the death of its host.
    store
        .notification_failed(&all[0].id, now, moment)
        .await
        .unwrap();
    let round = eventually(store, tag, &all[0].id, moment).await;
    assert_eq!(round, 3);
    let round = eventually(store, tag, &all[0].id, Duration::from_secs(600)).await;
    assert_eq!(round, 4);
    assert!(lease(store, now, &[], tag).await.is_empty());
}

/// Leases until this notification comes, by a clock that goes on a second each time; a store with a
/// clock of its own has as many tries.
async fn eventually<S: Store>(store: &S, tag: &str, id: &str, duration: Duration) -> u32 {
    for n in 0..1000 {
        let now = start() + seconds(2 + n);
        let leased = lease_for(store, now, &[], tag, duration).await;
        if let Some((_, round)) = leased.iter().find(|(leased, _)| leased == id) {
            return *round;
        }
    }
    panic!("the notification never comes");
}

/// A lease takes one notification to a host, and none to a busy one.
pub async fn hosts_take_turns_and_busy_ones_wait<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let names = ["a1", "a2", "a3", "b1", "c1"];
    let of = |name: &str| notification(tag, name, &format!("{}.example:443", &name[..1]));
    queue(store, &ws, names.iter().map(|name| of(name)).collect()).await;
    let now = start() + seconds(1);
    let busy = [of("c1").host];
    let ids = |leased: Vec<(String, u32)>| {
        let names_by_id: BTreeMap<String, &str> =
            names.iter().map(|name| (of(name).id, *name)).collect();
        leased
            .into_iter()
            .map(|(id, _)| names_by_id[&id])
            .collect::<BTreeSet<_>>()
    };
    let first = ids(lease(store, now, &busy, tag).await);
    assert!(
        first.contains("b1") && !first.contains("c1") && first.len() == 2,
        "{first:?}"
    );
    let second = ids(lease(store, now, &[], tag).await);
    assert!(second.contains("c1") && second.len() == 2, "{second:?}");
    let third = ids(lease(store, now, &[], tag).await);
    assert_eq!(third.len(), 1);
    assert!(lease(store, now, &[], tag).await.is_empty());
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Report {
        agent: u8,
        topic: u8,
        status: StatusKind,
        ttl: Option<u32>,
        name: Option<u8>,
        stale: bool,
    },
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let status = prop::sample::select(StatusKind::ALL.to_vec());
    let ttl = prop::option::of(prop::sample::select(vec![1u32, 2, 60, 1440]));
    let report = (
        0..3u8,
        0..3u8,
        status,
        ttl,
        prop::option::of(0..3u8),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(agent, topic, status, ttl, name, stale)| Step::Report {
            agent,
            topic,
            status,
            ttl,
            name,
            stale,
        });
    let wait =
        prop::sample::select(vec![-30i64, 0, 1, 59, 60, 61, 3600, 90_000]).prop_map(Step::Wait);
    prop::collection::vec(prop_oneof![4 => report, 1 => wait], 1..60)
}

/// Random operations end in the same answers as on the in-memory store.
pub async fn random_operations_match_the_model<S: Store>(store: &S, tag: &str) {
    let mut runner = TestRunner::deterministic();
    for round in 0..12 {
        let tree = steps().new_tree(&mut runner);
        let steps = tree.map(|tree| tree.current()).unwrap_or_default();
        let model = MemoryStore::default();
        let ws = workspace(&format!("{tag} {round}"));
        let mut now = start();
        for step in &steps {
            match step {
                Step::Wait(by) => now += seconds(*by),
                Step::Report {
                    agent,
                    topic,
                    status,
                    ttl,
                    name,
                    stale,
                } => {
                    let report = Report {
                        ttl_minutes: *ttl,
                        agent_name: name.map(|name| format!("Name {name}")),
                        message: format!("{status:?}"),
                        ..report(
                            &format!("agent {agent}"),
                            &format!("topic {topic}"),
                            *status,
                        )
                    };
                    let snapshot = model.load(&report.session_key(&ws)).await.unwrap();
                    assert_eq!(
                        store.load(&report.session_key(&ws)).await.unwrap(),
                        snapshot
                    );
                    let mut commit = decide(&ws, &report, &snapshot, now, 60).commit;
                    if *stale {
                        commit.expected_seq += 1;
                        commit.session.seq += 1;
                    }
                    let expected = model.commit(&commit).await.unwrap();
                    assert_eq!(store.commit(&commit).await.unwrap(), expected, "{steps:?}");
                }
            }
            now = now.max(start());
        }
        for now in [
            now,
            now + seconds(60),
            now + seconds(3600),
            now + TimeDelta::days(2),
        ] {
            assert_eq!(
                agents(store, &ws, now).await,
                agents(&model, &ws, now).await,
                "{steps:?}"
            );
            for agent in (0..3).map(|n| format!("agent {n}")) {
                for expiry in [Expiry::Any, Expiry::Unexpired, Expiry::Expired] {
                    let query = SessionQuery {
                        expiry,
                        limit: 2,
                        after: None,
                    };
                    let (actual, expected) = (
                        store.sessions(&ws, &agent, &query, now).await.unwrap(),
                        model.sessions(&ws, &agent, &query, now).await.unwrap(),
                    );
                    assert_eq!(actual, expected, "{steps:?}");
                }
            }
        }
        for agent in (0..3).map(|n| format!("agent {n}")) {
            let (actual, expected) = (
                store.history(&ws, &agent, None, 100).await.unwrap(),
                model.history(&ws, &agent, None, 100).await.unwrap(),
            );
            assert_eq!(actual, expected, "{steps:?}");
        }
    }
}
