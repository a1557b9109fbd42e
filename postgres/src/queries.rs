//! What clients read: agents, sessions, histories.
//!
//! A list is walked by an index in its own order. Where there is no cursor or no filter, a bound
//! that admits everything stands in, so that one statement with one plan serves all cases.

use kubeagents_core::{
    Agent, Session, SessionKey, Status, StatusKind, StoreError, Timestamp, Workspace,
    store::{
        AgentCursor, AgentQuery, Expiry, HistoryCursor, Page, SessionCursor, SessionHistory,
        SessionQuery,
    },
};

use crate::value::saturating;
use crate::{Query, Row, UnexpectedResult, Value};

/// The longest TTL, in microseconds: a session that was updated longer ago is expired.
const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// `$1` workspace, `$2` now, `$3` a day before now.
macro_rules! agent_columns {
    () => {
        "SELECT agent.agent_id, agent.name, agent.source, agent.registered, agent.last_seen, \
            agent.session_count, \
            (SELECT count(*) FROM kubeagents_data.sessions AS session \
                WHERE session.workspace = $1::text AND session.agent_id = agent.agent_id \
                AND session.last_updated > $3::bigint AND session.expires_at > $2::bigint), \
            latest.status, latest.message \
        FROM kubeagents_data.agents AS agent \
        LEFT JOIN LATERAL (\
            SELECT session.status, entry.message FROM kubeagents_data.sessions AS session \
            JOIN kubeagents_data.statuses AS entry USING (workspace, agent_id, session_topic, seq) \
            WHERE session.workspace = $1::text AND session.agent_id = agent.agent_id \
            AND session.last_updated > $3::bigint AND session.expires_at > $2::bigint \
            ORDER BY session.last_updated DESC, session.session_topic LIMIT 1\
        ) AS latest ON true "
    };
}

const AGENT: &str = concat!(
    agent_columns!(),
    "WHERE agent.workspace = $1::text AND agent.agent_id = $4::text"
);

/// `$4`, `$5`: after this agent; `$6`: only those seen since; `$7`: search key; `$8`: status.
const AGENTS: &str = concat!(
    agent_columns!(),
    "WHERE agent.workspace = $1::text AND agent.last_seen <= $4::bigint \
    AND (agent.last_seen < $4::bigint OR agent.agent_id > $5::text) \
    AND agent.last_seen > $6::bigint \
    AND ($7::text IS NULL OR strpos(agent.agent_id_key, $7::text) > 0 \
        OR strpos(agent.name_key, $7::text) > 0) \
    AND ($8::text IS NULL OR latest.status = $8::text) \
    ORDER BY agent.last_seen DESC, agent.agent_id LIMIT $9::bigint"
);

/// `$3`, `$4`: after this session; `$5`: only those updated since; `$6`, `$7`: only those that
/// expire after the first and not after the second.
const SESSIONS: &str = "\
SELECT agent_id, session_topic, created, last_updated, ttl_minutes, status \
FROM kubeagents_data.sessions \
WHERE workspace = $1::text AND agent_id = $2::text AND last_updated <= $3::bigint \
AND (last_updated < $3::bigint OR session_topic > $4::text) \
AND last_updated > $5::bigint AND expires_at > $6::bigint AND expires_at <= $7::bigint \
ORDER BY last_updated DESC, session_topic LIMIT $8::bigint";

const SESSION: &str = "\
SELECT session.agent_id, session.session_topic, session.created, session.last_updated, \
    session.ttl_minutes, session.status, \
    entry.seq, entry.\"timestamp\", entry.status, entry.message, entry.content \
FROM kubeagents_data.sessions AS session \
LEFT JOIN LATERAL (\
    SELECT * FROM kubeagents_data.statuses AS entry \
    WHERE entry.workspace = $1::text AND entry.agent_id = $2::text \
    AND entry.session_topic = $3::text AND entry.seq < $4::bigint \
    ORDER BY entry.seq DESC LIMIT $5::bigint\
) AS entry ON true \
WHERE session.workspace = $1::text AND session.agent_id = $2::text \
AND session.session_topic = $3::text \
ORDER BY entry.seq DESC";

/// `$3`, `$4`, `$5`: after this status.
const HISTORY: &str = "\
SELECT session_topic, seq, \"timestamp\", status, message, content \
FROM kubeagents_data.statuses \
WHERE workspace = $1::text AND agent_id = $2::text AND \"timestamp\" <= $3::bigint \
AND (\"timestamp\" < $3::bigint OR session_topic > $4::text \
    OR session_topic = $4::text AND seq < $5::bigint) \
ORDER BY \"timestamp\" DESC, session_topic, seq DESC LIMIT $6::bigint";

/// One more than is shown tells whether more follow.
fn fetch(limit: usize) -> i64 {
    saturating(limit).saturating_add(1)
}

fn page<T, C>(mut items: Vec<T>, limit: usize, cursor: impl FnOnce(&T) -> C) -> Page<T, C> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(cursor);
    Page { items, next }
}

fn agent_from(row: &mut Row, workspace: &Workspace) -> Result<Agent, UnexpectedResult> {
    Ok(Agent {
        agent_id: row.text()?,
        user_id: workspace.account().cloned(),
        name: row.text()?,
        source: row.text()?,
        registered: row.instant()?,
        last_seen: row.instant()?,
        session_count: row.int()?,
        active_session_count: row.int()?,
        latest_status: row.optional_status()?,
        latest_message: row.optional_text()?.unwrap_or_default(),
    })
}

fn session_from(row: &mut Row) -> Result<Session, UnexpectedResult> {
    Ok(Session {
        agent_id: row.text()?,
        session_topic: row.text()?,
        created: row.instant()?,
        last_updated: row.instant()?,
        ttl_minutes: row.int()?,
        current_status: row.status()?,
    })
}

fn status_from(
    row: &mut Row,
    seq: u64,
    agent_id: &str,
    session_topic: String,
) -> Result<Status, UnexpectedResult> {
    Ok(Status {
        agent_id: agent_id.to_owned(),
        session_topic,
        timestamp: row.instant()?,
        status: row.status()?,
        message: row.text()?,
        content: row.text()?,
        seq,
    })
}

pub(crate) async fn agents(
    query: &impl Query,
    workspace: &Workspace,
    wanted: &AgentQuery,
    now: Timestamp,
) -> Result<Page<Agent, AgentCursor>, StoreError> {
    let now = now.timestamp_micros();
    let after = wanted.after.as_ref();
    let params = [
        workspace.key().into(),
        now.into(),
        (now - DAY).into(),
        after
            .map_or(i64::MAX, |place| place.last_seen.timestamp_micros())
            .into(),
        after.map_or("", |place| &place.agent_id).into(),
        // An agent with an unexpired session was seen when that was updated.
        match wanted.status {
            Some(_) => Value::from(now - DAY),
            None => i64::MIN.into(),
        },
        wanted.search.as_deref().into(),
        wanted.status.map(StatusKind::as_str).into(),
        fetch(wanted.limit).into(),
    ];
    let rows = query.query(AGENTS, &params).await?;
    let agents = rows
        .into_iter()
        .map(|mut row| agent_from(&mut row, workspace))
        .collect::<Result<_, _>>()?;
    Ok(page(agents, wanted.limit, |agent: &Agent| AgentCursor {
        last_seen: agent.last_seen,
        agent_id: agent.agent_id.clone(),
    }))
}

pub(crate) async fn agent(
    query: &impl Query,
    workspace: &Workspace,
    agent_id: &str,
    now: Timestamp,
) -> Result<Option<Agent>, StoreError> {
    let now = now.timestamp_micros();
    let params = [
        workspace.key().into(),
        now.into(),
        (now - DAY).into(),
        agent_id.into(),
    ];
    let rows = query.query(AGENT, &params).await?;
    Ok(rows
        .into_iter()
        .next()
        .map(|mut row| agent_from(&mut row, workspace))
        .transpose()?)
}

pub(crate) async fn sessions(
    query: &impl Query,
    workspace: &Workspace,
    agent_id: &str,
    wanted: &SessionQuery,
    now: Timestamp,
) -> Result<Page<Session, SessionCursor>, StoreError> {
    let now = now.timestamp_micros();
    let after = wanted.after.as_ref();
    let (updated_after, expires_after, expires_until) = match wanted.expiry {
        Expiry::Any => (i64::MIN, i64::MIN, i64::MAX),
        Expiry::Unexpired => (now - DAY, now, i64::MAX),
        Expiry::Expired => (i64::MIN, i64::MIN, now),
    };
    let params = [
        workspace.key().into(),
        agent_id.into(),
        after
            .map_or(i64::MAX, |place| place.last_updated.timestamp_micros())
            .into(),
        after.map_or("", |place| &place.session_topic).into(),
        updated_after.into(),
        expires_after.into(),
        expires_until.into(),
        fetch(wanted.limit).into(),
    ];
    let rows = query.query(SESSIONS, &params).await?;
    let sessions = rows
        .into_iter()
        .map(|mut row| session_from(&mut row))
        .collect::<Result<_, _>>()?;
    Ok(page(sessions, wanted.limit, |session: &Session| {
        SessionCursor {
            last_updated: session.last_updated,
            session_topic: session.session_topic.clone(),
        }
    }))
}

pub(crate) async fn session(
    query: &impl Query,
    key: &SessionKey,
    before: Option<u64>,
    limit: usize,
) -> Result<Option<SessionHistory>, StoreError> {
    let params = [
        key.workspace.key().into(),
        Value::from(&key.agent_id),
        Value::from(&key.session_topic),
        before.unwrap_or(u64::MAX).into(),
        fetch(limit).into(),
    ];
    let rows = query.query(SESSION, &params).await?;
    let mut session = None;
    let mut history = Vec::with_capacity(rows.len());
    for mut row in rows {
        session = Some(session_from(&mut row)?);
        if let Some(seq) = row.optional_int()? {
            let seq = u64::try_from(seq).map_err(|_| UnexpectedResult("a negative place"))?;
            let topic = key.session_topic.clone();
            history.push(status_from(&mut row, seq, &key.agent_id, topic)?);
        }
    }
    Ok(session.map(|session| SessionHistory {
        session,
        history: page(history, limit, |entry: &Status| entry.seq),
    }))
}

pub(crate) async fn history(
    query: &impl Query,
    workspace: &Workspace,
    agent_id: &str,
    before: Option<&HistoryCursor>,
    limit: usize,
) -> Result<Page<Status, HistoryCursor>, StoreError> {
    let params = [
        workspace.key().into(),
        agent_id.into(),
        before
            .map_or(i64::MAX, |place| place.timestamp.timestamp_micros())
            .into(),
        before.map_or("", |place| &place.session_topic).into(),
        before.map_or(0, |place| place.seq).into(),
        fetch(limit).into(),
    ];
    let rows = query.query(HISTORY, &params).await?;
    let history = rows
        .into_iter()
        .map(|mut row| {
            let topic = row.text()?;
            let seq = row.int()?;
            status_from(&mut row, seq, agent_id, topic)
        })
        .collect::<Result<_, UnexpectedResult>>()?;
    Ok(page(history, limit, |entry: &Status| HistoryCursor {
        timestamp: entry.timestamp,
        session_topic: entry.session_topic.clone(),
        seq: entry.seq,
    }))
}
