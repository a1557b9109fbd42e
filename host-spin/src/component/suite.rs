//! The shared store suite on Spin's databases: `/<case>` runs a case, and answers 200 when it has
//! passed. A case that fails traps.

use std::cell::Cell;

use http::StatusCode;
use kubeagents_core::{StoreError, store_suite};
use kubeagents_store_postgres::{PostgresStore, Query, Row, Value as PgValue, schema};
use kubeagents_store_sqlite::{Connection, Connections, SqliteStore, Value};
use spin_sdk::http::Request;
use spin_sdk::{http_service, variables};

use super::postgres::PostgresConnection;
use super::sqlite::{SqliteConnection, open_sqlite};

/// Connections that take turns, as if several instances ran the same code: statements that are
/// awaited together run at the same time.
struct InTurn<C> {
    connections: [C; 4],
    turn: Cell<usize>,
}

impl<C> InTurn<C> {
    fn new(connections: [C; 4]) -> Self {
        Self {
            connections,
            turn: Cell::new(0),
        }
    }

    fn next(&self) -> &C {
        let turn = self.turn.get();
        self.turn.set(turn + 1);
        &self.connections[turn % self.connections.len()]
    }
}

impl Connection for InTurn<SqliteConnection> {
    async fn execute(
        &self,
        statement: &str,
        parameters: Vec<Value>,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        self.next().execute(statement, parameters).await
    }
}

impl Query for InTurn<PostgresConnection> {
    async fn query(
        &self,
        sql: &'static str,
        params: &[PgValue<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.next().query(sql, params).await
    }
}

#[http_service]
#[expect(clippy::expect_used, reason = "a test that cannot begin has failed")]
async fn handle(request: Request) -> StatusCode {
    let case = request.uri().path().trim_start_matches('/').to_owned();
    let url = variables::get("database_url").await.expect("a variable");
    let known = if url.is_empty() {
        let open = async || SqliteConnection::open().await.expect("a connection");
        // The first one migrates, which is no matter for several in turn.
        open_sqlite().await.expect("a schema");
        let connections = [open().await, open().await, open().await, open().await];
        let in_turn = &InTurn::new(connections);
        let store = SqliteStore::new(Connections {
            writer: in_turn,
            lookups: in_turn,
            lists: in_turn,
        });
        store_suite!(run & *case, &store, &*case)
    } else {
        let open = async || PostgresConnection::open(&url).await.expect("a connection");
        let connections = [open().await, open().await, open().await, open().await];
        schema::migrate(&connections[0]).await.expect("a schema");
        let store = PostgresStore::new(InTurn::new(connections));
        store_suite!(run & *case, &store, &*case)
    };
    match known {
        true => StatusCode::OK,
        false => StatusCode::NOT_FOUND,
    }
}
