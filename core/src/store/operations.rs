//! The operations of stores, for what does them by another store.

/// `store_operations!(noun: make)` makes the operations of a noun's trait by `make!`, which takes them as
/// `fn name(argument: Type, …) -> Answer;`, each an `async fn` that takes `&self` and returns
/// `Result<Answer, StoreError>`. Those that commit reports are apart, as `commits`.
#[macro_export]
macro_rules! store_operations {
    (store: $make:ident) => {
        $make! {
            fn ping() -> ();
            fn secret(name: &str, candidate: &str) -> String;
        }
    };
    (commits: $make:ident) => {
        $make! {
            fn commit_many(chains: &[$crate::batch::Chain]) -> Vec<$crate::store::CommitOutcome>;
            fn commit(commit: &$crate::Commit) -> $crate::store::CommitOutcome;
        }
    };
    (sessions: $make:ident) => {
        $make! {
            fn load_many(keys: &[$crate::SessionKey]) -> Vec<$crate::Snapshot>;
            fn load(key: &$crate::SessionKey) -> $crate::Snapshot;
            fn clock(now: $crate::Timestamp) -> $crate::Timestamp;
            fn revision() -> Option<i64>;
            fn silences(after: $crate::Timestamp, until: $crate::Timestamp, limit: usize)
                -> Vec<($crate::SessionKey, $crate::Snapshot)>;
            fn note_silences(notes: &[$crate::store::SilenceNote]) -> Vec<bool>;
            fn agents(
                workspace: &$crate::Workspace,
                query: &$crate::store::AgentQuery,
                now: $crate::Timestamp
            ) -> $crate::store::Page<$crate::Agent, $crate::store::AgentCursor>;
            fn agent(workspace: &$crate::Workspace, agent_id: &str, now: $crate::Timestamp)
                -> Option<$crate::Agent>;
            fn sessions(
                workspace: &$crate::Workspace,
                agent_id: &str,
                query: &$crate::store::SessionQuery,
                now: $crate::Timestamp
            ) -> $crate::store::Page<$crate::Session, $crate::store::SessionCursor>;
            fn workspace_sessions(
                workspace: &$crate::Workspace,
                query: &$crate::store::WorkspaceQuery,
                now: $crate::Timestamp
            ) -> $crate::store::Page<$crate::NamedSession, $crate::store::WorkspaceCursor>;
            fn session(key: &$crate::SessionKey, before: Option<u64>, limit: usize)
                -> Option<$crate::store::SessionHistory>;
            fn history(
                workspace: &$crate::Workspace,
                agent_id: &str,
                before: Option<&$crate::store::HistoryCursor>,
                limit: usize
            ) -> $crate::store::Page<$crate::Status, $crate::store::HistoryCursor>;
        }
    };
    (accounts: $make:ident) => {
        $make! {
            fn create_account(account: &$crate::NewAccount) -> $crate::store::Registration;
            fn account(id: &$crate::AccountId) -> Option<$crate::Account>;
            fn account_by_email(email: &str) -> Option<$crate::Account>;
            fn set_verification(id: &$crate::AccountId, verification: &$crate::MailedToken) -> ();
            fn verify_account(token_hash: &str, now: $crate::Timestamp) -> Option<$crate::Account>;
            fn set_reset(id: &$crate::AccountId, reset: &$crate::MailedToken) -> ();
            fn account_by_reset(token_hash: &str, now: $crate::Timestamp) -> Option<$crate::Account>;
            fn reset_password(token_hash: &str, password_hash: &str, now: $crate::Timestamp)
                -> Option<$crate::Account>;
            fn change_password(account: &$crate::Account, password_hash: &str, now: $crate::Timestamp)
                -> bool;
            fn delete_account(account: &$crate::Account, now: $crate::Timestamp) -> bool;
            fn purge_deleted(now: $crate::Timestamp) -> bool;
            fn set_notification_url(id: &$crate::AccountId, url: &str, now: $crate::Timestamp)
                -> Option<$crate::Account>;
            fn receivers(audience: &$crate::store::Audience) -> Vec<$crate::Receiver>;
        }
    };
    (refresh_tokens: $make:ident) => {
        $make! {
            fn insert_refresh_token(token: &$crate::RefreshToken) -> ();
            fn refresh_token(token_hash: &str) -> Option<$crate::RefreshToken>;
            fn rotate_refresh_token(
                token_hash: &str,
                spent_at: $crate::Timestamp,
                successor: &$crate::RefreshToken
            ) -> bool;
            fn revoke_token_family(family_id: &str) -> ();
            fn revoke_refresh_tokens(id: &$crate::AccountId) -> ();
        }
    };
    (api_keys: $make:ident) => {
        $make! {
            fn create_api_key(key: &$crate::ApiKey, most: usize) -> $crate::store::ApiKeyCreation;
            fn api_keys(
                id: &$crate::AccountId,
                after: Option<&$crate::store::ApiKeyCursor>,
                limit: usize
            ) -> $crate::store::Page<$crate::ApiKey, $crate::store::ApiKeyCursor>;
            fn api_key_by_hash(key_hash: &str) -> Option<$crate::ApiKey>;
            fn revoke_api_key(id: &$crate::AccountId, key_id: &str) -> Option<$crate::ApiKey>;
            fn touch_api_key(key: &$crate::ApiKey, now: $crate::Timestamp) -> ();
        }
    };
    (channels: $make:ident) => {
        $make! {
            fn channels(workspace: &$crate::Workspace) -> Vec<$crate::Channel>;
            fn create_channel(channel: &$crate::Channel, most: usize)
                -> $crate::store::ChannelCreation;
            fn update_channel(channel: &$crate::Channel, version: $crate::Timestamp) -> bool;
            fn delete_channel(workspace: &$crate::Workspace, id: &str) -> bool;
        }
    };
    (outbox: $make:ident) => {
        $make! {
            fn lease_notification(request: &$crate::store::LeaseRequest)
                -> Option<$crate::store::LeasedNotification>;
            fn notification_delivered(id: &str) -> ();
            fn notifications_failed(
                failed: &[(&str, std::time::Duration)],
                now: $crate::Timestamp,
                failure: &$crate::store::Failure
            ) -> ();
            fn notification_abandoned(id: &str) -> ();
            fn lease_others(
                leased: &$crate::Notification,
                now: $crate::Timestamp,
                duration: std::time::Duration,
                limit: usize
            ) -> Vec<$crate::store::LeasedNotification>;
            fn put_off(
                leased: &$crate::Notification,
                what: $crate::store::PutOff,
                now: $crate::Timestamp,
                pause: std::time::Duration
            ) -> ();
            fn overflow(workspace: &$crate::Workspace, channel: &str) -> u64;
            fn overflow_told(workspace: &$crate::Workspace, channel: &str, told: u64) -> ();
            fn finish_deliveries(deliveries: &[$crate::Delivery]) -> ();
            fn deliveries(workspace: &$crate::Workspace, channel: &str) -> Vec<$crate::Delivery>;
        }
    };
    (audit: $make:ident) => {
        $make! {
            fn append_audit(
                entry: &$crate::audit::AuditEntry,
                bounds: &$crate::store::AuditBounds
            ) -> ();
            fn audit(
                workspace: &$crate::Workspace,
                since: $crate::Timestamp,
                after: Option<&$crate::store::AuditCursor>,
                limit: usize
            ) -> $crate::store::Page<$crate::audit::AuditEntry, $crate::store::AuditCursor>;
        }
    };
    (buckets: $make:ident) => {
        $make! {
            fn draw(draw: &$crate::bucket::Draw, now: $crate::Timestamp) -> $crate::bucket::Drawn;
            fn put_back(draw: &$crate::bucket::Draw) -> ();
        }
    };
    (registration_mails: $make:ident) => {
        $make! {
            fn lease_registration_mails(
                now: $crate::Timestamp,
                until: $crate::Timestamp,
                limit: usize
            ) -> Vec<$crate::Account>;
            fn settle_registration_mail(id: &$crate::AccountId, due: Option<$crate::Timestamp>) -> ();
        }
    };
    (census: $make:ident) => {
        $make! {
            fn census(now: $crate::Timestamp) -> $crate::store::Counts;
        }
    };
}
