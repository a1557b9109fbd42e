//! Agents, sessions and their history.

use std::collections::HashMap;
use std::sync::Arc;

use kubeagents_core::batch::Chain;
use kubeagents_core::store::{
    AgentCursor, AgentQuery, CommitOutcome, Expiry, Gathering, HistoryCursor, Page, Row as _,
    SessionCursor, SessionHistory, SessionQuery, SessionWalk, Sessions, SilenceNote,
    WorkspaceCursor, WorkspaceQuery,
};
use kubeagents_core::{
    Agent, Commit, MAX_TTL_MINUTES, NamedSession, Session, SessionKey, Snapshot, Status,
    StatusEntry, StoreError, Timestamp, Workspace, latest_expiry, search_key,
};
use serde::Serialize;
use serde_json::json;

use kubeagents_store_sql::{
    AgentWalk, QueuedNotification, QueuedSilence, Row, UnexpectedResult, context_text,
};

use crate::{Connection, SqliteStore, Value};

/// No session is unexpired longer than this after its last report.
const LONGEST_TTL_MICROS: i64 = MAX_TTL_MINUTES as i64 * 60_000_000;

/// ?1 the keys, as a JSON array of arrays.
const LOAD: &str = "
    SELECT a.name, iif(s.seq IS NULL, coalesce(a.session_count, (
            SELECT c.agents FROM agent_counts c WHERE c.workspace = k.value ->> 0
        ), 0), 0), s.seq, s.created, s.last_updated, s.ttl_minutes, s.title, s.status, s.reason, s.message,
        s.status_since, s.run_started, s.context, s.sequence, s.noted_at, s.hook, s.silence,
        coalesce(s.entries, s.seq)
    FROM json_each(?1) k
    LEFT JOIN agents a ON a.workspace = k.value ->> 0 AND a.agent_id = k.value ->> 1
    LEFT JOIN sessions s ON s.workspace = k.value ->> 0 AND s.agent_id = k.value ->> 1
        AND s.topic = k.value ->> 2
    ORDER BY k.key";

/// ?1 the chains, as a JSON array. A chain's `place` in it comes back if it has been applied.
const COMMIT: &str = "
    INSERT INTO chains
    SELECT key, value ->> 'workspace', value ->> 'agent_id', value ->> 'topic',
        value ->> 'expected_seq', value ->> 'agent_key', value ->> 'name', value ->> 'name_key',
        value ->> 'source', value ->> 'seq', value ->> 'created', value ->> 'last_updated',
        value ->> 'ttl_minutes', value ->> 'expires_at', value ->> 'status',
        value ->> 'run_started', value ->> 'title', value ->> 'reason', value ->> 'message', value ->> 'status_since', value ->> 'context',
        value ->> 'sequence', value ->> 'noted_at', value ->> 'hook', value ->> 'silence',
        value ->> 'entries', value ->> 'outdated', value ->> 'removed', value -> 'statuses',
        value -> 'notifications'
    FROM json_each(?1)
    RETURNING place";

/// ?1 after when, ?2 until when, ?3 how many.
const SILENCES: &str = "
    SELECT s.workspace, s.agent_id, s.topic,
        (SELECT a.name FROM agents a
            WHERE a.workspace = s.workspace AND a.agent_id = s.agent_id),
        0, s.seq, s.created, s.last_updated, s.ttl_minutes, s.title, s.status, s.reason, s.message,
        s.status_since, s.run_started, s.context, s.sequence, s.noted_at, s.hook, s.silence,
        coalesce(s.entries, s.seq)
    FROM sessions s INDEXED BY sessions_watched
    WHERE s.silence = 1 AND s.expires_at > ?1 AND s.expires_at <= ?2
    ORDER BY s.expires_at LIMIT ?3";

/// ?1 the notes, as a JSON array. A note's `place` in it comes back if it has been made.
const NOTE_SILENCES: &str = "
    INSERT INTO silences
    SELECT key, value ->> 'workspace', value ->> 'agent_id', value ->> 'topic', value ->> 'seq',
        value -> 'notifications'
    FROM json_each(?1)
    RETURNING place";

/// ?1 workspace; ?2, ?3: unexpired sessions expire after the first and not after the second.
macro_rules! select_agents {
    ($table:literal, $rest:literal) => {
        concat!(
            "SELECT a.agent_id, a.name, a.source, a.registered, a.last_seen, a.session_count,
                (SELECT count(*) FROM sessions c
                    WHERE c.workspace = a.workspace AND c.agent_id = a.agent_id
                        AND c.expires_at > ?2 AND c.expires_at <= ?3),
                s.status, s.message
            FROM ",
            $table,
            " a
            LEFT JOIN sessions s
                ON s.workspace = a.workspace AND s.agent_id = a.agent_id AND s.topic = (
                    SELECT l.topic FROM sessions l
                    WHERE l.workspace = a.workspace AND l.agent_id = a.agent_id
                        AND l.expires_at > ?2 AND l.expires_at <= ?3
                    ORDER BY l.last_updated DESC, l.topic LIMIT 1
                )
            WHERE a.workspace = ?1 AND ",
            $rest
        )
    };
}

const AGENT: &str = select_agents!("agents", "a.agent_id = ?4");

/// ?4, ?5 after this agent, ?6 only those seen since, ?7 how many to look at, ?8 search key, ?9
/// status, ?10 how many of them are wanted.
const AGENTS: &str = concat!(
    "WITH looked_at AS MATERIALIZED (
        SELECT * FROM agents
        WHERE workspace = ?1 AND last_seen <= ?4 AND (last_seen < ?4 OR agent_id > ?5)
            AND last_seen > ?6
        ORDER BY last_seen DESC, agent_id LIMIT ?7
    )
    SELECT (SELECT count(*) FROM looked_at), final.last_seen, final.agent_id,
        found.agent_id IS NOT NULL, found.*
    FROM (SELECT last_seen, agent_id FROM looked_at ORDER BY last_seen, agent_id DESC LIMIT 1) final
    LEFT JOIN (",
    select_agents!(
        "looked_at",
        "(instr(a.agent_key, ?8) OR instr(a.name_key, ?8)) AND (?9 IS NULL OR s.status = ?9)
        ORDER BY a.last_seen DESC, a.agent_id LIMIT ?10"
    ),
    ") found ON TRUE
    ORDER BY found.last_seen DESC, found.agent_id"
);

const SESSIONS: &str = "
    SELECT topic, title, created, last_updated, ttl_minutes, status, status_since, reason, message,
        context
    FROM sessions
    WHERE workspace = ?1 AND agent_id = ?2
        AND last_updated BETWEEN ?3 AND ?4 AND (last_updated < ?4 OR topic > ?5)
        AND (expires_at > ?6 AND expires_at <= ?7) = ?8
    ORDER BY last_updated DESC, topic LIMIT ?9";

/// ?2, ?3, ?4: after this session; ?5: only those updated since.
const WORKSPACE_SESSIONS: &str = "
    SELECT s.agent_id, a.name, s.topic, s.title, s.created, s.last_updated, s.ttl_minutes, s.status,
        s.status_since, s.reason, s.message, s.context
    FROM sessions s CROSS JOIN agents a USING (workspace, agent_id)
    WHERE s.workspace = ?1 AND s.last_updated <= ?2
        AND (s.last_updated < ?2 OR (s.agent_id, s.topic) > (?3, ?4)) AND s.last_updated > ?5
    ORDER BY s.last_updated DESC, s.agent_id, s.topic LIMIT ?6";

/// The session's texts come with its newest status only, since they may be longer than that.
const SESSION: &str = "
    SELECT h.seq, h.status, h.timestamp, h.reason, h.message, h.content,
        h.seq IS n.seq, s.topic, iif(h.seq IS n.seq, s.title, NULL), s.created, s.last_updated,
        s.ttl_minutes, s.status, s.status_since, s.reason, iif(h.seq IS n.seq, s.message, NULL),
        iif(h.seq IS n.seq, s.context, NULL)
    FROM (
        SELECT max(seq) AS seq FROM statuses
        WHERE workspace = ?1 AND agent_id = ?2 AND topic = ?3 AND seq < ?4
    ) n CROSS JOIN sessions s
    LEFT JOIN statuses h
        ON h.workspace = s.workspace AND h.agent_id = s.agent_id AND h.topic = s.topic
            AND h.seq < ?4
    WHERE s.workspace = ?1 AND s.agent_id = ?2 AND s.topic = ?3
    ORDER BY h.seq DESC LIMIT ?5";

const HISTORY: &str = "
    SELECT topic, seq, status, timestamp, reason, message, content FROM statuses
    WHERE workspace = ?1 AND agent_id = ?2 AND timestamp <= ?3
        AND (timestamp < ?3 OR topic > ?4 OR (topic = ?4 AND seq < ?5))
    ORDER BY timestamp DESC, topic, seq DESC LIMIT ?6";

/// ?2 since, ?3 how many.
const RENAMED: &str = "
    SELECT agent_id, name FROM renamed_agents CROSS JOIN agents USING (workspace, agent_id)
    WHERE workspace = ?1 AND renamed > ?2 LIMIT ?3";

/// A chain as [`COMMIT`] reads it.
#[derive(Serialize)]
struct ChainRow<'a> {
    workspace: &'a str,
    agent_id: &'a str,
    topic: &'a str,
    expected_seq: u64,
    agent_key: String,
    name: Option<&'a str>,
    name_key: Option<String>,
    source: Option<&'a str>,
    seq: u64,
    created: i64,
    last_updated: i64,
    ttl_minutes: u32,
    expires_at: i64,
    status: &'static str,
    run_started: Option<i64>,
    title: &'a str,
    reason: &'a str,
    message: &'a str,
    status_since: i64,
    context: String,
    sequence: Option<u64>,
    noted_at: i64,
    hook: &'a str,
    silence: u8,
    entries: u64,
    /// The number of the newest status that is not to be kept, and how many are removed at most.
    outdated: u64,
    removed: u64,
    statuses: Vec<StatusRow<'a>>,
    notifications: Vec<QueuedNotification<'a>>,
}

#[derive(Serialize)]
struct StatusRow<'a> {
    seq: u64,
    status: &'static str,
    timestamp: i64,
    reason: &'a str,
    message: &'a str,
    content: &'a str,
    number: u64,
}

impl<'a> From<&'a Chain> for ChainRow<'a> {
    fn from(chain: &'a Chain) -> Self {
        let (key, head) = (chain.key(), chain.head());
        let status = |(commit, entry): (&'a Commit, &'a StatusEntry)| StatusRow {
            seq: commit.session.seq,
            status: entry.status.as_str(),
            timestamp: entry.timestamp.timestamp_micros(),
            reason: &entry.reason,
            message: &entry.message,
            content: &entry.content,
            number: commit.session.entries,
        };
        Self {
            workspace: key.workspace.key(),
            agent_id: &key.agent_id,
            topic: &key.session_topic,
            expected_seq: chain.expected_seq(),
            agent_key: search_key(&key.agent_id),
            name: chain.agent_name(),
            name_key: chain.agent_name().map(search_key),
            source: chain.agent_source(),
            seq: head.seq,
            created: head.created.timestamp_micros(),
            last_updated: head.last_updated.timestamp_micros(),
            ttl_minutes: head.ttl_minutes,
            expires_at: head.expires_at().timestamp_micros(),
            status: head.status.as_str(),
            run_started: head.run_started.map(|start| start.timestamp_micros()),
            title: &head.title,
            reason: &head.reason,
            message: &head.message,
            status_since: head.status_since.timestamp_micros(),
            context: context_text(&head.context),
            sequence: head.sequence,
            noted_at: head.noted_at.timestamp_micros(),
            hook: &head.hook,
            silence: head.silence.code(),
            entries: head.entries,
            outdated: chain.last().outdated(),
            removed: chain.removed_at_most(),
            statuses: chain.with_kept_entries().map(status).collect(),
            notifications: chain
                .commits()
                .flat_map(|commit| &commit.notifications)
                .map(QueuedNotification::from)
                .collect(),
        }
    }
}

fn status(
    row: &mut Row,
    agent_id: &Arc<str>,
    session_topic: Arc<str>,
    seq: u64,
) -> Result<Status, UnexpectedResult> {
    Ok(Status {
        agent_id: Arc::clone(agent_id),
        session_topic,
        seq,
        entry: Arc::new(StatusEntry {
            status: row.status()?,
            timestamp: row.instant()?,
            reason: row.text()?,
            message: row.text()?,
            content: row.text()?,
        }),
    })
}

impl<C: Connection> SqliteStore<C> {
    /// The agents of a workspace, at most `limit`, that have got another name after `since`, with that
    /// name.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn renamed_since(
        &self,
        workspace: &Workspace,
        since: Timestamp,
        limit: usize,
    ) -> Result<HashMap<String, String>, StoreError> {
        let parameters = [workspace.into(), since.into(), limit.into()];
        let read = |row: &mut Row| Ok((row.text()?, row.text()?));
        let renamed = self.lists.all(RENAMED, parameters, read).await?;
        Ok(renamed.into_iter().collect())
    }
}

impl<C: Connection> Sessions for SqliteStore<C> {
    async fn load_many(&self, keys: &[SessionKey]) -> Result<Vec<Snapshot>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let texts =
            |key: &SessionKey| json!([key.workspace.key(), key.agent_id, key.session_topic]);
        let keys: serde_json::Value = keys.iter().map(texts).collect();
        self.writer
            .all(LOAD, [(&keys.to_string()).into()], Row::snapshot)
            .await
    }

    async fn commit_many(&self, chains: &[Chain]) -> Result<Vec<CommitOutcome>, StoreError> {
        if chains.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<ChainRow<'_>> = chains.iter().map(ChainRow::from).collect();
        let rows = serde_json::to_string(&rows).map_err(StoreError::unavailable)?;
        let applied = self
            .writer
            .all(COMMIT, [Value::Text(rows)], Row::int::<usize>);
        let mut outcomes = vec![CommitOutcome::Conflict; chains.len()];
        for place in applied.await? {
            *outcomes
                .get_mut(place)
                .ok_or(UnexpectedResult("a place beyond the group"))? = CommitOutcome::Committed;
        }
        let commits = chains.iter().flat_map(Chain::commits);
        self.log_full(commits.flat_map(|commit| &commit.notifications))
            .await;
        Ok(outcomes)
    }

    async fn revision(&self) -> Result<Option<i64>, StoreError> {
        // What other connections have changed. Each counts for itself: where lists have several, the number
        // may be another without a report.
        let changes = "PRAGMA data_version";
        self.lists.first(changes, [], Row::int).await
    }

    async fn silences(
        &self,
        after: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Snapshot)>, StoreError> {
        let parameters = [after.into(), until.into(), limit.into()];
        let read = Row::named_snapshot;
        self.lookups.all(SILENCES, parameters, read).await
    }

    async fn note_silences(&self, notes: &[SilenceNote]) -> Result<Vec<bool>, StoreError> {
        let rows: Vec<QueuedSilence<'_>> = notes.iter().map(QueuedSilence::from).collect();
        let parameters = [(&json!(rows).to_string()).into()];
        let noted = self
            .writer
            .all(NOTE_SILENCES, parameters, Row::int::<usize>)
            .await?;
        let queued = notes.iter().flat_map(|note| &note.notifications);
        self.log_full(queued).await;
        Ok((0..notes.len())
            .map(|place| noted.contains(&place))
            .collect())
    }

    async fn agents(
        &self,
        workspace: &Workspace,
        query: &AgentQuery,
        now: Timestamp,
    ) -> Result<Page<Agent, AgentCursor>, StoreError> {
        // An agent with an unexpired session was seen when that was updated.
        let seen_after = query
            .status
            .map_or(i64::MIN, |_| now.timestamp_micros() - LONGEST_TTL_MICROS);
        let mut walk = AgentWalk::new(query);
        loop {
            let (last_seen, agent_id) = match walk.after() {
                Some(place) => (place.last_seen.into(), (&place.agent_id).into()),
                None => (Value::Integer(i64::MAX), "".into()),
            };
            let parameters = [
                workspace.into(),
                now.into(),
                latest_expiry(now).into(),
                last_seen,
                agent_id,
                Value::Integer(seen_after),
                walk.window().into(),
                query.search.as_deref().unwrap_or_default().into(),
                query.status.into(),
                walk.wanted().into(),
            ];
            let seen = self
                .lists
                .all(AGENTS, parameters, |row| AgentWalk::read(row, workspace));
            if walk.add(seen.await?).is_break() {
                return Ok(walk.page());
            }
        }
    }

    async fn agent(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        now: Timestamp,
    ) -> Result<Option<Agent>, StoreError> {
        let parameters = [
            workspace.into(),
            now.into(),
            latest_expiry(now).into(),
            agent_id.into(),
        ];
        self.lookups
            .first(AGENT, parameters, |row| row.agent(workspace))
            .await
    }

    async fn sessions(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        query: &SessionQuery,
        now: Timestamp,
    ) -> Result<Page<Session, SessionCursor>, StoreError> {
        let until = latest_expiry(now).timestamp_micros();
        let now = now.timestamp_micros();
        let (updated_since, expires_after, expires_until, is_wanted) = match query.expiry {
            Expiry::Any => (i64::MIN, i64::MIN, i64::MAX, true),
            Expiry::Unexpired => (now - LONGEST_TTL_MICROS, now, until, true),
            Expiry::Expired => (i64::MIN, now, until, false),
        };
        let (mut updated_until, mut topic) = match &query.after {
            Some(place) => (place.last_updated.into(), (&place.session_topic).into()),
            None => (Value::Integer(i64::MAX), "".into()),
        };
        let mut sessions = Gathering::new(query.limit);
        loop {
            let parameters = [
                workspace.into(),
                agent_id.into(),
                Value::Integer(updated_since),
                updated_until,
                topic,
                Value::Integer(expires_after),
                Value::Integer(expires_until),
                Value::Integer(is_wanted.into()),
                sessions.wanted().into(),
            ];
            let read = |row: &mut Row| row.session(agent_id.to_owned());
            let batch = self.lists.all(SESSIONS, parameters, read);
            match sessions.extend(batch.await?) {
                Some(last) => {
                    updated_until = last.last_updated.into();
                    topic = (&last.session_topic).into();
                }
                None => break,
            }
        }
        Ok(sessions.page(SessionCursor::after))
    }

    async fn workspace_sessions(
        &self,
        workspace: &Workspace,
        query: &WorkspaceQuery,
        now: Timestamp,
    ) -> Result<Page<NamedSession, WorkspaceCursor>, StoreError> {
        let mut walk = SessionWalk::new(query, now, NamedSession::AT_ONCE);
        let updated_after = walk
            .updated_after()
            .map_or(Value::Integer(i64::MIN), Value::from);
        loop {
            let window = walk.window();
            let (last_updated, agent_id, topic) = match walk.after() {
                Some(place) => (
                    place.last_updated.into(),
                    (&place.agent_id).into(),
                    (&place.session_topic).into(),
                ),
                None => (Value::Integer(i64::MAX), "".into(), "".into()),
            };
            let parameters = [
                workspace.into(),
                last_updated,
                agent_id,
                topic,
                updated_after.clone(),
                window.into(),
            ];
            let sessions = self
                .lists
                .all(WORKSPACE_SESSIONS, parameters, Row::named_session);
            let sessions = sessions.await?;
            let is_last = sessions.len() < window;
            if walk.add(sessions, is_last).is_break() {
                return Ok(walk.page());
            }
        }
    }

    async fn session(
        &self,
        key: &SessionKey,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Option<SessionHistory>, StoreError> {
        let (agent_id, topic) = (Arc::from(&*key.agent_id), Arc::from(&*key.session_topic));
        let mut found = None;
        let mut history = Gathering::new(limit);
        let mut before = before.unwrap_or(u64::MAX);
        loop {
            let parameters = [
                (&key.workspace).into(),
                (&key.agent_id).into(),
                (&key.session_topic).into(),
                before.into(),
                history.wanted().into(),
            ];
            let mut batch = Vec::new();
            for mut row in self.lists.run(SESSION, parameters).await? {
                match row.optional_int()? {
                    Some(seq) => {
                        batch.push(status(&mut row, &agent_id, Arc::clone(&topic), seq)?);
                    }
                    None => row.skip(5),
                }
                if row.bool()? {
                    found = Some(row.session(key.agent_id.clone())?);
                }
            }
            match history.extend(batch) {
                Some(last) => before = last.seq,
                None => break,
            }
        }
        Ok(found.map(|session| SessionHistory {
            session,
            history: history.page(|status| status.seq),
        }))
    }

    async fn history(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        before: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Page<Status, HistoryCursor>, StoreError> {
        let (mut timestamp, mut topic, mut seq) = match before {
            Some(place) => (
                place.timestamp.into(),
                place.session_topic.clone(),
                place.seq,
            ),
            None => (Value::Integer(i64::MAX), String::new(), 0),
        };
        let shown_id = Arc::from(agent_id);
        let mut history = Gathering::new(limit);
        loop {
            let parameters = [
                workspace.into(),
                agent_id.into(),
                timestamp,
                (&topic).into(),
                seq.into(),
                history.wanted().into(),
            ];
            let batch = self.lists.all(HISTORY, parameters, |row| {
                let (topic, seq) = (row.text()?, row.int()?);
                status(row, &shown_id, topic.into(), seq)
            });
            match history.extend(batch.await?) {
                Some(last) => {
                    timestamp = last.entry.timestamp.into();
                    topic = last.session_topic.to_string();
                    seq = last.seq;
                }
                None => break,
            }
        }
        Ok(history.page(HistoryCursor::after))
    }
}
