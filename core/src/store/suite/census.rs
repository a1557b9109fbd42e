use super::outbox::{create, notification, queue, told};
use super::*;
use crate::store::{Census, Counts, MAX_WAITING};

/// What an empty store holds is counted: sessions by their states, which expiry changes, what waits
/// with its age, and what found no room. The store must be new.
pub async fn what_is_stored_is_counted<S: Store + Census>(store: &S, tag: &str) {
    assert_eq!(store.census(start()).await.unwrap(), Counts::default());
    let (own, other) = (workspace(tag), Workspace::Shared);
    for (workspace, topic, status, reason) in [
        (&own, "running", StatusKind::Running, ""),
        (&own, "waiting", StatusKind::Pending, "question"),
        (&other, "running", StatusKind::Running, ""),
        (&own, "turn", StatusKind::Success, "turn"),
        (&own, "done", StatusKind::Success, ""),
        (&other, "stopped", StatusKind::Failed, "stopped"),
    ] {
        let report = Report {
            reason: reason.into(),
            ..Report::new("agent", topic, status)
        };
        record(store, workspace, &report, start()).await;
    }
    let counts = Counts {
        active: 3,
        idle: 1,
        ended: 2,
        ..Counts::default()
    };
    let edge = start() + TimeDelta::minutes(60);
    assert_eq!(store.census(edge - TICK).await.unwrap(), counts);
    let expired = Counts {
        ended: 3,
        expired: 3,
        ..Counts::default()
    };
    assert_eq!(store.census(edge).await.unwrap(), expired);

    let before = start() - TimeDelta::days(365);
    assert_eq!(store.census(before).await.unwrap(), expired);

    let mut waiting = ["1", "2"].map(|id| notification(&own, id, "receiver.example:443"));
    waiting[1].created_at = start() - seconds(5);
    queue(store, &own, &waiting).await;
    let counted = store.census(start()).await.unwrap();
    assert_eq!(counted.waiting, 2);
    assert_eq!(counted.oldest, Some(start() - seconds(5)));
    assert_eq!(counted.without_room, 0);

    let channel = uuid_of(tag);
    create(store, &own, &channel).await;
    let many: Vec<_> = (0..MAX_WAITING + 3)
        .map(|n| told(&own, &channel, n, 0, 0))
        .collect();
    queue(store, &own, &many).await;
    let without_room = async || store.census(start()).await.unwrap().without_room;
    assert_eq!(without_room().await, 3);
    store.overflow_told(&own, &channel, 2).await.unwrap();
    assert_eq!(without_room().await, 1);

    // Those of plain webhooks are counted, too, for each workspace.
    for workspace in [&own, &other] {
        let many: Vec<_> = (0..MAX_WAITING + 4)
            .map(|n| {
                let id = format!("{}{n}", workspace.key());
                notification(workspace, &id, "receiver.example:443")
            })
            .collect();
        for group in many.chunks(MAX_WAITING + 2) {
            queue(store, workspace, group).await;
        }
    }
    // Two wait already.
    assert_eq!(without_room().await, 1 + 6 + 4);
}
