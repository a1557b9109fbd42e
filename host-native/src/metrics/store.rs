//! A storage whose operations are measured.

// What a trait does by itself would be done beside the storage that is measured.
#![deny(clippy::missing_trait_methods)]

use std::collections::HashMap;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use kubeagents_core::audit::AuditEntry;
use kubeagents_core::batch::Chain;
use kubeagents_core::bucket::{Draw, Drawn};
use kubeagents_core::store::{
    Accounts, AgentCursor, AgentQuery, ApiKeyCreation, ApiKeyCursor, ApiKeys, Audience, Audit,
    AuditBounds, AuditCursor, Buckets, Census, ChannelCreation, Channels, CommitOutcome, Counts,
    Failure, HistoryCursor, LeaseRequest, LeasedNotification, Outbox, Page, PutOff, RefreshTokens,
    Registration, RegistrationMails, SessionCursor, SessionHistory, SessionQuery, Sessions,
    SilenceNote, WorkspaceCursor, WorkspaceQuery,
};
use kubeagents_core::{
    Account, AccountId, Agent, ApiKey, Channel, Commit, Delivery, MailedToken, NamedSession,
    NewAccount, Notification, Receiver, RefreshToken, Session, SessionKey, Snapshot, Status, Store,
    StoreError, Timestamp, Workspace,
};

use super::{Metrics, Operation};
use crate::events::{Changed, Changes};

/// A storage whose operations are measured.
#[derive(Clone)]
pub(crate) struct Metered<S> {
    store: S,
    metrics: Arc<Metrics>,
}

impl<S> Metered<S> {
    pub(crate) fn new(store: S, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics }
    }

    /// The storage itself.
    pub(crate) fn store(&self) -> &S {
        &self.store
    }

    /// Gives the storage back.
    pub(crate) fn into_store(self) -> S {
        self.store
    }

    /// What the operations are noted in.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

/// Makes methods that measure those of the storage. Their futures are on the heap: one more layer
/// would make every future around them larger, and the stack that polls them too small.
macro_rules! measured {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(async fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
            let operation = Operation::begin(&self.metrics, stringify!($name));
            operation.end(Box::pin(self.store.$name($($argument),*))).await
        })*
    };
}

impl<S: Store> Store for Metered<S> {
    const DURABLE: bool = S::DURABLE;

    measured! {
        fn ping() -> ();
        fn secret(name: &str, candidate: &str) -> String;
    }
}

impl<S: Sessions> Sessions for Metered<S> {
    async fn commit_many(&self, chains: &[Chain]) -> Result<Vec<CommitOutcome>, StoreError> {
        let operation = Operation::begin(&self.metrics, "commit_many");
        let outcomes = operation
            .end(Box::pin(self.store.commit_many(chains)))
            .await?;
        let reports = chains.iter().map(|chain| chain.commits().count()).sum();
        self.metrics.group(reports, &outcomes);
        Ok(outcomes)
    }

    async fn commit(&self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        let operation = Operation::begin(&self.metrics, "commit");
        let outcome = operation.end(Box::pin(self.store.commit(commit))).await?;
        self.metrics.group(1, from_ref(&outcome));
        Ok(outcome)
    }

    measured! {
        fn load_many(keys: &[SessionKey]) -> Vec<Snapshot>;
        fn load(key: &SessionKey) -> Snapshot;
        fn clock(now: Timestamp) -> Timestamp;
        fn silences(after: Timestamp, until: Timestamp, limit: usize) -> Vec<(SessionKey, Snapshot)>;
        fn note_silences(notes: &[SilenceNote]) -> Vec<bool>;
        fn agents(workspace: &Workspace, query: &AgentQuery, now: Timestamp) -> Page<Agent, AgentCursor>;
        fn agent(workspace: &Workspace, agent_id: &str, now: Timestamp) -> Option<Agent>;
        fn sessions(workspace: &Workspace, agent_id: &str, query: &SessionQuery, now: Timestamp)
            -> Page<Session, SessionCursor>;
        fn workspace_sessions(workspace: &Workspace, query: &WorkspaceQuery, now: Timestamp)
            -> Page<NamedSession, WorkspaceCursor>;
        fn session(key: &SessionKey, before: Option<u64>, limit: usize) -> Option<SessionHistory>;
        fn history(workspace: &Workspace, agent_id: &str, before: Option<&HistoryCursor>, limit: usize)
            -> Page<Status, HistoryCursor>;
    }
}

impl<S: Accounts> Accounts for Metered<S> {
    measured! {
        fn create_account(account: &NewAccount) -> Registration;
        fn account(id: &AccountId) -> Option<Account>;
        fn account_by_email(email: &str) -> Option<Account>;
        fn set_verification(id: &AccountId, verification: &MailedToken) -> ();
        fn verify_account(token_hash: &str, now: Timestamp) -> Option<Account>;
        fn set_reset(id: &AccountId, reset: &MailedToken) -> ();
        fn account_by_reset(token_hash: &str, now: Timestamp) -> Option<Account>;
        fn reset_password(token_hash: &str, password_hash: &str, now: Timestamp) -> Option<Account>;
        fn change_password(account: &Account, password_hash: &str, now: Timestamp) -> bool;
        fn delete_account(account: &Account, now: Timestamp) -> bool;
        fn purge_deleted(now: Timestamp) -> bool;
        fn set_notification_url(id: &AccountId, url: &str, now: Timestamp) -> Option<Account>;
        fn receivers(audience: &Audience) -> Vec<Receiver>;
    }
}

impl<S: RefreshTokens> RefreshTokens for Metered<S> {
    measured! {
        fn insert_refresh_token(token: &RefreshToken) -> ();
        fn refresh_token(token_hash: &str) -> Option<RefreshToken>;
        fn rotate_refresh_token(token_hash: &str, spent_at: Timestamp, successor: &RefreshToken) -> bool;
        fn revoke_token_family(family_id: &str) -> ();
        fn revoke_refresh_tokens(id: &AccountId) -> ();
    }
}

impl<S: ApiKeys> ApiKeys for Metered<S> {
    measured! {
        fn create_api_key(key: &ApiKey, most: usize) -> ApiKeyCreation;
        fn api_keys(id: &AccountId, after: Option<&ApiKeyCursor>, limit: usize)
            -> Page<ApiKey, ApiKeyCursor>;
        fn api_key_by_hash(key_hash: &str) -> Option<ApiKey>;
        fn revoke_api_key(id: &AccountId, key_id: &str) -> Option<ApiKey>;
        fn touch_api_key(key: &ApiKey, now: Timestamp) -> ();
    }
}

impl<S: Channels> Channels for Metered<S> {
    measured! {
        fn channels(workspace: &Workspace) -> Vec<Channel>;
        fn create_channel(channel: &Channel, most: usize) -> ChannelCreation;
        fn update_channel(channel: &Channel, version: Timestamp) -> bool;
        fn delete_channel(workspace: &Workspace, id: &str) -> bool;
    }
}

impl<S: Outbox> Outbox for Metered<S> {
    measured! {
        fn lease_notification(request: &LeaseRequest) -> Option<LeasedNotification>;
        fn notification_delivered(id: &str) -> ();
        fn notifications_failed(failed: &[(&str, Duration)], now: Timestamp, failure: &Failure) -> ();
        fn notification_failed(id: &str, now: Timestamp, pause: Duration, failure: &Failure) -> ();
        fn notification_abandoned(id: &str) -> ();
        fn lease_others(leased: &Notification, now: Timestamp, duration: Duration, limit: usize)
            -> Vec<LeasedNotification>;
        fn put_off(leased: &Notification, what: PutOff, now: Timestamp, pause: Duration) -> ();
        fn overflow(workspace: &Workspace, channel: &str) -> u64;
        fn overflow_told(workspace: &Workspace, channel: &str, told: u64) -> ();
        fn finish_deliveries(deliveries: &[Delivery]) -> ();
        fn deliveries(workspace: &Workspace, channel: &str) -> Vec<Delivery>;
    }
}

impl<S: Audit> Audit for Metered<S> {
    measured! {
        fn append_audit(entry: &AuditEntry, bounds: &AuditBounds) -> ();
        fn audit(workspace: &Workspace, since: Timestamp, after: Option<&AuditCursor>, limit: usize)
            -> Page<AuditEntry, AuditCursor>;
    }
}

impl<S: Buckets> Buckets for Metered<S> {
    measured! {
        fn draw(draw: &Draw, now: Timestamp) -> Drawn;
        fn put_back(draw: &Draw) -> ();
    }
}

impl<S: RegistrationMails> RegistrationMails for Metered<S> {
    measured! {
        fn lease_registration_mails(now: Timestamp, until: Timestamp, limit: usize) -> Vec<Account>;
        fn settle_registration_mail(id: &AccountId, due: Option<Timestamp>) -> ();
    }
}

impl<S: Census> Census for Metered<S> {
    measured! {
        fn census(now: Timestamp) -> Counts;
    }
}

impl<S: Changes> Changes for Metered<S> {
    const SHARED: bool = S::SHARED;

    fn evicted_at(&self, workspace: &Workspace) -> Option<Timestamp> {
        self.store.evicted_at(workspace)
    }

    measured! {
        fn moment() -> Option<String>;
        fn changes(workspaces: &[Workspace], since: &str) -> Option<Changed>;
        fn renamed_since(workspace: &Workspace, since: Timestamp, limit: usize)
            -> HashMap<String, String>;
    }
}
