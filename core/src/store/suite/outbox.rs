use super::*;

pub(super) fn notification(tag: &str, n: &str, host: &str) -> Notification {
    Notification {
        id: uuid_of(&format!("{tag} notification {n}")),
        url: format!("https://{host}/{n}"),
        host: format!("{}.{host}", &sha256_hex(tag)[..8]),
        body: format!("{{\"text\":\"→ {n}\"}}"),
        created_at: start(),
    }
}

pub(super) async fn queue<S: Store>(
    store: &S,
    workspace: &Workspace,
    notifications: Vec<Notification>,
) {
    let report = running("outbox", "t");
    let snapshot = store.load(&report.session_key(workspace)).await.unwrap();
    let mut commit = decided(workspace, &report, &snapshot, start());
    commit.notifications = notifications;
    assert_eq!(
        store.commit(&commit).await.unwrap(),
        CommitOutcome::Committed
    );
}

/// Leases what this case queued; what others did is left to run out.
pub(super) async fn lease<S: Store>(
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
