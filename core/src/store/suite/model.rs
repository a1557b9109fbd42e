use super::*;
use crate::Decision;
use crate::store::Sessions;

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    /// A report, how much history it leaves, whether it adds none to that, and whether its commit comes too
    /// late.
    Report {
        report: Box<Report>,
        kept: u32,
        quiet: bool,
        stale: bool,
    },
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let status = prop::sample::select(StatusKind::ALL.to_vec());
    let ttl = prop::option::of(prop::sample::select(vec![1u32, 2, 60, 1440]));
    let context = prop::option::of(("key[0-2]", prop::sample::select(vec!["", "one", "two"])));
    let report = (
        ("agent [0-2]", "topic [0-2]", status),
        ttl,
        prop::option::of("Name [0-2]"),
        prop::option::of("Title [0-2]"),
        prop::sample::select(vec!["", "because"]),
        context,
        prop::option::of(1..9u64),
    )
        .prop_map(
            |(named, ttl_minutes, agent_name, session_title, reason, context, sequence)| {
                let (agent, topic, status) = named;
                Report {
                    ttl_minutes,
                    agent_name,
                    message: format!("{status:?}"),
                    session_title,
                    reason: reason.to_owned(),
                    context: context
                        .map(|(key, value)| (key, value.to_owned()))
                        .into_iter()
                        .collect(),
                    sequence,
                    ..Report::new(agent, topic, status)
                }
            },
        );
    let kept = prop::sample::select(vec![0, 0, 1, 2, 4]);
    let report = (report, kept, any::<bool>(), prop::bool::weighted(0.1));
    let report = report.prop_map(|(report, kept, quiet, stale)| Step::Report {
        report: Box::new(report),
        kept,
        quiet,
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
                    report,
                    kept,
                    quiet,
                    stale,
                } => {
                    let snapshot = model.load(&report.session_key(&ws)).await.unwrap();
                    assert_eq!(
                        store.load(&report.session_key(&ws)).await.unwrap(),
                        snapshot
                    );
                    let effect = HookEffect {
                        state: report.message.clone(),
                        noted: !quiet,
                    };
                    let decision = decide_hook(&ws, report, &effect, &snapshot, now, 60);
                    let Ok(Decision { mut commit, .. }) = decision else {
                        continue;
                    };
                    commit.kept_entries = NonZeroU32::new(*kept);
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
        for state in [None, Some(SessionState::Active), Some(SessionState::Ended)] {
            let query = WorkspaceQuery {
                state,
                limit: 2,
                ..WorkspaceQuery::default()
            };
            let (actual, expected) = (
                workspace_sessions(store, &ws, &query, now).await,
                workspace_sessions(&model, &ws, &query, now).await,
            );
            assert_eq!(actual, expected, "{steps:?}");
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
