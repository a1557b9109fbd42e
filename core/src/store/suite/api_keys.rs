use super::*;

async fn keys<S: Store>(store: &S, id: &AccountId) -> Vec<ApiKey> {
    store.api_keys(id, None, 10_000).await.unwrap().items
}

/// A key of an account, one of many.
fn numbered(tag: &str, account_id: &AccountId, n: usize) -> ApiKey {
    ApiKey {
        id: uuid_of(&format!("{tag} key {n}")),
        account_id: account_id.clone(),
        name: n.to_string(),
        key_hash: sha256_hex(format!("{tag} key {n}")),
        key_prefix: "prefix_8".into(),
        scopes: Scopes::REPORT,
        workspace: WorkspaceChoice::Own,
        expires_at: None,
        last_used_at: None,
        created_at: start(),
        revoked: false,
    }
}

/// Pages of keys visit each once, also where many were made at one instant.
pub async fn api_key_pages_visit_everything_once<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let mut expected = Vec::new();
    for n in 0..7 {
        let key = ApiKey {
            created_at: start() + seconds(n as i64 / 3),
            ..numbered(tag, &id, n)
        };
        let created = store.create_api_key(&key, 7).await.unwrap();
        assert_eq!(created, ApiKeyCreation::Created);
        expected.push(key);
    }
    expected.sort_by_key(|key| (std::cmp::Reverse(key.created_at), key.id.clone()));
    for limit in [1, 2, 3, 6, 7, 8] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.api_keys(&id, after.as_ref(), limit).await.unwrap();
            assert!(page.items.len() == limit || page.next.is_none());
            seen.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "{limit}");
    }
}

/// An account has no more valid keys than it may, also when many are made at once. A key that is
/// revoked or expires makes room for another.
pub async fn an_account_has_only_so_many_valid_keys<S: Store>(store: &S, tag: &str) {
    const MOST: usize = 5;
    let id = register(store, tag).await;
    let stranger = register(store, &format!("{tag} stranger")).await;
    let expiring = ApiKey {
        expires_at: Some(start() + seconds(10)),
        ..numbered(tag, &id, 0)
    };
    let created = store.create_api_key(&expiring, MOST).await.unwrap();
    assert_eq!(created, ApiKeyCreation::Created);

    let create = async |n| loop {
        match store.create_api_key(&numbered(tag, &id, n), MOST).await {
            Err(StoreError::Contended) => {}
            outcome => break outcome.unwrap(),
        }
    };
    let outcomes = join_all((1..=12).map(create)).await;
    let made = outcomes
        .iter()
        .filter(|outcome| **outcome == ApiKeyCreation::Created);
    assert_eq!(made.count(), MOST - 1);
    let listed = keys(store, &id).await;
    assert_eq!(listed.len(), MOST);

    let of_another = numbered(tag, &stranger, 20);
    let created = store.create_api_key(&of_another, MOST).await.unwrap();
    assert_eq!(created, ApiKeyCreation::Created);

    let revoked = listed.iter().find(|key| key.expires_at.is_none()).unwrap();
    let outcome = store.revoke_api_key(&id, &revoked.id).await.unwrap();
    assert_eq!(outcome.map(|key| key.id).as_ref(), Some(&revoked.id));
    assert_eq!(create(21).await, ApiKeyCreation::Created);
    assert_eq!(create(22).await, ApiKeyCreation::TooMany);
    let refused = numbered(tag, &id, 22);
    assert_eq!(
        store.api_key_by_hash(&refused.key_hash).await.unwrap(),
        None
    );

    for (later, outcome) in [
        (9, ApiKeyCreation::TooMany),
        (10, ApiKeyCreation::Created),
        (10, ApiKeyCreation::TooMany),
    ] {
        let key = ApiKey {
            created_at: start() + seconds(later),
            ..numbered(tag, &id, 23 + keys(store, &id).await.len())
        };
        assert_eq!(
            store.create_api_key(&key, MOST).await.unwrap(),
            outcome,
            "{later}"
        );
    }
}

/// Keys belong to their account; the newest comes first.
pub async fn api_keys_are_listed_found_touched_and_revoked<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let stranger = register(store, &format!("{tag} stranger")).await;
    let key = |n: u32| ApiKey {
        id: uuid_of(&format!("{tag} key {n}")),
        account_id: id.clone(),
        name: format!("Schlüssel {n}"),
        key_hash: sha256_hex(format!("{tag} key {n}")),
        key_prefix: "prefix_8".into(),
        scopes: if n == 0 { Scopes::REPORT } else { Scopes::ALL },
        workspace: match n {
            2 => WorkspaceChoice::Shared,
            _ => WorkspaceChoice::Own,
        },
        expires_at: (n == 1).then(|| start() + TimeDelta::days(1)),
        last_used_at: None,
        created_at: start() + seconds(n.into()),
        revoked: false,
    };
    for n in 0..3 {
        let created = store.create_api_key(&key(n), 3).await.unwrap();
        assert_eq!(created, ApiKeyCreation::Created);
    }
    assert_eq!(keys(store, &id).await, [key(2), key(1), key(0)]);
    assert!(keys(store, &stranger).await.is_empty());
    for n in [1, 2] {
        let found = store.api_key_by_hash(&key(n).key_hash).await.unwrap();
        assert_eq!(found, Some(key(n)));
    }

    let used = start() + seconds(90);
    store.touch_api_key(&key(1), used).await.unwrap();
    let found = store
        .api_key_by_hash(&key(1).key_hash)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.last_used_at, Some(used));

    let revoked = ApiKey {
        revoked: true,
        ..key(0)
    };
    for (owner, outcome) in [
        (&stranger, None),
        (&id, Some(&revoked)),
        (&id, Some(&revoked)),
    ] {
        let key = store.revoke_api_key(owner, &key(0).id).await.unwrap();
        assert_eq!(key.as_ref(), outcome);
    }
    assert_eq!(
        store.api_key_by_hash(&key(0).key_hash).await.unwrap(),
        Some(revoked.clone())
    );
    let listed = keys(store, &id).await;
    assert_eq!(listed[2], revoked);
    assert!(!listed[0].revoked && !listed[1].revoked);
}
