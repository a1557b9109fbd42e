//! The shared store suite on SQLite itself, on connections of which each has a thread of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::cmp::Reverse;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::DateTime;
use futures_util::future::join_all;
use kubeagents_core::batch::Chain;
use kubeagents_core::store::suite::found_by_walking;
use kubeagents_core::store::{
    CommitOutcome, LeaseRequest, MAX_LOOKED_AT, MAX_PAGE_BYTES, MAX_WAITING, Outbox, Page,
    RefreshTokens, Row, Sessions,
};
use kubeagents_core::{
    AccountId, Notification, RefreshToken, Report, Session, SessionKey, Snapshot, Status,
    StatusKind, Store, StoreError, Workspace, decide, store_suite,
};
use kubeagents_store_sqlite::schema::SchemaError;
use kubeagents_store_sqlite::{Connection, Connections, SqliteStore, Value, schema};
use rusqlite::StatementStatus;
use rusqlite::types::{Value as SqlValue, ValueRef};

/// Connections to one file, taken in turn, as if several instances ran the same code: statements
/// that are awaited together run at the same time.
#[derive(Clone)]
struct InTurn {
    connections: Arc<[Mutex<rusqlite::Connection>]>,
    turn: Arc<AtomicUsize>,
}

impl InTurn {
    fn open(file: &Path, count: usize) -> Self {
        let open = |_| Mutex::new(rusqlite::Connection::open(file).unwrap());
        Self {
            connections: (0..count).map(open).collect(),
            turn: Arc::default(),
        }
    }

    fn store(self) -> SqliteStore<Self> {
        SqliteStore::new(Connections {
            writer: self.clone(),
            lookups: self.clone(),
            lists: self,
        })
    }
}

impl Connection for InTurn {
    async fn execute(
        &self,
        statement: &str,
        parameters: Vec<Value>,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let connections = Arc::clone(&self.connections);
        let statement = statement.to_owned();
        tokio::task::spawn_blocking(move || {
            let connection = connections[turn].lock().unwrap();
            execute(&connection, &statement, parameters).map_err(StoreError::unavailable)
        })
        .await
        .unwrap()
    }
}

fn execute(
    connection: &rusqlite::Connection,
    statement: &str,
    parameters: Vec<Value>,
) -> Result<Vec<Vec<Value>>, rusqlite::Error> {
    let mut statement = connection.prepare_cached(statement)?;
    let width = statement.column_count();
    let parameters = parameters.into_iter().map(|value| match value {
        Value::Null => SqlValue::Null,
        Value::Integer(value) => SqlValue::Integer(value),
        Value::Text(value) => SqlValue::Text(value),
    });
    let mut results = statement.query(rusqlite::params_from_iter(parameters))?;
    let mut rows = Vec::new();
    while let Some(row) = results.next()? {
        rows.push(
            (0..width)
                .map(|column| value(row.get_ref(column).unwrap()))
                .collect(),
        );
    }
    Ok(rows)
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Text(text) => Value::Text(String::from_utf8(text.to_vec()).unwrap()),
        other => panic!("no statement returns {other:?}"),
    }
}

/// A database file that is deleted with this value.
struct Database(tempfile::TempDir);

impl Database {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The store as one instance has it.
    async fn open(&self) -> Result<SqliteStore<InTurn>, SchemaError> {
        let connection = InTurn::open(&self.file(), 1);
        schema::prepare(&connection).await?;
        Ok(connection.store())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("sqlite_db.db")
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// Runs a case on a database of its own.
fn run(name: &str, case: impl AsyncFnOnce(&SqliteStore<InTurn>, &str)) {
    block_on(async {
        let database = Database::new();
        drop(database.open().await.unwrap());
        let store = InTurn::open(&database.file(), 4).store();
        case(&store, name).await;
    });
}

store_suite!(run);

#[test]
fn registration_mails_are_leased_until_they_are_settled() {
    let name = "registration_mails_are_leased_until_they_are_settled";
    run(name, async |store: &_, tag: &str| {
        kubeagents_core::store::suite::registration_mails_are_leased_until_they_are_settled(
            store, tag,
        )
        .await;
    });
}

#[test]
fn accounts_are_listed_page_by_page() {
    let name = "accounts_are_listed_page_by_page";
    run(name, async |store: &_, tag: &str| {
        kubeagents_core::store::suite::accounts_are_listed_page_by_page(store, tag).await;
    });
}

#[test]
fn what_is_stored_is_counted() {
    run("census", async |store: &_, tag: &str| {
        kubeagents_core::store::suite::what_is_stored_is_counted(store, tag).await;
    });
}

#[test]
fn registrations_go_when_their_link_has_run_out() {
    let name = "registrations_go_when_their_link_has_run_out";
    run(name, async |store: &_, tag: &str| {
        kubeagents_core::store::suite::registrations_go_when_their_link_has_run_out(store, tag)
            .await;
    });
}

#[test]
fn what_a_clock_that_was_ahead_let_rest_is_due() {
    let name = "what_a_clock_that_was_ahead_let_rest_is_due";
    run(name, async |store: &_, tag: &str| {
        kubeagents_core::store::suite::what_a_clock_that_was_ahead_let_rest_is_due(store, tag)
            .await;
    });
}

#[test]
fn agents_with_new_names_are_known() {
    let name = "agents_with_new_names_are_known";
    run(name, async |store: &_, tag: &str| {
        let renamed = async |workspace: &_, since, limit| {
            let renamed = store.renamed_since(workspace, since, limit).await;
            renamed.unwrap()
        };
        kubeagents_core::store::suite::agents_with_new_names_are_known(store, tag, renamed).await;
    });
}

#[test]
fn many_instances_may_start_at_once() {
    block_on(async {
        let database = Database::new();
        let stores = join_all((0..16).map(|_| database.open())).await;
        for store in stores {
            store.unwrap().ping().await.unwrap();
        }
    });
}

#[test]
fn expired_refresh_tokens_go_as_new_ones_come_and_families_with_their_last_one() {
    block_on(async {
        let database = Database::new();
        let store = database.open().await.unwrap();
        let connection = rusqlite::Connection::open(database.file()).unwrap();
        connection
            .execute(
                "INSERT INTO accounts (id, email, email_key, password_hash, name,
                    notification_webhook_url, email_verified, created_at, updated_at)
                VALUES ('account', 'a@b.io', 'a@b.io', '', '', '', TRUE, 1, 1)",
                [],
            )
            .unwrap();
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let token = |hash: &str, family: &str, created, expires| RefreshToken {
            token_hash: hash.to_owned(),
            account_id: AccountId::new("account"),
            family_id: family.to_owned(),
            created_at: at(created),
            expires_at: at(expires),
            spent_at: None,
            revoked: false,
        };
        for (hash, family) in [("1", "old"), ("2", "older"), ("3", "oldest"), ("4", "kept")] {
            let token = token(hash, family, 0, 10);
            store.insert_refresh_token(&token).await.unwrap();
        }
        let successor = token("5", "kept", 5, 100);
        assert!(
            store
                .rotate_refresh_token("4", at(5), &successor)
                .await
                .unwrap()
        );
        for (hash, family) in [("6", "new"), ("7", "newer")] {
            let token = token(hash, family, 50, 100);
            store.insert_refresh_token(&token).await.unwrap();
        }
        let all = |query| -> String { connection.query_row(query, [], |row| row.get(0)).unwrap() };
        let tokens = "SELECT group_concat(token_hash, ' ' ORDER BY token_hash) FROM refresh_tokens";
        assert_eq!(all(tokens), "5 6 7");
        let families = "SELECT group_concat(family_id, ' ' ORDER BY family_id) FROM token_families";
        assert_eq!(all(families), "kept new newer");
    });
}

#[test]
fn a_database_of_the_first_version_is_brought_up_to_date() {
    block_on(async {
        let database = Database::new();
        let connection = rusqlite::Connection::open(database.file()).unwrap();
        let first = include_str!("../../migrations/sqlite/0001_initial.sql");
        connection.execute_batch(first).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        connection
            .execute_batch(
                "INSERT INTO agents VALUES ('shared', 'a', 'a', '', '', '', 1, 9, 2);
                INSERT INTO sessions VALUES
                    ('shared', 'a', 'ended', 1, 7, 7, 60, 3600000007, 'success', NULL),
                    ('shared', 'a', 'running', 2, 1, 9, 60, 3600000009, 'running', 3);
                INSERT INTO statuses VALUES
                    ('shared', 'a', 'ended', 1, 'success', 7, 'done', 'long'),
                    ('shared', 'a', 'running', 1, 'running', 3, 'begun', ''),
                    ('shared', 'a', 'running', 2, 'running', 9, 'going on', '');",
            )
            .unwrap();
        let store = database.open().await.unwrap();
        store.ping().await.unwrap();
        let version: u32 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        assert_eq!(usize::try_from(version), Ok(schema::VERSION));

        let at = |micros| DateTime::from_timestamp_micros(micros).unwrap();
        for (topic, message, since, noted) in
            [("ended", "done", 7, 7), ("running", "going on", 3, 9)]
        {
            let key = SessionKey {
                workspace: Workspace::Shared,
                agent_id: "a".into(),
                session_topic: topic.into(),
            };
            let head = store.load(&key).await.unwrap().session.unwrap();
            assert_eq!(
                (&*head.message, head.status_since, head.noted_at),
                (message, at(since), at(noted))
            );
            let found = store.session(&key, None, 10).await.unwrap().unwrap();
            assert_eq!(found.session, Session::new("a".into(), topic.into(), head));
            assert_eq!(found.history.items[0].entry.message, message);
        }
        let agent = store.agent(&Workspace::Shared, "a", at(10)).await.unwrap();
        assert_eq!(agent.unwrap().latest_message, "going on");
    });
}

#[test]
fn what_an_earlier_version_queued_is_delivered_to_whom_it_is_for() {
    block_on(async {
        let database = Database::new();
        let connection = rusqlite::Connection::open(database.file()).unwrap();
        for migration in [
            include_str!("../../migrations/sqlite/0001_initial.sql"),
            include_str!("../../migrations/sqlite/0002_token_expiry.sql"),
            include_str!("../../migrations/sqlite/0003_chains.sql"),
        ] {
            connection.execute_batch(migration).unwrap();
        }
        connection.pragma_update(None, "user_version", 3).unwrap();
        let queued = "
            INSERT INTO accounts (id, email, email_key, password_hash, name, email_verified,
                notification_webhook_url, created_at, updated_at)
            VALUES ('account', '', '', '', '', TRUE, 'http://a/', 1, 1);
            INSERT INTO outbox (id, url, host, body, created_at, due_at, round, leased) VALUES
                ('own', 'http://a/', 'a:80', 'body', 1, 1, 0, FALSE),
                ('shared', 'http://b/', 'b:80', 'body', 1, 1, 0, FALSE),
                ('paused', 'http://b/', 'b:80', 'body', 1, 5000000, 1, FALSE),
                ('leased', 'http://b/', 'b:80', 'body', 1, 7000000, 1, TRUE)";
        connection.execute_batch(queued).unwrap();
        let store = database.open().await.unwrap();
        let lease = async |second| {
            let leased = store.lease_notification(&request(second)).await.unwrap();
            leased.map(|leased| {
                let workspace = leased.notification.workspace.key().to_owned();
                (leased.notification.id, workspace, leased.round)
            })
        };
        let expected =
            |id: &str, workspace: &str, round| Some((id.to_owned(), workspace.to_owned(), round));
        assert_eq!(lease(4).await, expected("own", "account", 1));
        assert_eq!(lease(4).await, expected("shared", "shared", 1));
        assert_eq!(lease(4).await, None);
        assert_eq!(lease(6).await, expected("paused", "shared", 2));
        assert_eq!(lease(6).await, None);
        assert_eq!(lease(8).await, expected("leased", "shared", 2));
        assert_eq!(lease(8).await, None);
    });
}

/// Asks for whatever is due at this second.
fn request(second: i64) -> LeaseRequest {
    LeaseRequest {
        now: DateTime::from_timestamp(second, 0).unwrap(),
        duration: Duration::from_secs(3600),
        after: String::new(),
        busy_workspaces: HashSet::new(),
        busy_hosts: HashSet::new(),
        used_hosts: HashSet::new(),
    }
}

/// A connection that counts the steps of SQLite's virtual machine: what statements cost.
struct Counting {
    connection: Mutex<rusqlite::Connection>,
    steps: AtomicI32,
}

impl Connection for Counting {
    async fn execute(
        &self,
        statement: &str,
        parameters: Vec<Value>,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let connection = self.connection.lock().unwrap();
        let rows = execute(&connection, statement, parameters).unwrap();
        let statement = connection.prepare_cached(statement).unwrap();
        let steps = statement.reset_status(StatementStatus::VmStep);
        self.steps.fetch_add(steps, Ordering::Relaxed);
        Ok(rows)
    }
}

#[test]
fn a_lease_costs_the_same_however_many_hosts_there_are() {
    block_on(async {
        let database = Database::new();
        drop(database.open().await.unwrap());
        let counting = &Counting {
            connection: Mutex::new(rusqlite::Connection::open(database.file()).unwrap()),
            steps: AtomicI32::new(0),
        };
        let store = SqliteStore::new(Connections {
            writer: counting,
            lookups: counting,
            lists: counting,
        });
        // Workspaces with a hundred hosts each, and as many with what is not due.
        let add = |workspaces: std::ops::Range<usize>| {
            let rows = format!(
                "WITH RECURSIVE n (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM n WHERE n < {}) \
                INSERT INTO outbox (id, workspace, ready, host, due_at, url, body, created_at, \
                    round, leased) \
                SELECT format('%d %d', {}, n), format('%05d', {} + n / 100), n / 100 % 2, n, \
                    n / 100 % 2 * -9000000 + 9000000, '', '', 1, 0, FALSE FROM n",
                200 * workspaces.len() - 1,
                workspaces.start,
                2 * workspaces.start,
            );
            let connection = counting.connection.lock().unwrap();
            connection.execute_batch(&rows).unwrap();
        };
        let cost = async || {
            let mut request = request(1);
            counting.steps.store(0, Ordering::Relaxed);
            for _ in 0..20 {
                let next = store.lease_notification(&request).await.unwrap().unwrap();
                let Notification { id, workspace, .. } = next.notification;
                workspace.key().clone_into(&mut request.after);
                store.notification_delivered(&id).await.unwrap();
            }
            counting.steps.load(Ordering::Relaxed)
        };
        add(0..20);
        let with_few = cost().await;
        add(20..300);
        let with_many = cost().await;
        assert!(
            with_many < with_few * 11 / 10,
            "{with_few} steps with 4000 hosts, {with_many} with 60000"
        );
    });
}

#[test]
fn a_workspace_has_room_for_so_many_notifications() {
    block_on(async {
        let database = Database::new();
        drop(database.open().await.unwrap());
        let connection = rusqlite::Connection::open(database.file()).unwrap();
        let rows = "WITH RECURSIVE n (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
            INSERT INTO outbox (id, workspace, url, host, body, created_at, due_at, round, leased)
            SELECT n, n % 2, '', '', '', 1, 1, 0, FALSE FROM n";
        let room = i64::try_from(MAX_WAITING).unwrap();
        connection.execute(rows, [3 * room]).unwrap();
        let kept: i64 = connection
            .query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))
            .unwrap();
        assert_eq!(kept, 2 * room);
    });
}

#[test]
fn a_schema_of_the_future_is_left_alone() {
    block_on(async {
        let database = Database::new();
        drop(database.open().await.unwrap());
        let connection = rusqlite::Connection::open(database.file()).unwrap();
        connection
            .pragma_update(None, "user_version", 1000)
            .unwrap();
        let refused = database.open().await.err().unwrap();
        assert!(
            matches!(refused, SchemaError::TooNew { found: 1000, .. }),
            "{refused}"
        );
    });
}

#[test]
fn a_migration_that_is_cut_off_leaves_nothing_behind() {
    block_on(async {
        let database = Database::new();
        let connection = rusqlite::Connection::open(database.file()).unwrap();
        connection
            .execute_batch("CREATE TABLE secrets (in_the_way)")
            .unwrap();
        assert!(database.open().await.is_err());
        connection.execute_batch("DROP TABLE secrets").unwrap();
        database.open().await.unwrap().ping().await.unwrap();
    });
}

#[test]
fn readers_do_not_wait_for_writers() {
    block_on(async {
        let database = Database::new();
        let _store = database.open().await.unwrap();
        let connection = rusqlite::Connection::open(database.file()).unwrap();
        let mode: String = connection
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .unwrap();
        assert_eq!(mode, "wal");
    });
}

#[test]
fn each_report_changes_the_revision() {
    block_on(async {
        let database = Database::new();
        drop(database.open().await.unwrap());
        let connection = || InTurn::open(&database.file(), 1);
        let store = SqliteStore::new(Connections {
            writer: connection(),
            lookups: connection(),
            lists: connection(),
        });
        let before = store.revision().await.unwrap();
        assert!(before.is_some());
        assert_eq!(store.revision().await.unwrap(), before);
        let report = Report::new("a", "t", StatusKind::Running);
        let now = DateTime::UNIX_EPOCH;
        let decided = decide(&Workspace::Shared, &report, &Snapshot::default(), now, 60);
        let outcome = store.commit(&decided.unwrap().commit).await;
        assert_eq!(outcome.unwrap(), CommitOutcome::Committed);
        assert_ne!(store.revision().await.unwrap(), before);
    });
}

#[test]
fn a_copy_made_by_sqlite_is_a_database_whose_readers_do_not_wait_either() {
    block_on(async {
        let database = Database::new();
        let store = database.open().await.unwrap();
        let secret = store.secret("name", "value").await.unwrap();
        let copy = Database::new();
        let connection = rusqlite::Connection::open(database.file()).unwrap();
        let file = copy.file();
        connection
            .execute("VACUUM INTO ?1", [file.to_str().unwrap()])
            .unwrap();
        let restored = copy.open().await.unwrap();
        assert_eq!(restored.secret("name", "other").await.unwrap(), secret);
        let connection = rusqlite::Connection::open(file).unwrap();
        let mode: String = connection
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .unwrap();
        assert_eq!(mode, "wal");
    });
}

#[test]
fn retention_keeps_the_newest_status_and_the_start_of_the_run() {
    block_on(async {
        let database = Database::new();
        let store = database.open().await.unwrap();
        let connection = rusqlite::Connection::open(database.file()).unwrap();
        // Two sessions, the second of which has been running since its third status.
        connection
            .execute_batch(
                "INSERT INTO agents VALUES ('shared', 'a', 'a', '', '', '', 1, 1, 2);
                WITH RECURSIVE numbers (n) AS (
                    VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < 1201
                )
                INSERT INTO statuses
                        (workspace, agent_id, topic, seq, status, timestamp, message, content)
                    SELECT 'shared', 'a', 'ended', n, 'success', n, n, ''
                    FROM numbers WHERE n <= 1200
                    UNION ALL
                    SELECT 'shared', 'a', 'running', n, iif(n < 3, 'failed', 'running'), n, n, ''
                    FROM numbers;
                INSERT INTO sessions (workspace, agent_id, topic, seq, created, last_updated,
                    ttl_minutes, expires_at, status, run_started, noted_at)
                VALUES
                    ('shared', 'a', 'ended', 1300, 1, 1300, 60, 1, 'success', NULL, 1200),
                    ('shared', 'a', 'running', 1201, 1, 1201, 60, 1, 'running', 3, 1201);",
            )
            .unwrap();
        let at = |micros| DateTime::from_timestamp_micros(micros).unwrap();
        let left = || -> String {
            let all =
                "SELECT group_concat(topic || ' ' || seq, ',' ORDER BY topic, seq) FROM statuses";
            connection.query_row(all, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(store.purge_history(at(1)).await.unwrap(), 0);
        assert_eq!(store.purge_history(at(1201)).await.unwrap(), 1199 + 1199);
        assert_eq!(left(), "ended 1200,running 3,running 1201");
        assert_eq!(store.purge_history(at(1201)).await.unwrap(), 0);
    });
}

#[test]
fn pages_are_whole_however_many_statements_they_take() {
    block_on(async {
        let database = Database::new();
        let store = database.open().await.unwrap();
        let connection = rusqlite::Connection::open(database.file()).unwrap();
        // Two sessions with statuses at the same times, 12 MiB in all.
        connection
            .execute_batch(
                "INSERT INTO agents VALUES ('shared', 'a', 'a', '', '', '', 1, 1, 2);
                WITH RECURSIVE numbers (n) AS (
                    VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < 600
                )
                INSERT INTO statuses
                        (workspace, agent_id, topic, seq, status, timestamp, message, content)
                    SELECT 'shared', 'a', topic, n, 'running', n / 3, '', hex(zeroblob(5000))
                    FROM numbers, (SELECT 'one' AS topic UNION VALUES ('two'));
                INSERT INTO sessions (workspace, agent_id, topic, seq, created, last_updated,
                    ttl_minutes, expires_at, status, run_started)
                VALUES
                    ('shared', 'a', 'one', 600, 1, 200, 60, 1, 'running', 0),
                    ('shared', 'a', 'two', 600, 1, 200, 60, 1, 'running', 0);",
            )
            .unwrap();
        let newest_first = |(one, other): (&Status, &Status)| {
            let key = |status: &Status| {
                let Status {
                    session_topic,
                    entry,
                    seq,
                    ..
                } = status;
                (
                    Reverse(entry.timestamp),
                    session_topic.clone(),
                    Reverse(*seq),
                )
            };
            key(one) < key(other)
        };
        let is_full = |items: &[Status]| {
            let bytes = |items: &[Status]| items.iter().map(Row::bytes).sum::<usize>();
            let (_, but_the_last) = items.split_last().unwrap();
            bytes(items) >= MAX_PAGE_BYTES && bytes(but_the_last) < MAX_PAGE_BYTES
        };
        for limit in [1, 199, 200, 201, 400, 10_000] {
            let (mut all, mut after) = (Vec::new(), None);
            loop {
                let page = store
                    .history(&Workspace::Shared, "a", after.as_ref(), limit)
                    .await
                    .unwrap();
                let more = page.next.is_some();
                assert!(!more || page.items.len() == limit || is_full(&page.items));
                all.extend(page.items);
                after = page.next;
                if !more {
                    break;
                }
            }
            assert_eq!(all.len(), 1200, "{limit}");
            assert!(all.iter().zip(&all[1..]).all(newest_first), "{limit}");

            let key = SessionKey {
                workspace: Workspace::Shared,
                agent_id: "a".into(),
                session_topic: "two".into(),
            };
            let (mut seqs, mut before) = (Vec::new(), None);
            loop {
                let found = store.session(&key, before, limit).await.unwrap().unwrap();
                assert_eq!(found.session.session_topic, "two");
                let Page { items, next } = found.history;
                assert!(next.is_none() || items.len() == limit || is_full(&items));
                seqs.extend(items.iter().map(|status| status.seq));
                before = next;
                if next.is_none() {
                    break;
                }
            }
            assert!(seqs.into_iter().eq((1..=600).rev()), "{limit}");
        }
    });
}

#[test]
fn a_filtered_list_ends_after_a_bounded_search_and_goes_on_there() {
    block_on(async {
        let database = Database::new();
        let store = database.open().await.unwrap();
        let connection = rusqlite::Connection::open(database.file()).unwrap();
        let agents = format!(
            "WITH RECURSIVE numbers (n) AS (
                VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < {}
            )
            INSERT INTO agents
            SELECT 'shared', printf('agent %05d', n), printf('agent %05d', n), '', '', '', 1, n / 3, 0
            FROM numbers",
            2 * MAX_LOOKED_AT + 2
        );
        connection.execute_batch(&agents).unwrap();
        let walk = async |search| {
            found_by_walking(&store, &Workspace::Shared, search, DateTime::UNIX_EPOCH).await
        };
        assert_eq!(walk("20482").await, [1, 0, 0]);
        assert_eq!(walk("00001").await, [0, 0, 1]);
        assert_eq!(walk("agent").await, [10_000, 10_000, 482]);
        connection
            .execute_batch("DELETE FROM agents WHERE agent_id NOT LIKE '%7'")
            .unwrap();
        assert_eq!(walk("7").await, [2048]);
    });
}

#[test]
fn an_agent_is_registered_at_the_first_report_of_its_first_chain() {
    block_on(async {
        let database = Database::new();
        let store = database.open().await.unwrap();
        let report = Report::new("a", "t", StatusKind::Running);
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let mut snapshot = Snapshot::default();
        let commits = [at(1), at(5)].map(|now| {
            let commit = decide(&Workspace::Shared, &report, &snapshot, now, 60)
                .unwrap()
                .commit;
            snapshot = snapshot.after(&commit);
            commit
        });
        let outcome = store.commit_many(&[Chain::new(commits).unwrap()]).await;
        assert_eq!(outcome.unwrap(), [CommitOutcome::Committed]);
        let agent = store.agent(&Workspace::Shared, "a", at(5)).await.unwrap();
        let agent = agent.unwrap();
        assert_eq!((agent.registered, agent.last_seen), (at(1), at(5)));
    });
}
