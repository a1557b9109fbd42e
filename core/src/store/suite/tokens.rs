use super::*;

fn token(tag: &str, account: &AccountId, family: &str, n: u32) -> RefreshToken {
    RefreshToken {
        token_hash: sha256_hex(format!("{tag} {family} {n}")),
        account_id: account.clone(),
        family_id: uuid_of(&format!("{tag} {family}")),
        created_at: start(),
        expires_at: start() + TimeDelta::days(7),
        spent_at: None,
        revoked: false,
    }
}

/// Of concurrent uses of a refresh token one succeeds, and leaves one successor.
pub async fn a_refresh_token_is_spent_once<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let first = token(tag, &id, "f", 0);
    store.insert_refresh_token(&first).await.unwrap();
    assert_eq!(
        store.refresh_token(&first.token_hash).await.unwrap(),
        Some(first.clone())
    );

    let spent_at = start() + seconds(1);
    let successors: Vec<_> = (1..9).map(|n| token(tag, &id, "f", n)).collect();
    let uses = successors
        .iter()
        .map(|successor| store.rotate_refresh_token(&first.token_hash, spent_at, successor));
    let outcomes: Vec<bool> = join_all(uses)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(outcomes.iter().filter(|rotated| **rotated).count(), 1);
    for (successor, rotated) in successors.iter().zip(outcomes) {
        let stored = store.refresh_token(&successor.token_hash).await.unwrap();
        assert_eq!(stored.as_ref(), rotated.then_some(successor));
    }
    let spent = store
        .refresh_token(&first.token_hash)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(spent.spent_at, Some(spent_at));
}

/// No rotation outruns a revocation.
pub async fn a_revoked_family_stays_revoked<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let tokens: Vec<_> = (0..3).map(|n| token(tag, &id, "f", n)).collect();
    let other = token(tag, &id, "other", 0);
    store.insert_refresh_token(&tokens[0]).await.unwrap();
    store.insert_refresh_token(&other).await.unwrap();
    let hash = &tokens[0].token_hash;
    assert!(
        store
            .rotate_refresh_token(hash, start(), &tokens[1])
            .await
            .unwrap()
    );
    store
        .revoke_token_family(&tokens[0].family_id)
        .await
        .unwrap();
    for token in &tokens[..2] {
        assert!(
            store
                .refresh_token(&token.token_hash)
                .await
                .unwrap()
                .unwrap()
                .revoked
        );
    }
    let hash = &tokens[1].token_hash;
    assert!(
        !store
            .rotate_refresh_token(hash, start(), &tokens[2])
            .await
            .unwrap()
    );
    assert_eq!(
        store.refresh_token(&tokens[2].token_hash).await.unwrap(),
        None
    );
    assert!(
        !store
            .refresh_token(&other.token_hash)
            .await
            .unwrap()
            .unwrap()
            .revoked
    );

    for n in 0..8 {
        let (old, new) = (
            token(tag, &id, &format!("race {n}"), 0),
            token(tag, &id, &format!("race {n}"), 1),
        );
        store.insert_refresh_token(&old).await.unwrap();
        let rotate = store.rotate_refresh_token(&old.token_hash, start(), &new);
        let revoke = store.revoke_token_family(&old.family_id);
        let (rotated, revoked) = futures_util::join!(rotate, revoke);
        revoked.unwrap();
        let stored = store.refresh_token(&new.token_hash).await.unwrap();
        assert_eq!(stored.is_some(), rotated.unwrap());
        assert!(
            stored.is_none_or(|token| token.revoked),
            "a successor outran the revocation"
        );
    }
}

/// Logging out ends every login there is; a later login works.
pub async fn logging_out_revokes_what_there_is_and_not_what_comes<S: Store>(store: &S, tag: &str) {
    let id = register(store, tag).await;
    let stranger = register(store, &format!("{tag} stranger")).await;
    let (a, b) = (token(tag, &id, "a", 0), token(tag, &id, "b", 0));
    let foreign = token(tag, &stranger, "foreign", 0);
    for token in [&a, &b, &foreign] {
        store.insert_refresh_token(token).await.unwrap();
    }
    store.revoke_refresh_tokens(&id).await.unwrap();
    let later = token(tag, &id, "later", 0);
    store.insert_refresh_token(&later).await.unwrap();
    for (token, revoked) in [(&a, true), (&b, true), (&foreign, false), (&later, false)] {
        let stored = store
            .refresh_token(&token.token_hash)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(stored.revoked, revoked, "{}", token.family_id);
    }
}
