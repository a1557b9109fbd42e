//! What storage knows of a workspace's recent changes. Every change of a session renews it, so a list
//! that begins with the sessions updated last need not be read to its end.

use chrono::TimeDelta;

use super::{Expiries, MAX_SESSIONS, name_of};
use crate::store::{Sessions, WorkspaceQuery};
use crate::{MAX_TTL_MINUTES, NamedSession, StoreError, Timestamp, Workspace};

/// The sessions that are read at a time.
const ROWS: usize = 1_000;

/// No session is unexpired for longer than this after its last report.
const LONGEST_TTL: TimeDelta = TimeDelta::minutes(MAX_TTL_MINUTES as i64);

/// Visits the sessions that were updated at this instant or later, last updated first, until `visit`
/// answers `false`.
async fn visit<S: Sessions>(
    store: &S,
    workspace: &Workspace,
    updated_from: Timestamp,
    now: Timestamp,
    mut visit: impl FnMut(NamedSession) -> bool,
) -> Result<(), StoreError> {
    let mut query = WorkspaceQuery {
        limit: ROWS,
        ..WorkspaceQuery::default()
    };
    loop {
        let page = store.workspace_sessions(workspace, &query, now).await?;
        for named in page.items {
            if named.session.last_updated < updated_from || !visit(named) {
                return Ok(());
            }
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(()),
        }
    }
}

/// The sessions that a report changed after `since`, and those that have expired since, at `now`: the
/// change longest ago first. `None` if there are more than [`MAX_SESSIONS`].
///
/// # Errors
/// Those of the store.
pub async fn changed_since<S: Sessions>(
    store: &S,
    workspace: &Workspace,
    since: Timestamp,
    now: Timestamp,
) -> Result<Option<Vec<NamedSession>>, StoreError> {
    let changed_at = |named: &NamedSession| {
        let updated_at = Some(named.session.last_updated);
        expired_at(named, now).or(updated_at)
    };
    found_since(store, workspace, since, now, changed_at).await
}

/// The sessions that have expired after `since`, at `now`, the one longest ago first. `None` if there are
/// more than [`MAX_SESSIONS`].
///
/// # Errors
/// Those of the store.
pub async fn expired_since<S: Sessions>(
    store: &S,
    workspace: &Workspace,
    since: Timestamp,
    now: Timestamp,
) -> Result<Option<Vec<NamedSession>>, StoreError> {
    let expired_at = |named: &NamedSession| expired_at(named, now);
    found_since(store, workspace, since, now, expired_at).await
}

fn expired_at(named: &NamedSession, now: Timestamp) -> Option<Timestamp> {
    Some(named.session.expires_at()).filter(|instant| *instant <= now)
}

/// The sessions to which something happened after `since`, in the order of these instants.
async fn found_since<S: Sessions>(
    store: &S,
    workspace: &Workspace,
    since: Timestamp,
    now: Timestamp,
    happened_at: impl Fn(&NamedSession) -> Option<Timestamp>,
) -> Result<Option<Vec<NamedSession>>, StoreError> {
    let mut found = Vec::new();
    visit(store, workspace, since - LONGEST_TTL, now, |named| {
        if happened_at(&named).is_some_and(|instant| instant > since) {
            found.push(named);
        }
        found.len() <= MAX_SESSIONS
    })
    .await?;
    found.sort_by_key(happened_at);
    Ok((found.len() <= MAX_SESSIONS).then_some(found))
}

/// The sessions that expire at `from` or later, and when each does.
///
/// # Errors
/// Those of the store.
pub async fn expiring<S: Sessions>(
    store: &S,
    workspace: &Workspace,
    from: Timestamp,
) -> Result<Expiries, StoreError> {
    let mut found = Expiries::default();
    visit(store, workspace, from - LONGEST_TTL, from, |named| {
        let expires_at = named.session.expires_at();
        if expires_at >= from {
            found.set(name_of(&named), expires_at);
        }
        true
    })
    .await?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;

    use super::*;
    use crate::store::{CommitOutcome, MemoryStore};
    use crate::{Report, Snapshot, StatusKind, decide};

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::days(1) + TimeDelta::seconds(second)
    }

    fn report(store: &MemoryStore, topic: &str, ttl_minutes: u32, second: i64) {
        let report = Report {
            ttl_minutes: Some(ttl_minutes),
            ..Report::new("agent", topic, StatusKind::Running)
        };
        let workspace = Workspace::Shared;
        let decision = decide(&workspace, &report, &Snapshot::default(), at(second), 60);
        let outcome = block_on(store.commit(&decision.unwrap().commit)).unwrap();
        assert_eq!(outcome, CommitOutcome::Committed);
    }

    fn topics(found: Result<Option<Vec<NamedSession>>, StoreError>) -> Option<Vec<String>> {
        let topics = |found: Vec<NamedSession>| {
            let topics = found.into_iter().map(|named| named.session.session_topic);
            topics.collect()
        };
        found.unwrap().map(topics)
    }

    fn changed(store: &MemoryStore, since: i64, now: i64) -> Option<Vec<String>> {
        let found = changed_since(store, &Workspace::Shared, at(since), at(now));
        topics(block_on(found))
    }

    fn expired(store: &MemoryStore, since: i64, now: i64) -> Option<Vec<String>> {
        let found = expired_since(store, &Workspace::Shared, at(since), at(now));
        topics(block_on(found))
    }

    #[test]
    fn what_was_reported_or_has_expired_since_has_changed() {
        let store = MemoryStore::default();
        report(&store, "long", 1440, 0);
        report(&store, "one minute", 1, 10);
        report(&store, "two minutes", 2, 20);
        for (since, now, topics) in [
            (-1, 20, &["long", "one minute", "two minutes"][..]),
            (0, 20, &["one minute", "two minutes"]),
            (10, 20, &["two minutes"]),
            (20, 69, &[]),
            (20, 70, &["one minute"]),
            (69, 70, &["one minute"]),
            (70, 139, &[]),
            (69, 140, &["one minute", "two minutes"]),
            (140, 86_399, &[]),
            (140, 86_400, &["long"]),
            (86_400, 90_000, &[]),
        ] {
            assert_eq!(
                changed(&store, since, now).unwrap(),
                topics,
                "{since} {now}"
            );
        }
    }

    #[test]
    fn what_was_reported_alone_has_not_expired() {
        let store = MemoryStore::default();
        report(&store, "two minutes", 2, 10);
        report(&store, "one minute", 1, 20);
        report(&store, "long", 1440, 30);
        for (since, now, topics) in [
            (-1, 79, &[][..]),
            (79, 80, &["one minute"]),
            (80, 129, &[]),
            (-1, 130, &["one minute", "two minutes"]),
        ] {
            assert_eq!(
                expired(&store, since, now).unwrap(),
                topics,
                "{since} {now}"
            );
        }
        for session in 0..=MAX_SESSIONS {
            report(&store, &session.to_string(), 60, 40);
        }
        assert_eq!(expired(&store, 0, 130).unwrap().len(), 2);
        assert_eq!(expired(&store, 0, 3700), None);
    }

    #[test]
    fn more_changes_than_a_log_keeps_are_not_told() {
        let store = MemoryStore::default();
        for session in 0..MAX_SESSIONS {
            report(&store, &session.to_string(), 60, 1);
        }
        assert_eq!(changed(&store, 0, 2).unwrap().len(), MAX_SESSIONS);
        report(&store, "one more", 60, 1);
        assert_eq!(changed(&store, 0, 2), None);
        assert_eq!(changed(&store, 1, 2), Some(Vec::new()));
    }

    #[test]
    fn what_expires_is_found_with_its_instant() {
        let store = MemoryStore::default();
        report(&store, "before", 1, -1);
        report(&store, "then", 1, 0);
        report(&store, "later", 2, 0);
        let mut found = block_on(expiring(&store, &Workspace::Shared, at(60))).unwrap();
        let name = |topic: &str| ("agent".to_owned(), topic.to_owned());
        assert_eq!(found.next(), Some(at(60)));
        assert_eq!(found.due(at(119)), [name("then")]);
        assert_eq!(found.due(at(120)), [name("later")]);
        assert_eq!(found.next(), None);
    }
}
