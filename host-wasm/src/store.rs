//! A storage that is one of two kinds, so that what works on storage exists once in a component.

// What a trait does by itself would be done beside the storage.
#![deny(clippy::missing_trait_methods)]

use kubeagents_core::store::{
    Accounts, ApiKeys, Audit, Buckets, Census, Channels, Outbox, RefreshTokens, RegistrationMails,
    Sessions,
};
use kubeagents_core::{Store, StoreError, store_operations};

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

    store_operations!(store: delegated);
}

impl<A: Sessions, B: Sessions> Sessions for EitherStore<A, B> {
    store_operations!(commits: delegated);
    store_operations!(sessions: delegated);
}

impl<A: Accounts, B: Accounts> Accounts for EitherStore<A, B> {
    store_operations!(accounts: delegated);
}

impl<A: RefreshTokens, B: RefreshTokens> RefreshTokens for EitherStore<A, B> {
    store_operations!(refresh_tokens: delegated);
}

impl<A: ApiKeys, B: ApiKeys> ApiKeys for EitherStore<A, B> {
    store_operations!(api_keys: delegated);
}

impl<A: Channels, B: Channels> Channels for EitherStore<A, B> {
    store_operations!(channels: delegated);
}

impl<A: Outbox, B: Outbox> Outbox for EitherStore<A, B> {
    store_operations!(outbox: delegated);
}

impl<A: Audit, B: Audit> Audit for EitherStore<A, B> {
    store_operations!(audit: delegated);
}

impl<A: Buckets, B: Buckets> Buckets for EitherStore<A, B> {
    store_operations!(buckets: delegated);
}

impl<A: RegistrationMails, B: RegistrationMails> RegistrationMails for EitherStore<A, B> {
    store_operations!(registration_mails: delegated);
}

impl<A: Census, B: Census> Census for EitherStore<A, B> {
    store_operations!(census: delegated);
}
