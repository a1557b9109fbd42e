use std::fmt::Display;

use super::channels::numbered;
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
        channel: String::new(),

        created_at: start(),
        delay: TimeDelta::zero(),
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
        .notifications_failed(&[(&all[0].id, moment)], now, &Failure::default())
        .await
        .unwrap();
    store.notification_delivered(&all[2].id).await.unwrap();
    store.notification_abandoned(&all[3].id).await.unwrap();
    let again = eventually(store, &own, &all[0].id, LEASE).await;
    assert_eq!(again, 2);

    // A lease that ends by itself, as after the death of its host.
    store
        .notifications_failed(&[(&all[0].id, moment)], now, &Failure::default())
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

/// What a clock that was ahead has queued does not wait for the time that it had.
pub async fn what_a_clock_that_was_ahead_queued_is_due<S: Store>(store: &S, tag: &str) {
    let own = [workspace(tag)];
    let ahead = Notification {
        created_at: start() + TimeDelta::days(365),
        ..notification(&own[0], "1", &host(tag, 1))
    };
    queue(store, &own[0], std::slice::from_ref(&ahead)).await;
    assert_eq!(
        lease_all(store, &own, &request(&own)).await,
        [(ahead.id, 1)]
    );
}

/// What has begun to rest by a clock that was ahead does not rest until then. For stores that go by the
/// hosts' clocks.
pub async fn what_a_clock_that_was_ahead_let_rest_is_due<S: Store>(store: &S, tag: &str) {
    let own = [workspace(tag)];
    let ahead = start() + TimeDelta::days(365);
    let names = ["delayed", "failed", "leased"];
    let [delayed, failed, leased] = names.map(|name| Notification {
        created_at: ahead,
        ..notification(&own[0], name, &host(tag, name))
    });
    let delayed = Notification {
        delay: seconds(60),
        ..delayed
    };
    queue(store, &own[0], &[delayed, failed.clone(), leased]).await;
    let then = LeaseRequest {
        now: ahead,
        ..request(&own)
    };
    assert_eq!(lease_all(store, &own, &then).await.len(), 2);
    store
        .notifications_failed(&[(&failed.id, LEASE)], ahead, &Failure::default())
        .await
        .unwrap();
    assert_eq!(lease_all(store, &own, &request(&own)).await.len(), 3);
    // As long as any does.
    let day = Duration::from_secs(24 * 60 * 60);
    store
        .notifications_failed(&[(&failed.id, day)], start(), &Failure::default())
        .await
        .unwrap();
    assert!(lease_all(store, &own, &request(&own)).await.is_empty());
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

/// An entry for a channel, of what happened to the session `n` so many seconds after the start.
pub(super) fn told(
    workspace: &Workspace,
    channel: &str,
    n: usize,
    at: i64,
    delay: i64,
) -> Notification {
    let happening = Happening {
        event: Event::Failed,
        agent_id: "outbox".into(),
        agent_name: String::new(),
        session_topic: format!("t{n:03} \u{e9}"),
        title: String::new(),
        status: StatusKind::Failed,
        reason: String::new(),
        message: "\"quoted\"".into(),
        context: Context::new(),
        seq: 1,
        at: start() + seconds(at),
        ran_seconds: None,
        silent_for: None,
    };
    Notification {
        id: uuid_of(&format!("{channel} {n}")),
        url: String::new(),
        body: serde_json::to_string(&happening).unwrap(),
        channel: channel.to_owned(),
        created_at: happening.at,
        delay: seconds(delay),
        ..notification(workspace, &n.to_string(), &host(channel, "chat"))
    }
}

/// Makes the channel of this id.
pub(super) async fn create<S: Store>(store: &S, workspace: &Workspace, id: &str) {
    let channel = Channel {
        id: id.to_owned(),
        ..numbered(id, workspace, 0)
    };
    let created = store.create_channel(&channel, 20).await.unwrap();
    assert_eq!(created, ChannelCreation::Created);
}

/// What waits for a channel is listed with what its attempts came to, then what became of it; both go
/// with the channel.
pub async fn deliveries_of_a_channel_are_listed_newest_first<S: Store>(store: &S, tag: &str) {
    let [own] = neighbours(tag);
    let (channel, other) = (uuid_of(tag), uuid_of(&format!("{tag} other")));
    create(store, &own, &channel).await;
    let entries: Vec<_> = (0..3).map(|n| told(&own, &channel, n, 0, 0)).collect();
    queue(store, &own, &entries).await;
    queue(store, &own, &[told(&own, &other, 9, 0, 0)]).await;
    // Queued twice, it is there once.
    queue(store, &own, &entries[..1]).await;
    let listed = async |channel: &str| store.deliveries(&own, channel).await.unwrap();
    let mut expected: Vec<_> = entries
        .iter()
        .map(|entry| Delivery::pending(entry, 0).unwrap())
        .collect();
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(listed(&channel).await, expected);
    let stranger = workspace(&format!("{tag} stranger"));
    assert_eq!(store.deliveries(&stranger, &channel).await.unwrap(), []);

    let owns = std::slice::from_ref(&own);
    let leased = lease(store, owns, &request(owns)).await.unwrap();
    let failure = Failure {
        status: Some(500),
        error: "it failed".into(),
        rests: false,
    };
    let id = &leased.notification.id;
    let (now, hour) = (start() + seconds(1), Duration::from_secs(3600));
    store
        .notifications_failed(&[(id, hour)], now, &failure)
        .await
        .unwrap();
    let failed = listed(&leased.notification.channel).await;
    let failed = failed.iter().find(|delivery| delivery.id == *id).unwrap();
    assert_eq!((failed.status, failed.attempts), (Some(500), 1));
    assert_eq!(failed.error, "it failed");

    let finish = |delivery: &Delivery, state| Delivery {
        state,
        attempts: 2,
        status: Some(204),
        finished_at: Some(start() + seconds(5)),
        ..delivery.clone()
    };
    let finished = [
        finish(&expected[0], DeliveryState::Delivered),
        finish(&expected[1], DeliveryState::Merged),
    ];
    store.finish_deliveries(&finished).await.unwrap();
    let now_listed = listed(&channel).await;
    assert_eq!(now_listed[..2], finished);
    assert_eq!(now_listed[2].state, DeliveryState::Pending);

    // The newest hundred stay.
    let many: Vec<_> = (10..120)
        .map(|n| told(&own, &channel, n, n as i64, 0))
        .collect();
    let many: Vec<_> = many
        .iter()
        .map(|entry| Delivery::pending(entry, 0).unwrap())
        .collect();
    let many: Vec<_> = many
        .iter()
        .map(|one| finish(one, DeliveryState::Failed))
        .collect();
    for some in many.chunks(30) {
        store.finish_deliveries(some).await.unwrap();
    }
    let mut newest: Vec<Delivery> = many[10..].to_vec();
    newest.reverse();
    assert_eq!(listed(&channel).await, newest);

    assert!(store.delete_channel(&own, &channel).await.unwrap());
    // What was under way, and what waited, comes to its end.
    for some in [&finished[..], &many] {
        store.finish_deliveries(some).await.unwrap();
    }
    let left = listed(&channel).await.into_iter();
    let left = left.filter(|delivery| delivery.state != DeliveryState::Pending);
    assert_eq!(left.collect::<Vec<_>>(), []);
}

/// What finds no room is dropped, and listed as that, for as many as are listed. What waits stays, and
/// other receivers of the workspace have room of their own.
pub async fn a_full_channel_drops_what_comes_and_takes_no_others_room<S: Store>(
    store: &S,
    tag: &str,
) {
    let [own] = neighbours(tag);
    let owns = std::slice::from_ref(&own);
    let (channel, other) = (uuid_of(tag), uuid_of(&format!("{tag} other")));
    create(store, &own, &channel).await;
    create(store, &own, &other).await;
    let many: Vec<_> = (0..2 * MAX_WAITING)
        .map(|n| told(&own, &channel, n, n as i64, 0))
        .collect();
    queue(store, &own, &many).await;
    let listed = async |channel: &str| store.deliveries(&own, channel).await.unwrap();
    let dropped = |entry: &Notification| Delivery {
        error: NO_ROOM.into(),
        state: DeliveryState::Dropped,
        finished_at: Some(entry.created_at),
        ..Delivery::pending(entry, 0).unwrap()
    };
    let newest = many.iter().rev().take(MAX_DELIVERIES).map(dropped);
    assert_eq!(listed(&channel).await, Vec::from_iter(newest));

    // What found no room is counted until it is told.
    let overflow = async |channel: &str| store.overflow(&own, channel).await.unwrap();
    let untold = overflow(&channel).await;
    assert_eq!(untold, MAX_WAITING as u64);
    assert_eq!(overflow(&other).await, 0);
    let told_some = store.overflow_told(&own, &channel, untold - 7);
    told_some.await.unwrap();
    assert_eq!(overflow(&channel).await, 7);
    store.overflow_told(&own, &channel, 7).await.unwrap();
    assert_eq!(overflow(&channel).await, 0);

    // What is noticed again still waits.
    queue(store, &own, &many[..1]).await;
    let of_others = [
        told(&own, &other, 0, 5000, 0),
        Notification {
            created_at: start() + seconds(5000),
            ..notification(&own, "plain", &host(tag, "plain"))
        },
    ];
    queue(store, &own, &of_others).await;
    let waiting = &listed(&other).await[0];
    assert_eq!(waiting.state, DeliveryState::Pending);
    let mut request = LeaseRequest {
        now: start() + seconds(10_000),
        ..request(owns)
    };
    let leased = lease(store, owns, &request).await.unwrap();
    assert_eq!(leased.notification.id, many[0].id);
    request.used_hosts.insert(many[0].host.clone());
    let mut next = Vec::new();
    for _ in &of_others {
        let leased = lease(store, owns, &request).await.unwrap();
        next.push(leased.notification.id);
    }
    for entry in &of_others {
        assert!(next.contains(&entry.id), "{entry:?} does not wait");
    }
}

/// What a channel is told later is due only then.
pub async fn a_delayed_notification_is_due_when_its_delay_is_over<S: Store>(store: &S, tag: &str) {
    let [own] = neighbours(tag);
    let owns = std::slice::from_ref(&own);
    // Stores shared by several machines go by their own clock.
    queue(store, &own, &[told(&own, &uuid_of(tag), 0, 0, 3600)]).await;
    queue(store, &own, &[told(&own, &uuid_of(tag), 1, 0, 0)]).await;
    let due = lease(store, owns, &request(owns)).await.unwrap();
    assert!(due.notification.id == told(&own, &uuid_of(tag), 1, 0, 0).id);
    assert_eq!(lease(store, owns, &request(owns)).await, None);
}

/// Of a channel everything that is due is leased or put off at once, and nothing of another.
pub async fn what_is_due_for_a_channel_is_leased_or_put_off_together<S: Store>(
    store: &S,
    tag: &str,
) {
    let [own] = neighbours(tag);
    let owns = std::slice::from_ref(&own);
    let (channel, other) = (uuid_of(tag), uuid_of(&format!("{tag} other")));
    let mut entries: Vec<_> = (0..5).map(|n| told(&own, &channel, n, 0, 0)).collect();
    entries.push(told(&own, &channel, 5, 0, 3600));
    queue(store, &own, &entries).await;
    let request = request(owns);
    let first = lease(store, owns, &request).await.unwrap();
    assert_eq!(
        (first.notification.channel.as_str(), first.round),
        (&*channel, 1)
    );

    // As if there had been no lease.
    let (now, moment) = (request.now, Duration::from_millis(1));
    let put_off = async |leased: &LeasedNotification, what| {
        let put_off = store.put_off(&leased.notification, what, now, moment);
        put_off.await.unwrap();
    };
    put_off(&first, PutOff::Leased).await;
    let second = lease(store, owns, &request).await.unwrap();
    assert_eq!(second.round, 1);
    // And as if the others had not been due.
    put_off(&second, PutOff::WhatIsDue).await;
    queue(store, &own, &[told(&own, &other, 9, 0, 0)]).await;
    let mut later = request.clone();
    later.now += seconds(1);
    let mut leased = Vec::new();
    // By the database's clock they are due again in a moment.
    while leased.len() < 2 {
        leased.extend(lease(store, owns, &later).await);
    }
    leased.sort_by_key(|leased| leased.notification.channel != channel);
    let (again, foreign) = (&leased[0], &leased[1]);
    assert_eq!(
        (again.notification.channel.as_str(), again.round),
        (&*channel, 1)
    );
    assert_eq!(foreign.notification.channel, other);

    let others = async |most| {
        let others = store.lease_others(&again.notification, later.now, LEASE, most);
        others.await.unwrap()
    };
    let some = others(3).await;
    assert_eq!(some.len(), 3);
    let rest = others(250).await;
    assert_eq!(rest.len(), 1);
    assert!(
        some.iter()
            .chain(&rest)
            .all(|other| { other.round == 1 && other.notification.channel == channel })
    );
    assert_eq!(others(250).await, []);
    assert_eq!(lease(store, owns, &later).await, None);
}

/// A receiver that asks for time is left alone with all that waits for it, other receivers of its
/// workspace are not, and then comes what happened first.
pub async fn a_receiver_that_asks_for_time_is_left_alone<S: Store>(store: &S, tag: &str) {
    let [own] = neighbours(tag);
    let owns = std::slice::from_ref(&own);
    let (channel, other) = (uuid_of(tag), uuid_of(&format!("{tag} other")));
    let entries: Vec<_> = (0..5)
        .map(|n| told(&own, &channel, n, n as i64, 0))
        .collect();
    queue(store, &own, &entries).await;
    let mut request = LeaseRequest {
        now: start() + seconds(10),
        ..request(owns)
    };
    let busy = Failure {
        rests: true,
        ..Failure::default()
    };
    let fail = async |entry: &Notification, now, pause| {
        let failed = [(&*entry.id, pause)];
        let failed = store.notifications_failed(&failed, now, &busy);
        failed.await.unwrap();
    };
    let first = lease(store, owns, &request).await.unwrap();
    assert_eq!(
        (&first.notification.id, first.rest),
        (&entries[0].id, Duration::ZERO)
    );
    let (hour, now) = (Duration::from_secs(3600), request.now);
    fail(&first.notification, now, hour).await;

    let second = lease(store, owns, &request).await.unwrap();
    assert_eq!(second.notification.id, entries[1].id);
    assert!(hour / 2 < second.rest && second.rest <= hour, "{second:?}");
    let rest = store.put_off(&second.notification, PutOff::WhatIsDue, now, second.rest);
    rest.await.unwrap();
    assert_eq!(lease(store, owns, &request).await, None);

    // What comes meanwhile has to wait too. Others need not.
    let late = told(&own, &channel, 6, 6, 0);
    let of_another = told(&own, &other, 7, 7, 0);
    let elsewhere = Notification {
        host: host(tag, "elsewhere"),
        ..told(&own, &channel, 8, 8, 0)
    };
    for (entry, rests) in [(&late, true), (&of_another, false), (&elsewhere, false)] {
        queue(store, &own, std::slice::from_ref(entry)).await;
        let leased = lease(store, owns, &request).await.unwrap();
        assert_eq!(leased.notification.id, entry.id);
        assert_eq!(!leased.rest.is_zero(), rests, "{leased:?}");
    }
    let rest = store.put_off(&late, PutOff::WhatIsDue, now, hour);
    rest.await.unwrap();

    let moment = Duration::from_millis(1);
    // When the rest is over, in the order of what happened.
    let failed: Vec<_> = entries
        .iter()
        .chain([&late])
        .map(|entry| (entry.id.as_str(), moment))
        .collect();
    let failure = Failure::default();
    let over = store.notifications_failed(&failed, request.now, &failure);
    over.await.unwrap();
    request.now += seconds(7200);
    let mut told = Vec::new();
    while told.len() < 6 {
        let Some(leased) = lease(store, owns, &request).await else {
            continue;
        };
        assert_eq!(leased.rest, Duration::ZERO);
        let id = leased.notification.id;
        store.notification_delivered(&id).await.unwrap();
        told.push(id);
    }
    let expected = entries.iter().chain([&late]).map(|entry| entry.id.clone());
    assert_eq!(told, expected.collect::<Vec<_>>());
}
