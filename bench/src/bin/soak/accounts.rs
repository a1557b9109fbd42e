//! Accounts, and people who log in to them.

use std::time::Duration;

use http::{Method, StatusCode};
use kubeagents_contract::Log;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::Failure;
use crate::client::Client;

const PASSWORD: &str = "correct horse battery staple";

/// How often somebody logs in.
const LOGIN: Duration = Duration::from_secs(5);

/// How often somebody guesses.
const GUESS: Duration = Duration::from_millis(500);

/// An account of the soak.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) email: String,
    /// An API key that may report and read.
    pub(crate) key: String,
}

impl Account {
    /// Registers an account whose verification link the log has, with `webhook` for its notifications.
    pub(crate) async fn register(
        client: &Client,
        log: &Log,
        number: usize,
        webhook: &str,
    ) -> Result<Self, Failure> {
        let email = format!("person{number}@example.com");
        let body = json!({"email": email, "password": PASSWORD});
        client
            .fetch(Method::POST, "/api/auth/register", "", &body)
            .await?;
        let token = loop {
            let lines = log.lines();
            let mut links = lines.iter().filter(|line| line.contains(&email));
            let link = links.find_map(|line| line.split_once("/verify?token="));
            if let Some((_, token)) = link {
                let letters = token
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c));
                break letters.collect::<String>();
            }
            sleep(Duration::from_millis(20)).await;
        };
        let path = format!("/api/auth/verify?token={token}");
        let tokens = client.fetch(Method::GET, &path, "", &Value::Null).await?;
        let access = tokens["access_token"].as_str().ok_or("no access token")?;
        let body = json!({"notification_webhook_url": webhook});
        client
            .fetch(Method::PUT, "/api/auth/me", access, &body)
            .await?;
        let body = json!({"name": "soak", "scopes": ["report", "read"]});
        let key = client
            .fetch(Method::POST, "/api/apikeys", access, &body)
            .await?;
        let key = key["key"].as_str().ok_or("no key")?.to_owned();
        Ok(Self { email, key })
    }
}

/// Logs in again and again until the end. Returns how often that worked.
pub(crate) async fn log_in(
    client: Client,
    account: Account,
    end: Instant,
) -> Result<usize, Failure> {
    let body = json!({"email": account.email, "password": PASSWORD});
    let mut times = 0;
    while Instant::now() < end {
        let sent = client.until_answered(times, Method::POST, "/api/auth/login", "", &body);
        let (status, answer, _) = sent.await;
        if status != StatusCode::OK {
            return Err(format!("a right password was answered {status} {answer}").into());
        }
        times += 1;
        sleep(LOGIN).await;
    }
    Ok(times)
}

/// Guesses a password again and again until the end. Returns how many guesses were refused unseen.
pub(crate) async fn guess(
    client: Client,
    account: Account,
    end: Instant,
) -> Result<usize, Failure> {
    let (mut guesses, mut limited) = (0, 0);
    while Instant::now() < end {
        let body = json!({"email": account.email, "password": format!("a guess {guesses}")});
        let sent = client.until_answered(guesses, Method::POST, "/api/auth/login", "", &body);
        match sent.await {
            (StatusCode::UNAUTHORIZED, ..) => {}
            (StatusCode::TOO_MANY_REQUESTS, ..) => limited += 1,
            (status, answer, _) => {
                return Err(format!("a wrong password was answered {status} {answer}").into());
            }
        }
        guesses += 1;
        sleep(GUESS).await;
    }
    Ok(limited)
}
