//! State in memory: for trying the server out, and the model that other stores are tested against.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{
    AgentCursor, AgentQuery, Audience, CommitOutcome, Expiry, HistoryCursor, LeaseRequest,
    LeasedNotification, Page, Registration, SessionCursor, SessionHistory, SessionQuery, Store,
    StoreError,
};
use crate::{
    Account, AccountId, Agent, ApiKey, Commit, NewAccount, Notification, RefreshToken, Session,
    SessionHead, SessionKey, Snapshot, Status, StatusEntry, Timestamp, Verification, Workspace,
    email_key, report::MAX_TTL_MINUTES, session::expires_at,
};

/// How many notifications wait at most, and how many of them for one receiving host: one that hangs
/// must not use up the room of the others.
const OUTBOX_CAPACITY: usize = 10_000;
const OUTBOX_CAPACITY_PER_HOST: usize = 1_000;

/// State that lives as long as the process. Clones share it.
///
/// At most 10,000 notifications wait, and 1,000 for one receiving host; what is more is dropped, and
/// the log says so.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    workspaces: HashMap<Workspace, Agents>,
    accounts: HashMap<AccountId, AccountState>,
    accounts_by_email: HashMap<String, AccountId>,
    accounts_by_email_key: HashMap<String, AccountId>,
    refresh_tokens: HashMap<String, RefreshToken>,
    revoked_families: HashSet<String>,
    /// The number of refresh tokens at which expired ones are dropped.
    purge_tokens_at: usize,
    api_keys: HashMap<String, ApiKey>,
    secrets: HashMap<String, String>,
    outbox: Outbox,
}

#[derive(Debug, Default)]
struct Agents {
    by_id: HashMap<Arc<str>, AgentState>,
    by_last_seen: BTreeSet<(Reverse<Timestamp>, Arc<str>)>,
}

#[derive(Debug)]
struct AgentState {
    id: Arc<str>,
    id_key: String,
    name: String,
    name_key: String,
    source: String,
    registered: Timestamp,
    last_seen: Timestamp,
    sessions: HashMap<Arc<str>, SessionState>,
    by_last_updated: BTreeSet<(Reverse<Timestamp>, Arc<str>)>,
    by_expiry: BTreeSet<(Timestamp, Arc<str>)>,
    /// Every status of every session, in the order of the agent's history.
    timeline: BTreeSet<(Reverse<Timestamp>, Arc<str>, Reverse<u64>)>,
}

#[derive(Debug)]
struct SessionState {
    head: SessionHead,
    /// The status with `seq` n is at n - 1.
    history: Vec<Arc<StatusEntry>>,
}

/// A status on its way out: texts are copied once the store is unlocked, since a page may hold a
/// hundred megabytes of them.
struct StoredStatus {
    topic: Arc<str>,
    seq: u64,
    entry: Arc<StatusEntry>,
}

impl StoredStatus {
    fn shown(self, agent_id: &str) -> Status {
        Status {
            agent_id: agent_id.to_owned(),
            session_topic: self.topic.to_string(),
            status: self.entry.status,
            timestamp: self.entry.timestamp,
            message: self.entry.message.clone(),
            content: self.entry.content.clone(),
            seq: self.seq,
        }
    }
}

/// The page with its statuses as clients see them.
fn shown<C>(page: Page<StoredStatus, C>, agent_id: &str) -> Page<Status, C> {
    let statuses = page.items.into_iter();
    Page {
        items: statuses.map(|status| status.shown(agent_id)).collect(),
        next: page.next,
    }
}

#[derive(Debug)]
struct AccountState {
    account: Account,
    verification: Option<Verification>,
}

#[derive(Debug, Default)]
struct Outbox {
    entries: HashMap<String, OutboxEntry>,
    /// The entries of each receiving host by when they are next to be taken on: at once, after a
    /// pause, or when their lease runs out.
    by_host: BTreeMap<String, BTreeSet<(Timestamp, String)>>,
    dropped: u64,
}

#[derive(Debug)]
struct OutboxEntry {
    notification: Notification,
    round: u32,
    due: Timestamp,
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No operation leaves the state half changed when it panics: each checks, then changes.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn agent(&self, workspace: &Workspace, agent_id: &str) -> Option<&AgentState> {
        self.workspaces.get(workspace)?.by_id.get(agent_id)
    }

    fn session(&self, key: &SessionKey) -> Option<&SessionState> {
        let agent = self.agent(&key.workspace, &key.agent_id)?;
        agent.sessions.get(key.session_topic.as_str())
    }

    fn refresh_token(&self, token_hash: &str) -> Option<RefreshToken> {
        let token = self.refresh_tokens.get(token_hash)?;
        Some(RefreshToken {
            revoked: self.revoked_families.contains(&token.family_id),
            ..token.clone()
        })
    }

    fn insert_refresh_token(&mut self, token: &RefreshToken) {
        if self.refresh_tokens.len() >= self.purge_tokens_at {
            let now = token.created_at;
            self.refresh_tokens
                .retain(|_, token| now < token.expires_at);
            let tokens = self.refresh_tokens.values();
            let families: HashSet<&str> = tokens.map(|token| token.family_id.as_str()).collect();
            self.revoked_families
                .retain(|family| families.contains(family.as_str()));
            self.purge_tokens_at = 2 * self.refresh_tokens.len() + 1000;
        }
        self.refresh_tokens
            .insert(token.token_hash.clone(), token.clone());
    }
}

impl Agents {
    fn apply(&mut self, commit: &Commit) {
        let patch = &commit.agent;
        let id: Arc<str> = match self.by_id.get(commit.key.agent_id.as_str()) {
            Some(agent) => Arc::clone(&agent.id),
            None => commit.key.agent_id.as_str().into(),
        };
        let agent = self
            .by_id
            .entry(Arc::clone(&id))
            .or_insert_with(|| AgentState {
                id: Arc::clone(&id),
                id_key: commit.agent_id_key(),
                name: String::new(),
                name_key: String::new(),
                source: String::new(),
                registered: patch.last_seen,
                last_seen: patch.last_seen,
                sessions: HashMap::new(),
                by_last_updated: BTreeSet::new(),
                by_expiry: BTreeSet::new(),
                timeline: BTreeSet::new(),
            });
        self.by_last_seen
            .remove(&(Reverse(agent.last_seen), Arc::clone(&id)));
        agent.last_seen = agent.last_seen.max(patch.last_seen);
        self.by_last_seen.insert((Reverse(agent.last_seen), id));
        if let Some(name) = &patch.name {
            agent.name.clone_from(name);
            agent.name_key = patch.name_key().unwrap_or_default();
        }
        if let Some(source) = &patch.source {
            agent.source.clone_from(source);
        }
        agent.report(commit);
    }
}

impl AgentState {
    fn report(&mut self, commit: &Commit) {
        let topic = commit.key.session_topic.as_str();
        let (topic, mut history) = match self.sessions.remove_entry(topic) {
            Some((topic, old)) => {
                let updated = (Reverse(old.head.last_updated), Arc::clone(&topic));
                self.by_last_updated.remove(&updated);
                self.by_expiry
                    .remove(&(old.head.expires_at(), Arc::clone(&topic)));
                (topic, old.history)
            }
            None => (topic.into(), Vec::new()),
        };
        let head = commit.session;
        self.by_last_updated
            .insert((Reverse(head.last_updated), Arc::clone(&topic)));
        self.by_expiry
            .insert((head.expires_at(), Arc::clone(&topic)));
        self.timeline.insert((
            Reverse(commit.status.timestamp),
            Arc::clone(&topic),
            Reverse(head.seq),
        ));
        history.push(Arc::new(commit.status.clone()));
        self.sessions.insert(topic, SessionState { head, history });
    }

    fn view(&self, workspace: &Workspace, now: Timestamp) -> Agent {
        let unexpired = |topic: &Arc<str>| {
            let session = self.sessions.get(topic)?;
            (now < session.head.expires_at()).then_some(session)
        };
        let latest = self
            .by_last_updated
            .iter()
            .take_while(|(Reverse(updated), _)| now < expires_at(*updated, MAX_TTL_MINUTES))
            .find_map(|(_, topic)| unexpired(topic))
            .and_then(|session| session.history.last());
        let just_after_now = (now + chrono::TimeDelta::nanoseconds(1), Arc::from(""));
        let active = self.by_expiry.range(just_after_now..);
        Agent {
            agent_id: self.id.to_string(),
            user_id: workspace.account().cloned(),
            name: self.name.clone(),
            source: self.source.clone(),
            registered: self.registered,
            last_seen: self.last_seen,
            session_count: self.sessions.len() as u64,
            active_session_count: active.count() as u64,
            latest_status: latest.map(|status| status.status),
            latest_message: latest
                .map(|status| status.message.clone())
                .unwrap_or_default(),
        }
    }

    fn status(&self, topic: &Arc<str>, seq: u64) -> Option<StoredStatus> {
        let place = usize::try_from(seq).ok()?.checked_sub(1)?;
        let entry = self.sessions.get(topic)?.history.get(place)?;
        Some(StoredStatus {
            topic: Arc::clone(topic),
            seq,
            entry: Arc::clone(entry),
        })
    }

    fn session(&self, topic: &str) -> Option<Session> {
        let head = self.sessions.get(topic)?.head;
        Some(Session {
            agent_id: self.id.to_string(),
            session_topic: topic.to_owned(),
            created: head.created,
            last_updated: head.last_updated,
            ttl_minutes: head.ttl_minutes,
            current_status: head.status,
        })
    }
}

impl Outbox {
    fn add(&mut self, notification: &Notification) {
        let waiting_for_host = self
            .by_host
            .get(&notification.host)
            .map_or(0, BTreeSet::len);
        if self.entries.len() >= OUTBOX_CAPACITY || waiting_for_host >= OUTBOX_CAPACITY_PER_HOST {
            self.dropped += 1;
            tracing::warn!(
                receiver = notification.host,
                dropped = self.dropped,
                "a notification was dropped: too many are waiting"
            );
            return;
        }
        let (id, due) = (notification.id.clone(), notification.created_at);
        let queue = self.by_host.entry(notification.host.clone()).or_default();
        queue.insert((due, id.clone()));
        let entry = OutboxEntry {
            notification: notification.clone(),
            round: 0,
            due,
        };
        self.entries.insert(id, entry);
    }

    fn set_due(&mut self, id: &str, due: Timestamp) {
        if let Some(entry) = self.entries.get_mut(id)
            && let Some(queue) = self.by_host.get_mut(&entry.notification.host)
        {
            queue.remove(&(entry.due, id.to_owned()));
            queue.insert((due, id.to_owned()));
            entry.due = due;
        }
    }

    fn remove(&mut self, id: &str) {
        if let Some(entry) = self.entries.remove(id)
            && let Some(queue) = self.by_host.get_mut(&entry.notification.host)
        {
            queue.remove(&(entry.due, id.to_owned()));
            if queue.is_empty() {
                self.by_host.remove(&entry.notification.host);
            }
        }
    }

    /// The longest due entry of each host that is not busy, longest due first.
    fn due(&self, request: &LeaseRequest) -> Vec<String> {
        let mut due: Vec<&(Timestamp, String)> = self
            .by_host
            .iter()
            .filter(|(host, _)| !request.busy_hosts.contains(host))
            .filter_map(|(_, queue)| queue.first())
            .filter(|(due, _)| *due <= request.now)
            .collect();
        due.sort();
        due.truncate(request.limit);
        due.into_iter().map(|(_, id)| id.clone()).collect()
    }
}

/// The first `limit` of `rows`, and the place of the last of them if more follow.
fn page<T, C>(
    rows: impl Iterator<Item = T>,
    limit: usize,
    place: impl FnOnce(&T) -> C,
) -> Page<T, C> {
    let mut rows = rows.fuse();
    let items: Vec<T> = rows.by_ref().take(limit).collect();
    let next = match rows.next() {
        Some(_) => items.last().map(place),
        None => None,
    };
    Page { items, next }
}

fn instant_after(now: Timestamp, duration: Duration) -> Timestamp {
    now + chrono::TimeDelta::from_std(duration).unwrap_or(chrono::TimeDelta::MAX)
}

impl Store for MemoryStore {
    const DURABLE: bool = false;

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn load(&self, key: &SessionKey) -> Result<Snapshot, StoreError> {
        let state = self.lock();
        Ok(Snapshot {
            agent_name: state
                .agent(&key.workspace, &key.agent_id)
                .map(|agent| agent.name.clone()),
            session: state.session(key).map(|session| session.head),
        })
    }

    async fn commit(&self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        let mut state = self.lock();
        let seq = state
            .session(&commit.key)
            .map_or(0, |session| session.head.seq);
        if seq != commit.expected_seq {
            return Ok(CommitOutcome::Conflict);
        }
        state
            .workspaces
            .entry(commit.key.workspace.clone())
            .or_default()
            .apply(commit);
        for notification in &commit.notifications {
            state.outbox.add(notification);
        }
        Ok(CommitOutcome::Committed)
    }

    async fn agents(
        &self,
        workspace: &Workspace,
        query: &AgentQuery,
        now: Timestamp,
    ) -> Result<Page<Agent, AgentCursor>, StoreError> {
        let state = self.lock();
        let Some(agents) = state.workspaces.get(workspace) else {
            return Ok(Page {
                items: Vec::new(),
                next: None,
            });
        };
        let after = match &query.after {
            Some(after) => Excluded((Reverse(after.last_seen), Arc::from(&*after.agent_id))),
            None => Unbounded,
        };
        let found = agents
            .by_last_seen
            .range((after, Unbounded))
            .filter_map(|(_, id)| agents.by_id.get(id))
            .filter(|agent| {
                query.search.as_ref().is_none_or(|search| {
                    agent.id_key.contains(search) || agent.name_key.contains(search)
                })
            })
            .map(|agent| agent.view(workspace, now))
            .filter(|agent| query.status.is_none() || agent.latest_status == query.status);
        Ok(page(found, query.limit, |agent| AgentCursor {
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
        let state = self.lock();
        let agent = state.agent(workspace, agent_id);
        Ok(agent.map(|agent| agent.view(workspace, now)))
    }

    async fn sessions(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        query: &SessionQuery,
        now: Timestamp,
    ) -> Result<Page<Session, SessionCursor>, StoreError> {
        let state = self.lock();
        let Some(agent) = state.agent(workspace, agent_id) else {
            return Ok(Page {
                items: Vec::new(),
                next: None,
            });
        };
        let after = match &query.after {
            Some(after) => Excluded((
                Reverse(after.last_updated),
                Arc::from(&*after.session_topic),
            )),
            None => Unbounded,
        };
        let found = agent
            .by_last_updated
            .range((after, Unbounded))
            .filter_map(|(_, topic)| agent.session(topic))
            .filter(|session| match query.expiry {
                Expiry::Any => true,
                Expiry::Unexpired => !session.is_expired(now),
                Expiry::Expired => session.is_expired(now),
            });
        Ok(page(found, query.limit, |session| SessionCursor {
            last_updated: session.last_updated,
            session_topic: session.session_topic.clone(),
        }))
    }

    async fn session(
        &self,
        key: &SessionKey,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Option<SessionHistory>, StoreError> {
        let read = || {
            let state = self.lock();
            let agent = state.agent(&key.workspace, &key.agent_id)?;
            let (topic, found) = agent.sessions.get_key_value(key.session_topic.as_str())?;
            let newest = found.head.seq;
            let end = before.map_or(newest, |before| before.saturating_sub(1).min(newest));
            let history = (1..=end).rev().filter_map(|seq| agent.status(topic, seq));
            let history = page(history, limit, |status| status.seq);
            Some((agent.session(topic)?, history))
        };
        Ok(read().map(|(session, history)| SessionHistory {
            history: shown(history, &session.agent_id),
            session,
        }))
    }

    async fn history(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        before: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Page<Status, HistoryCursor>, StoreError> {
        let before = match before {
            Some(before) => Excluded((
                Reverse(before.timestamp),
                Arc::from(&*before.session_topic),
                Reverse(before.seq),
            )),
            None => Unbounded,
        };
        let read = || {
            let state = self.lock();
            let agent = state.agent(workspace, agent_id)?;
            let history = agent
                .timeline
                .range((before, Unbounded))
                .filter_map(|(_, topic, Reverse(seq))| agent.status(topic, *seq));
            Some(page(history, limit, |status| HistoryCursor {
                timestamp: status.entry.timestamp,
                session_topic: status.topic.to_string(),
                seq: status.seq,
            }))
        };
        let nothing = Page {
            items: Vec::new(),
            next: None,
        };
        Ok(read().map_or(nothing, |page| shown(page, agent_id)))
    }

    async fn create_account(&self, new: &NewAccount) -> Result<Registration, StoreError> {
        let mut state = self.lock();
        if state.accounts_by_email_key.contains_key(&new.email_key) {
            return Ok(Registration::EmailTaken);
        }
        let id = new.id.clone();
        state
            .accounts_by_email
            .insert(new.email.clone(), id.clone());
        state
            .accounts_by_email_key
            .insert(new.email_key.clone(), id.clone());
        let account = Account {
            id: id.clone(),
            email: new.email.clone(),
            password_hash: new.password_hash.clone(),
            name: new.name.clone(),
            notification_webhook_url: String::new(),
            email_verified: false,
            created_at: new.created_at,
            updated_at: new.created_at,
        };
        let verification = Some(new.verification.clone());
        state.accounts.insert(
            id,
            AccountState {
                account,
                verification,
            },
        );
        Ok(Registration::Created)
    }

    async fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        Ok(self
            .lock()
            .accounts
            .get(id)
            .map(|state| state.account.clone()))
    }

    async fn account_by_email(&self, email: &str) -> Result<Option<Account>, StoreError> {
        let state = self.lock();
        let by_key = || state.accounts_by_email_key.get(&email_key(email));
        let id = state.accounts_by_email.get(email).or_else(by_key);
        Ok(id.and_then(|id| Some(state.accounts.get(id)?.account.clone())))
    }

    async fn set_verification(
        &self,
        id: &AccountId,
        verification: &Verification,
    ) -> Result<(), StoreError> {
        if let Some(state) = self.lock().accounts.get_mut(id) {
            state.verification = Some(verification.clone());
        }
        Ok(())
    }

    async fn verify_account(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let mut state = self.lock();
        let awaited = state.accounts.values_mut().find(|state| {
            state.verification.as_ref().is_some_and(|verification| {
                verification.token_hash == token_hash && now < verification.expires_at
            })
        });
        Ok(awaited.map(|state| {
            state.verification = None;
            state.account.email_verified = true;
            state.account.updated_at = now;
            state.account.clone()
        }))
    }

    async fn set_notification_url(
        &self,
        id: &AccountId,
        url: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let mut state = self.lock();
        Ok(state.accounts.get_mut(id).map(|state| {
            state.account.notification_webhook_url = url.to_owned();
            state.account.updated_at = now;
            state.account.clone()
        }))
    }

    async fn notification_urls(&self, audience: &Audience) -> Result<Vec<String>, StoreError> {
        let state = self.lock();
        let accounts: Vec<&AccountState> = match audience {
            Audience::Account(id) => state.accounts.get(id).into_iter().collect(),
            Audience::EveryAccount => state.accounts.values().collect(),
        };
        Ok(accounts
            .into_iter()
            .map(|state| state.account.notification_webhook_url.clone())
            .filter(|url| !url.is_empty())
            .collect())
    }

    async fn insert_refresh_token(&self, token: &RefreshToken) -> Result<(), StoreError> {
        self.lock().insert_refresh_token(token);
        Ok(())
    }

    async fn refresh_token(&self, token_hash: &str) -> Result<Option<RefreshToken>, StoreError> {
        Ok(self.lock().refresh_token(token_hash))
    }

    async fn rotate_refresh_token(
        &self,
        token_hash: &str,
        spent_at: Timestamp,
        successor: &RefreshToken,
    ) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let live = state
            .refresh_token(token_hash)
            .is_some_and(|token| token.spent_at.is_none() && !token.revoked);
        if live {
            if let Some(token) = state.refresh_tokens.get_mut(token_hash) {
                token.spent_at = Some(spent_at);
            }
            state.insert_refresh_token(successor);
        }
        Ok(live)
    }

    async fn revoke_token_family(&self, family_id: &str) -> Result<(), StoreError> {
        self.lock().revoked_families.insert(family_id.to_owned());
        Ok(())
    }

    async fn revoke_refresh_tokens(&self, id: &AccountId) -> Result<(), StoreError> {
        let mut state = self.lock();
        let tokens = state.refresh_tokens.values();
        let families: Vec<String> = tokens
            .filter(|token| token.account_id == *id)
            .map(|token| token.family_id.clone())
            .collect();
        state.revoked_families.extend(families);
        Ok(())
    }

    async fn insert_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        self.lock()
            .api_keys
            .insert(key.key_hash.clone(), key.clone());
        Ok(())
    }

    async fn api_keys(&self, id: &AccountId) -> Result<Vec<ApiKey>, StoreError> {
        let state = self.lock();
        let keys = state.api_keys.values().filter(|key| key.account_id == *id);
        let mut keys: Vec<ApiKey> = keys.cloned().collect();
        keys.sort_by(|a, b| {
            b.created_at
                .cmp(&a.created_at)
                .then_with(|| a.id.cmp(&b.id))
        });
        Ok(keys)
    }

    async fn api_key_by_hash(&self, key_hash: &str) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.lock().api_keys.get(key_hash).cloned())
    }

    async fn revoke_api_key(&self, id: &AccountId, key_id: &str) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let mut keys = state.api_keys.values_mut();
        let key = keys.find(|key| key.account_id == *id && key.id == key_id);
        Ok(key.map(|key| key.revoked = true).is_some())
    }

    async fn touch_api_key(&self, key: &ApiKey, now: Timestamp) -> Result<(), StoreError> {
        if let Some(key) = self.lock().api_keys.get_mut(&key.key_hash) {
            key.last_used_at = key.last_used_at.max(Some(now));
        }
        Ok(())
    }

    async fn secret(&self, name: &str, candidate: &str) -> Result<String, StoreError> {
        let mut state = self.lock();
        let secret = state.secrets.entry(name.to_owned());
        Ok(secret.or_insert_with(|| candidate.to_owned()).clone())
    }

    async fn lease_notifications(
        &self,
        request: &LeaseRequest,
    ) -> Result<Vec<LeasedNotification>, StoreError> {
        let mut state = self.lock();
        let outbox = &mut state.outbox;
        let until = instant_after(request.now, request.duration);
        Ok(outbox
            .due(request)
            .into_iter()
            .filter_map(|id| {
                outbox.set_due(&id, until);
                let entry = outbox.entries.get_mut(&id)?;
                entry.round += 1;
                Some(LeasedNotification {
                    notification: entry.notification.clone(),
                    round: entry.round,
                })
            })
            .collect())
    }

    async fn notification_delivered(&self, id: &str) -> Result<(), StoreError> {
        self.lock().outbox.remove(id);
        Ok(())
    }

    async fn notification_failed(
        &self,
        id: &str,
        now: Timestamp,
        pause: Duration,
    ) -> Result<(), StoreError> {
        self.lock().outbox.set_due(id, instant_after(now, pause));
        Ok(())
    }

    async fn notification_abandoned(&self, id: &str) -> Result<(), StoreError> {
        self.lock().outbox.remove(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static STORE: LazyLock<MemoryStore> = LazyLock::new(MemoryStore::default);

    fn notification(n: usize, host: &str) -> Notification {
        Notification {
            id: format!("{host} {n}"),
            url: format!("http://{host}"),
            host: host.to_owned(),
            body: String::new(),
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_full_outbox_drops_what_is_more_and_no_host_fills_it_alone() {
        let mut outbox = Outbox::default();
        for n in 0..OUTBOX_CAPACITY_PER_HOST + 5 {
            outbox.add(&notification(n, "hanging"));
        }
        assert_eq!(
            (outbox.entries.len(), outbox.dropped),
            (OUTBOX_CAPACITY_PER_HOST, 5)
        );
        for n in 0..OUTBOX_CAPACITY {
            outbox.add(&notification(n, &format!("host {}", n % 100)));
        }
        assert_eq!(outbox.entries.len(), OUTBOX_CAPACITY);
        assert_eq!(outbox.dropped as usize, 5 + OUTBOX_CAPACITY_PER_HOST);
        outbox.remove("hanging 0");
        outbox.add(&notification(0, "another"));
        assert_eq!(outbox.entries.len(), OUTBOX_CAPACITY);
    }

    fn run(case: &str, test: impl AsyncFnOnce(&MemoryStore, &str)) {
        futures_executor::block_on(test(&STORE, case));
    }

    crate::store_suite!(run);
}
