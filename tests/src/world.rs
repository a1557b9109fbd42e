use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::client::Client;
use crate::{Host, Mode, Receiver, jwt};

/// State that all scenarios against one host share.
pub(crate) struct World {
    pub(crate) host: Host,
    client: Client,
    run: String,
    names: AtomicU32,
    accounts: [OnceCell<Account>; 2],
    notified: OnceCell<Account>,
    receiver: OnceCell<Receiver>,
}

/// A verified account.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
    /// Asks with the account's access token.
    pub(crate) client: Client,
}

/// Every account's password.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// The receiver's path for [`World::notified`].
pub(crate) const ACCOUNT: &str = "/account";

/// Time limit for effects that follow an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

impl World {
    pub(crate) fn new(host: Host) -> Self {
        let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            client: Client::new(host.urls.clone()),
            host,
            run: format!("{:x}", since_epoch.as_nanos()),
            names: AtomicU32::new(0),
            accounts: Default::default(),
            notified: OnceCell::new(),
            receiver: OnceCell::new(),
        }
    }

    /// Makes a name that is unique on this server for ever, and that contains no other name. It is
    /// lower-case ASCII.
    pub(crate) fn name(&self, what: &str) -> String {
        let n = self.names.fetch_add(1, Ordering::Relaxed);
        format!("{what}-{}-{n}-", self.run)
    }

    /// An address that nobody has registered.
    pub(crate) fn email(&self) -> String {
        format!("{}@example.com", self.name("user"))
    }

    /// A client without credentials.
    pub(crate) fn anonymous(&self) -> Client {
        self.client.clone()
    }

    /// A client that may report and read, in the shared workspace where it can be reached.
    pub(crate) async fn client(&self) -> Client {
        match (self.host.mode, &self.host.static_key) {
            (Mode::Open, _) => self.client.clone(),
            (Mode::Required, Some(key)) => self.client.with_token(key),
            (Mode::Required, None) => self.account(0).await.client.clone(),
        }
    }

    /// One of the verified accounts that scenarios share: they add to it, and take nothing away.
    pub(crate) async fn account(&self, which: usize) -> &Account {
        self.accounts[which]
            .get_or_init(|| self.new_account())
            .await
    }

    /// The account whose notifications go to [`World::receiver`].
    pub(crate) async fn notified(&self) -> &Account {
        self.notified
            .get_or_init(|| async {
                let account = self.new_account().await;
                let url = self.receiver().await.url(ACCOUNT);
                let settings = json!({"notification_webhook_url": url});
                account.client.put("/api/auth/me", &settings).await.ok();
                account
            })
            .await
    }

    /// Receives notifications.
    pub(crate) async fn receiver(&self) -> &Receiver {
        match &self.host.instance_receiver {
            Some(receiver) => receiver,
            None => {
                self.receiver
                    .get_or_init(|| async { Receiver::start() })
                    .await
            }
        }
    }

    /// A verified account of the scenario's own.
    pub(crate) async fn new_account(&self) -> Account {
        let email = self.email();
        self.register(&email).await;
        self.verify(&email).await
    }

    /// Registers `email`, which is not verified then.
    pub(crate) async fn register(&self, email: &str) {
        let registration = json!({"email": email, "password": PASSWORD});
        self.client
            .post("/api/auth/register", &registration)
            .await
            .expect(201);
    }

    /// Follows the first verification link that was sent to `email`.
    pub(crate) async fn verify(&self, email: &str) -> Account {
        let token = &self.verification_tokens(email, 1).await[0];
        let path = format!("/api/auth/verify?token={token}");
        self.signed_in(&self.client.get(&path).await.ok())
    }

    /// The account that an answer with tokens is for.
    pub(crate) fn signed_in(&self, tokens: &Value) -> Account {
        let access_token = text(&tokens["access_token"]);
        Account {
            id: text(&tokens["user"]["id"]),
            email: text(&tokens["user"]["email"]),
            refresh_token: text(&tokens["refresh_token"]),
            client: self.client.with_token(&access_token),
            access_token,
        }
    }

    /// Waits for `count` verification links sent to `email`, and returns their tokens, oldest
    /// first.
    pub(crate) async fn verification_tokens(&self, email: &str, count: usize) -> Vec<String> {
        self.link_tokens("verify", email, count).await
    }

    /// Waits for `count` links to a page sent to `email`, and returns their tokens, oldest first.
    pub(crate) async fn link_tokens(&self, page: &str, email: &str, count: usize) -> Vec<String> {
        let log = self.host.log.as_ref().expect("a log of links");
        let found = Mutex::new(Vec::new());
        eventually(
            &format!("{count} links to {page} for {email}"),
            async || {
                let mut found = found.lock().unwrap();
                *found = log.link_tokens(page, email);
                found.len() >= count
            },
        )
        .await;
        found.into_inner().unwrap()
    }
}

impl Account {
    /// A new API key, and its id.
    pub(crate) async fn api_key(&self, request: &Value) -> (String, String) {
        let answer = self.client.post("/api/apikeys", request).await;
        let created = answer.expect(201).json();
        (text(&created["key"]), text(&created["id"]))
    }

    /// A client with an API key of these scopes.
    pub(crate) async fn with_scopes(&self, scopes: &[&str]) -> Client {
        let request = json!({"name": "scoped", "scopes": scopes});
        let (key, _) = self.api_key(&request).await;
        self.client.with_token(&key)
    }

    /// The claims of the access token.
    pub(crate) fn claims(&self) -> Value {
        jwt::read(&self.access_token).1
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within [`PATIENCE`].
pub(crate) async fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) {
    within(PATIENCE, what, condition).await;
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within `deadline`.
pub(crate) async fn within(
    deadline: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(deadline, wait).await.is_err() {
        panic!("{what}: not within {deadline:?}");
    }
}

/// A report with only the required fields.
pub(crate) fn report(agent: &str, topic: &str, status: &str) -> Value {
    json!({
        "agent_id": agent,
        "session_topic": topic,
        "status": status,
        "timestamp": "2026-01-01T00:00:00Z",
    })
}

/// `report` with one field set.
pub(crate) fn with(mut report: Value, field: &str, value: impl Into<Value>) -> Value {
    report[field] = value.into();
    report
}

/// `report` without a field.
pub(crate) fn without(mut report: Value, field: &str) -> Value {
    report.as_object_mut().unwrap().remove(field);
    report
}

/// A path segment that names `text`, as `encodeURIComponent` and more would write it.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The text of a value that must be one.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    let Some(text) = value.as_str() else {
        panic!("not a text: {value}");
    };
    text.to_owned()
}

/// One field of each element.
#[track_caller]
pub(crate) fn texts(list: &Value, field: &str) -> Vec<String> {
    let Some(list) = list.as_array() else {
        panic!("not a list: {list}");
    };
    list.iter().map(|element| text(&element[field])).collect()
}

/// The time of a value that must be one.
#[track_caller]
pub(crate) fn time(value: &Value) -> DateTime<Utc> {
    let time = DateTime::parse_from_rfc3339(value.as_str().unwrap_or_default());
    let Ok(time) = time else {
        panic!("not a time: {value}");
    };
    time.to_utc()
}
