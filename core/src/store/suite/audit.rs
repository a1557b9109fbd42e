use super::*;
use crate::audit::{Act, Actor, AuditEntry, AuditEvent, Origin};

/// What is kept unless a case is about that.
const KEPT: AuditBounds = AuditBounds {
    since: Timestamp::UNIX_EPOCH,
    most: 1000,
};

fn entry(workspace: &Workspace, event: AuditEvent, second: i64, request: &str) -> AuditEntry {
    let origin = Origin {
        client: "192.0.2.7".parse().ok(),
        user_agent: "Mozilla/5.0 (X11) “Ünïcode”".into(),
        request: request.into(),
    };
    let act = Act::new(workspace.clone(), event, Actor::Password).from(origin);
    act.by("Ann 🚀")
        .on("'; --", "k1")
        .entry(start() + seconds(second))
}

async fn audit<S: Store>(store: &S, workspace: &Workspace) -> Vec<AuditEntry> {
    let since = Timestamp::UNIX_EPOCH;
    let page = store.audit(workspace, since, None, 10_000).await.unwrap();
    assert_eq!(page.next, None);
    page.items
}

/// Pages of an audit visit everything once, newest first, also where much happened at one instant, and
/// nothing from before it is asked for.
pub async fn an_audit_is_listed_newest_first<S: Store>(store: &S, tag: &str) {
    let (own, theirs) = (workspace(tag), workspace(&format!("{tag} stranger")));
    let mut expected = Vec::new();
    for n in 0..8 {
        let event = match n % 2 {
            0 => AuditEvent::KeyRevoked,
            _ => AuditEvent::LoginSucceeded,
        };
        let mut entry = entry(&own, event, n / 3, &n.to_string());
        if n == 0 {
            entry = Act::new(own.clone(), AuditEvent::LoginFailed, Actor::ApiKey).entry(start());
        }
        // What happens once has one id; here each is another.
        entry.id = uuid_of(&format!("{tag} {n}"));
        store.append_audit(&entry, &KEPT).await.unwrap();
        expected.push(entry);
    }
    let other = entry(&theirs, AuditEvent::LoginFailed, 1, "other");
    store.append_audit(&other, &KEPT).await.unwrap();
    expected.sort_by_key(|entry| (std::cmp::Reverse(entry.at), entry.id.clone()));
    for limit in [1, 2, 3, 7, 8, 9] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let since = Timestamp::UNIX_EPOCH;
            let page = store.audit(&own, since, after.as_ref(), limit).await;
            let page = page.unwrap();
            assert!(page.items.len() == limit || page.next.is_none());
            seen.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "{limit}");
    }
    let since = start() + seconds(1);
    let page = store.audit(&own, since, None, 100).await.unwrap();
    expected.retain(|entry| entry.at >= since);
    assert_eq!(page.items, expected);
    assert_eq!(audit(store, &theirs).await, [other]);
    assert_eq!(audit(store, &workspace(&format!("{tag} nobody"))).await, []);
}

/// What is one entry is counted in it, also when it comes at once; what has no count stays as it is.
pub async fn entries_of_an_audit_are_counted<S: Store>(store: &S, tag: &str) {
    let own = workspace(tag);
    let failed = entry(&own, AuditEvent::LoginFailed, 0, "");
    let append = async |entry: &AuditEntry| loop {
        match store.append_audit(entry, &KEPT).await {
            Err(StoreError::Contended) => {}
            outcome => break outcome.unwrap(),
        }
    };
    join_all((0..8).map(|n| {
        let again = AuditEntry {
            at: failed.at + seconds(n),
            ..failed.clone()
        };
        async move { append(&again).await }
    }))
    .await;
    let used = entry(&own, AuditEvent::KeyUsed, 10, "");
    for later in [0, 1] {
        let at = used.at + seconds(later);
        append(&AuditEntry { at, ..used.clone() }).await;
    }
    let stored = audit(store, &own).await;
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[0], used);
    assert_eq!((&stored[1].id, stored[1].count), (&failed.id, 8));
}

/// The oldest entries go where there are too many, and those that have a count take no others' room.
pub async fn an_audit_has_only_so_many_entries<S: Store>(store: &S, tag: &str) {
    let (own, theirs) = (workspace(tag), workspace(&format!("{tag} stranger")));
    let other = entry(&theirs, AuditEvent::LoginFailed, 0, "");
    store.append_audit(&other, &KEPT).await.unwrap();
    let bounds = AuditBounds { most: 5, ..KEPT };
    let mut expected = Vec::new();
    for n in 0..8 {
        let succeeded = entry(&own, AuditEvent::LoginSucceeded, n, "");
        let failed = entry(&own, AuditEvent::LoginFailed, 60 * n, "");
        for entry in [succeeded, failed] {
            store.append_audit(&entry, &bounds).await.unwrap();
            if n >= 3 {
                expected.push(entry);
            }
        }
    }
    for n in 8..20 {
        let failed = entry(&own, AuditEvent::LoginFailed, 60 * n, "");
        store.append_audit(&failed, &bounds).await.unwrap();
        expected.push(failed);
    }
    let mut failures = 0;
    expected.sort_by_key(|entry| std::cmp::Reverse(entry.at));
    expected.retain(|entry| {
        failures += u32::from(entry.count > 0);
        entry.count == 0 || failures <= 5
    });
    assert_eq!(audit(store, &own).await, expected);
    assert_eq!(audit(store, &theirs).await, [other]);
}

/// Entries that are too old go with those that come.
pub async fn old_entries_of_an_audit_go<S: Store>(store: &S, tag: &str) {
    let own = workspace(tag);
    // Long ago: other cases, which may run beside this one, keep what is younger.
    let years = |n: i64| TimeDelta::days(365 * n).num_seconds();
    for n in 0..3 {
        let old = entry(&own, AuditEvent::LoginSucceeded, n - years(20), "");
        store.append_audit(&old, &KEPT).await.unwrap();
    }
    let kept = entry(&own, AuditEvent::LoginSucceeded, -years(10), "");
    store.append_audit(&kept, &KEPT).await.unwrap();
    let bounds = AuditBounds {
        since: kept.at,
        ..KEPT
    };
    let new = entry(&own, AuditEvent::LoginSucceeded, 0, "");
    for _ in 0..10 {
        store.append_audit(&new, &bounds).await.unwrap();
        // Some stores tidy up only where there is something new.
        let other = entry(&own, AuditEvent::LoginSucceeded, 1, "other");
        store.append_audit(&other, &bounds).await.unwrap();
        if audit(store, &own).await.len() == 3 {
            break;
        }
    }
    let left = audit(store, &own).await;
    assert_eq!(left.len(), 3, "{left:?}");
    assert_eq!(left[2], kept);
}

/// What a deleted account did is forgotten, also what was written late.
pub async fn a_deleted_account_leaves_no_audit<S: Store>(store: &S, tag: &str) {
    let account = verified(store, tag).await;
    let own = Workspace::Account(account.id.clone());
    let theirs = workspace(&format!("{tag} stranger"));
    let now = start() + seconds(1);
    let append = async |workspace: &Workspace, request: &str| {
        for event in [AuditEvent::LoginSucceeded, AuditEvent::LoginFailed] {
            let entry = entry(workspace, event, 0, request);
            store.append_audit(&entry, &KEPT).await.unwrap();
        }
    };
    append(&own, "").await;
    append(&theirs, "").await;
    assert!(store.delete_account(&account, now).await.unwrap());
    purge(store, now).await;
    assert_eq!(audit(store, &own).await, []);
    append(&own, "late").await;
    purge(store, now + LATE_REPORTS).await;
    assert_eq!(audit(store, &own).await, []);
    assert_eq!(audit(store, &theirs).await.len(), 2);
}
