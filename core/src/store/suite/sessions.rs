use std::ops::RangeInclusive;
use std::sync::Arc;

use super::*;
use crate::StatusEntry;

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
    assert_eq!((head.status_since, head.noted_at), (start(), start()));
    assert_eq!((head.sequence, &*head.hook), (None, ""));

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
        title: String::new(),
        created: start(),
        last_updated: start(),
        ttl_minutes: 5,
        current_status: StatusKind::Running,
        status_since: start(),
        reason: String::new(),
        message: "begun".into(),
        context: Context::new(),
    };
    assert_eq!(found.session, session);
    let status = Status {
        agent_id: "a".into(),
        session_topic: "t".into(),
        entry: Arc::new(StatusEntry {
            status: StatusKind::Running,
            timestamp: start(),
            reason: String::new(),
            message: "begun".into(),
            content: "details".into(),
        }),
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

/// Where a report would register something, what there is of its kind is counted.
pub async fn what_a_report_would_register_is_counted<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let siblings = async |agent: &str, topic: &str| {
        let snapshot = store.load(&key(&ws, agent, topic)).await.unwrap();
        snapshot.siblings
    };
    assert_eq!(siblings("a", "t").await, 0);
    for (agent, topic) in [("a", "t"), ("a", "u"), ("a", "t"), ("b", "t"), ("a", "v")] {
        record(store, &ws, &running(agent, topic), start()).await;
    }
    let chains = [
        chain(store, &ws, &[running("b", "u")]).await,
        chain(store, &ws, &[running("c", "t"), running("c", "t")]).await,
        chain(store, &ws, &[running("c", "u")]).await,
    ];
    let outcomes = store.commit_many(&chains).await.unwrap();
    assert_eq!(outcomes, [CommitOutcome::Committed; 3]);
    let topics = ["1", "2", "3", "4", "5", "6"];
    let at_once = topics.map(|topic| running("d", topic));
    let at_once = at_once
        .iter()
        .map(|report| record(store, &ws, report, start()));
    join_all(at_once).await;
    for (agent, topic, expected) in [
        ("new", "t", 4),
        ("a", "new", 3),
        ("b", "new", 2),
        ("c", "new", 2),
        ("d", "new", 6),
        ("a", "t", 0),
    ] {
        assert_eq!(siblings(agent, topic).await, expected, "{agent} {topic}");
    }
    let keys = [
        key(&ws, "a", "new"),
        key(&ws, "new", "new"),
        key(&ws, "new", "t"),
    ];
    let together = store.load_many(&keys).await.unwrap();
    let together: Vec<u64> = together.iter().map(|snapshot| snapshot.siblings).collect();
    assert_eq!(together, [3, 4, 4]);
    let elsewhere = workspace(&format!("{tag} elsewhere"));
    let snapshot = store.load(&key(&elsewhere, "a", "t")).await.unwrap();
    assert_eq!(snapshot, Snapshot::default());
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

/// Agents are known that have got another name after an instant, and no others.
pub async fn agents_with_new_names_are_known<S: Store>(
    store: &S,
    tag: &str,
    renamed_since: impl AsyncFn(&Workspace, Timestamp, usize) -> HashMap<String, String>,
) {
    let ws = workspace(tag);
    let mut second = 0;
    let mut name = async |agent: &str, topic: &str, name: Option<&str>| {
        let named = Report {
            agent_name: name.map(str::to_owned),
            ..running(agent, topic)
        };
        record(store, &ws, &named, start() + seconds(second)).await;
        second += 1;
    };
    name("a", "t", Some("Alice")).await;
    name("a", "t", None).await;
    name("a", "u", Some("Alice")).await;
    name("b", "t", None).await;
    name("a", "v", Some("Bob")).await;
    name("b", "t", Some("Carol")).await;
    name("a", "t", Some("Dave")).await;
    name("a", "t", Some("Dave")).await;
    let since = async |second| {
        let renamed = renamed_since(&ws, start() + seconds(second), 2).await;
        let sorted: BTreeMap<String, String> = renamed.into_iter().collect();
        sorted.into_iter().collect::<Vec<_>>()
    };
    let name = |agent: &str, name: &str| (agent.to_owned(), name.to_owned());
    let both = [name("a", "Dave"), name("b", "Carol")];
    assert_eq!(since(-1).await, both);
    assert_eq!(since(4).await, both);
    assert_eq!(since(5).await, [name("a", "Dave")]);
    assert_eq!(since(6).await, []);
    assert_eq!(renamed_since(&ws, start(), 1).await.len(), 1);
    let other = workspace(&format!("{tag} other"));
    assert!(renamed_since(&other, start(), 2).await.is_empty());
}

/// Of two commits on one version the second changes nothing at all.
pub async fn a_moved_version_is_a_conflict_and_changes_nothing<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    record(store, &ws, &running("a", "t"), start()).await;
    let snapshot = store.load(&key(&ws, "a", "t")).await.unwrap();
    let fast = decided(&ws, &running("a", "t"), &snapshot, start() + seconds(1));
    let slow = Report {
        agent_name: Some("Slow".into()),
        ..report("a", "t", StatusKind::Failed)
    };
    let mut slow = decided(&ws, &slow, &snapshot, start() + seconds(2));
    slow.notifications
        .push(notification(&ws, "stale", "stale.example:443"));
    assert_eq!(store.commit(&fast).await.unwrap(), CommitOutcome::Committed);
    assert_eq!(store.commit(&slow).await.unwrap(), CommitOutcome::Conflict);

    let agent = find_agent(store, &ws, "a", start()).await;
    assert_eq!(
        (agent.name.as_str(), agent.last_seen),
        ("", start() + seconds(1))
    );
    assert_eq!(session_statuses(store, &key(&ws, "a", "t")).await.len(), 2);
    let own = [ws];
    assert!(lease_all(store, &own, &request(&own)).await.is_empty());
}

/// A commit that expects no session conflicts where there is one.
pub async fn a_first_report_conflicts_with_another_first_report<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let nothing = store.load(&key(&ws, "a", "t")).await.unwrap();
    let commit = decided(&ws, &running("a", "t"), &nothing, start());
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
    let commit = decided(&ws, &running("a", "t"), &nothing, start());
    let outcomes = join_all((0..8).map(|_| store.commit(&commit))).await;
    let committed = outcomes
        .into_iter()
        .filter(|outcome| matches!(outcome, Ok(CommitOutcome::Committed)));
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
            .all(|pair| pair[0].entry.timestamp >= pair[1].entry.timestamp)
    );
    for writer in 0..WRITERS {
        let prefix = format!("{writer}/");
        let own = history
            .iter()
            .rev()
            .filter_map(|status| status.entry.message.strip_prefix(&prefix));
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
    let late = decided(&ws, &running("a", "t1"), &stale, start() + seconds(1));
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
    let timestamps: Vec<_> = history
        .iter()
        .map(|status| status.entry.timestamp)
        .collect();
    assert_eq!(timestamps, [start() + seconds(60); 2]);
}

/// A host whose clock was ahead keeps an agent first for a day at most: beyond that the next report
/// says when it was seen.
pub async fn what_a_clock_that_was_ahead_left_behind_does_not_last<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    for (agent, ahead) in [("year", TimeDelta::days(365)), ("day", LAST_SEEN_LEAD)] {
        record(store, &ws, &running(agent, "t"), start() + ahead).await;
        record(store, &ws, &running(agent, "u"), start()).await;
    }
    let year = find_agent(store, &ws, "year", start()).await;
    assert_eq!(year.last_seen, start());
    let day = find_agent(store, &ws, "day", start()).await;
    assert_eq!(day.last_seen, start() + LAST_SEEN_LEAD);

    record(
        store,
        &ws,
        &running("group", "t"),
        start() + TimeDelta::days(365),
    )
    .await;
    let group = [vec![running("group", "u"), running("group", "u")]];
    commit_all(store, &ws, &group).await;
    let group = find_agent(store, &ws, "group", start()).await;
    assert_eq!(group.last_seen, start());
    let listed = agents(store, &ws, start()).await;
    let ids: Vec<&str> = listed.iter().map(|agent| agent.agent_id.as_str()).collect();
    assert_eq!(ids, ["day", "group", "year"]);
}

/// A session that no right clock can have stored is expired in every list, until the next report. It
/// keeps its place. Clocks that differ by a day or less change nothing.
pub async fn a_session_of_a_clock_that_was_a_year_ahead_is_expired<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let now = start();
    let year = TimeDelta::days(365);
    for (topic, status, ahead) in [
        ("right", StatusKind::Running, TimeDelta::zero()),
        ("day", StatusKind::Success, TimeDelta::days(1)),
        ("year", StatusKind::Pending, year),
    ] {
        let report = Report {
            ttl_minutes: Some(1440),
            ..report("a", topic, status)
        };
        record(store, &ws, &report, now + ahead).await;
    }
    let states = async |state| -> Vec<String> {
        let query = WorkspaceQuery {
            state: Some(state),
            limit: 10,
            ..WorkspaceQuery::default()
        };
        let found = store.workspace_sessions(&ws, &query, now).await.unwrap();
        let topics = found.items.into_iter();
        topics.map(|named| named.session.session_topic).collect()
    };
    let agent = find_agent(store, &ws, "a", now).await;
    assert_eq!(agents(store, &ws, now).await, std::slice::from_ref(&agent));
    assert_eq!(agent.active_session_count, 2);
    assert_eq!(agent.latest_status, Some(StatusKind::Success));
    for (expiry, expected) in [
        (Expiry::Any, vec!["year", "day", "right"]),
        (Expiry::Unexpired, vec!["day", "right"]),
        (Expiry::Expired, vec!["year"]),
    ] {
        assert_eq!(topics(store, &ws, "a", expiry, now).await, expected);
    }
    assert_eq!(states(SessionState::Active).await, ["right"]);
    assert_eq!(states(SessionState::Expired).await, ["year"]);

    record(store, &ws, &report("a", "year", StatusKind::Pending), now).await;
    let agent = find_agent(store, &ws, "a", now).await;
    assert_eq!(agent.active_session_count, 3);
    assert_eq!(states(SessionState::Active).await, ["right", "year"]);
}

/// Title, reason, message, context, sequence and the state of hooks come back as they were decided,
/// also from a group.
pub async fn a_session_keeps_what_reports_say_of_it<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let odd = "a/b\\c\"d'e\r\n\t\u{1}\u{7f}é中🦀\u{202e}$1 :x ?%_{}[]";
    let full = Report {
        session_title: Some(odd.into()),
        reason: "permission".into(),
        message: odd.into(),
        context: (0..20)
            .map(|n| (format!("key.{n}"), format!("{n} {odd}")))
            .collect(),
        sequence: Some(1),
        ..report("a", "t", StatusKind::Pending)
    };
    let changed = Report {
        reason: "plan".into(),
        message: String::new(),
        session_title: None,
        context: Context::from([
            ("key.0".into(), String::new()),
            ("key.1".into(), "new".into()),
        ]),
        sequence: Some((1 << 53) - 1),
        ..full.clone()
    };
    let session_key = key(&ws, "a", "t");
    // 2^53 - 1 microseconds are in the year 2255.
    let late = start() + TimeDelta::days(365 * 300);
    for (n, at) in [
        (&full, start()),
        (&changed, late),
        (&running("a", "t"), late + seconds(1)),
    ] {
        let snapshot = store.load(&session_key).await.unwrap();
        let state = format!("{{\"state\": \"{}\"}}", "x".repeat(4000));
        let commit = decided_quietly(&ws, n, &state, &snapshot, at);
        let committed = store.commit(&commit).await.unwrap();
        assert_eq!(committed, CommitOutcome::Committed);
        let stored = store.load(&session_key).await.unwrap().session;
        assert_eq!(stored.as_ref(), Some(&commit.session));
        let shown = Session::new("a".into(), "t".into(), commit.session);
        let found = store
            .session(&session_key, None, 10)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found.session, shown);
        let query = SessionQuery {
            limit: 10,
            ..SessionQuery::default()
        };
        let listed = store.sessions(&ws, "a", &query, at).await.unwrap();
        assert_eq!(listed.items, [shown]);
        let agent = find_agent(store, &ws, "a", at).await;
        assert_eq!(agent.latest_message, n.message);
    }
    let history = session_statuses(store, &session_key).await;
    let reasons: Vec<&str> = history.iter().map(|status| &*status.entry.reason).collect();
    assert_eq!(reasons, ["", "plan", "permission"]);

    let grouped = Report {
        session_topic: "grouped".into(),
        ..full
    };
    let next = Report {
        session_topic: "grouped".into(),
        ..changed
    };
    let first = decided(&ws, &grouped, &Snapshot::default(), start());
    let snapshot = Snapshot::default().after(&first);
    let second = decided(&ws, &next, &snapshot, late);
    let expected = second.session.clone();
    let chain = Chain::new([first, second]).unwrap();
    assert_eq!(
        store.commit_many(&[chain]).await.unwrap(),
        [CommitOutcome::Committed]
    );
    let grouped = key(&ws, "a", "grouped");
    let stored = store.load(&grouped).await.unwrap().session;
    assert_eq!(stored, Some(expected));
    let history = session_statuses(store, &grouped).await;
    let reasons: Vec<&str> = history.iter().map(|status| &*status.entry.reason).collect();
    assert_eq!(reasons, ["plan", "permission"]);
}

/// What a session's history holds, newest first.
async fn messages<S: Store>(store: &S, key: &SessionKey) -> Vec<String> {
    let history = session_statuses(store, key).await.into_iter();
    history.map(|status| status.entry.message.clone()).collect()
}

/// Reports numbers, each by a commit that keeps so many entries.
async fn count<S: Store>(store: &S, key: &SessionKey, numbers: RangeInclusive<u32>, kept: u32) {
    for number in numbers {
        let report = Report {
            message: number.to_string(),
            ..running(&key.agent_id, &key.session_topic)
        };
        let snapshot = store.load(key).await.unwrap();
        let now = start() + seconds(number.into());
        let mut commit = decided(&key.workspace, &report, &snapshot, now);
        commit.kept_entries = NonZeroU32::new(kept);
        let outcome = store.commit(&commit).await.unwrap();
        assert_eq!(outcome, CommitOutcome::Committed);
    }
}

/// The oldest entries go, a few with each commit until the limit holds. Commits without an entry do not
/// count, and no place is given again.
pub async fn a_limited_history_keeps_its_newest_entries<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let key = key(&ws, "a", "t");
    let newest = |numbers: RangeInclusive<u32>| -> Vec<String> {
        numbers.rev().map(|number| number.to_string()).collect()
    };
    count(store, &key, 1..=3, 4).await;
    assert_eq!(messages(store, &key).await, newest(1..=3));
    count(store, &key, 4..=6, 4).await;
    assert_eq!(messages(store, &key).await, newest(3..=6));
    let of_agent = store.history(&ws, "a", None, 9).await.unwrap();
    assert_eq!((of_agent.items.len(), of_agent.next), (4, None));
    for quiet in 7..12 {
        let snapshot = store.load(&key).await.unwrap();
        let now = start() + seconds(quiet);
        let mut commit = decided_quietly(&ws, &running("a", "t"), "", &snapshot, now);
        commit.kept_entries = NonZeroU32::new(4);
        let outcome = store.commit(&commit).await.unwrap();
        assert_eq!(outcome, CommitOutcome::Committed);
    }
    assert_eq!(messages(store, &key).await, newest(3..=6));
    // Unlimited for a while, then less than ever: it comes down bit by bit.
    count(store, &key, 20..=25, 0).await;
    assert_eq!(messages(store, &key).await.len(), 10);
    count(store, &key, 26..=26, 2).await;
    assert_eq!(messages(store, &key).await.len(), 8);
    count(store, &key, 27..=29, 2).await;
    assert_eq!(messages(store, &key).await, newest(28..=29));
    // Other sessions keep theirs, and another limit.
    let other = super::key(&ws, "a", "other");
    count(store, &other, 1..=3, 1).await;
    assert_eq!(messages(store, &other).await, newest(3..=3));
    assert_eq!(messages(store, &key).await, newest(28..=29));

    // A group that is longer than what is kept.
    let mut snapshot = store.load(&key).await.unwrap();
    let mut commits = Vec::new();
    for number in 30..=36 {
        let report = Report {
            message: number.to_string(),
            ..running("a", "t")
        };
        let mut commit = decided(&ws, &report, &snapshot, start() + seconds(number));
        commit.kept_entries = NonZeroU32::new(3);
        snapshot = snapshot.after(&commit);
        commits.push(commit);
    }
    let chain = Chain::new(commits).unwrap();
    let outcomes = store.commit_many(&[chain]).await.unwrap();
    assert_eq!(outcomes, [CommitOutcome::Committed]);
    assert_eq!(messages(store, &key).await, newest(34..=36));
    let head = store.load(&key).await.unwrap().session.unwrap();
    assert_eq!(Some(&head), snapshot.session.as_ref());
    let places = session_statuses(store, &key).await;
    let places: Vec<u64> = places.iter().map(|entry| entry.seq).collect();
    assert_eq!(places, [head.seq, head.seq - 1, head.seq - 2]);
    let all = store.history(&ws, "a", None, 99).await.unwrap().items;
    assert_eq!(all.len(), 4);
}

/// Who walks through a history that loses its oldest entries meanwhile sees the others, each once.
pub async fn walks_stay_right_while_old_entries_go<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let key = key(&ws, "a", "t");
    count(store, &key, 1..=12, 12).await;
    let (mut of_session, mut of_agent) = (Vec::new(), Vec::new());
    let (mut before, mut after) = (None, None);
    for number in 13..17 {
        let page = store.session(&key, before, 3).await.unwrap().unwrap();
        of_session.extend(
            page.history
                .items
                .into_iter()
                .map(|status| status.entry.message.clone()),
        );
        let all = store.history(&ws, "a", after.as_ref(), 3).await.unwrap();
        of_agent.extend(
            all.items
                .into_iter()
                .map(|status| status.entry.message.clone()),
        );
        count(store, &key, number..=number, 12).await;
        (before, after) = (page.history.next, all.next);
        if before.is_none() && after.is_none() {
            break;
        }
    }
    assert_eq!((before, after), (None, None));
    // The three oldest were gone when it was their turn.
    let expected: Vec<String> = (4..=12)
        .rev()
        .map(|number: u32| number.to_string())
        .collect();
    assert_eq!(of_session, expected);
    assert_eq!(of_agent, expected);
}

/// A commit may raise the version without a history entry. History then has a gap, and goes on.
pub async fn a_commit_without_an_entry_leaves_a_gap<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let said = |message: &str| Report {
        message: message.into(),
        ..running("a", "t")
    };
    let session_key = key(&ws, "a", "t");
    let quiet = async |message: &str, second| {
        let snapshot = store.load(&session_key).await.unwrap();
        let commit = decided_quietly(
            &ws,
            &said(message),
            "",
            &snapshot,
            start() + seconds(second),
        );
        store.commit(&commit).await.unwrap()
    };
    let places = async || -> Vec<(u64, String)> {
        let history = session_statuses(store, &session_key).await;
        let entries = history.into_iter();
        entries
            .map(|entry| (entry.seq, entry.entry.message.clone()))
            .collect()
    };
    record(store, &ws, &said("1"), start()).await;
    assert_eq!(quiet("2", 2).await, CommitOutcome::Committed);
    let found = store
        .session(&session_key, None, 10)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.session.last_updated, start() + seconds(2));
    assert_eq!(found.session.message, "2");
    assert_eq!(places().await, [(1, "1".into())]);
    let agent = find_agent(store, &ws, "a", start() + seconds(2)).await;
    assert_eq!(
        (agent.latest_message.as_str(), agent.last_seen),
        ("2", start() + seconds(2))
    );

    record(store, &ws, &said("3"), start() + seconds(3)).await;
    assert_eq!(quiet("4", 4).await, CommitOutcome::Committed);
    assert_eq!(places().await, [(3, "3".into()), (1, "1".into())]);
    let older = store
        .session(&session_key, Some(3), 10)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(older.history.items.len(), 1);
    let first = store.history(&ws, "a", None, 1).await.unwrap();
    assert_eq!(first.items[0].entry.message, "3");
    let rest = store
        .history(&ws, "a", first.next.as_ref(), 9)
        .await
        .unwrap();
    assert_eq!(
        (rest.items[0].entry.message.as_str(), rest.next),
        ("1", None)
    );

    // The same in a group: in the middle, at the end, and alone.
    let snapshot = store.load(&session_key).await.unwrap();
    let loud = decided(&ws, &said("5"), &snapshot, start() + seconds(5));
    let snapshot = snapshot.after(&loud);
    let six = decided_quietly(&ws, &said("6"), "", &snapshot, start() + seconds(6));
    let snapshot = snapshot.after(&six);
    let seven = decided(&ws, &said("7"), &snapshot, start() + seconds(7));
    let snapshot = snapshot.after(&seven);
    let eight = decided_quietly(&ws, &said("8"), "", &snapshot, start() + seconds(8));
    let snapshot = snapshot.after(&eight);
    let nine = decided_quietly(&ws, &said("9"), "", &snapshot, start() + seconds(9));
    let expected = nine.session.clone();
    for chain in [
        Chain::new([loud, six, seven, eight]).unwrap(),
        Chain::from(nine),
    ] {
        let outcomes = store.commit_many(&[chain]).await.unwrap();
        assert_eq!(outcomes, [CommitOutcome::Committed]);
    }
    let stored = store.load(&session_key).await.unwrap().session;
    assert_eq!(stored, Some(expected));
    assert_eq!(
        places().await,
        [7, 5, 3, 1].map(|seq| (seq, seq.to_string()))
    );
    let all = store.history(&ws, "a", None, 9).await.unwrap();
    assert_eq!(all.items.len(), 4);
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

/// Sessions of all agents: last updated first, then by agent, then by topic in code point order, with
/// their agents' names, and each once whatever the size of a page.
pub async fn sessions_of_all_agents_are_listed_in_one_order<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let named = Report {
        agent_name: Some("Étude".into()),
        ..running("b", "named")
    };
    record(store, &ws, &named, start() + seconds(9)).await;
    for agent in ["b", "Z", "é", "🦀"] {
        for topic in ["t", "T", "中"] {
            record(store, &ws, &running(agent, topic), start()).await;
        }
    }
    // Reports move sessions to the front, and agents with many sessions spill over.
    for n in 0..8 {
        let report = running("many", &format!("s{n}"));
        record(store, &ws, &report, start() + seconds(n % 3)).await;
    }
    for n in [3, 0] {
        let report = running("many", &format!("s{n}"));
        record(store, &ws, &report, start() + seconds(5 + n)).await;
    }
    record(
        store,
        &workspace(&format!("{tag} other")),
        &running("x", "x"),
        start(),
    )
    .await;
    let all = WorkspaceQuery {
        limit: 10_000,
        ..WorkspaceQuery::default()
    };
    let whole = workspace_sessions(store, &ws, &all, start()).await;
    let expected = [
        "b/named", "many/s3", "many/s0", "many/s2", "many/s5", "many/s1", "many/s4", "many/s7",
        "Z/T", "Z/t", "Z/中", "b/T", "b/t", "b/中", "many/s6", "é/T", "é/t", "é/中", "🦀/T",
        "🦀/t", "🦀/中",
    ];
    assert_eq!(names(&whole), expected);
    for named in &whole {
        let session = &named.session;
        let name = if session.agent_id == "b" {
            "Étude"
        } else {
            ""
        };
        assert_eq!(named.agent_name, name);
        let key = key(&ws, &session.agent_id, &session.session_topic);
        let found = store.session(&key, None, 1).await.unwrap().unwrap();
        assert_eq!(*session, found.session);
    }
    for limit in [1, 2, 5, 20, 21, 22] {
        let query = WorkspaceQuery {
            limit,
            ..all.clone()
        };
        let walked = workspace_sessions(store, &ws, &query, start()).await;
        assert_eq!(walked, whole, "limit {limit}");
    }
}

/// The filters of a list of all agents' sessions, on both sides of an expiry.
pub async fn sessions_of_all_agents_are_filtered_by_state_and_status<S: Store>(
    store: &S,
    tag: &str,
) {
    use SessionState::{Active, Ended, Expired, Idle};
    let ws = workspace(tag);
    let of = |topic: &str, status, reason: &str, ttl| Report {
        reason: reason.into(),
        ttl_minutes: Some(ttl),
        ..report(&format!("agent of {topic}"), topic, status)
    };
    for report in [
        of("brief", StatusKind::Running, "", 1),
        of("long", StatusKind::Pending, "plan", 1440),
        of("turn", StatusKind::Success, "turn", 1),
        of("done", StatusKind::Success, "closed", 1),
        of("failed", StatusKind::Failed, "turn", 1440),
    ] {
        record(store, &ws, &report, start()).await;
    }
    let listed = async |state, status, now| {
        let query = WorkspaceQuery {
            state,
            status,
            limit: 1,
            ..WorkspaceQuery::default()
        };
        let found = workspace_sessions(store, &ws, &query, now).await;
        let topics = found.into_iter().map(|named| named.session.session_topic);
        topics.collect::<BTreeSet<String>>()
    };
    let set = |topics: &[&str]| {
        topics
            .iter()
            .map(|&it| it.to_owned())
            .collect::<BTreeSet<_>>()
    };
    let edge = start() + seconds(60);
    let end = start() + TimeDelta::days(1);
    for (now, active, idle, ended, expired) in [
        (
            edge - TICK,
            &["brief", "long"][..],
            &["turn"][..],
            &["done", "failed"][..],
            &[][..],
        ),
        (
            edge,
            &["long"],
            &[],
            &["done", "failed", "turn"],
            &["brief"],
        ),
        (
            end - TICK,
            &["long"],
            &[],
            &["done", "failed", "turn"],
            &["brief"],
        ),
        (
            end,
            &[],
            &[],
            &["done", "failed", "turn"],
            &["brief", "long"],
        ),
    ] {
        for (state, topics) in [
            (Active, active),
            (Idle, idle),
            (Ended, ended),
            (Expired, expired),
        ] {
            let found = listed(Some(state), None, now).await;
            assert_eq!(found, set(topics), "{state:?} at {now}");
        }
        let found = listed(None, Some(StatusKind::Success), now).await;
        assert_eq!(found, set(&["done", "turn"]));
        let found = listed(Some(Ended), Some(StatusKind::Failed), now).await;
        assert_eq!(found, set(&["failed"]));
        let found = listed(Some(Active), Some(StatusKind::Success), now).await;
        assert_eq!(found, set(&[]));
    }
}

/// A search in a list of all agents' sessions finds topics, titles, and agents' ids and names, in any
/// case of any script, as they are now.
pub async fn sessions_of_all_agents_are_found_by_every_name<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let named = Report {
        agent_name: Some("МОСКВА".into()),
        session_title: Some("Straße 100%".into()),
        ..running("Étude", "部署 A_b")
    };
    record(store, &ws, &named, start()).await;
    record(store, &ws, &running("plain", "topic"), start()).await;
    for (text, expected) in [
        ("étude", vec!["Étude/部署 A_b"]),
        ("москва", vec!["Étude/部署 A_b"]),
        ("STRAßE", vec!["Étude/部署 A_b"]),
        ("部署 a_B", vec!["Étude/部署 A_b"]),
        ("100%", vec!["Étude/部署 A_b"]),
        ("TOPIC", vec!["plain/topic"]),
        ("plain", vec!["plain/topic"]),
        ("t", vec!["plain/topic", "Étude/部署 A_b"]),
        ("a%b", vec![]),
        ("topicplain", vec![]),
    ] {
        let query = WorkspaceQuery {
            search: Some(search_key(text)),
            limit: 1,
            ..WorkspaceQuery::default()
        };
        let found = workspace_sessions(store, &ws, &query, start()).await;
        assert_eq!(names(&found), expected, "{text}");
    }
    let renamed = Report {
        agent_name: Some("Bob".into()),
        session_title: Some("Other".into()),
        ..running("Étude", "another")
    };
    record(store, &ws, &renamed, start()).await;
    let query = |text: &str| WorkspaceQuery {
        search: Some(search_key(text)),
        limit: 10,
        ..WorkspaceQuery::default()
    };
    let found = workspace_sessions(store, &ws, &query("bob"), start()).await;
    assert_eq!(names(&found), ["Étude/another", "Étude/部署 A_b"]);
    let found = workspace_sessions(store, &ws, &query("москва"), start()).await;
    assert_eq!(names(&found), [""; 0]);
}

/// What is reported during a walk through all sessions moves to the front, and is not shown again.
pub async fn a_walk_through_all_sessions_shows_nothing_twice<S: Store>(store: &S, tag: &str) {
    let ws = workspace(tag);
    let topics: Vec<String> = (0..12).map(|n| format!("t{n}")).collect();
    for (n, topic) in topics.iter().enumerate() {
        let report = running(&format!("a{}", n % 3), topic);
        record(store, &ws, &report, start() + seconds(n as i64 / 2)).await;
    }
    let mut query = WorkspaceQuery {
        limit: 2,
        ..WorkspaceQuery::default()
    };
    let mut walked = Vec::new();
    for round in 0.. {
        let page = store
            .workspace_sessions(&ws, &query, start())
            .await
            .unwrap();
        walked.extend(names(&page.items));
        let Some(next) = page.next else { break };
        query.after = Some(next);
        // One that was shown, one that is to come, and a new one.
        let at = start() + seconds(60 + round);
        for topic in [
            &topics[11],
            &topics[(round % 4) as usize],
            &format!("new {round}"),
        ] {
            let n = topics.iter().position(|known| known == topic).unwrap_or(0);
            record(store, &ws, &running(&format!("a{}", n % 3), topic), at).await;
        }
        assert!(round < 12, "the walk does not end");
    }
    let distinct: BTreeSet<&String> = walked.iter().collect();
    assert_eq!(distinct.len(), walked.len(), "{walked:?}");
    for topic in &topics[4..] {
        assert!(
            walked
                .iter()
                .any(|name| name.ends_with(&format!("/{topic}"))),
            "{topic}"
        );
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
        expected.insert((Arc::from(topic), n / 3 + 1));
    }
    let whole = store.history(&ws, "a", None, 100).await.unwrap().items;
    let mut sorted = whole.clone();
    sorted.sort_by(|a, b| {
        let by_time = b.entry.timestamp.cmp(&a.entry.timestamp);
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
    assert_eq!(history[0].entry.message, odd);
    assert_eq!(history[0].entry.content, report.content);
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
        assert_eq!(history[0].entry.message, n.to_string());
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
    for key in [uuid_of(tag), "no uuid ' at all".into()] {
        assert_eq!(store.revoke_api_key(&id, &key).await.unwrap(), None);
    }
    let nobody = Audience::Account(id);
    assert!(store.receivers(&nobody).await.unwrap().is_empty());
}

/// Decides on reports one after the other, from what is stored of their session.
async fn chain<S: Store>(store: &S, workspace: &Workspace, reports: &[Report]) -> Chain {
    let key = reports[0].session_key(workspace);
    let mut snapshot = store.load(&key).await.unwrap();
    let commits = reports.iter().map(|report| {
        let commit = decided(workspace, report, &snapshot, start());
        snapshot = snapshot.after(&commit);
        commit
    });
    Chain::new(commits).unwrap()
}

/// Stores chains until none conflicts any more, as a host does that nobody else disturbs for long.
async fn commit_all<S: Store>(store: &S, workspace: &Workspace, reports: &[Vec<Report>]) {
    for reports in reports {
        for attempt in 0.. {
            let chains = [chain(store, workspace, reports).await];
            match store.commit_many(&chains).await {
                Ok(outcomes) if outcomes == [CommitOutcome::Committed] => break,
                Ok(_) | Err(StoreError::Contended) => {
                    assert!(attempt < 10_000, "a chain never lands");
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

/// A group holds several reports on one session, several sessions of one agent, new and known ones;
/// a chain whose session has moved leaves no trace and holds up no other.
pub async fn a_group_is_stored_chain_by_chain<S: Store>(store: &S, tag: &str) {
    let workspace = workspace(tag);
    record(store, &workspace, &running("a", "known"), start()).await;
    record(store, &workspace, &running("a", "moved"), start()).await;
    let named = |name: &str, topic: &str, status| Report {
        agent_name: Some(name.into()),
        agent_source: Some(name.into()),
        message: format!("{name} {topic}"),
        ..report("a", topic, status)
    };
    let mut stale = vec![
        chain(
            store,
            &workspace,
            &[
                named("stale", "moved", StatusKind::Failed),
                running("a", "moved"),
            ],
        )
        .await,
    ];
    record(store, &workspace, &running("a", "moved"), start()).await;
    let mut chains = vec![
        chain(
            store,
            &workspace,
            &[
                named("first", "known", StatusKind::Pending),
                named("second", "known", StatusKind::Running),
                report("a", "known", StatusKind::Success),
            ],
        )
        .await,
        chain(
            store,
            &workspace,
            &[running("a", "new"), running("a", "new")],
        )
        .await,
        chain(store, &workspace, &[running("b", "new")]).await,
    ];
    chains.append(&mut stale);
    chains.sort_by(|a, b| a.key().cmp(b.key()));
    let outcomes = store.commit_many(&chains).await.unwrap();
    let outcome_of = |topic: &str, agent: &str| {
        let place = chains
            .iter()
            .position(|chain| chain.key().session_topic == topic && chain.key().agent_id == agent);
        outcomes[place.unwrap()]
    };
    assert_eq!(outcomes.len(), 4);
    assert_eq!(outcome_of("known", "a"), CommitOutcome::Committed);
    assert_eq!(outcome_of("new", "a"), CommitOutcome::Committed);
    assert_eq!(outcome_of("new", "b"), CommitOutcome::Committed);
    assert_eq!(outcome_of("moved", "a"), CommitOutcome::Conflict);

    let agent = find_agent(store, &workspace, "a", start()).await;
    assert_eq!((&*agent.name, &*agent.source), ("second", "second"));
    assert_eq!((agent.session_count, agent.active_session_count), (3, 3));
    let known = session_statuses(store, &key(&workspace, "a", "known")).await;
    let summary: Vec<_> = known
        .iter()
        .map(|entry| (entry.seq, entry.entry.status))
        .collect();
    assert_eq!(
        summary,
        [
            (4, StatusKind::Success),
            (3, StatusKind::Running),
            (2, StatusKind::Pending),
            (1, StatusKind::Running)
        ]
    );
    assert_eq!(known[1].entry.message, "second known");
    let snapshots = store
        .load_many(&[
            key(&workspace, "a", "new"),
            key(&workspace, "b", "nothing"),
            key(&workspace, "c", "nothing"),
        ])
        .await
        .unwrap();
    assert_eq!(snapshots.len(), 3);
    assert_eq!(snapshots[0].session.as_ref().map(|head| head.seq), Some(2));
    assert_eq!(snapshots[1].agent_name.as_deref(), Some(""));
    assert_eq!(snapshots[1].session, None);
    let unknown = (
        snapshots[2].agent_name.clone(),
        snapshots[2].session.clone(),
    );
    assert_eq!(unknown, (None, None));
    assert_eq!(store.load_many(&[]).await.unwrap(), []);
    assert_eq!(store.commit_many(&[]).await.unwrap(), []);
}

/// Groups and single reports on the same sessions and agents all land, each once.
pub async fn groups_and_single_commits_race<S: Store>(store: &S, tag: &str) {
    let workspace = workspace(tag);
    let reports = [
        vec![running("a", "1"), running("a", "1")],
        vec![running("a", "2")],
    ];
    let groups = join_all((0..4).map(|_| commit_all(store, &workspace, &reports)));
    let singly = join_all((0..4).map(|n| {
        let workspace = &workspace;
        async move {
            let topic = if n % 2 == 0 { "1" } else { "2" };
            record(store, workspace, &running("a", topic), start()).await
        }
    }));
    let _conflicts = futures_util::future::join(groups, singly).await;
    for (topic, expected) in [("1", 4 * 2 + 2), ("2", 4 + 2)] {
        let statuses = session_statuses(store, &key(&workspace, "a", topic)).await;
        let seqs: Vec<u64> = statuses.iter().rev().map(|entry| entry.seq).collect();
        assert_eq!(
            seqs,
            (1..=expected).collect::<Vec<u64>>(),
            "session {topic}"
        );
    }
    let agent = find_agent(store, &workspace, "a", start()).await;
    assert_eq!(agent.session_count, 2);
}

/// A page of long texts ends at its bytes and not at its rows; walking on visits every row once.
pub async fn a_page_of_long_texts_ends_at_its_bytes<S: Store>(store: &S, tag: &str) {
    // The second takes up six times as much in JSON as in storage.
    for (n, letter) in ["🦀", "\u{1}"].iter().enumerate() {
        pages_end_at_their_bytes(store, &format!("{tag} {n}"), &letter.repeat(10_000)).await;
    }
}

/// Lists of agents and of sessions end at their bytes, as histories do.
pub async fn a_page_of_long_rows_ends_at_its_bytes<S: Store>(store: &S, tag: &str) {
    let workspace = workspace(tag);
    // Takes up six times as much in JSON as in storage.
    let long = "\u{1}".repeat(200);
    let context: Context = (0..20).map(|n| (format!("k{n}"), long.clone())).collect();
    let sessions = MAX_PAGE_BYTES / (20 * 6 * long.len()) + 20;
    for n in 0..sessions {
        let report = Report {
            context: context.clone(),
            ..running("a", &n.to_string())
        };
        record(store, &workspace, &report, start()).await;
    }
    let agents = MAX_PAGE_BYTES / (7 * 6 * long.len()) + 20;
    for n in 1..agents {
        let report = Report {
            agent_name: Some(long.clone()),
            agent_source: Some(long.clone()),
            message: long.repeat(5),
            ..running(&n.to_string(), "t")
        };
        record(store, &workspace, &report, start()).await;
    }

    let mut query = SessionQuery {
        limit: 10_000,
        ..SessionQuery::default()
    };
    let found = pages(async || {
        let page = store
            .sessions(&workspace, "a", &query, start())
            .await
            .unwrap();
        query.after.clone_from(&page.next);
        page
    });
    assert_eq!(found.await, sessions);
    let mut query = WorkspaceQuery {
        limit: 10_000,
        ..WorkspaceQuery::default()
    };
    let found = pages(async || {
        let page = store.workspace_sessions(&workspace, &query, start()).await;
        let page = page.unwrap();
        query.after.clone_from(&page.next);
        page
    });
    assert_eq!(found.await, sessions + agents - 1);
    let mut query = AgentQuery {
        limit: 10_000,
        ..AgentQuery::default()
    };
    let found = pages(async || {
        let page = store.agents(&workspace, &query, start()).await.unwrap();
        query.after.clone_from(&page.next);
        page
    });
    assert_eq!(found.await, agents);
}

/// The number of rows on all pages, of which none goes beyond its bytes by more than a row.
async fn pages<T: Row, C>(mut next: impl AsyncFnMut() -> Page<T, C>) -> usize {
    let mut rows = 0;
    for number in 1.. {
        let page = next().await;
        let but_the_last = page.items.iter().rev().skip(1);
        assert!(but_the_last.map(Row::bytes).sum::<usize>() < MAX_PAGE_BYTES);
        rows += page.items.len();
        if page.next.is_none() {
            assert!(number > 1, "there are several pages of bytes");
            break;
        }
    }
    rows
}

async fn pages_end_at_their_bytes<S: Store>(store: &S, tag: &str, content: &str) {
    let workspace = workspace(tag);
    let size = serde_json::to_string(content).unwrap().len();
    let rows = MAX_PAGE_BYTES / size + 20;
    let reports: Vec<Report> = (0..rows)
        .map(|n| Report {
            message: n.to_string(),
            content: content.to_owned(),
            ..running("a", "t")
        })
        .collect();
    for some in reports.chunks(4) {
        commit_all(store, &workspace, &[some.to_vec()]).await;
    }
    let expected: Vec<String> = (0..rows).rev().map(|n| n.to_string()).collect();
    let messages = |page: &[Status]| -> Vec<String> {
        page.iter()
            .map(|status| status.entry.message.clone())
            .collect()
    };
    let bytes = |page: &[Status]| serde_json::to_vec(page).unwrap().len();

    let key = key(&workspace, "a", "t");
    let mut seen = Vec::new();
    let mut before = None;
    for page in 0.. {
        let found = store.session(&key, before, 10_000).await.unwrap().unwrap();
        let history = found.history;
        assert!(bytes(&history.items) <= MAX_PAGE_BYTES + size);
        seen.extend(messages(&history.items));
        before = history.next;
        if before.is_none() {
            assert_eq!(page, 1, "there are two pages of bytes");
            break;
        }
    }
    assert_eq!(seen, expected);

    let mut seen = Vec::new();
    let mut before: Option<HistoryCursor> = None;
    loop {
        let page = store
            .history(&workspace, "a", before.as_ref(), 10_000)
            .await
            .unwrap();
        assert!(bytes(&page.items) <= MAX_PAGE_BYTES + size);
        seen.extend(messages(&page.items));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
}
