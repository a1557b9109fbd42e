//! A storage whose operations are measured.

// What a trait does by itself would be done beside the storage that is measured.
#![deny(clippy::missing_trait_methods)]

use std::collections::HashMap;
use std::slice::from_ref;
use std::sync::Arc;

use kubeagents_core::batch::Chain;
use kubeagents_core::store::{
    Accounts, ApiKeys, Audit, Buckets, Census, Channels, CommitOutcome, Outbox, RefreshTokens,
    RegistrationMails, Sessions,
};
use kubeagents_core::{Commit, Store, StoreError, Timestamp, Workspace, store_operations};

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

    store_operations!(store: measured);
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

    store_operations!(sessions: measured);
}

impl<S: Accounts> Accounts for Metered<S> {
    store_operations!(accounts: measured);
}

impl<S: RefreshTokens> RefreshTokens for Metered<S> {
    store_operations!(refresh_tokens: measured);
}

impl<S: ApiKeys> ApiKeys for Metered<S> {
    store_operations!(api_keys: measured);
}

impl<S: Channels> Channels for Metered<S> {
    store_operations!(channels: measured);
}

impl<S: Outbox> Outbox for Metered<S> {
    store_operations!(outbox: measured);
}

impl<S: Audit> Audit for Metered<S> {
    store_operations!(audit: measured);
}

impl<S: Buckets> Buckets for Metered<S> {
    store_operations!(buckets: measured);
}

impl<S: RegistrationMails> RegistrationMails for Metered<S> {
    store_operations!(registration_mails: measured);
}

impl<S: Census> Census for Metered<S> {
    store_operations!(census: measured);
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
