use std::time::Duration;

use kubeagents_core::{
    Account, AccountId, Agent, ApiKey, Commit, NewAccount, RefreshToken, Session, SessionKey,
    Snapshot, Status, Store, StoreError, Timestamp, Verification, Workspace,
    batch::Chain,
    store::{
        Accounts, AgentCursor, AgentQuery, ApiKeys, Audience, CommitOutcome, HistoryCursor,
        LeaseRequest, LeasedNotification, Outbox, Page, RefreshTokens, Registration, SessionCursor,
        SessionHistory, SessionQuery, Sessions,
    },
};

use crate::{Query, accounts, api_keys, outbox, queries, reports, tokens};

/// State in PostgreSQL. Any number of them, in any kind of host, may share one database.
#[derive(Debug, Clone)]
pub struct PostgresStore<Q, C = ()> {
    query: Q,
    cache: C,
}

/// Remembers API keys for a few seconds, as
/// [`Store::api_key_by_hash`](kubeagents_core::Store::api_key_by_hash) allows; `()` remembers none.
pub trait ApiKeyCache {
    /// The key with this hash, if it was remembered within the last five seconds.
    fn get(&self, key_hash: &str) -> Option<ApiKey>;

    /// The number of revocations so far.
    fn revocations(&self) -> u64;

    /// Remembers a key that was read after `revocations` had been asked for; not, if there was
    /// another revocation since: the key may be the one.
    fn remember(&self, key: &ApiKey, revocations: u64);

    /// Notes the use of a remembered key.
    fn touch(&self, key_hash: &str, now: Timestamp);

    /// Forgets a key that has been revoked.
    fn revoke(&self, key_id: &str);
}

impl ApiKeyCache for () {
    fn get(&self, _: &str) -> Option<ApiKey> {
        None
    }
    fn revocations(&self) -> u64 {
        0
    }
    fn remember(&self, _: &ApiKey, _: u64) {}
    fn touch(&self, _: &str, _: Timestamp) {}
    fn revoke(&self, _: &str) {}
}

impl<Q: Query> PostgresStore<Q> {
    /// A store on a database whose schema is there already (see [`schema`](crate::schema)).
    pub fn new(query: Q) -> Self {
        Self::with_cache(query, ())
    }
}

impl<Q: Query, C> PostgresStore<Q, C> {
    /// A store that remembers API keys.
    pub fn with_cache(query: Q, cache: C) -> Self {
        Self { query, cache }
    }

    /// What runs the statements.
    pub fn driver(&self) -> &Q {
        &self.query
    }

    /// Gives back what runs the statements.
    pub fn into_driver(self) -> Q {
        self.query
    }
}

impl<Q: Query, C: ApiKeyCache> Sessions for PostgresStore<Q, C> {
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
}

impl<Q: Query, C: ApiKeyCache> Accounts for PostgresStore<Q, C> {
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
}

impl<Q: Query, C: ApiKeyCache> RefreshTokens for PostgresStore<Q, C> {
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
}

impl<Q: Query, C: ApiKeyCache> ApiKeys for PostgresStore<Q, C> {
    async fn insert_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        api_keys::insert(&self.query, key).await
    }

    async fn api_keys(&self, id: &AccountId) -> Result<Vec<ApiKey>, StoreError> {
        api_keys::of_account(&self.query, id).await
    }

    async fn api_key_by_hash(&self, key_hash: &str) -> Result<Option<ApiKey>, StoreError> {
        if let Some(key) = self.cache.get(key_hash) {
            return Ok(Some(key));
        }
        let revocations = self.cache.revocations();
        let found = api_keys::by_hash(&self.query, key_hash).await?;
        if let Some(key) = found.as_ref().filter(|key| !key.revoked) {
            self.cache.remember(key, revocations);
        }
        Ok(found)
    }

    async fn revoke_api_key(&self, id: &AccountId, key_id: &str) -> Result<bool, StoreError> {
        let revoked = api_keys::revoke(&self.query, id, key_id).await;
        // Also after a failure: the statement may have taken effect.
        self.cache.revoke(key_id);
        revoked
    }

    async fn touch_api_key(&self, key: &ApiKey, now: Timestamp) -> Result<(), StoreError> {
        // First, so that requests at the same time do not all note it.
        self.cache.touch(&key.key_hash, now);
        api_keys::touch(&self.query, key, now).await
    }
}

impl<Q: Query, C: ApiKeyCache> Outbox for PostgresStore<Q, C> {
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

impl<Q: Query, C: ApiKeyCache> Store for PostgresStore<Q, C> {
    const DURABLE: bool = true;

    async fn ping(&self) -> Result<(), StoreError> {
        // Reads a table, so that it fails where the schema is missing.
        const PING: &str = "SELECT 1::bigint FROM kubeagents_data.migrations LIMIT 1";
        self.query.query(PING, &[]).await.map(drop)
    }

    async fn secret(&self, name: &str, candidate: &str) -> Result<String, StoreError> {
        accounts::secret(&self.query, name, candidate).await
    }
}
