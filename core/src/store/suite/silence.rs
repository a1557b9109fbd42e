use super::*;
use crate::Silence;
use crate::store::SilenceNote;

/// A moment of a case's own, far from those of other cases: silences are found in all workspaces.
fn moment(tag: &str) -> Timestamp {
    let hash = u32::from_str_radix(&sha256_hex(tag)[..8], 16).unwrap();
    start() + TimeDelta::days(3650) + TimeDelta::minutes((hash % 50_000_000).into())
}

/// The topics of a workspace's sessions whose expiry is watched and comes in this range of seconds.
async fn silences<S: Store>(
    store: &S,
    own: &Workspace,
    since: Timestamp,
    range: (i64, i64),
) -> Vec<(SessionKey, Snapshot)> {
    let (after, until) = (since + seconds(range.0), since + seconds(range.1));
    let mut found = store.silences(after, until, 1000).await.unwrap();
    found.retain(|(key, _)| key.workspace == *own);
    found
}

fn topics_of(silences: &[(SessionKey, Snapshot)]) -> Vec<&str> {
    silences
        .iter()
        .map(|(key, _)| key.session_topic.as_str())
        .collect()
}

fn note(found: &(SessionKey, Snapshot), notifications: &[Notification]) -> SilenceNote {
    let (key, snapshot) = found;
    SilenceNote {
        key: key.clone(),
        seq: snapshot.session.as_ref().unwrap().seq,
        notifications: notifications.to_vec(),
    }
}

fn brief(agent: &str, topic: &str, status: StatusKind) -> Report {
    Report {
        ttl_minutes: Some(1),
        agent_name: Some("Name".into()),
        ..Report::new(agent, topic, status)
    }
}

/// Running sessions are found when they expire and not before, soonest first, until a report renews
/// or ends them.
pub async fn a_running_session_is_watched_until_it_expires<S: Store>(store: &S, tag: &str) {
    let (own, since) = (workspace(tag), moment(tag));
    for (topic, at) in [("c", 2), ("a", 1), ("b", 1), ("ended", 0), ("renewed", 0)] {
        let agent = if topic == "b" { "other" } else { "agent" };
        let report = brief(agent, topic, StatusKind::Running);
        record(store, &own, &report, since + seconds(at)).await;
    }
    let headless = Report {
        context: Context::from([("mode".into(), "headless".into())]),
        ..brief("agent", "headless", StatusKind::Running)
    };
    record(store, &own, &headless, since).await;
    let waits = brief("agent", "waits", StatusKind::Pending);
    record(store, &own, &waits, since).await;
    let ended = brief("agent", "ended", StatusKind::Success);
    record(store, &own, &ended, since + seconds(3)).await;
    let renewed = brief("agent", "renewed", StatusKind::Running);
    record(store, &own, &renewed, since + seconds(10)).await;

    let found = silences(store, &own, since, (0, 62)).await;
    let mut at_once = topics_of(&found);
    at_once[..2].sort_unstable();
    assert_eq!(at_once, ["a", "b", "c"]);
    for (key, snapshot) in &found {
        assert_eq!(store.load(key).await.unwrap(), *snapshot);
        assert_eq!(snapshot.agent_name.as_deref(), Some("Name"));
        assert_eq!(snapshot.session.as_ref().unwrap().silence, Silence::Watched);
    }
    let in_range = async |range| {
        let found = silences(store, &own, since, range).await;
        let mut topics: Vec<_> = topics_of(&found).into_iter().map(str::to_owned).collect();
        topics.sort_unstable();
        topics.join(" ")
    };
    assert_eq!(in_range((0, 60)).await, "");
    assert_eq!(in_range((60, 61)).await, "a b");
    assert_eq!(in_range((61, 69)).await, "c");
    assert_eq!(in_range((62, 70)).await, "renewed");
    assert_eq!(in_range((70, 86_400)).await, "");
}

/// Who notes a silence first queues what is told; a session that has been renewed is not noted.
pub async fn a_silence_is_noted_once_unless_the_session_is_renewed<S: Store>(store: &S, tag: &str) {
    let (own, since) = (workspace(tag), moment(tag));
    for topic in ["renewed", "silent", "silent too"] {
        record(
            store,
            &own,
            &brief("agent", topic, StatusKind::Running),
            since,
        )
        .await;
    }
    let mut found = silences(store, &own, since, (59, 60)).await;
    found.sort_by_key(|(key, _)| key.clone());
    assert_eq!(topics_of(&found), ["renewed", "silent", "silent too"]);
    let renewal = brief("agent", "renewed", StatusKind::Running);
    record(store, &own, &renewal, since + seconds(60)).await;

    let told = |n: &str| super::outbox::notification(&own, n, "silence.example:443");
    let notes = |round: &str| {
        let of = |n: usize| note(&found[n], &[told(&format!("{round} {n}"))]);
        [of(0), of(1), of(2)]
    };
    let (first, second) = (notes("first"), notes("second"));
    // A busy row may be passed over by everybody: then they come again.
    let mut noted = vec![0; 3];
    let mut rounds = 0;
    while noted != [0, 1, 1] {
        let answers = join_all([&first, &second].map(|notes| store.note_silences(notes))).await;
        for answer in answers {
            for (count, noted) in noted.iter_mut().zip(answer.unwrap()) {
                *count += u32::from(noted);
            }
        }
        rounds += 1;
        assert!(rounds < 1000, "{noted:?}");
    }
    let again = store.note_silences(&first).await.unwrap();
    assert_eq!(again, [false; 3]);

    let leased =
        super::outbox::lease_all(store, std::slice::from_ref(&own), &request_at(&own, since)).await;
    assert_eq!(leased.len(), 2, "{leased:?}");
    let silence = async |topic| {
        let key = key(&own, "agent", topic);
        let head = store.load(&key).await.unwrap().session.unwrap();
        (head.silence, head.seq)
    };
    assert_eq!(silence("renewed").await, (Silence::Watched, 2));
    assert_eq!(silence("silent").await, (Silence::Told, 2));
    let found = silences(store, &own, since, (0, 86_400)).await;
    assert_eq!(topics_of(&found), ["renewed"]);

    // What is shown stays as it was, and the session goes on.
    let silent = key(&own, "agent", "silent");
    let statuses = session_statuses(store, &silent).await;
    assert_eq!(statuses.len(), 1);
    let shown = store
        .session(&silent, None, 10)
        .await
        .unwrap()
        .unwrap()
        .session;
    assert_eq!(shown.last_updated, since);
    let agent = find_agent(store, &own, "agent", since + seconds(60)).await;
    assert_eq!(agent.last_seen, since + seconds(60));
    let conflicts = {
        let report = brief("agent", "silent", StatusKind::Running);
        let snapshot = store.load(&silent).await.unwrap();
        let commit = decided(&own, &report, &snapshot, since + seconds(90));
        assert_eq!(commit.session.silence, Silence::Watched);
        store.commit(&commit).await.unwrap()
    };
    assert_eq!(conflicts, CommitOutcome::Committed);
    let found = silences(store, &own, since, (149, 150)).await;
    assert_eq!(topics_of(&found), ["silent"]);
    let seqs: Vec<u64> = session_statuses(store, &silent)
        .await
        .iter()
        .map(|one| one.seq)
        .collect();
    assert_eq!(seqs, [3, 1]);
}

/// A report that was decided before a silence was noted conflicts with that, so that it learns of it.
pub async fn a_report_and_the_note_of_a_silence_exclude_each_other<S: Store>(store: &S, tag: &str) {
    let (own, since) = (workspace(tag), moment(tag));
    for n in 0..20 {
        let topic = n.to_string();
        let report = brief("agent", &topic, StatusKind::Running);
        record(store, &own, &report, since).await;
        let snapshot = store.load(&key(&own, "agent", &topic)).await.unwrap();
        let commit = decided(&own, &report, &snapshot, since + seconds(60));
        let found = (commit.key.clone(), snapshot);
        let note = [note(&found, &[])];
        let commit = async {
            for _ in 0..n % 5 {
                crate::yield_now().await;
            }
            store.commit(&commit).await
        };
        let noting = async {
            for _ in 0..n / 5 {
                crate::yield_now().await;
            }
            store.note_silences(&note).await
        };
        let (outcome, noted) = futures_util::future::join(commit, noting).await;
        let noted = noted.unwrap();
        let stored = match outcome {
            Ok(outcome) => outcome == CommitOutcome::Committed,
            Err(StoreError::Contended) => false,
            Err(error) => panic!("{error:?}"),
        };
        // Either may give way where both are at the row, but never do both take effect.
        assert!(!(stored && noted == [true]), "{n}");
        let head = store.load(&found.0).await.unwrap().session.unwrap();
        let expected = match (stored, noted[0]) {
            (true, _) => (Silence::Watched, since + seconds(60)),
            (false, true) => (Silence::Told, since),
            (false, false) => (Silence::Watched, since),
        };
        assert_eq!((head.silence, head.last_updated), expected, "{n}");
    }
}

fn request_at(own: &Workspace, since: Timestamp) -> LeaseRequest {
    LeaseRequest {
        now: since + seconds(120),
        ..super::outbox::request(std::slice::from_ref(own))
    }
}
