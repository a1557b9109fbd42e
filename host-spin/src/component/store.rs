//! The store of either kind. One type, so that the core is compiled once.

use std::time::Duration;

use kubeagents_core::batch::Chain;
use kubeagents_core::settings::DatabaseUrl;
use kubeagents_core::store::{
    Accounts, AgentCursor, AgentQuery, ApiKeys, Audience, CommitOutcome, HistoryCursor,
    LeaseRequest, LeasedNotification, Outbox, Page, RefreshTokens, Registration, SessionCursor,
    SessionHistory, SessionQuery, Sessions,
};
use kubeagents_core::{
    Account, AccountId, Agent, ApiKey, Commit, NewAccount, RefreshToken, Session, SessionKey,
    Snapshot, Status, Store, StoreError, Timestamp, Verification, Workspace,
};
use kubeagents_store_postgres::{PostgresStore, schema};

use super::databases::{PostgresConnection, SqliteConnection};
use crate::sqlite::SqliteStore;

/// Spin's SQLite, or a PostgreSQL database.
#[derive(Clone)]
pub(super) enum AnyStore {
    Sqlite(SqliteStore<SqliteConnection>),
    Postgres(PostgresStore<PostgresConnection>),
}

impl AnyStore {
    /// Opens the database at `url` or, without one, the default SQLite database, and brings its
    /// schema up to date.
    pub(super) async fn open(url: Option<&DatabaseUrl>) -> Result<Self, StoreError> {
        match url {
            None => {
                let connection = SqliteConnection::open()
                    .await
                    .map_err(StoreError::unavailable)?;
                Ok(Self::Sqlite(SqliteStore::open(connection).await?))
            }
            Some(DatabaseUrl::Postgres(url)) => {
                let connection = PostgresConnection::new(url);
                schema::migrate(&connection)
                    .await
                    .map_err(StoreError::unavailable)?;
                Ok(Self::Postgres(PostgresStore::new(connection)))
            }
        }
    }
}

macro_rules! on {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            AnyStore::Sqlite($store) => $call.await,
            AnyStore::Postgres($store) => $call.await,
        }
    };
}

impl Sessions for AnyStore {
    async fn load_many(&self, keys: &[SessionKey]) -> Result<Vec<Snapshot>, StoreError> {
        let mut snapshots = Vec::with_capacity(keys.len());
        for key in keys {
            snapshots.push(self.load(key).await?);
        }
        Ok(snapshots)
    }

    async fn commit_many(&self, chains: &[Chain]) -> Result<Vec<CommitOutcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(chains.len());
        for chain in chains {
            let mut outcome = CommitOutcome::Conflict;
            for commit in chain.commits() {
                outcome = self.commit(commit).await?;
                if outcome == CommitOutcome::Conflict {
                    break;
                }
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    async fn load(&self, key: &SessionKey) -> Result<Snapshot, StoreError> {
        on!(self, store => store.load(key))
    }

    async fn commit(&self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        on!(self, store => store.commit(commit))
    }

    async fn agents(
        &self,
        workspace: &Workspace,
        query: &AgentQuery,
        now: Timestamp,
    ) -> Result<Page<Agent, AgentCursor>, StoreError> {
        on!(self, store => store.agents(workspace, query, now))
    }

    async fn agent(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        now: Timestamp,
    ) -> Result<Option<Agent>, StoreError> {
        on!(self, store => store.agent(workspace, agent_id, now))
    }

    async fn sessions(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        query: &SessionQuery,
        now: Timestamp,
    ) -> Result<Page<Session, SessionCursor>, StoreError> {
        on!(self, store => store.sessions(workspace, agent_id, query, now))
    }

    async fn session(
        &self,
        key: &SessionKey,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Option<SessionHistory>, StoreError> {
        on!(self, store => store.session(key, before, limit))
    }

    async fn history(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        before: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Page<Status, HistoryCursor>, StoreError> {
        on!(self, store => store.history(workspace, agent_id, before, limit))
    }
}

impl Accounts for AnyStore {
    async fn create_account(&self, account: &NewAccount) -> Result<Registration, StoreError> {
        on!(self, store => store.create_account(account))
    }

    async fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        on!(self, store => store.account(id))
    }

    async fn account_by_email(&self, email: &str) -> Result<Option<Account>, StoreError> {
        on!(self, store => store.account_by_email(email))
    }

    async fn set_verification(
        &self,
        id: &AccountId,
        verification: &Verification,
    ) -> Result<(), StoreError> {
        on!(self, store => store.set_verification(id, verification))
    }

    async fn verify_account(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        on!(self, store => store.verify_account(token_hash, now))
    }

    async fn set_notification_url(
        &self,
        id: &AccountId,
        url: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        on!(self, store => store.set_notification_url(id, url, now))
    }

    async fn notification_urls(&self, audience: &Audience) -> Result<Vec<String>, StoreError> {
        on!(self, store => store.notification_urls(audience))
    }
}

impl RefreshTokens for AnyStore {
    async fn insert_refresh_token(&self, token: &RefreshToken) -> Result<(), StoreError> {
        on!(self, store => store.insert_refresh_token(token))
    }

    async fn refresh_token(&self, token_hash: &str) -> Result<Option<RefreshToken>, StoreError> {
        on!(self, store => store.refresh_token(token_hash))
    }

    async fn rotate_refresh_token(
        &self,
        token_hash: &str,
        spent_at: Timestamp,
        successor: &RefreshToken,
    ) -> Result<bool, StoreError> {
        on!(self, store => store.rotate_refresh_token(token_hash, spent_at, successor))
    }

    async fn revoke_token_family(&self, family_id: &str) -> Result<(), StoreError> {
        on!(self, store => store.revoke_token_family(family_id))
    }

    async fn revoke_refresh_tokens(&self, id: &AccountId) -> Result<(), StoreError> {
        on!(self, store => store.revoke_refresh_tokens(id))
    }
}

impl ApiKeys for AnyStore {
    async fn insert_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        on!(self, store => store.insert_api_key(key))
    }

    async fn api_keys(&self, id: &AccountId) -> Result<Vec<ApiKey>, StoreError> {
        on!(self, store => store.api_keys(id))
    }

    async fn api_key_by_hash(&self, key_hash: &str) -> Result<Option<ApiKey>, StoreError> {
        on!(self, store => store.api_key_by_hash(key_hash))
    }

    async fn revoke_api_key(&self, id: &AccountId, key_id: &str) -> Result<bool, StoreError> {
        on!(self, store => store.revoke_api_key(id, key_id))
    }

    async fn touch_api_key(&self, key: &ApiKey, now: Timestamp) -> Result<(), StoreError> {
        on!(self, store => store.touch_api_key(key, now))
    }
}

impl Outbox for AnyStore {
    async fn lease_notifications(
        &self,
        request: &LeaseRequest,
    ) -> Result<Vec<LeasedNotification>, StoreError> {
        on!(self, store => store.lease_notifications(request))
    }

    async fn notification_delivered(&self, id: &str) -> Result<(), StoreError> {
        on!(self, store => store.notification_delivered(id))
    }

    async fn notification_failed(
        &self,
        id: &str,
        now: Timestamp,
        pause: Duration,
    ) -> Result<(), StoreError> {
        on!(self, store => store.notification_failed(id, now, pause))
    }

    async fn notification_abandoned(&self, id: &str) -> Result<(), StoreError> {
        on!(self, store => store.notification_abandoned(id))
    }
}

impl Store for AnyStore {
    const DURABLE: bool = true;

    async fn ping(&self) -> Result<(), StoreError> {
        on!(self, store => store.ping())
    }

    async fn secret(&self, name: &str, candidate: &str) -> Result<String, StoreError> {
        on!(self, store => store.secret(name, candidate))
    }
}
