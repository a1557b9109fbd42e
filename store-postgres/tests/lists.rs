//! Lists leave connections to reports: they run as what a driver may hold back.

use chrono::DateTime;
use futures_executor::block_on;
use kubeagents_core::store::{
    AgentQuery, ApiKeys, Audit, Census, SessionQuery, Sessions, WorkspaceQuery,
};
use kubeagents_core::{AccountId, SessionKey, StoreError, Workspace};
use kubeagents_store_postgres::{PostgresStore, Query, Row, Value};

/// A driver whose connections are all with reports, but for those that lists may have. Every list is
/// refused.
struct ListsOnly;

impl Query for ListsOnly {
    async fn query(&self, sql: &'static str, _: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        panic!("not read as a list: {sql}");
    }

    async fn list(&self, _: &'static str, _: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        Err(StoreError::Contended)
    }
}

#[test]
fn every_list_is_read_as_a_list() {
    let store = PostgresStore::new(ListsOnly);
    let shared = Workspace::Shared;
    let now = DateTime::UNIX_EPOCH;
    let account = AccountId::new("account");
    let key = SessionKey {
        workspace: shared.clone(),
        agent_id: "agent".to_owned(),
        session_topic: "topic".to_owned(),
    };
    let agents = AgentQuery {
        limit: 10,
        ..AgentQuery::default()
    };
    let sessions = SessionQuery {
        limit: 10,
        ..SessionQuery::default()
    };
    let of_workspace = WorkspaceQuery {
        limit: 10,
        ..WorkspaceQuery::default()
    };
    block_on(async {
        let lists = [
            store.agents(&shared, &agents, now).await.err(),
            store.agent(&shared, "agent", now).await.err(),
            store.sessions(&shared, "agent", &sessions, now).await.err(),
            store
                .workspace_sessions(&shared, &of_workspace, now)
                .await
                .err(),
            store.session(&key, None, 10).await.err(),
            store.history(&shared, "agent", None, 10).await.err(),
            store.api_keys(&account, None, 10).await.err(),
            store.audit(&shared, now, None, 10).await.err(),
            store.census(now).await.err(),
        ];
        for refusal in lists {
            assert!(matches!(refusal, Some(StoreError::Contended)));
        }
    });
}
