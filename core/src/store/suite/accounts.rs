use super::*;

pub(super) fn email(tag: &str) -> String {
    format!("User.{}@Example.com", &sha256_hex(tag)[..12])
}

pub(super) fn verification(tag: &str) -> Verification {
    Verification {
        token_hash: sha256_hex(format!("verification {tag}")),
        expires_at: start() + TimeDelta::hours(24),
    }
}

pub(super) async fn register<S: Store>(store: &S, tag: &str) -> AccountId {
    let email = email(tag);
    let account = NewAccount {
        id: AccountId::new(uuid_of(tag)),
        email_key: email_key(&email),
        email,
        password_hash: format!("hash of {tag}"),
        name: "Ünïcode".into(),
        verification: verification(tag),
        created_at: start(),
    };
    let outcome = store.create_account(&account).await.unwrap();
    assert_eq!(outcome, Registration::Created);
    account.id
}

/// Addresses that differ in case are one; the account keeps the form that was registered.
pub async fn accounts_are_found_by_address_in_any_case<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let account = store.account(&id).await.unwrap().unwrap();
    assert_eq!(account.email, email(tag));
    assert_eq!(account.name, "Ünïcode");
    assert_eq!(account.password_hash, format!("hash of {tag}"));
    assert_eq!((account.created_at, account.updated_at), (start(), start()));
    assert_eq!(account.notification_webhook_url, "");
    assert!(!account.email_verified);
    for address in [
        email(tag),
        email(tag).to_lowercase(),
        email(tag).to_uppercase(),
    ] {
        let found = store.account_by_email(&address).await.unwrap();
        assert_eq!(found.as_ref(), Some(&account), "{address}");
    }
}

/// A taken address stays its owner's, also when several ask at once.
pub async fn an_address_is_registered_once<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let again = |n: u32| NewAccount {
        id: AccountId::new(uuid_of(&format!("{tag} again {n}"))),
        email: email(tag).to_uppercase(),
        email_key: email_key(&email(tag)),
        password_hash: String::new(),
        name: String::new(),
        verification: verification(&format!("{tag} again {n}")),
        created_at: start(),
    };
    let outcome = store.create_account(&again(0)).await.unwrap();
    assert_eq!(outcome, Registration::EmailTaken);
    assert_eq!(store.account(&again(0).id).await.unwrap(), None);
    let found = store.account_by_email(&email(tag)).await.unwrap().unwrap();
    assert_eq!(found.id, id);

    let racers: Vec<NewAccount> = (1..5)
        .map(|n| NewAccount {
            email: format!("race.{}", email(tag)),
            email_key: email_key(&format!("race.{}", email(tag))),
            ..again(n)
        })
        .collect();
    let outcomes = join_all(racers.iter().map(|account| store.create_account(account))).await;
    let created = outcomes
        .into_iter()
        .filter(|outcome| *outcome.as_ref().unwrap() == Registration::Created);
    assert_eq!(created.count(), 1);
}

/// A verification token works once, before it expires, and only the newest.
pub async fn a_verification_works_once_and_until_it_expires<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let first = verification(tag);
    let now = first.expires_at - TICK;
    assert_eq!(
        store
            .verify_account(&first.token_hash, first.expires_at)
            .await
            .unwrap(),
        None
    );
    let second = verification(&format!("{tag} second"));
    store.set_verification(&id, &second).await.unwrap();
    assert_eq!(
        store.verify_account(&first.token_hash, now).await.unwrap(),
        None
    );
    assert!(!store.account(&id).await.unwrap().unwrap().email_verified);

    let outcomes = join_all((0..4).map(|_| store.verify_account(&second.token_hash, now))).await;
    let verified: Vec<_> = outcomes.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(verified.len(), 1);
    assert_eq!((&verified[0].id, verified[0].email_verified), (&id, true));
    assert_eq!(verified[0].updated_at, now);
    assert_eq!(store.account(&id).await.unwrap().unwrap(), verified[0]);
    assert_eq!(
        store.verify_account(&second.token_hash, now).await.unwrap(),
        None
    );
}

/// An account's address for notifications is one row of the list of all.
pub async fn notification_addresses_are_set_cleared_and_listed<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let own = Audience::Account(id.clone());
    assert!(store.notification_urls(&own).await.unwrap().is_empty());
    let url = format!("https://example.com/{}", uuid_of(tag));
    let now = start() + seconds(1);
    let account = store
        .set_notification_url(&id, &url, now)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (
            account.notification_webhook_url.as_str(),
            account.updated_at
        ),
        (url.as_str(), now)
    );
    assert_eq!(store.account(&id).await.unwrap().unwrap(), account);
    assert_eq!(
        store.notification_urls(&own).await.unwrap(),
        std::slice::from_ref(&url)
    );
    let all = store
        .notification_urls(&Audience::EveryAccount)
        .await
        .unwrap();
    assert_eq!(all.iter().filter(|other| **other == url).count(), 1);
    let account = store
        .set_notification_url(&id, "", now)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(account.notification_webhook_url, "");
    assert!(store.notification_urls(&own).await.unwrap().is_empty());
    let all = store
        .notification_urls(&Audience::EveryAccount)
        .await
        .unwrap();
    assert!(!all.contains(&url) && !all.contains(&String::new()));
}
