use std::time::Duration;

use kubeagents_core::{
    Account, AccountId, Agent, ApiKey, Commit, NewAccount, RefreshToken, Session, SessionKey,
    Snapshot, Status, Store, StoreError, Timestamp, Verification, Workspace,
    store::{
        AgentCursor, AgentQuery, Audience, CommitOutcome, HistoryCursor, LeaseRequest,
        LeasedNotification, Page, Registration, SessionCursor, SessionHistory, SessionQuery,
    },
};

use crate::{Query, accounts, api_keys, outbox, queries, reports, tokens};

/// State in PostgreSQL. Any number of them, in any kind of host, may share one database.
#[derive(Debug, Clone)]
pub struct PostgresStore<Q> {
    query: Q,
}

impl<Q: Query> PostgresStore<Q> {
    /// A store on a database whose schema is there already (see [`schema`](crate::schema)).
    pub fn new(query: Q) -> Self {
        Self { query }
    }

    /// What runs the statements.
    pub fn driver(&self) -> &Q {
        &self.query
    }
}

impl<Q: Query> Store for PostgresStore<Q> {
    const DURABLE: bool = true;

    async fn ping(&self) -> Result<(), StoreError> {
        // Reads a table, so that it fails where the schema is missing.
        const PING: &str = "SELECT 1::bigint FROM kubeagents_data.migrations LIMIT 1";
        self.query.query(PING, &[]).await.map(drop)
    }

    async fn load(&self, key: &SessionKey) -> Result<Snapshot, StoreError> {
        reports::load(&self.query, key).await
    }

    async fn commit(&self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        reports::commit(&self.query, commit).await
    }

    async fn agents(
        &self,
        workspace: &Workspace,
        query: &AgentQuery,
        now: Timestamp,
    ) -> Result<Page<Agent, AgentCursor>, StoreError> {
        queries::agents(&self.query, workspace, query, now).await
    }

    async fn agent(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        now: Timestamp,
    ) -> Result<Option<Agent>, StoreError> {
        queries::agent(&self.query, workspace, agent_id, now).await
    }

    async fn sessions(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        query: &SessionQuery,
        now: Timestamp,
    ) -> Result<Page<Session, SessionCursor>, StoreError> {
        queries::sessions(&self.query, workspace, agent_id, query, now).await
    }

    async fn session(
        &self,
        key: &SessionKey,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Option<SessionHistory>, StoreError> {
        queries::session(&self.query, key, before, limit).await
    }

    async fn history(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        before: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Page<Status, HistoryCursor>, StoreError> {
        queries::history(&self.query, workspace, agent_id, before, limit).await
    }

    async fn create_account(&self, account: &NewAccount) -> Result<Registration, StoreError> {
        accounts::create(&self.query, account).await
    }

    async fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        accounts::by_id(&self.query, id).await
    }

    async fn account_by_email(&self, email: &str) -> Result<Option<Account>, StoreError> {
        accounts::by_email(&self.query, email).await
    }

    async fn set_verification(
        &self,
        id: &AccountId,
        verification: &Verification,
    ) -> Result<(), StoreError> {
        accounts::set_verification(&self.query, id, verification).await
    }

    async fn verify_account(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        accounts::verify(&self.query, token_hash, now).await
    }

    async fn set_notification_url(
        &self,
        id: &AccountId,
        url: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        accounts::set_notification_url(&self.query, id, url, now).await
    }

    async fn notification_urls(&self, audience: &Audience) -> Result<Vec<String>, StoreError> {
        accounts::notification_urls(&self.query, audience).await
    }

    async fn insert_refresh_token(&self, token: &RefreshToken) -> Result<(), StoreError> {
        tokens::insert(&self.query, token).await
    }

    async fn refresh_token(&self, token_hash: &str) -> Result<Option<RefreshToken>, StoreError> {
        tokens::by_hash(&self.query, token_hash).await
    }

    async fn rotate_refresh_token(
        &self,
        token_hash: &str,
        spent_at: Timestamp,
        successor: &RefreshToken,
    ) -> Result<bool, StoreError> {
        tokens::rotate(&self.query, token_hash, spent_at, successor).await
    }

    async fn revoke_token_family(&self, family_id: &str) -> Result<(), StoreError> {
        tokens::revoke_family(&self.query, family_id).await
    }

    async fn revoke_refresh_tokens(&self, id: &AccountId) -> Result<(), StoreError> {
        tokens::revoke_account(&self.query, id).await
    }

    async fn insert_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        api_keys::insert(&self.query, key).await
    }

    async fn api_keys(&self, id: &AccountId) -> Result<Vec<ApiKey>, StoreError> {
        api_keys::of_account(&self.query, id).await
    }

    async fn api_key_by_hash(&self, key_hash: &str) -> Result<Option<ApiKey>, StoreError> {
        api_keys::by_hash(&self.query, key_hash).await
    }

    async fn revoke_api_key(&self, id: &AccountId, key_id: &str) -> Result<bool, StoreError> {
        api_keys::revoke(&self.query, id, key_id).await
    }

    async fn touch_api_key(&self, key: &ApiKey, now: Timestamp) -> Result<(), StoreError> {
        api_keys::touch(&self.query, key, now).await
    }

    async fn secret(&self, name: &str, candidate: &str) -> Result<String, StoreError> {
        accounts::secret(&self.query, name, candidate).await
    }

    async fn lease_notifications(
        &self,
        request: &LeaseRequest,
    ) -> Result<Vec<LeasedNotification>, StoreError> {
        outbox::lease(&self.query, request).await
    }

    async fn notification_delivered(&self, id: &str) -> Result<(), StoreError> {
        outbox::delivered(&self.query, id).await
    }

    async fn notification_failed(
        &self,
        id: &str,
        _now: Timestamp,
        pause: Duration,
    ) -> Result<(), StoreError> {
        outbox::failed(&self.query, id, pause).await
    }

    async fn notification_abandoned(&self, id: &str) -> Result<(), StoreError> {
        outbox::abandoned(&self.query, id).await
    }
}
