use super::*;

pub(super) fn email(tag: &str) -> String {
    format!("User.{}@Example.com", &sha256_hex(tag)[..12])
}

pub(super) fn verification(tag: &str) -> MailedToken {
    MailedToken {
        token_hash: sha256_hex(format!("verification {tag}")),
        expires_at: start() + TimeDelta::hours(24),
    }
}

/// A registration of the tag's address. What a later one brings differs with `n`.
fn registration(tag: &str, n: u32) -> NewAccount {
    let email = email(tag);
    let tag = match n {
        0 => tag.to_owned(),
        n => format!("{tag} again {n}"),
    };
    NewAccount {
        id: AccountId::new(uuid_of(&tag)),
        email_key: email_key(&email),
        email,
        password_hash: format!("hash of {tag}"),
        name: "Ünïcode".into(),
        verification: verification(&tag),
        mail_due: None,
        created_at: start(),
    }
}

/// A registration of the tag's address at this instant, whose link lasts a day.
pub(crate) fn registration_at(tag: &str, created_at: Timestamp) -> NewAccount {
    NewAccount {
        verification: MailedToken {
            expires_at: created_at + TimeDelta::days(1),
            ..verification(tag)
        },
        created_at,
        ..registration(tag, 0)
    }
}

pub(super) async fn register<S: Store>(store: &S, tag: &str) -> AccountId {
    let account = registration(tag, 0);
    let outcome = store.create_account(&account).await.unwrap();
    assert_eq!(outcome, Registration::Created(account.id.clone()));
    account.id
}

/// A registered account that is verified.
pub(super) async fn verified<S: Store>(store: &S, tag: &str) -> Account {
    register(store, tag).await;
    let token = verification(tag).token_hash;
    let account = store.verify_account(&token, start()).await.unwrap();
    account.unwrap()
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

/// The address of a verified account stays its owner's, also when several ask at once.
pub async fn an_address_is_registered_once<S: Store>(store: &S, tag: &str) {
    let owner = verified(store, tag).await;
    let again = |n| NewAccount {
        email: email(tag).to_uppercase(),
        ..registration(tag, n)
    };
    let all: Vec<NewAccount> = (1..5).map(again).collect();
    for outcome in join_all(all.iter().map(|new| store.create_account(new))).await {
        assert_eq!(outcome.unwrap(), Registration::EmailTaken);
    }
    assert_eq!(store.account(&all[0].id).await.unwrap(), None);
    let found = store.account_by_email(&email(tag)).await.unwrap();
    assert_eq!(found, Some(owner));
}

/// A registration takes the place of one that nobody has verified, as a whole.
pub async fn an_unverified_registration_is_replaced<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let reset = MailedToken {
        token_hash: sha256_hex(format!("reset {tag}")),
        expires_at: start() + seconds(3600),
    };
    store.set_reset(&id, &reset).await.unwrap();
    let again = NewAccount {
        email: email(tag).to_uppercase(),
        name: "Another".into(),
        created_at: start() + seconds(1),
        ..registration(tag, 1)
    };
    let outcome = store.create_account(&again).await.unwrap();
    assert_eq!(outcome, Registration::Created(id.clone()));
    let account = store.account(&id).await.unwrap().unwrap();
    assert_eq!(account.email, again.email);
    assert_eq!(account.password_hash, again.password_hash);
    assert_eq!(account.name, again.name);
    assert_eq!(account.created_at, again.created_at);
    assert!(!account.email_verified);
    let found = store.account_by_email(&email(tag)).await.unwrap();
    assert_eq!(found.as_ref(), Some(&account));

    let now = start() + seconds(2);
    let (first, second) = (verification(tag), &again.verification);
    let by_first = store.verify_account(&first.token_hash, now).await.unwrap();
    assert_eq!(by_first, None, "the old link still works");
    let by_reset = store.account_by_reset(&reset.token_hash, now).await;
    assert_eq!(by_reset.unwrap(), None, "the old reset still works");
    let by_second = store.verify_account(&second.token_hash, now).await.unwrap();
    assert_eq!(
        by_second.map(|account| account.password_hash),
        Some(again.password_hash)
    );
}

/// Of several registrations of one address at once, one is there in the end, with its own password
/// and link; and a verification is either before a registration, which then fails, or fails itself.
pub async fn registrations_and_verifications_race<S: Store>(store: &S, tag: &str) {
    let racers: Vec<NewAccount> = (0..4).map(|n| registration(tag, n)).collect();
    let outcomes = join_all(racers.iter().map(|account| store.create_account(account))).await;
    let account = store.account_by_email(&email(tag)).await.unwrap().unwrap();
    for outcome in outcomes {
        assert_eq!(outcome.unwrap(), Registration::Created(account.id.clone()));
    }
    let stored = |racer: &&NewAccount| racer.password_hash == account.password_hash;
    let winner = racers.iter().find(stored).unwrap();
    for racer in &racers {
        let token = &racer.verification.token_hash;
        let verified = store.verify_account(token, start()).await.unwrap();
        assert_eq!(verified.is_some(), token == &winner.verification.token_hash);
    }

    for n in 0..8 {
        let tag = format!("{tag} {n}");
        let id = register(store, &tag).await;
        let again = registration(&tag, 1);
        let first = verification(&tag).token_hash;
        let (registered, verified) = futures_util::join!(
            store.create_account(&again),
            store.verify_account(&first, start()),
        );
        let account = store.account(&id).await.unwrap().unwrap();
        let (hash, expected) = match verified.unwrap() {
            Some(_) => (
                registration(&tag, 0).password_hash,
                Registration::EmailTaken,
            ),
            None => (again.password_hash.clone(), Registration::Created(id)),
        };
        assert_eq!(registered.unwrap(), expected);
        assert_eq!(account.password_hash, hash);
        assert_eq!(account.email_verified, expected == Registration::EmailTaken);
    }
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
    assert!(store.receivers(&own).await.unwrap().is_empty());
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
    let receiver = Receiver {
        workspace: Workspace::Account(id.clone()),
        url,
    };
    assert_eq!(
        store.receivers(&own).await.unwrap(),
        std::slice::from_ref(&receiver)
    );
    let all = store.receivers(&Audience::EveryAccount).await.unwrap();
    assert_eq!(all.iter().filter(|other| **other == receiver).count(), 1);
    let account = store
        .set_notification_url(&id, "", now)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(account.notification_webhook_url, "");
    assert!(store.receivers(&own).await.unwrap().is_empty());
    let all = store.receivers(&Audience::EveryAccount).await.unwrap();
    let gone = |to: &Receiver| to.workspace != receiver.workspace && !to.url.is_empty();
    assert!(all.iter().all(gone));
}

fn refresh_token(tag: &str, account: &AccountId) -> RefreshToken {
    RefreshToken {
        token_hash: sha256_hex(format!("{tag} refresh token")),
        account_id: account.clone(),
        family_id: uuid_of(&format!("{tag} family")),
        created_at: start(),
        expires_at: start() + TimeDelta::days(7),
        spent_at: None,
        revoked: false,
    }
}

async fn is_live<S: Store>(store: &S, token: &RefreshToken) -> bool {
    let stored = store.refresh_token(&token.token_hash).await.unwrap();
    stored.is_some_and(|token| !token.revoked)
}

/// A reset replaces the one before, works once, and makes whoever reads the address the owner.
pub async fn a_reset_works_once_and_until_it_expires<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let stranger = verified(store, &format!("{tag} stranger")).await;
    let own = refresh_token(tag, &id);
    let foreign = refresh_token(&format!("{tag} foreign"), &stranger.id);
    for token in [&own, &foreign] {
        store.insert_refresh_token(token).await.unwrap();
    }
    let expires_at = start() + seconds(3600);
    let reset = |n: u32| MailedToken {
        token_hash: sha256_hex(format!("reset {n} {tag}")),
        expires_at,
    };
    store.set_reset(&id, &reset(0)).await.unwrap();
    store.set_reset(&id, &reset(1)).await.unwrap();
    let now = expires_at - TICK;
    let (old, token) = (reset(0).token_hash, reset(1).token_hash);
    for (token, now) in [(&old, now), (&token, expires_at), (&own.token_hash, now)] {
        assert_eq!(store.account_by_reset(token, now).await.unwrap(), None);
        let reset = store.reset_password(token, "new", now).await.unwrap();
        assert_eq!(reset, None);
    }
    assert!(is_live(store, &own).await);
    let found = store.account_by_reset(&token, now).await.unwrap().unwrap();
    assert_eq!((&found.id, found.email_verified), (&id, false));

    let hashes = ["new 0", "new 1", "new 2"];
    let uses = hashes.map(|hash| store.reset_password(&token, hash, now));
    let outcomes = join_all(uses).await.into_iter().map(Result::unwrap);
    let outcomes: Vec<Option<Account>> = outcomes.collect();
    let won = outcomes.iter().position(Option::is_some).unwrap();
    assert_eq!(outcomes.iter().flatten().count(), 1);
    let account = outcomes[won].as_ref().unwrap();
    assert_eq!(account.password_hash, hashes[won]);
    assert_eq!((&account.id, account.email_verified), (&id, true));
    assert_eq!(account.updated_at, now);
    assert_eq!(store.account(&id).await.unwrap().as_ref(), Some(account));
    assert!(!is_live(store, &own).await && is_live(store, &foreign).await);
    let link = verification(tag).token_hash;
    assert_eq!(store.verify_account(&link, start()).await.unwrap(), None);
    let later = refresh_token(&format!("{tag} later"), &id);
    store.insert_refresh_token(&later).await.unwrap();
    assert!(is_live(store, &later).await);
}

/// Of two changes of one password one succeeds, and ends every log-in.
pub async fn a_password_is_changed_from_what_it_was<S: Store>(store: &S, tag: &str) {
    let account = verified(store, tag).await;
    let token = refresh_token(tag, &account.id);
    store.insert_refresh_token(&token).await.unwrap();
    let reset = MailedToken {
        token_hash: sha256_hex(format!("reset {tag}")),
        expires_at: start() + seconds(3600),
    };
    store.set_reset(&account.id, &reset).await.unwrap();
    let wrong = Account {
        password_hash: "another".into(),
        ..account.clone()
    };
    let now = start() + seconds(1);
    assert!(!store.change_password(&wrong, "new", now).await.unwrap());
    assert!(is_live(store, &token).await);

    let changes = ["new 0", "new 1", "new 2"];
    let outcomes = changes.map(|hash| store.change_password(&account, hash, now));
    let outcomes = join_all(outcomes).await.into_iter().map(Result::unwrap);
    let outcomes: Vec<bool> = outcomes.collect();
    assert_eq!(outcomes.iter().filter(|changed| **changed).count(), 1);
    let won = outcomes.iter().position(|changed| *changed).unwrap();
    let changed = store.account(&account.id).await.unwrap().unwrap();
    assert_eq!(changed.password_hash, changes[won]);
    assert_eq!(changed.updated_at, now);
    assert!(!is_live(store, &token).await);
    let by_reset = store.account_by_reset(&reset.token_hash, now).await;
    assert_eq!(by_reset.unwrap(), None, "a reset outlives the change");
}

pub(super) async fn purge<S: Store>(store: &S, now: Timestamp) {
    let mut steps = 0;
    while store.purge_deleted(now).await.unwrap() {
        steps += 1;
        assert!(steps < 10_000, "there is always something left");
    }
}

/// What an account has goes with it, and nothing of anybody else's. Its address is free.
pub async fn a_deleted_account_leaves_nothing_behind<S: Store>(store: &S, tag: &str) {
    let strangers = format!("{tag} stranger");
    let owners = [
        verified(store, tag).await,
        verified(store, &strangers).await,
    ];
    let (mut keys, mut made) = (Vec::new(), Vec::new());
    for owner in &owners {
        let tag = owner.id.as_str();
        let key = ApiKey {
            id: uuid_of(&format!("{tag} key")),
            account_id: owner.id.clone(),
            name: "key".into(),
            key_hash: sha256_hex(format!("{tag} key")),
            key_prefix: "prefix_8".into(),
            scopes: Scopes::ALL,
            workspace: WorkspaceChoice::Own,
            expires_at: None,
            last_used_at: None,
            created_at: start(),
            revoked: false,
        };
        let outcome = store.create_api_key(&key, 1).await.unwrap();
        assert_eq!(outcome, ApiKeyCreation::Created);
        keys.push(key.key_hash.clone());
        made.push(key);
        let token = refresh_token(tag, &owner.id);
        store.insert_refresh_token(&token).await.unwrap();
        let workspace = Workspace::Account(owner.id.clone());
        for (agent, topic) in [("a", "t"), ("a", "t"), ("a", "u"), ("b", "t")] {
            record(store, &workspace, &running(agent, topic), start()).await;
        }
    }
    let [account, stranger] = owners;
    let own = Workspace::Account(account.id.clone());
    let theirs = Workspace::Account(stranger.id.clone());
    let to = |workspace| notification(workspace, "1", "a.example:443");
    queue(store, &theirs, &[&own, &theirs].map(to)).await;
    let now = start() + seconds(1);
    let wrong = Account {
        password_hash: "another".into(),
        ..account.clone()
    };
    assert!(!store.delete_account(&wrong, now).await.unwrap());
    assert!(store.account(&account.id).await.unwrap().is_some());

    let deletions = (0..3).map(|_| store.delete_account(&account, now));
    let outcomes = join_all(deletions).await.into_iter().map(Result::unwrap);
    assert_eq!(outcomes.filter(|deleted| *deleted).count(), 1);
    assert_eq!(store.account(&account.id).await.unwrap(), None);
    let by_email = store.account_by_email(&account.email).await.unwrap();
    assert_eq!(by_email, None);
    assert_eq!(store.api_key_by_hash(&keys[0]).await.unwrap(), None);
    let listed = store.api_keys(&account.id, None, 10).await.unwrap();
    assert!(listed.items.is_empty());
    let token = refresh_token(account.id.as_str(), &account.id);
    assert!(!is_live(store, &token).await);

    // A log-in and a request for a key that had begun before come too late.
    store.insert_refresh_token(&token).await.unwrap();
    let stored = store.refresh_token(&token.token_hash).await.unwrap();
    assert_eq!(stored, None);
    let late = ApiKey {
        id: uuid_of(&format!("{tag} late key")),
        key_hash: sha256_hex(format!("{tag} late key")),
        ..made[0].clone()
    };
    let outcome = store.create_api_key(&late, 10).await.unwrap();
    assert_eq!(outcome, ApiKeyCreation::NoAccount);
    assert_eq!(store.api_key_by_hash(&late.key_hash).await.unwrap(), None);

    purge(store, now).await;
    assert!(agents(store, &own, now).await.is_empty());
    for (agent, topic) in [("a", "t"), ("a", "u"), ("b", "t")] {
        let key = key(&own, agent, topic);
        assert_eq!(store.load(&key).await.unwrap(), Snapshot::default());
        assert!(session_statuses(store, &key).await.is_empty());
    }
    // Another host may have accepted this before it knew.
    record(store, &own, &running("a", "late"), now).await;
    purge(store, now + seconds(10)).await;
    assert!(
        agents(store, &own, now).await.is_empty(),
        "a late report stays"
    );
    purge(store, now + LATE_REPORTS).await;

    assert_eq!(
        store.account(&stranger.id).await.unwrap().as_ref(),
        Some(&stranger)
    );
    assert_eq!(agents(store, &theirs, now).await.len(), 3);
    for (workspace, count) in [(theirs, 1), (own, 0)] {
        let owner = [workspace];
        let left = lease_all(store, &owner, &request(&owner)).await;
        assert_eq!(left.len(), count);
    }
    assert!(store.api_key_by_hash(&keys[1]).await.unwrap().is_some());
    let token = refresh_token(stranger.id.as_str(), &stranger.id);
    assert!(is_live(store, &token).await);

    let again = registration(tag, 1);
    let outcome = store.create_account(&again).await.unwrap();
    assert_eq!(outcome, Registration::Created(again.id.clone()));
    let found = store.account_by_email(&account.email).await.unwrap();
    assert_eq!(found.map(|account| account.id), Some(again.id));
    let link = &again.verification.token_hash;
    assert!(store.verify_account(link, now).await.unwrap().is_some());
}

/// Of stores that keep accounts in tables: each new registration takes two unverified ones away whose
/// link has run out, oldest first.
pub async fn registrations_go_when_their_link_has_run_out<S: Store>(store: &S, tag: &str) {
    let of = |n: i64, at| registration_at(&format!("{tag} {n}"), start() + at);
    let days = TimeDelta::days;
    let first = (0..4).map(|n| of(n, seconds(n)));
    let all: Vec<NewAccount> = first
        .chain([of(4, days(1)), of(5, days(2)), of(6, days(2))])
        .collect();
    let register = async |new: &NewAccount| {
        let outcome = store.create_account(new).await.unwrap();
        assert_eq!(outcome, Registration::Created(new.id.clone()));
    };
    let there = async || {
        let mut there = Vec::new();
        for new in &all {
            there.push(store.account(&new.id).await.unwrap().is_some());
        }
        there
    };
    for new in &all[..4] {
        register(new).await;
    }
    let link = &all[0].verification.token_hash;
    assert!(store.verify_account(link, start()).await.unwrap().is_some());
    for new in &all[4..6] {
        register(new).await;
    }
    assert_eq!(there().await, [true, false, false, true, true, true, false]);
    register(&all[6]).await;
    assert_eq!(there().await, [true, false, false, false, true, true, true]);
}

/// A mail is leased by one host at a time, comes again when its lease runs out, and no more once it is
/// settled or its address verified. For stores of hosts that send mail; other cases must not run beside it.
pub async fn registration_mails_are_leased_until_they_are_settled<S>(store: &S, tag: &str)
where
    S: Store + RegistrationMails,
{
    let due = |n: u32| NewAccount {
        mail_due: Some(start() + seconds(n.into())),
        ..registration(&format!("{tag} {n}"), 0)
    };
    for n in [2, 1, 3, 4] {
        let _ = store.create_account(&due(n)).await.unwrap();
    }
    register(store, tag).await;
    let lease = async |offset: i64, limit: usize| {
        let now = start() + seconds(offset);
        let leased = store.lease_registration_mails(now, now + seconds(60), limit);
        let ids = leased.await.unwrap().into_iter().map(|account| account.id);
        ids.collect::<Vec<_>>()
    };
    let id = |n: u32| due(n).id;
    assert_eq!(lease(0, 10).await, []);
    assert_eq!(lease(3, 2).await, [id(1), id(2)]);
    assert_eq!(lease(3, 2).await, [id(3)]);
    assert_eq!(lease(3, 2).await, []);
    store.settle_registration_mail(&id(1), None).await.unwrap();
    let later = Some(start() + seconds(70));
    store.settle_registration_mail(&id(2), later).await.unwrap();
    let token = due(4).verification.token_hash;
    assert!(
        store
            .verify_account(&token, start())
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(lease(69, 10).await, [id(3)], "its lease has run out");
    assert_eq!(lease(70, 10).await, [id(2)]);
    assert_eq!(lease(3600, 10).await.len(), 2);
}

/// Every account is listed once, verified or not, by id. For stores that an operator's commands reach.
pub async fn accounts_are_listed_page_by_page<S: Store + AccountList>(store: &S, tag: &str) {
    let mut ids = Vec::new();
    for n in 0..5 {
        let name = format!("{tag} {n}");
        ids.push(match n {
            0 => verified(store, &name).await.id,
            _ => {
                let new = registration(&name, 0);
                let _ = store.create_account(&new).await.unwrap();
                new.id
            }
        });
    }
    ids.sort();
    let mut found = Vec::new();
    loop {
        let after = found.last().map(|account: &Account| account.id.clone());
        let page = store.accounts(after.as_ref(), 2).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        found.extend(page);
    }
    assert!(found.is_sorted_by(|left, right| left.id < right.id));
    // Other cases have theirs.
    found.retain(|account| ids.contains(&account.id));
    let listed: Vec<AccountId> = found.iter().map(|account| account.id.clone()).collect();
    assert_eq!(listed, ids);
    for account in found {
        assert_eq!(store.account(&account.id).await.unwrap(), Some(account));
    }
}
