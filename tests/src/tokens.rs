//! JSON Web Tokens, and how a refresh token is spent.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::client::Answer;
use crate::jwt;
use crate::scenario::scenarios;
use crate::world::{PASSWORD, World, text, within};

scenarios! {
    a_spent_token_revokes_its_family_after_ten_seconds [Accounts],
    a_refresh_token_is_spent_by_its_use [Accounts],
    a_spent_token_presented_at_once_leaves_its_successors_alive [Accounts],
    of_eight_uses_at_once_one_succeeds [Accounts],
    a_bad_refresh_token_is_refused [Accounts],
    signing_out_revokes_every_refresh_token [Accounts],
    tokens_say_whose_they_are_and_until_when [Accounts],
    tokens_of_one_second_differ [Accounts],
}

const SPENT: &str = "refresh token has been revoked";

async fn refresh(world: &World, token: &str) -> Answer {
    let body = json!({"refresh_token": token});
    world.anonymous().post("/api/auth/refresh", &body).await
}

async fn a_refresh_token_is_spent_by_its_use(world: Arc<World>) {
    let account = world.new_account().await;
    let tokens = refresh(&world, &account.refresh_token).await.ok();
    assert_eq!(
        tokens["user"],
        account.client.get("/api/auth/me").await.ok()
    );
    assert_eq!(
        tokens["expires_in"],
        world.host.access_token_expiry.as_secs()
    );
    assert_ne!(tokens["refresh_token"], account.refresh_token.as_str());
    world
        .signed_in(&tokens)
        .client
        .get("/api/auth/me")
        .await
        .ok();
    refresh(&world, &account.refresh_token)
        .await
        .error(401, "unauthorized", SPENT);
}

async fn a_spent_token_presented_at_once_leaves_its_successors_alive(world: Arc<World>) {
    let account = world.new_account().await;
    let next = text(&refresh(&world, &account.refresh_token).await.ok()["refresh_token"]);
    refresh(&world, &account.refresh_token)
        .await
        .error(401, "unauthorized", SPENT);
    refresh(&world, &account.refresh_token)
        .await
        .error(401, "unauthorized", SPENT);
    refresh(&world, &next).await.ok();
}

async fn a_spent_token_revokes_its_family_after_ten_seconds(world: Arc<World>) {
    let account = world.new_account().await;
    let login = json!({"email": account.email, "password": PASSWORD});
    let other = world.anonymous().post("/api/auth/login", &login).await.ok();

    let mut newest = text(&refresh(&world, &account.refresh_token).await.ok()["refresh_token"]);
    within(
        Duration::from_secs(40),
        "the family is revoked",
        async || {
            tokio::time::sleep(Duration::from_secs(1)).await;
            refresh(&world, &account.refresh_token)
                .await
                .error(401, "unauthorized", SPENT);
            let answer = refresh(&world, &newest).await;
            if answer.status == 200 {
                newest = text(&answer.ok()["refresh_token"]);
                return false;
            }
            answer.error(401, "unauthorized", SPENT);
            true
        },
    )
    .await;
    // Another sign-in is another family.
    refresh(&world, &text(&other["refresh_token"])).await.ok();
}

async fn of_eight_uses_at_once_one_succeeds(world: Arc<World>) {
    let account = world.new_account().await;
    let mut token = account.refresh_token;
    for _ in 0..4 {
        let answers = join_all((0..8).map(|_| refresh(&world, &token))).await;
        let (mut won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|a| a.status == 200);
        assert_eq!(won.len(), 1);
        for answer in lost {
            answer.error_code(401, "unauthorized");
        }
        token = text(&won.remove(0).ok()["refresh_token"]);
    }
}

async fn a_bad_refresh_token_is_refused(world: Arc<World>) {
    let account = world.account(0).await;
    let (claims, cut) = (
        account.claims(),
        &account.refresh_token[..account.refresh_token.len() - 2],
    );
    let (_, refresh_claims) = jwt::read(&account.refresh_token);
    for token in [
        "nonsense",
        account.access_token.as_str(),
        cut,
        &jwt::unsigned(&refresh_claims),
        &jwt::sign(&refresh_claims, "another secret of some length ok"),
        &jwt::unsigned(&claims),
    ] {
        let answer = refresh(&world, token).await;
        answer.error(401, "unauthorized", "invalid or expired refresh token");
    }
}

async fn signing_out_revokes_every_refresh_token(world: Arc<World>) {
    let account = world.new_account().await;
    let login = json!({"email": account.email, "password": PASSWORD});
    let other = world.anonymous().post("/api/auth/login", &login).await.ok();
    let stranger = world.account(1).await.client.get("/api/auth/me").await.ok();

    let answer = account.client.post("/api/auth/logout", &json!({})).await;
    assert_eq!(answer.ok(), json!({"message": "logged out successfully"}));
    for token in [&account.refresh_token, &text(&other["refresh_token"])] {
        refresh(&world, token)
            .await
            .error(401, "unauthorized", SPENT);
    }
    let again = world.anonymous().post("/api/auth/login", &login).await.ok();
    refresh(&world, &text(&again["refresh_token"])).await.ok();
    assert_eq!(
        world.account(1).await.client.get("/api/auth/me").await.ok(),
        stranger
    );
}

async fn tokens_say_whose_they_are_and_until_when(world: Arc<World>) {
    let account = world.account(0).await;
    for (token, kind) in [
        (&account.access_token, "access"),
        (&account.refresh_token, "refresh"),
    ] {
        let (header, claims) = jwt::read(token);
        assert_eq!(header["alg"], "HS256");
        assert_eq!(claims["iss"], "kubeagents");
        assert_eq!(claims["sub"], account.id.as_str());
        assert_eq!(claims["user_id"], account.id.as_str());
        assert_eq!(claims["token_type"], kind);
        let (iat, nbf, exp) = (
            claims["iat"].as_i64(),
            claims["nbf"].as_i64(),
            claims["exp"].as_i64(),
        );
        assert_eq!(nbf, iat);
        assert!(exp > iat, "{claims}");
        assert!(!text(&claims["jti"]).is_empty());
    }
    let claims = account.claims();
    assert_eq!(claims["email"], account.email.as_str());
    let lasts = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(lasts, world.host.access_token_expiry.as_secs());
}

async fn tokens_of_one_second_differ(world: Arc<World>) {
    let account = world.new_account().await;
    let mut token = account.refresh_token;
    let mut seen = HashSet::from([account.access_token, token.clone()]);
    for _ in 0..8 {
        let tokens = refresh(&world, &token).await.ok();
        token = text(&tokens["refresh_token"]);
        assert!(seen.insert(token.clone()), "a refresh token twice");
        assert!(
            seen.insert(text(&tokens["access_token"])),
            "an access token twice"
        );
    }
}
