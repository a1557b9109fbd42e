//! The shared store suite on SQLite itself, without Spin: the component's statements, on
//! connections as Spin opens them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use chrono::DateTime;
use futures_util::future::join_all;
use kubeagents_core::store::RefreshTokens;
use kubeagents_core::{AccountId, RefreshToken, Store, StoreError, store_suite};
use kubeagents_spin::sqlite::{Connection, SqliteStore, Value};
use rusqlite::types::{Value as SqlValue, ValueRef};

/// Connections to one file, taken in turn, as if several instances ran the same code: statements
/// that are awaited together run at the same time.
struct Connections {
    connections: Vec<Arc<Mutex<rusqlite::Connection>>>,
    turn: AtomicUsize,
}

impl Connections {
    fn open(file: &Path, count: usize) -> Self {
        let open = |_| Arc::new(Mutex::new(rusqlite::Connection::open(file).unwrap()));
        Self {
            connections: (0..count).map(open).collect(),
            turn: AtomicUsize::new(0),
        }
    }
}

impl Connection for Connections {
    type Error = rusqlite::Error;

    async fn execute(
        &self,
        statement: &str,
        parameters: Vec<Value>,
    ) -> Result<Vec<Vec<Value>>, rusqlite::Error> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::clone(&self.connections[turn % self.connections.len()]);
        let statement = statement.to_owned();
        tokio::task::spawn_blocking(move || {
            execute(&connection.lock().unwrap(), &statement, parameters)
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
    async fn open(&self) -> Result<SqliteStore<Connections>, StoreError> {
        SqliteStore::open(Connections::open(&self.file(), 1)).await
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
fn run(name: &str, case: impl AsyncFnOnce(&SqliteStore<Connections>, &str)) {
    block_on(async {
        let database = Database::new();
        drop(database.open().await.unwrap());
        let store = SqliteStore::open(Connections::open(&database.file(), 4))
            .await
            .unwrap();
        case(&store, name).await;
    });
}

store_suite!(run);

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
        let connection = rusqlite::Connection::open(database.file()).unwrap();
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
        database.open().await.unwrap().ping().await.unwrap();
        let version: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        assert_eq!(version, 2);
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
        assert!(database.open().await.is_err());
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
