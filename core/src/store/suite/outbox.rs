use std::fmt::Display;

use super::*;

const LEASE: Duration = Duration::from_secs(600);

/// Workspaces whose keys follow each other, after [`before`] and with none in between.
fn neighbours<const N: usize>(tag: &str) -> [Workspace; N] {
    let uuid = uuid_of(tag);
    let (before, _) = uuid.split_at(35);
    std::array::from_fn(|n| Workspace::from_key(format!("{before}{n:x}")))
}

pub(super) fn notification(workspace: &Workspace, n: &str, host: &str) -> Notification {
    Notification {
        id: uuid_of(&format!("{} notification {n}", workspace.key())),
        workspace: workspace.clone(),
        url: format!("https://{host}/{n}"),
        host: host.to_owned(),
        body: format!("{{\"text\":\"→ {n}\"}}"),
        created_at: start(),
    }
}

/// A receiving host of a case's own: leases of other cases would keep one that they share busy.
fn host(tag: &str, name: impl Display) -> String {
    format!("{name}.{}.example:443", uuid_of(tag))
}

/// Queues notifications with reports in this workspace, of which each has many.
pub(super) async fn queue<S: Store>(
    store: &S,
    workspace: &Workspace,
    notifications: &[Notification],
) {
    for notifications in notifications.chunks(250) {
        let report = running("outbox", "t");
        let snapshot = store.load(&report.session_key(workspace)).await.unwrap();
        let mut commit = decided(workspace, &report, &snapshot, start());
        commit.notifications = notifications.to_vec();
        assert_eq!(
            store.commit(&commit).await.unwrap(),
            CommitOutcome::Committed
        );
    }
}

/// A request whose first turn is that of the first of these neighbours.
pub(super) fn request(own: &[Workspace]) -> LeaseRequest {
    LeaseRequest {
        now: start() + seconds(1),
        duration: LEASE,
        after: own[0].key()[..35].to_owned(),
        busy_workspaces: HashSet::new(),
        busy_hosts: HashSet::new(),
        used_hosts: HashSet::new(),
    }
}

/// The next of these workspaces' notifications. What other cases left is passed over, and its lease
/// left to run out.
async fn lease<S: Store>(
    store: &S,
    own: &[Workspace],
    request: &LeaseRequest,
) -> Option<LeasedNotification> {
    let mut request = request.clone();
    loop {
        let leased = store.lease_notification(&request).await.unwrap()?;
        let workspace = &leased.notification.workspace;
        if own.contains(workspace) {
            return Some(leased);
        }
        request.busy_workspaces.insert(workspace.key().to_owned());
    }
}

/// All that the request admits: ids and rounds, in the order of their turns.
pub(super) async fn lease_all<S: Store>(
    store: &S,
    own: &[Workspace],
    request: &LeaseRequest,
) -> Vec<(String, u32)> {
    let mut all = Vec::new();
    while let Some(leased) = lease(store, own, request).await {
        all.push((leased.notification.id, leased.round));
    }
    all
}

/// What is queued comes back whole.
pub async fn a_notification_is_queued_with_its_commit_only<S: Store>(store: &S, tag: &str) {
    let own = [workspace(tag)];
    let mut queued = vec![
        notification(&own[0], "1", &host(tag, "a")),
        notification(&own[0], "2", &host(tag, "b")),
    ];
    queue(store, &own[0], &queued).await;
    let mut leased = Vec::new();
    while let Some(next) = lease(store, &own, &request(&own)).await {
        leased.push(next.notification);
    }
    leased.sort_by(|a, b| a.id.cmp(&b.id));
    queued.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(leased, queued);
}

/// One deliverer at a time; what failed comes again after its pause, what ran out at once, what was
/// delivered or given up never.
pub async fn a_lease_excludes_others_until_it_ends<S: Store>(store: &S, tag: &str) {
    let own = [workspace(tag)];
    let names = ["failed", "lost", "delivered", "abandoned"];
    let all = names.map(|name| notification(&own[0], name, &host(tag, name)));
    queue(store, &own[0], &all).await;
    let request = request(&own);
    let now = request.now;
    let moment = Duration::from_millis(1);
    let first = lease_all(store, &own, &request).await;
    assert_eq!(first.len(), 4);
    assert!(first.iter().all(|(_, round)| *round == 1));

    store
        .notification_failed(&all[0].id, now, moment)
        .await
        .unwrap();
    store.notification_delivered(&all[2].id).await.unwrap();
    store.notification_abandoned(&all[3].id).await.unwrap();
    let again = eventually(store, &own, &all[0].id, LEASE).await;
    assert_eq!(again, 2);

    // A lease that ends by itself, as after the death of its host.
    store
        .notification_failed(&all[0].id, now, moment)
        .await
        .unwrap();
    let round = eventually(store, &own, &all[0].id, moment).await;
    assert_eq!(round, 3);
    let round = eventually(store, &own, &all[0].id, LEASE).await;
    assert_eq!(round, 4);
    assert!(lease_all(store, &own, &request).await.is_empty());
}

/// Leases until this notification comes, by a clock that goes on a second each time; a store with a
/// clock of its own has as many tries.
async fn eventually<S: Store>(store: &S, own: &[Workspace], id: &str, duration: Duration) -> u32 {
    for n in 0..1000 {
        let request = LeaseRequest {
            now: start() + seconds(2 + n),
            duration,
            ..request(own)
        };
        if let Some(leased) = lease(store, own, &request).await {
            assert_eq!(leased.notification.id, id);
            return leased.round;
        }
    }
    panic!("the notification never comes");
}

/// Of one workspace's receiving hosts, those to which nothing is under way come first, and busy ones
/// wait.
pub async fn a_workspaces_idle_hosts_come_first_and_busy_ones_wait<S: Store>(store: &S, tag: &str) {
    let own = [workspace(tag)];
    let names = ["a1", "a2", "a3", "b1", "c1"];
    let of = |name: &str| notification(&own[0], name, &host(tag, &name[..1]));
    queue(store, &own[0], &names.map(of)).await;
    let names_by_id: BTreeMap<String, &str> = names.map(|name| (of(name).id, name)).into();
    let mut request = request(&own);
    request.used_hosts = HashSet::from([of("a1").host, of("c1").host]);
    request.busy_hosts = HashSet::from([of("c1").host]);
    let leased = lease_all(store, &own, &request).await;
    let leased: Vec<&str> = leased.iter().map(|(id, _)| names_by_id[id]).collect();
    assert_eq!(leased[0], "b1");
    assert_eq!(
        BTreeSet::from_iter(leased),
        names[..4].iter().copied().collect()
    );
    request.busy_hosts.clear();
    let leased = lease_all(store, &own, &request).await;
    assert_eq!(leased, [(of("c1").id, 1)]);
}

/// The order of what happened is that of its notifications, also where one commit has several.
pub async fn what_is_due_longest_comes_first<S: Store>(store: &S, tag: &str) {
    let own = [workspace(tag)];
    let at = |second: i64| Notification {
        created_at: start() + TICK * second as i32,
        ..notification(&own[0], &second.to_string(), &host(tag, second))
    };
    let all: Vec<Notification> = (0..9).map(at).collect();
    let mut shuffled = all.clone();
    shuffled.swap(0, 5);
    shuffled.swap(3, 8);
    queue(store, &own[0], &shuffled).await;
    let leased = lease_all(store, &own, &request(&own)).await;
    let expected: Vec<_> = all.into_iter().map(|queued| (queued.id, 1)).collect();
    assert_eq!(leased, expected);
}

/// Each has a turn, in a circle; busy ones are passed over.
pub async fn workspaces_take_turns<S: Store>(store: &S, tag: &str) {
    let own = neighbours::<4>(tag);
    let all: Vec<_> = own
        .iter()
        .flat_map(|own| ["1", "2", "3"].map(|n| notification(own, n, &host(tag, n))))
        .collect();
    queue(store, &own[0], &all).await;
    let mut request = request(&own);
    request.busy_workspaces.insert(own[1].key().to_owned());
    let mut turns = Vec::new();
    while let Some(leased) = lease(store, &own, &request).await {
        let workspace = leased.notification.workspace;
        workspace.key().clone_into(&mut request.after);
        turns.push(workspace);
        if turns.len() == 5 {
            request.busy_workspaces.remove(own[1].key());
        }
    }
    let expected = [0, 2, 3, 0, 2, 3, 0, 1, 2, 3, 1, 1].map(|n| own[n].clone());
    assert_eq!(turns, expected);
}

/// The thousands of hosts that one workspace names delay no other's notifications, and take up no
/// other's room.
pub async fn a_workspace_that_names_thousands_of_hosts_harms_itself_only<S: Store>(
    store: &S,
    tag: &str,
) {
    let own = neighbours::<3>(tag);
    let [many, other, again] = &own;
    let to = |n: usize| notification(many, &n.to_string(), &host(tag, n));
    let hosts = 3 * MAX_WAITING;
    let of_many: Vec<_> = (0..hosts).map(to).collect();
    queue(store, other, &of_many).await;
    let of_others = [other, again].map(|own| notification(own, "1", &host(tag, 0)));
    queue(store, other, &of_others).await;

    let mut request = request(&own);
    let mut turns = Vec::new();
    for _ in 0..4 {
        let leased = lease(store, &own, &request).await.unwrap();
        let workspace = leased.notification.workspace;
        workspace.key().clone_into(&mut request.after);
        turns.push(workspace);
    }
    assert_eq!(turns, [many, other, again, many].map(Clone::clone));

    // There is room for as many more as are delivered.
    for delivered in &of_many[..10] {
        store.notification_delivered(&delivered.id).await.unwrap();
    }
    let more: Vec<_> = (hosts..hosts + 20).map(to).collect();
    queue(store, other, &more).await;
    request.used_hosts = of_many.into_iter().map(|queued| queued.host).collect();
    let mut taken = 0;
    while let Some(leased) = lease(store, &own, &request).await
        && more.contains(&leased.notification)
    {
        taken += 1;
    }
    // A store that divides its room into parts may find those full that these would go to.
    assert!((1..=10).contains(&taken), "{taken} of 20 were queued");
}

/// No notification is taken on twice, however many hosts ask at once.
pub async fn hosts_that_lease_at_once_get_different_notifications<S: Store>(store: &S, tag: &str) {
    let own = neighbours::<4>(tag);
    let all: Vec<_> = (0..40)
        .map(|n| notification(&own[n % 4], &n.to_string(), &host(tag, n)))
        .collect();
    queue(store, &own[0], &all).await;
    let request = request(&own);
    let mut leased = BTreeSet::new();
    for round in join_all((0..4).map(|_| lease_all(store, &own, &request))).await {
        for (id, _) in round {
            assert!(leased.insert(id.clone()), "{id} was leased twice");
        }
    }
    let rest = lease_all(store, &own, &request).await;
    leased.extend(rest.into_iter().map(|(id, _)| id));
    assert_eq!(leased.len(), 40);
}
