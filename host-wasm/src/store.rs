//! A storage that is one of two kinds, so that what works on storage exists once in a component.

// What a trait does by itself would be done beside the storage.
#![deny(clippy::missing_trait_methods)]

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

/// A storage of one of two kinds.
#[derive(Debug, Clone)]
pub enum EitherStore<A, B> {
    /// Of the first.
    First(A),
    /// Of the second.
    Second(B),
}

/// Makes methods that are those of the storage.
macro_rules! delegated {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(async fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
            match self {
                Self::First(store) => store.$name($($argument),*).await,
                Self::Second(store) => store.$name($($argument),*).await,
            }
        })*
    };
}

impl<A: Store, B: Store> Store for EitherStore<A, B> {
    const DURABLE: bool = A::DURABLE && B::DURABLE;

    delegated! {
        fn ping() -> ();
        fn secret(name: &str, candidate: &str) -> String;
    }
}

impl<A: Sessions, B: Sessions> Sessions for EitherStore<A, B> {
    delegated! {
        fn load_many(keys: &[SessionKey]) -> Vec<Snapshot>;
        fn load(key: &SessionKey) -> Snapshot;
        fn commit_many(chains: &[Chain]) -> Vec<CommitOutcome>;
        fn commit(commit: &Commit) -> CommitOutcome;
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

impl<A: Accounts, B: Accounts> Accounts for EitherStore<A, B> {
    delegated! {
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

impl<A: RefreshTokens, B: RefreshTokens> RefreshTokens for EitherStore<A, B> {
    delegated! {
        fn insert_refresh_token(token: &RefreshToken) -> ();
        fn refresh_token(token_hash: &str) -> Option<RefreshToken>;
        fn rotate_refresh_token(token_hash: &str, spent_at: Timestamp, successor: &RefreshToken) -> bool;
        fn revoke_token_family(family_id: &str) -> ();
        fn revoke_refresh_tokens(id: &AccountId) -> ();
    }
}

impl<A: ApiKeys, B: ApiKeys> ApiKeys for EitherStore<A, B> {
    delegated! {
        fn create_api_key(key: &ApiKey, most: usize) -> ApiKeyCreation;
        fn api_keys(id: &AccountId, after: Option<&ApiKeyCursor>, limit: usize)
            -> Page<ApiKey, ApiKeyCursor>;
        fn api_key_by_hash(key_hash: &str) -> Option<ApiKey>;
        fn revoke_api_key(id: &AccountId, key_id: &str) -> Option<ApiKey>;
        fn touch_api_key(key: &ApiKey, now: Timestamp) -> ();
    }
}

impl<A: Channels, B: Channels> Channels for EitherStore<A, B> {
    delegated! {
        fn channels(workspace: &Workspace) -> Vec<Channel>;
        fn create_channel(channel: &Channel, most: usize) -> ChannelCreation;
        fn update_channel(channel: &Channel, version: Timestamp) -> bool;
        fn delete_channel(workspace: &Workspace, id: &str) -> bool;
    }
}

impl<A: Outbox, B: Outbox> Outbox for EitherStore<A, B> {
    delegated! {
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

impl<A: Audit, B: Audit> Audit for EitherStore<A, B> {
    delegated! {
        fn append_audit(entry: &AuditEntry, bounds: &AuditBounds) -> ();
        fn audit(workspace: &Workspace, since: Timestamp, after: Option<&AuditCursor>, limit: usize)
            -> Page<AuditEntry, AuditCursor>;
    }
}

impl<A: Buckets, B: Buckets> Buckets for EitherStore<A, B> {
    delegated! {
        fn draw(draw: &Draw, now: Timestamp) -> Drawn;
        fn put_back(draw: &Draw) -> ();
    }
}

impl<A: RegistrationMails, B: RegistrationMails> RegistrationMails for EitherStore<A, B> {
    delegated! {
        fn lease_registration_mails(now: Timestamp, until: Timestamp, limit: usize) -> Vec<Account>;
        fn settle_registration_mail(id: &AccountId, due: Option<Timestamp>) -> ();
    }
}

impl<A: Census, B: Census> Census for EitherStore<A, B> {
    delegated! {
        fn census(now: Timestamp) -> Counts;
    }
}
