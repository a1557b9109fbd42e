//! The operations, one statement each.

use std::time::Duration;

use kubeagents_core::batch::Chain;
use kubeagents_core::delivery::MAX_IN_FLIGHT_PER_HOST;
use kubeagents_core::store::{
    Accounts, AgentCursor, AgentQuery, ApiKeys, Audience, CommitOutcome, Expiry, HistoryCursor,
    LeaseRequest, LeasedNotification, Outbox, Page, RefreshTokens, Registration, SessionCursor,
    SessionHistory, SessionQuery, Sessions,
};
use kubeagents_core::{
    Account, AccountId, Agent, ApiKey, Commit, NewAccount, Notification, RefreshToken, Scopes,
    Session, SessionHead, SessionKey, Snapshot, Status, Store, StoreError, Timestamp, Verification,
    Workspace, email_key,
};
use serde_json::json;

use super::{Connection, Row, SqliteStore, Value, present};

/// No session outlives its last report by more than this, the longest TTL, in microseconds.
const LONGEST_TTL: i64 = 24 * 60 * 60 * 1_000_000;

const LOAD: &str = "
    SELECT a.name, s.seq, s.created, s.last_updated, s.ttl_minutes, s.status, s.run_started
    FROM (SELECT ?1 AS workspace, ?2 AS agent_id, ?3 AS topic) AS k
    LEFT JOIN agents a ON a.workspace = k.workspace AND a.agent_id = k.agent_id
    LEFT JOIN sessions s
        ON s.workspace = k.workspace AND s.agent_id = k.agent_id AND s.topic = k.topic";

const COMMIT: &str = "
    INSERT INTO commits
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    RETURNING TRUE";

/// ?1 workspace, ?2 now.
macro_rules! select_agents {
    ($rest:literal) => {
        concat!(
            "SELECT a.agent_id, a.name, a.source, a.registered, a.last_seen, a.session_count,
                (SELECT count(*) FROM sessions c
                    WHERE c.workspace = a.workspace AND c.agent_id = a.agent_id
                        AND c.expires_at > ?2),
                s.status, h.message
            FROM agents a
            LEFT JOIN sessions s
                ON s.workspace = a.workspace AND s.agent_id = a.agent_id AND s.topic = (
                    SELECT l.topic FROM sessions l
                    WHERE l.workspace = a.workspace AND l.agent_id = a.agent_id
                        AND l.expires_at > ?2
                    ORDER BY l.last_updated DESC, l.topic LIMIT 1
                )
            LEFT JOIN statuses h
                ON h.workspace = s.workspace AND h.agent_id = s.agent_id AND h.topic = s.topic
                    AND h.seq = s.seq
            WHERE a.workspace = ?1 AND ",
            $rest
        )
    };
}

const AGENT: &str = select_agents!("a.agent_id = ?3");

const AGENTS: &str = select_agents!(
    "a.last_seen <= ?3 AND (a.last_seen < ?3 OR a.agent_id > ?4)
        AND (instr(a.agent_key, ?5) OR instr(a.name_key, ?5))
        AND (?6 IS NULL OR s.status = ?6)
    ORDER BY a.last_seen DESC, a.agent_id LIMIT ?7"
);

const SESSIONS: &str = "
    SELECT topic, created, last_updated, ttl_minutes, status FROM sessions
    WHERE workspace = ?1 AND agent_id = ?2
        AND last_updated BETWEEN ?3 AND ?4 AND (last_updated < ?4 OR topic > ?5)
        AND +expires_at > ?6 AND +expires_at <= ?7
    ORDER BY last_updated DESC, topic LIMIT ?8";

const SESSION: &str = "
    SELECT s.created, s.last_updated, s.ttl_minutes, s.status,
        h.seq, h.status, h.timestamp, h.message, h.content
    FROM sessions s
    LEFT JOIN statuses h
        ON h.workspace = s.workspace AND h.agent_id = s.agent_id AND h.topic = s.topic
            AND h.seq < ?4
    WHERE s.workspace = ?1 AND s.agent_id = ?2 AND s.topic = ?3
    ORDER BY h.seq DESC LIMIT ?5";

const HISTORY: &str = "
    SELECT topic, seq, status, timestamp, message, content FROM statuses
    WHERE workspace = ?1 AND agent_id = ?2 AND timestamp <= ?3
        AND (timestamp < ?3 OR topic > ?4 OR (topic = ?4 AND seq < ?5))
    ORDER BY timestamp DESC, topic, seq DESC LIMIT ?6";

const CREATE_ACCOUNT: &str = "
    INSERT INTO accounts VALUES (?1, ?2, ?3, ?4, ?5, '', FALSE, ?6, ?7, ?8, ?8)
    ON CONFLICT (email_key) DO NOTHING RETURNING TRUE";

macro_rules! account_columns {
    () => {
        "id, email, password_hash, name, notification_webhook_url, email_verified, created_at, \
         updated_at"
    };
}

const ACCOUNT: &str = concat!(
    "SELECT ",
    account_columns!(),
    " FROM accounts WHERE id = ?1"
);

const ACCOUNT_BY_EMAIL: &str = concat!(
    "SELECT ",
    account_columns!(),
    " FROM accounts WHERE email_key = ?1"
);

const SET_VERIFICATION: &str = "
    UPDATE accounts SET verification_hash = ?2, verification_expires_at = ?3 WHERE id = ?1";

const VERIFY_ACCOUNT: &str = concat!(
    "UPDATE accounts SET email_verified = TRUE, verification_hash = NULL,
        verification_expires_at = NULL, updated_at = ?2
    WHERE verification_hash = ?1 AND verification_expires_at > ?2
    RETURNING ",
    account_columns!()
);

const SET_NOTIFICATION_URL: &str = concat!(
    "UPDATE accounts SET notification_webhook_url = ?2, updated_at = ?3 WHERE id = ?1 RETURNING ",
    account_columns!()
);

const NOTIFICATION_URL: &str = "
    SELECT notification_webhook_url FROM accounts
    WHERE id = ?1 AND notification_webhook_url <> ''";

const NOTIFICATION_URLS: &str = "
    SELECT notification_webhook_url FROM accounts WHERE notification_webhook_url <> ''";

const INSERT_REFRESH_TOKEN: &str = "INSERT INTO refresh_tokens VALUES (?, ?, ?, ?, ?, ?)";

const REFRESH_TOKEN: &str = "
    SELECT t.token_hash, t.account_id, t.family_id, t.created_at, t.expires_at, t.spent_at,
        f.revoked
    FROM refresh_tokens t JOIN token_families f USING (family_id) WHERE t.token_hash = ?1";

const ROTATE_REFRESH_TOKEN: &str = "INSERT INTO rotations VALUES (?, ?, ?, ?, ?) RETURNING TRUE";

const REVOKE_TOKEN_FAMILY: &str = "UPDATE token_families SET revoked = TRUE WHERE family_id = ?1";

const REVOKE_REFRESH_TOKENS: &str =
    "UPDATE token_families SET revoked = TRUE WHERE account_id = ?1";

const INSERT_API_KEY: &str = "INSERT INTO api_keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

macro_rules! select_api_keys {
    ($rest:literal) => {
        concat!(
            "SELECT id, account_id, name, key_hash, key_prefix, scopes, expires_at, last_used_at,
                created_at, revoked
            FROM api_keys ",
            $rest
        )
    };
}

const API_KEYS: &str = select_api_keys!("WHERE account_id = ?1 ORDER BY created_at DESC, id");

const API_KEY_BY_HASH: &str = select_api_keys!("WHERE key_hash = ?1");

const REVOKE_API_KEY: &str = "
    UPDATE api_keys SET revoked = TRUE WHERE id = ?1 AND account_id = ?2 RETURNING TRUE";

const TOUCH_API_KEY: &str = "
    UPDATE api_keys SET last_used_at = max(coalesce(last_used_at, ?2), ?2) WHERE id = ?1";

const SECRET: &str = "SELECT value FROM secrets WHERE name = ?1";

const INSERT_SECRET: &str = "
    INSERT INTO secrets VALUES (?1, ?2)
    ON CONFLICT DO UPDATE SET value = value RETURNING value";

/// A read, so that hosts may look often: a statement that writes waits for the one writer.
const ANYTHING_DUE: &str = "SELECT TRUE FROM outbox WHERE due_at <= ?1 LIMIT 1";

/// The receiving hosts are walked by index, not read off the entries, of which one host may have
/// very many. A host that all instances together keep busy is passed over: ?5 leases at a time.
const LEASE_NOTIFICATIONS: &str = "
    WITH RECURSIVE receivers (host) AS (
        SELECT min(host) FROM outbox
        UNION ALL
        SELECT (SELECT min(o.host) FROM outbox o WHERE o.host > r.host) FROM receivers r
        WHERE r.host IS NOT NULL
    )
    UPDATE outbox SET due_at = ?1 + ?2, round = round + 1, leased = TRUE
    WHERE id IN (
        SELECT o.id FROM receivers r JOIN outbox o ON o.id = (
            SELECT f.id FROM outbox f WHERE f.host = r.host AND f.due_at <= ?1
            ORDER BY f.due_at, f.id LIMIT 1
        )
        WHERE r.host NOT IN (SELECT value FROM json_each(?3))
            AND (SELECT count(*) FROM outbox l
                WHERE l.host = r.host AND l.leased AND l.due_at > ?1) < ?5
        ORDER BY o.due_at, o.id LIMIT ?4
    )
    RETURNING id, url, host, body, created_at, round";

const DELETE_NOTIFICATION: &str = "DELETE FROM outbox WHERE id = ?1";

const NOTIFICATION_FAILED: &str = "
    UPDATE outbox SET due_at = ?2, leased = FALSE WHERE id = ?1";

/// Cuts what was asked for with one row more than the limit.
fn page<T, C>(mut items: Vec<T>, limit: usize, place: impl FnOnce(&T) -> C) -> Page<T, C> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(place);
    Page { items, next }
}

fn micros(duration: Duration) -> i64 {
    duration.as_micros().try_into().unwrap_or(i64::MAX)
}

fn agent(row: &mut Row, workspace: &Workspace) -> Result<Agent, StoreError> {
    Ok(Agent {
        agent_id: row.text()?,
        user_id: workspace.account().cloned(),
        name: row.text()?,
        source: row.text()?,
        registered: row.time()?,
        last_seen: row.time()?,
        session_count: row.u64()?,
        active_session_count: row.u64()?,
        latest_status: row.optional_status()?,
        latest_message: row.optional_text()?.unwrap_or_default(),
    })
}

fn account(row: &mut Row) -> Result<Account, StoreError> {
    Ok(Account {
        id: AccountId::new(row.text()?),
        email: row.text()?,
        password_hash: row.text()?,
        name: row.text()?,
        notification_webhook_url: row.text()?,
        email_verified: row.bool()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

fn api_key(row: &mut Row) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: row.text()?,
        account_id: AccountId::new(row.text()?),
        name: row.text()?,
        key_hash: row.text()?,
        key_prefix: row.text()?,
        scopes: present(Scopes::from_text(&row.text()?))?,
        expires_at: row.optional_time()?,
        last_used_at: row.optional_time()?,
        created_at: row.time()?,
        revoked: row.bool()?,
    })
}

impl<C: Connection> Sessions for SqliteStore<C> {
    async fn load_many(&self, keys: &[SessionKey]) -> Result<Vec<Snapshot>, StoreError> {
        let mut snapshots = Vec::with_capacity(keys.len());
        for key in keys {
            snapshots.push(self.load(key).await?);
        }
        Ok(snapshots)
    }

    async fn commit_many(&self, chains: &[Chain]) -> Result<Vec<CommitOutcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(chains.len());
        for chain in chains {
            let mut outcome = CommitOutcome::Conflict;
            for commit in chain.commits() {
                outcome = self.commit(commit).await?;
                if outcome == CommitOutcome::Conflict {
                    break;
                }
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    async fn load(&self, key: &SessionKey) -> Result<Snapshot, StoreError> {
        let parameters = [
            (&key.workspace).into(),
            (&key.agent_id).into(),
            (&key.session_topic).into(),
        ];
        let snapshot = self.first(LOAD, parameters, |row| {
            let agent_name = row.optional_text()?;
            let session = match row.optional_integer()? {
                Some(seq) => Some(SessionHead {
                    seq: present(seq.try_into().ok())?,
                    created: row.time()?,
                    last_updated: row.time()?,
                    ttl_minutes: row.u32()?,
                    status: row.status()?,
                    run_started: row.optional_time()?,
                }),
                None => None,
            };
            Ok(Snapshot {
                agent_name,
                session,
            })
        });
        Ok(snapshot.await?.unwrap_or_default())
    }

    async fn commit(&self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        let notifications: Vec<_> = commit
            .notifications
            .iter()
            .map(|notification| {
                json!({
                    "id": notification.id,
                    "url": notification.url,
                    "host": notification.host,
                    "body": notification.body,
                    "created_at": notification.created_at.timestamp_micros(),
                })
            })
            .collect();
        let session = &commit.session;
        let parameters = [
            (&commit.key.workspace).into(),
            (&commit.key.agent_id).into(),
            (&commit.key.session_topic).into(),
            commit.expected_seq.into(),
            (&commit.agent_id_key()).into(),
            commit.agent.name.as_ref().into(),
            commit.agent.name_key().as_ref().into(),
            commit.agent.source.as_ref().into(),
            session.created.into(),
            session.last_updated.into(),
            session.ttl_minutes.into(),
            session.expires_at().into(),
            session.status.into(),
            session.run_started.into(),
            (&commit.status.message).into(),
            (&commit.status.content).into(),
            (&json!(notifications).to_string()).into(),
        ];
        let applied = self.run(COMMIT, parameters).await?;
        Ok(if applied.is_empty() {
            CommitOutcome::Conflict
        } else {
            CommitOutcome::Committed
        })
    }

    async fn agents(
        &self,
        workspace: &Workspace,
        query: &AgentQuery,
        now: Timestamp,
    ) -> Result<Page<Agent, AgentCursor>, StoreError> {
        let (last_seen, agent_id) = match &query.after {
            Some(place) => (place.last_seen.into(), (&place.agent_id).into()),
            None => (Value::Integer(i64::MAX), "".into()),
        };
        let parameters = [
            workspace.into(),
            now.into(),
            last_seen,
            agent_id,
            query.search.as_deref().unwrap_or_default().into(),
            query.status.into(),
            (query.limit + 1).into(),
        ];
        let agents = self
            .all(AGENTS, parameters, |row| agent(row, workspace))
            .await?;
        Ok(page(agents, query.limit, |agent| AgentCursor {
            last_seen: agent.last_seen,
            agent_id: agent.agent_id.clone(),
        }))
    }

    async fn agent(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        now: Timestamp,
    ) -> Result<Option<Agent>, StoreError> {
        let parameters = [workspace.into(), now.into(), agent_id.into()];
        self.first(AGENT, parameters, |row| agent(row, workspace))
            .await
    }

    async fn sessions(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        query: &SessionQuery,
        now: Timestamp,
    ) -> Result<Page<Session, SessionCursor>, StoreError> {
        let now = now.timestamp_micros();
        let (updated_since, expires_after, expires_until) = match query.expiry {
            Expiry::Any => (i64::MIN, i64::MIN, i64::MAX),
            Expiry::Unexpired => (now - LONGEST_TTL, now, i64::MAX),
            Expiry::Expired => (i64::MIN, i64::MIN, now),
        };
        let (updated_until, topic) = match &query.after {
            Some(place) => (place.last_updated.into(), (&place.session_topic).into()),
            None => (Value::Integer(i64::MAX), "".into()),
        };
        let parameters = [
            workspace.into(),
            agent_id.into(),
            Value::Integer(updated_since),
            updated_until,
            topic,
            Value::Integer(expires_after),
            Value::Integer(expires_until),
            (query.limit + 1).into(),
        ];
        let sessions = self.all(SESSIONS, parameters, |row| {
            Ok(Session {
                agent_id: agent_id.to_owned(),
                session_topic: row.text()?,
                created: row.time()?,
                last_updated: row.time()?,
                ttl_minutes: row.u32()?,
                current_status: row.status()?,
            })
        });
        Ok(page(sessions.await?, query.limit, |session| {
            SessionCursor {
                last_updated: session.last_updated,
                session_topic: session.session_topic.clone(),
            }
        }))
    }

    async fn session(
        &self,
        key: &SessionKey,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Option<SessionHistory>, StoreError> {
        let parameters = [
            (&key.workspace).into(),
            (&key.agent_id).into(),
            (&key.session_topic).into(),
            before.unwrap_or(u64::MAX).into(),
            (limit + 1).into(),
        ];
        let mut session = None;
        let mut history = Vec::new();
        for mut row in self.run(SESSION, parameters).await? {
            session = Some(Session {
                agent_id: key.agent_id.clone(),
                session_topic: key.session_topic.clone(),
                created: row.time()?,
                last_updated: row.time()?,
                ttl_minutes: row.u32()?,
                current_status: row.status()?,
            });
            if let Some(seq) = row.optional_integer()? {
                history.push(Status {
                    agent_id: key.agent_id.clone(),
                    session_topic: key.session_topic.clone(),
                    seq: present(seq.try_into().ok())?,
                    status: row.status()?,
                    timestamp: row.time()?,
                    message: row.text()?,
                    content: row.text()?,
                });
            }
        }
        Ok(session.map(|session| SessionHistory {
            session,
            history: page(history, limit, |status| status.seq),
        }))
    }

    async fn history(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        before: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Page<Status, HistoryCursor>, StoreError> {
        let (timestamp, topic, seq) = match before {
            Some(place) => (
                place.timestamp.into(),
                (&place.session_topic).into(),
                place.seq.into(),
            ),
            None => (Value::Integer(i64::MAX), "".into(), Value::Integer(0)),
        };
        let parameters = [
            workspace.into(),
            agent_id.into(),
            timestamp,
            topic,
            seq,
            (limit + 1).into(),
        ];
        let history = self.all(HISTORY, parameters, |row| {
            Ok(Status {
                agent_id: agent_id.to_owned(),
                session_topic: row.text()?,
                seq: row.u64()?,
                status: row.status()?,
                timestamp: row.time()?,
                message: row.text()?,
                content: row.text()?,
            })
        });
        Ok(page(history.await?, limit, |status| HistoryCursor {
            timestamp: status.timestamp,
            session_topic: status.session_topic.clone(),
            seq: status.seq,
        }))
    }
}

impl<C: Connection> Accounts for SqliteStore<C> {
    async fn create_account(&self, account: &NewAccount) -> Result<Registration, StoreError> {
        let parameters = [
            (&account.id).into(),
            (&account.email).into(),
            (&account.email_key).into(),
            (&account.password_hash).into(),
            (&account.name).into(),
            (&account.verification.token_hash).into(),
            account.verification.expires_at.into(),
            account.created_at.into(),
        ];
        let created = self.run(CREATE_ACCOUNT, parameters).await?;
        Ok(if created.is_empty() {
            Registration::EmailTaken
        } else {
            Registration::Created
        })
    }

    async fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        self.first(ACCOUNT, [id.into()], account).await
    }

    async fn account_by_email(&self, email: &str) -> Result<Option<Account>, StoreError> {
        self.first(ACCOUNT_BY_EMAIL, [(&email_key(email)).into()], account)
            .await
    }

    async fn set_verification(
        &self,
        id: &AccountId,
        verification: &Verification,
    ) -> Result<(), StoreError> {
        let parameters = [
            id.into(),
            (&verification.token_hash).into(),
            verification.expires_at.into(),
        ];
        self.run(SET_VERIFICATION, parameters).await.map(drop)
    }

    async fn verify_account(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        self.first(VERIFY_ACCOUNT, [token_hash.into(), now.into()], account)
            .await
    }

    async fn set_notification_url(
        &self,
        id: &AccountId,
        url: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        self.first(
            SET_NOTIFICATION_URL,
            [id.into(), url.into(), now.into()],
            account,
        )
        .await
    }

    async fn notification_urls(&self, audience: &Audience) -> Result<Vec<String>, StoreError> {
        match audience {
            Audience::Account(id) => self.all(NOTIFICATION_URL, [id.into()], Row::text).await,
            Audience::EveryAccount => self.all(NOTIFICATION_URLS, [], Row::text).await,
        }
    }
}

impl<C: Connection> RefreshTokens for SqliteStore<C> {
    async fn insert_refresh_token(&self, token: &RefreshToken) -> Result<(), StoreError> {
        let parameters = [
            (&token.token_hash).into(),
            (&token.family_id).into(),
            (&token.account_id).into(),
            token.created_at.into(),
            token.expires_at.into(),
            token.spent_at.into(),
        ];
        self.run(INSERT_REFRESH_TOKEN, parameters).await.map(drop)
    }

    async fn refresh_token(&self, token_hash: &str) -> Result<Option<RefreshToken>, StoreError> {
        self.first(REFRESH_TOKEN, [token_hash.into()], |row| {
            Ok(RefreshToken {
                token_hash: row.text()?,
                account_id: AccountId::new(row.text()?),
                family_id: row.text()?,
                created_at: row.time()?,
                expires_at: row.time()?,
                spent_at: row.optional_time()?,
                revoked: row.bool()?,
            })
        })
        .await
    }

    async fn rotate_refresh_token(
        &self,
        token_hash: &str,
        spent_at: Timestamp,
        successor: &RefreshToken,
    ) -> Result<bool, StoreError> {
        let parameters = [
            token_hash.into(),
            spent_at.into(),
            (&successor.token_hash).into(),
            successor.created_at.into(),
            successor.expires_at.into(),
        ];
        let rotated = self.run(ROTATE_REFRESH_TOKEN, parameters).await?;
        Ok(!rotated.is_empty())
    }

    async fn revoke_token_family(&self, family_id: &str) -> Result<(), StoreError> {
        self.run(REVOKE_TOKEN_FAMILY, [family_id.into()])
            .await
            .map(drop)
    }

    async fn revoke_refresh_tokens(&self, id: &AccountId) -> Result<(), StoreError> {
        self.run(REVOKE_REFRESH_TOKENS, [id.into()]).await.map(drop)
    }
}

impl<C: Connection> ApiKeys for SqliteStore<C> {
    async fn insert_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        let parameters = [
            (&key.id).into(),
            (&key.account_id).into(),
            (&key.name).into(),
            (&key.key_hash).into(),
            (&key.key_prefix).into(),
            (&key.scopes.to_text()).into(),
            key.expires_at.into(),
            key.last_used_at.into(),
            key.created_at.into(),
            u32::from(key.revoked).into(),
        ];
        self.run(INSERT_API_KEY, parameters).await.map(drop)
    }

    async fn api_keys(&self, id: &AccountId) -> Result<Vec<ApiKey>, StoreError> {
        self.all(API_KEYS, [id.into()], api_key).await
    }

    async fn api_key_by_hash(&self, key_hash: &str) -> Result<Option<ApiKey>, StoreError> {
        self.first(API_KEY_BY_HASH, [key_hash.into()], api_key)
            .await
    }

    async fn revoke_api_key(&self, id: &AccountId, key_id: &str) -> Result<bool, StoreError> {
        let revoked = self.run(REVOKE_API_KEY, [key_id.into(), id.into()]).await?;
        Ok(!revoked.is_empty())
    }

    async fn touch_api_key(&self, key: &ApiKey, now: Timestamp) -> Result<(), StoreError> {
        self.run(TOUCH_API_KEY, [(&key.id).into(), now.into()])
            .await
            .map(drop)
    }
}

impl<C: Connection> Outbox for SqliteStore<C> {
    async fn lease_notifications(
        &self,
        request: &LeaseRequest,
    ) -> Result<Vec<LeasedNotification>, StoreError> {
        if self
            .run(ANYTHING_DUE, [request.now.into()])
            .await?
            .is_empty()
        {
            return Ok(Vec::new());
        }
        let parameters = [
            request.now.into(),
            Value::Integer(micros(request.duration)),
            (&json!(request.busy_hosts).to_string()).into(),
            request.limit.into(),
            MAX_IN_FLIGHT_PER_HOST.into(),
        ];
        self.all(LEASE_NOTIFICATIONS, parameters, |row| {
            Ok(LeasedNotification {
                notification: Notification {
                    id: row.text()?,
                    url: row.text()?,
                    host: row.text()?,
                    body: row.text()?,
                    created_at: row.time()?,
                },
                round: row.u32()?,
            })
        })
        .await
    }

    async fn notification_delivered(&self, id: &str) -> Result<(), StoreError> {
        self.run(DELETE_NOTIFICATION, [id.into()]).await.map(drop)
    }

    async fn notification_failed(
        &self,
        id: &str,
        now: Timestamp,
        pause: Duration,
    ) -> Result<(), StoreError> {
        let due_at = now.timestamp_micros().saturating_add(micros(pause));
        self.run(NOTIFICATION_FAILED, [id.into(), Value::Integer(due_at)])
            .await
            .map(drop)
    }

    async fn notification_abandoned(&self, id: &str) -> Result<(), StoreError> {
        self.run(DELETE_NOTIFICATION, [id.into()]).await.map(drop)
    }
}

impl<C: Connection> Store for SqliteStore<C> {
    const DURABLE: bool = true;

    async fn ping(&self) -> Result<(), StoreError> {
        self.run("SELECT TRUE FROM secrets LIMIT 1", [])
            .await
            .map(drop)
    }

    async fn secret(&self, name: &str, candidate: &str) -> Result<String, StoreError> {
        match self.first(SECRET, [name.into()], Row::text).await? {
            Some(secret) => Ok(secret),
            None => {
                let parameters = [name.into(), candidate.into()];
                self.first(INSERT_SECRET, parameters, Row::text)
                    .await
                    .and_then(present)
            }
        }
    }
}
