use super::*;

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
        expires_at: (n == 1).then(|| start() + TimeDelta::days(1)),
        last_used_at: None,
        created_at: start() + seconds(n.into()),
        revoked: false,
    };
    for n in 0..3 {
        store.insert_api_key(&key(n)).await.unwrap();
    }
    assert_eq!(store.api_keys(&id).await.unwrap(), [key(2), key(1), key(0)]);
    assert!(store.api_keys(&stranger).await.unwrap().is_empty());
    assert_eq!(
        store.api_key_by_hash(&key(1).key_hash).await.unwrap(),
        Some(key(1))
    );

    let used = start() + seconds(90);
    store.touch_api_key(&key(1), used).await.unwrap();
    let found = store
        .api_key_by_hash(&key(1).key_hash)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.last_used_at, Some(used));

    assert!(!store.revoke_api_key(&stranger, &key(0).id).await.unwrap());
    assert!(store.revoke_api_key(&id, &key(0).id).await.unwrap());
    assert!(store.revoke_api_key(&id, &key(0).id).await.unwrap());
    let revoked = ApiKey {
        revoked: true,
        ..key(0)
    };
    assert_eq!(
        store.api_key_by_hash(&key(0).key_hash).await.unwrap(),
        Some(revoked.clone())
    );
    let listed = store.api_keys(&id).await.unwrap();
    assert_eq!(listed[2], revoked);
    assert!(!listed[0].revoked && !listed[1].revoked);
}
