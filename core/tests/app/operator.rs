//! What an operator does where the storage is.

use chrono::{DateTime, TimeDelta};
use futures_executor::block_on;
use kubeagents_core::operator::{KeyOwner, KeyRequest, Operator, Refusal};
use kubeagents_core::settings::{Host, Texts, Values};
use kubeagents_core::store::{Accounts, ApiKeys, Audit, MemoryStore};
use kubeagents_core::{Timestamp, Workspace, sha256_hex};

use crate::server::CountingEntropy;

const EMAIL: &str = "ann@example.com";
const PASSWORD: &str = "correct horse";

struct Clock;

impl kubeagents_core::ports::Clock for Clock {
    fn now(&self) -> Timestamp {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }
}

fn with_operator(test: impl AsyncFnOnce(Operator<'_, MemoryStore, Clock, CountingEntropy>)) {
    let values = Values::read(Host::Native, Texts::new()).unwrap();
    block_on(test(Operator {
        store: &MemoryStore::default(),
        clock: &Clock,
        entropy: &CountingEntropy::default(),
        values: &values,
    }));
}

fn request(owner: KeyOwner<'_>) -> KeyRequest<'_> {
    KeyRequest {
        owner,
        name: "laptop".into(),
        expires_in: None,
        scopes: None,
        is_shared: false,
    }
}

#[test]
fn a_hundred_keys_are_enough_for_an_operator_and_for_an_account() {
    with_operator(async |operator| {
        operator.add_account(EMAIL, "", PASSWORD).await.unwrap();
        for owner in [KeyOwner::Operator, KeyOwner::Account(EMAIL)] {
            for _ in 0..100 {
                operator.make_key(request(owner)).await.unwrap();
            }
            let refused = operator.make_key(request(owner)).await;
            assert!(
                matches!(refused, Err(Refusal::TooManyKeys(_))),
                "{refused:?}"
            );
            let keys = operator.keys(owner).await.unwrap();
            assert_eq!(keys.len(), 100);
            operator.revoke_key(owner, &keys[0].id).await.unwrap();
            operator.make_key(request(owner)).await.unwrap();
        }
    });
}

#[test]
fn a_key_is_stored_as_its_hash_and_ends_when_it_is_to() {
    with_operator(async |operator| {
        let request = KeyRequest {
            expires_in: Some(90),
            ..request(KeyOwner::Operator)
        };
        let (key, text) = operator.make_key(request).await.unwrap();
        let stored = operator.store.api_key_by_hash(&sha256_hex(&text)).await;
        assert_eq!(stored.unwrap(), Some(key.clone()));
        assert_eq!(key.expires_at, Some(key.created_at + TimeDelta::days(90)));
    });
}

#[test]
fn the_operators_own_account_is_no_account_of_people() {
    with_operator(async |operator| {
        operator
            .make_key(request(KeyOwner::Operator))
            .await
            .unwrap();
        assert!(operator.accounts().await.unwrap().is_empty());
        operator.add_account(EMAIL, "Ann", PASSWORD).await.unwrap();
        let accounts = operator.accounts().await.unwrap();
        assert_eq!(accounts.len(), 1);
        assert!(accounts[0].email_verified);
        assert_eq!(accounts[0].name, "Ann");
        let known = operator.store.account_by_email("ANN@example.com").await;
        assert_eq!(known.unwrap().as_ref(), accounts.first());
        let again = operator.add_account("Ann@Example.com", "", PASSWORD).await;
        assert!(matches!(again, Err(Refusal::EmailTaken(_))), "{again:?}");
    });
}

#[test]
fn what_an_operator_does_is_audited() {
    with_operator(async |operator| {
        let account = operator.add_account(EMAIL, "", PASSWORD).await.unwrap();
        for owner in [KeyOwner::Operator, KeyOwner::Account(EMAIL)] {
            let (key, _) = operator.make_key(request(owner)).await.unwrap();
            operator.revoke_key(owner, &key.id).await.unwrap();
        }
        operator
            .set_password(EMAIL, "battery staple")
            .await
            .unwrap();
        let told = async |workspace: &Workspace| {
            let since = Timestamp::UNIX_EPOCH;
            let page = operator.store.audit(workspace, since, None, 100).await;
            let entries = page.unwrap().items.into_iter();
            let mut told: Vec<_> = entries
                .map(|entry| (entry.event.as_str(), entry.actor.as_str(), entry.target))
                .collect();
            told.sort_unstable();
            told
        };
        let keys = ["key.created", "key.revoked"].map(|event| (event, "operator", "laptop".into()));
        assert_eq!(told(&Workspace::Shared).await, keys);
        let own = told(&account.workspace()).await;
        let events: Vec<_> = own.iter().map(|(event, ..)| *event).collect();
        let expected = [
            "account.registered",
            "account.verified",
            "key.created",
            "key.revoked",
            "password.changed",
        ];
        assert_eq!(events, expected);
        operator.remove_account(EMAIL).await.unwrap();
        assert_eq!(told(&account.workspace()).await, []);
    });
}
