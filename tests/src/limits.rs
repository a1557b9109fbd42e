//! What a server has enough of: log-ins that fail, mails.

use std::sync::Arc;

use futures_util::future::join;
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::client::Answer;
use crate::scenario::scenarios;
use crate::world::{PASSWORD, World, eventually};

scenarios! {
    failed_log_ins_are_limited [Settings, Clients],
    mails_to_an_address_are_limited [Accounts],
}

const LOGINS: &str =
    "too many failed log-ins for this address: the limit is LOGIN_ATTEMPTS_PER_MINUTE";
const MAILS: &str = "too many mails to this address: the limit is VERIFICATION_MAILS_PER_HOUR";

#[track_caller]
fn assert_limited(answer: Answer, message: &str) {
    let wait = answer.header("retry-after").map(|wait| wait.parse::<u32>());
    assert!(matches!(wait, Some(Ok(1..))), "{answer}");
    answer.error(429, "too_many_requests", message);
}

async fn failed_log_ins_are_limited(world: Arc<World>) {
    let client = world.anonymous();
    let body = json!({"email": world.email(), "password": "not the password"});
    let login = || async { client.post("/api/auth/login", &body).await };
    // At once, since a password takes a while to be checked, and the limit is one a minute.
    let (one, other) = join(login(), login()).await;
    let (failed, limited) = match one.status.as_u16() {
        429 => (other, one),
        _ => (one, other),
    };
    failed.error(401, "unauthorized", "invalid email or password");
    assert_limited(limited, LOGINS);
}

async fn mails_to_an_address_are_limited(world: Arc<World>) {
    let client = world.anonymous();
    let email = world.email();
    world.register(&email).await;
    for _ in 0..6 {
        for path in ["/api/auth/resend-verify", "/api/auth/forgot"] {
            client.post(path, &json!({"email": email})).await.ok();
        }
    }
    let body = json!({"email": email, "password": PASSWORD});
    let answer = client.post("/api/auth/register", &body).await;
    assert_limited(answer, MAILS);
    let log = world.host.log.as_ref().unwrap();
    let mails = || {
        let pages = ["verify", "reset"].iter();
        pages
            .map(|page| log.link_tokens(page, &email).len())
            .sum::<usize>()
    };
    eventually("five mails", async || mails() >= 5).await;
    assert_eq!(mails(), 5);
}
