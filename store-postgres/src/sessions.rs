//! Agents, sessions and their history.
//!
//! A list is walked by an index in its own order. Where there is no cursor or no filter, a bound
//! that admits everything stands in, so that one statement with one plan serves all cases.

/// The columns of notifications in JSON, as `n`.
macro_rules! queued_columns {
    () => {
        "AS n(id text, workspace text, host text, url text, body text, channel text, \
            created_at bigint, delay bigint)"
    };
}

/// The place of the notification `n` among those that wait for its receiver, `place`, counted to the
/// limit and not beyond it.
macro_rules! queue_place {
    ($limit:literal) => {
        concat!(
            "row_number() OVER (\
                PARTITION BY n.workspace, n.channel ORDER BY n.created_at, n.id) + (\
                SELECT count(*) FROM (\
                    SELECT FROM kubeagents_data.outbox AS waiting \
                    WHERE waiting.workspace = n.workspace AND waiting.channel = n.channel LIMIT ",
            $limit,
            "::bigint) AS waiting) AS place"
        )
    };
}

/// Queues what `queued` holds, up to the limit of each receiver. What finds no room is dropped, and of
/// a channel's it is kept why, for as many as are kept; all are counted. Rows that others are deleting
/// are passed over: those may wait for this commit. For the same reason a count that another is adding
/// to is not waited for: another row is begun.
macro_rules! insert_queued {
    ($limit:literal, $why:literal, $kept:literal) => {
        concat!(
            "dropped AS (\
                INSERT INTO kubeagents_data.deliveries (id, workspace, channel, event, agent_id, \
                    session_topic, attempts, error, state, created_at, finished_at) \
                SELECT id, workspace, channel, body::jsonb ->> 'event', \
                    body::jsonb ->> 'agent_id', body::jsonb ->> 'session_topic', 0, ",
            $why,
            "::text, 'dropped', created_at, created_at \
                FROM queued WHERE place > ",
            $limit,
            "::bigint AND channel <> '' AND NOT EXISTS (\
                    SELECT FROM kubeagents_data.outbox AS waiting WHERE waiting.id = queued.id) \
                ON CONFLICT (id) DO NOTHING \
                RETURNING workspace, channel), \
            overflow AS MATERIALIZED (\
                SELECT workspace, channel, count(*) AS added FROM (\
                    SELECT workspace, channel FROM dropped UNION ALL \
                    SELECT workspace, channel FROM queued WHERE channel = '' AND place > ",
            $limit,
            "::bigint) AS lost \
                GROUP BY workspace, channel), \
            counter AS MATERIALIZED (\
                SELECT one.id, overflow.workspace, overflow.channel, overflow.added \
                FROM overflow CROSS JOIN LATERAL (\
                    SELECT counted.id FROM kubeagents_data.overflows AS counted \
                    WHERE counted.channel = overflow.channel \
                    AND counted.workspace = overflow.workspace LIMIT 1 FOR UPDATE SKIP LOCKED\
                ) AS one), \
            more AS (\
                UPDATE kubeagents_data.overflows AS counted SET dropped = dropped + counter.added \
                FROM counter WHERE counted.id = counter.id), \
            begun AS (\
                INSERT INTO kubeagents_data.overflows (workspace, channel, dropped) \
                SELECT workspace, channel, added FROM overflow \
                WHERE (workspace, channel) NOT IN (SELECT workspace, channel FROM counter)), \
            forgotten AS (\
                DELETE FROM kubeagents_data.deliveries WHERE id IN (\
                    SELECT id FROM kubeagents_data.deliveries WHERE id IN (\
                        SELECT old.id FROM (\
                            SELECT DISTINCT channel FROM queued WHERE place > ",
            $limit,
            "::bigint AND channel <> '') AS full_one CROSS JOIN LATERAL (\
                            SELECT of_channel.id FROM kubeagents_data.deliveries AS of_channel \
                            WHERE of_channel.channel = full_one.channel \
                            ORDER BY of_channel.created_at DESC, of_channel.id OFFSET ",
            $kept,
            "::bigint) AS old) \
                    FOR UPDATE SKIP LOCKED)), \
            notifications AS (\
            INSERT INTO kubeagents_data.outbox (id, workspace, host, url, body, channel, \
                created_at, due_at, ready) \
            SELECT id, workspace, host, url, body, channel, created_at, \
                kubeagents_data.now_micros() + delay, delay = 0 \
            FROM queued WHERE place <= ",
            $limit,
            "::bigint ON CONFLICT (id) DO NOTHING)"
        )
    };
}

mod group;
mod silence;
mod single;

use std::cmp::Reverse;
use std::sync::Arc;

use kubeagents_core::{
    Agent, Commit, MAX_TTL_MINUTES, NamedSession, Notification, Session, SessionKey, Snapshot,
    Status, StatusEntry, StatusKind, StoreError, Timestamp, Workspace,
    batch::Chain,
    latest_expiry,
    store::{
        AgentCursor, AgentQuery, CommitOutcome, Expiry, HistoryCursor, MAX_PAGE_BYTES, Page,
        SessionCursor, SessionHistory, SessionQuery, SessionWalk, Sessions, SilenceNote,
        WorkspaceCursor, WorkspaceQuery, log_full,
    },
};

use kubeagents_store_sql::{AgentWalk, QueuedNotification};

use crate::query::Fetch;
use crate::value::saturating;
use crate::{PostgresStore, Query, Row, UnexpectedResult, Value};

/// The longest TTL, in microseconds: a session that was updated longer ago is expired.
const LONGEST_TTL: i64 = MAX_TTL_MINUTES as i64 * 60 * 1_000_000;

/// The `last_seen` of an agent that a report patches, as `AgentPatch::seen` says: a maximum, unless
/// what is stored is ahead by more than the longest TTL.
macro_rules! last_seen {
    () => {
        "CASE WHEN agent.last_seen > excluded.last_seen + 86400000000 \
            THEN excluded.last_seen ELSE greatest(agent.last_seen, excluded.last_seen) END"
    };
}
use last_seen;

/// What an insert of agents that patches those it finds returns of each: whether it was not there.
macro_rules! is_new_agent {
    () => {
        " RETURNING agent.workspace, agent.xmax = 0 AS is_new"
    };
}
use is_new_agent;

/// Counts the new agents among those that `$patches` returns, once all their rows are locked.
macro_rules! count_agents {
    ($patches:literal) => {
        concat!(
            "counted AS (\
                INSERT INTO kubeagents_data.agent_counts AS counted (workspace, agents) \
                SELECT workspace, count(*) FROM ",
            $patches,
            " WHERE is_new GROUP BY workspace ORDER BY workspace \
                ON CONFLICT (workspace) DO UPDATE SET agents = counted.agents + excluded.agents)"
        )
    };
}
use count_agents;

/// The transaction under way, as rows keep it that it changes.
macro_rules! this_transaction {
    () => {
        "pg_current_xact_id()::text::bigint"
    };
}
use this_transaction;

/// `$1` workspace; `$2`, `$3`: unexpired sessions expire after the first and not after the second; `$4`:
/// they were updated since.
macro_rules! agent_columns {
    ($table:literal) => {
        concat!(
            "SELECT agent.agent_id, agent.name, agent.source, agent.registered, agent.last_seen, \
            agent.session_count, \
            (SELECT count(*) FROM kubeagents_data.sessions AS session \
                WHERE session.workspace = $1::text AND session.agent_id = agent.agent_id \
                AND session.last_updated > $4::bigint AND session.expires_at > $2::bigint \
            AND session.expires_at <= $3::bigint), \
            latest.status, latest.message \
        FROM ",
            $table,
            " AS agent \
        LEFT JOIN LATERAL (\
            SELECT session.status, session.message FROM kubeagents_data.sessions AS session \
            WHERE session.workspace = $1::text AND session.agent_id = agent.agent_id \
            AND session.last_updated > $4::bigint AND session.expires_at > $2::bigint \
            AND session.expires_at <= $3::bigint \
            ORDER BY session.last_updated DESC, session.session_topic LIMIT 1\
        ) AS latest ON true "
        )
    };
}

const AGENT: &str = concat!(
    agent_columns!("kubeagents_data.agents"),
    "WHERE agent.workspace = $1::text AND agent.agent_id = $5::text"
);

/// `$5`, `$6`: after this agent; `$7`: only those seen since; `$8`: how many to look at; `$9`: search
/// key; `$10`: status; `$11`: how many of them are wanted.
const AGENTS: &str = concat!(
    "WITH looked_at AS MATERIALIZED (\
        SELECT * FROM kubeagents_data.agents \
        WHERE workspace = $1::text AND last_seen <= $5::bigint \
        AND (last_seen < $5::bigint OR agent_id > $6::text) AND last_seen > $7::bigint \
        ORDER BY last_seen DESC, agent_id LIMIT $8::bigint\
    ) \
    SELECT (SELECT count(*) FROM looked_at), final.last_seen, final.agent_id, \
        found.agent_id IS NOT NULL, found.* \
    FROM (\
        SELECT last_seen, agent_id FROM looked_at ORDER BY last_seen, agent_id DESC LIMIT 1\
    ) AS final \
    LEFT JOIN (",
    agent_columns!("looked_at"),
    "WHERE ($9::text IS NULL OR strpos(agent.agent_id_key, $9::text) > 0 \
            OR strpos(agent.name_key, $9::text) > 0) \
        AND ($10::text IS NULL OR latest.status = $10::text) \
        ORDER BY agent.last_seen DESC, agent.agent_id LIMIT $11::bigint\
    ) AS found ON true \
    ORDER BY found.last_seen DESC, found.agent_id"
);

/// The first rows of `$from`: so many, or until these texts of them take up so many bytes. The one
/// after that is among them, which shows that the list goes on.
macro_rules! first_rows {
    ($from:literal, $order:literal, $texts:literal, $rows:literal, $bytes:literal) => {
        concat!(
            "(SELECT *, sum(",
            $texts,
            ") OVER (ORDER BY ",
            $order,
            " ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING) AS bytes_before FROM ",
            $from,
            " ORDER BY ",
            $order,
            " LIMIT ",
            $rows,
            "::bigint) AS listed WHERE coalesce(bytes_before, 0) < ",
            $bytes,
            "::bigint"
        )
    };
}

/// `$3`, `$4`: after this session; `$5`: only those updated since; `$6`, `$7`, `$8`: only those of which
/// it is true, or not, that they expire after the first and not after the second; `$9`, `$10`: at most
/// so many rows and bytes.
const SESSIONS: &str = concat!(
    "SELECT session_topic, title, created, last_updated, ttl_minutes, status, status_since, \
        reason, message, context FROM ",
    first_rows!(
        "kubeagents_data.sessions \
        WHERE workspace = $1::text AND agent_id = $2::text AND last_updated <= $3::bigint \
        AND (last_updated < $3::bigint OR session_topic > $4::text) \
        AND last_updated > $5::bigint \
        AND (expires_at > $6::bigint AND expires_at <= $7::bigint) = $8::boolean",
        "last_updated DESC, session_topic",
        "octet_length(session_topic) + octet_length(title) + octet_length(message) \
        + octet_length(context)",
        "$9",
        "$10"
    ),
    " ORDER BY last_updated DESC, session_topic"
);

/// `$2`, `$3`, `$4`: after this session; `$5`: only those updated since; `$6`, `$7`: at most so many rows
/// and bytes.
const WORKSPACE_SESSIONS: &str = concat!(
    "SELECT agent_id, (SELECT agent.name FROM kubeagents_data.agents AS agent \
            WHERE agent.workspace = $1::text AND agent.agent_id = listed.agent_id), \
        session_topic, title, created, last_updated, ttl_minutes, status, status_since, reason, \
        message, context FROM ",
    first_rows!(
        "kubeagents_data.sessions \
        WHERE workspace = $1::text AND last_updated <= $2::bigint \
        AND (last_updated < $2::bigint OR (agent_id, session_topic) > ($3::text, $4::text)) \
        AND last_updated > $5::bigint",
        "last_updated DESC, agent_id, session_topic",
        "octet_length(agent_id) + octet_length(session_topic) + octet_length(title) \
        + octet_length(message) + octet_length(context)",
        "$6",
        "$7"
    ),
    " ORDER BY last_updated DESC, agent_id, session_topic"
);

/// A session, whose `seq` is NULL, and its statuses, in no order, which would cost PostgreSQL a sort. What is
/// alike shares a column, since each column costs time in each row. `$4`: before this one; `$5`, `$6`: at
/// most so many rows and bytes of them.
const SESSION: &str = concat!(
    "SELECT NULL::bigint AS seq, last_updated, status, reason, message, context, \
        title, created, ttl_minutes, status_since \
    FROM kubeagents_data.sessions \
    WHERE workspace = $1::text AND agent_id = $2::text AND session_topic = $3::text \
    UNION ALL \
    SELECT seq, \"timestamp\", status, reason, message, content, NULL, NULL, NULL, NULL FROM ",
    first_rows!(
        "kubeagents_data.statuses \
        WHERE workspace = $1::text AND agent_id = $2::text AND session_topic = $3::text \
        AND seq < $4::bigint",
        "seq DESC",
        "octet_length(message) + octet_length(content)",
        "$5",
        "$6"
    )
);

/// `$3`, `$4`, `$5`: after this status; `$6`, `$7`: at most so many rows and bytes.
const HISTORY: &str = concat!(
    "SELECT session_topic, seq, \"timestamp\", status, reason, message, content FROM ",
    first_rows!(
        "kubeagents_data.statuses \
        WHERE workspace = $1::text AND agent_id = $2::text AND \"timestamp\" <= $3::bigint \
        AND (\"timestamp\" < $3::bigint OR session_topic > $4::text \
            OR session_topic = $4::text AND seq < $5::bigint)",
        "\"timestamp\" DESC, session_topic, seq DESC",
        "octet_length(session_topic) + octet_length(message) + octet_length(content)",
        "$6",
        "$7"
    ),
    " ORDER BY \"timestamp\" DESC, session_topic, seq DESC"
);

/// A number that grows with the transactions that change anything in any database of the server.
const REVISION: &str = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";

/// A number of rows or bytes.
fn number(count: usize) -> Value<'static> {
    saturating(count).into()
}

/// The number of rows to read for a page of so many: one more shows that the list goes on.
fn rows_of_page(limit: usize) -> Value<'static> {
    number(limit.saturating_add(1))
}

/// Notifications as the JSON that a commit statement takes; `None` where there are none.
fn notifications_json(notifications: &[Notification]) -> Option<String> {
    let queued: Vec<_> = notifications.iter().map(QueuedNotification::from).collect();
    (!queued.is_empty()).then(|| serde_json::json!(queued).to_string())
}

/// Runs a commit, which returns a number for what is stored or a workspace whose last place in the
/// outbox it took. Returns the numbers, and logs the workspaces.
async fn gathered(
    query: &impl Query,
    sql: &'static str,
    params: &[Value<'_>],
) -> Result<Vec<i64>, StoreError> {
    let read = |row: &mut Row| Ok((row.optional_int::<i64>()?, row.optional_text()?));
    let rows = query.all(sql, params, read).await?;
    let stored = rows.into_iter().filter_map(|(number, full)| {
        full.map(Workspace::from_key).iter().for_each(log_full);
        number
    });
    Ok(stored.collect())
}

fn status_from(
    row: &mut Row,
    seq: i64,
    agent_id: &Arc<str>,
    session_topic: Arc<str>,
) -> Result<Status, UnexpectedResult> {
    Ok(Status {
        agent_id: Arc::clone(agent_id),
        session_topic,
        entry: Arc::new(StatusEntry {
            timestamp: row.instant()?,
            status: row.status()?,
            reason: row.text()?,
            message: row.text()?,
            content: row.text()?,
        }),
        seq: seq
            .try_into()
            .map_err(|_| UnexpectedResult("a negative place"))?,
    })
}

const LOCK: &str = "\
SELECT last_seen FROM kubeagents_data.agents \
WHERE workspace = $1::text AND agent_id = $2::text FOR UPDATE";

impl<Q: Query, C> PostgresStore<Q, C> {
    /// Locks the row of a session's agent, if there is one, until the end of the transaction that the
    /// driver runs its statements in. Every commit on a known session locks it first, so no other
    /// can be faster, and none that holds the session waits for it.
    ///
    /// # Errors
    /// Those of the driver.
    pub async fn lock_agent(&self, key: &SessionKey) -> Result<(), StoreError> {
        let params = [key.workspace.key().into(), Value::from(&key.agent_id)];
        self.query.execute(LOCK, &params).await
    }
}

impl<Q: Query, C> Sessions for PostgresStore<Q, C> {
    async fn load_many(&self, keys: &[SessionKey]) -> Result<Vec<Snapshot>, StoreError> {
        group::load(&self.query, keys).await
    }

    async fn commit_many(&self, chains: &[Chain]) -> Result<Vec<CommitOutcome>, StoreError> {
        group::commit(&self.query, chains).await
    }

    async fn commit(&self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        single::commit(&self.query, commit).await
    }

    async fn clock(&self, _: Timestamp) -> Result<Timestamp, StoreError> {
        silence::clock(&self.query).await
    }

    async fn revision(&self) -> Result<Option<i64>, StoreError> {
        self.query.one(REVISION, &[], Row::int).await.map(Some)
    }

    async fn silences(
        &self,
        after: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Snapshot)>, StoreError> {
        silence::find(&self.query, after, until, limit).await
    }

    async fn note_silences(&self, notes: &[SilenceNote]) -> Result<Vec<bool>, StoreError> {
        silence::note(&self.query, notes).await
    }

    async fn agents(
        &self,
        workspace: &Workspace,
        query: &AgentQuery,
        now: Timestamp,
    ) -> Result<Page<Agent, AgentCursor>, StoreError> {
        let latest_expiry = latest_expiry(now);
        let now = now.timestamp_micros();
        // An agent with an unexpired session was seen when that was updated.
        let seen_after = query.status.map_or(i64::MIN, |_| now - LONGEST_TTL);
        let mut walk = AgentWalk::new(query);
        loop {
            let after = walk.after();
            let last_seen = after.map_or(i64::MAX, |place| place.last_seen.timestamp_micros());
            let params = [
                workspace.key().into(),
                now.into(),
                latest_expiry.into(),
                (now - LONGEST_TTL).into(),
                last_seen.into(),
                after.map_or("", |place| &place.agent_id).into(),
                seen_after.into(),
                number(walk.window()),
                query.search.as_deref().into(),
                query.status.map(StatusKind::as_str).into(),
                number(walk.wanted()),
            ];
            let read = |row: &mut Row| AgentWalk::read(row, workspace);
            let seen = self.query.lists().all(AGENTS, &params, read).await?;
            if walk.add(seen).is_break() {
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
        let params = [
            workspace.key().into(),
            now.into(),
            latest_expiry(now).into(),
            (now.timestamp_micros() - LONGEST_TTL).into(),
            agent_id.into(),
        ];
        let read = |row: &mut Row| row.agent(workspace);
        self.query.lists().optional(AGENT, &params, read).await
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
        let (updated_after, expires_after, expires_until, is_wanted) = match query.expiry {
            Expiry::Any => (i64::MIN, i64::MIN, i64::MAX, true),
            Expiry::Unexpired => (now - LONGEST_TTL, now, until, true),
            Expiry::Expired => (i64::MIN, now, until, false),
        };
        let place = query.after.as_ref();
        let params = [
            workspace.key().into(),
            agent_id.into(),
            place
                .map_or(i64::MAX, |place| place.last_updated.timestamp_micros())
                .into(),
            place.map_or("", |place| &place.session_topic).into(),
            updated_after.into(),
            expires_after.into(),
            expires_until.into(),
            is_wanted.into(),
            rows_of_page(query.limit),
            number(MAX_PAGE_BYTES),
        ];
        let read = |row: &mut Row| row.session(agent_id.to_owned());
        let sessions = self.query.lists().all(SESSIONS, &params, read).await?;
        Ok(Page::cut(sessions, query.limit, SessionCursor::after))
    }

    async fn workspace_sessions(
        &self,
        workspace: &Workspace,
        query: &WorkspaceQuery,
        now: Timestamp,
    ) -> Result<Page<NamedSession, WorkspaceCursor>, StoreError> {
        let mut walk = SessionWalk::new(query, now, usize::MAX);
        let updated_after = walk.updated_after().map(|limit| limit.timestamp_micros());
        loop {
            let (after, window) = (walk.after(), walk.window());
            let params = [
                workspace.key().into(),
                after
                    .map_or(i64::MAX, |place| place.last_updated.timestamp_micros())
                    .into(),
                after.map_or("", |place| &place.agent_id).into(),
                after.map_or("", |place| &place.session_topic).into(),
                updated_after.unwrap_or(i64::MIN).into(),
                number(window),
                number(MAX_PAGE_BYTES),
            ];
            let read = Row::named_session;
            let lists = self.query.lists();
            let sessions = lists.all(WORKSPACE_SESSIONS, &params, read).await?;
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
        let mut session = None;
        let (agent_id, topic) = (Arc::from(&*key.agent_id), Arc::from(&*key.session_topic));
        let params = [
            key.workspace.key().into(),
            Value::from(&key.agent_id),
            Value::from(&key.session_topic),
            before.unwrap_or(u64::MAX).into(),
            rows_of_page(limit),
            number(MAX_PAGE_BYTES),
        ];
        let read = |row: &mut Row| match row.optional_int()? {
            Some(seq) => status_from(row, seq, &agent_id, Arc::clone(&topic)).map(Some),
            None => {
                session = Some(Session {
                    agent_id: key.agent_id.clone(),
                    session_topic: key.session_topic.clone(),
                    last_updated: row.instant()?,
                    current_status: row.status()?,
                    reason: row.text()?,
                    message: row.text()?,
                    context: row.context()?,
                    title: row.text()?,
                    created: row.instant()?,
                    ttl_minutes: row.int()?,
                    status_since: row.instant()?,
                });
                Ok(None)
            }
        };
        let read = self.query.lists().all(SESSION, &params, read).await?;
        let mut history: Vec<Status> = read.into_iter().flatten().collect();
        history.sort_unstable_by_key(|status| Reverse(status.seq));
        Ok(session.map(|session| SessionHistory {
            session,
            history: Page::cut(history, limit, |status| status.seq),
        }))
    }

    async fn history(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        before: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Page<Status, HistoryCursor>, StoreError> {
        let shown_id = Arc::from(agent_id);
        let params = [
            workspace.key().into(),
            agent_id.into(),
            before
                .map_or(i64::MAX, |place| place.timestamp.timestamp_micros())
                .into(),
            before.map_or("", |place| &place.session_topic).into(),
            before.map_or(0, |place| place.seq).into(),
            rows_of_page(limit),
            number(MAX_PAGE_BYTES),
        ];
        let read = |row: &mut Row| {
            let topic = row.text()?.into();
            let seq = row.int()?;
            status_from(row, seq, &shown_id, topic)
        };
        let history = self.query.lists().all(HISTORY, &params, read).await?;
        Ok(Page::cut(history, limit, HistoryCursor::after))
    }
}
