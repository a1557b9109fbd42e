//! Removing what nobody needs any more, in small statements that no report waits for.

use std::time::Duration;

use kubeagents_store_postgres::{outbox, refresh_tokens};
use sqlx::postgres::{PgConnection, PgPool};
use tokio::sync::watch;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// How many rows one statement looks at.
const BATCH: i64 = 1000;

const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// Any number that is not the schema's lock.
const LOCK: i64 = 7_743_203_321_898_820_975;

const AGENTS: &str = "\
SELECT workspace, agent_id FROM kubeagents_data.agents \
WHERE (workspace, agent_id) > ($1, $2) ORDER BY workspace, agent_id LIMIT $3";

/// Looks at some of an agent's old statuses, oldest first, after the place of the last one looked
/// at; deletes all but those that the present depends on, and returns the last place.
const STATUSES: &str = "\
WITH old AS MATERIALIZED (\
    SELECT entry.session_topic, entry.seq, entry.\"timestamp\" AS at, \
        entry.seq < session.seq AND entry.\"timestamp\" IS DISTINCT FROM session.run_started \
            AS useless \
    FROM kubeagents_data.statuses AS entry \
    JOIN kubeagents_data.sessions AS session USING (workspace, agent_id, session_topic) \
    WHERE entry.workspace = $1 AND entry.agent_id = $2 \
    AND entry.\"timestamp\" >= $3 AND entry.\"timestamp\" < $4 \
    AND (entry.\"timestamp\" > $3 OR entry.session_topic < $5 \
        OR entry.session_topic = $5 AND entry.seq > $6) \
    ORDER BY entry.\"timestamp\", entry.session_topic DESC, entry.seq LIMIT $7), \
deleted AS (\
    DELETE FROM kubeagents_data.statuses AS entry USING old \
    WHERE old.useless AND entry.workspace = $1 AND entry.agent_id = $2 \
    AND entry.session_topic = old.session_topic AND entry.seq = old.seq RETURNING 1) \
SELECT at, session_topic, seq, (SELECT count(*) FROM deleted) FROM old \
ORDER BY at DESC, session_topic, seq DESC LIMIT 1";

/// Purges at once and then every hour, until `stopping`. `history_days`: how long statuses are
/// kept; `None`: for ever.
pub(crate) async fn purge(
    pool: PgPool,
    history_days: Option<u32>,
    mut stopping: watch::Receiver<bool>,
) {
    let stop = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let purging = async {
        loop {
            match purge_once(&pool, history_days).await {
                Ok(0) => {}
                Ok(statuses) => tracing::info!(statuses, "old statuses were deleted"),
                Err(error) => tracing::warn!(
                    error = crate::causes(&error),
                    "what is old could not be deleted; trying again in an hour"
                ),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        () = stop => {}
        () = purging => {}
    }
}

/// Purges what is old now, unless another host is at it; returns how many statuses went.
pub(super) async fn purge_once(
    pool: &PgPool,
    history_days: Option<u32>,
) -> Result<i64, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let mine: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(LOCK)
        .fetch_one(&mut *connection)
        .await?;
    if !mine {
        return Ok(0);
    }
    let result = purge_all(&mut connection, history_days).await;
    // A connection that cannot do this any more has lost the lock, too.
    sqlx::query("SELECT pg_advisory_unlock($1)")
        .bind(LOCK)
        .execute(&mut *connection)
        .await?;
    result
}

async fn purge_all(
    connection: &mut PgConnection,
    history_days: Option<u32>,
) -> Result<i64, sqlx::Error> {
    purge_batches(connection, refresh_tokens::PURGE).await?;
    purge_batches(connection, outbox::PURGE).await?;
    let Some(days) = history_days else {
        return Ok(0);
    };
    let before: i64 = sqlx::query_scalar("SELECT kubeagents_data.now_micros() - $1")
        .bind(i64::from(days) * DAY)
        .fetch_one(&mut *connection)
        .await?;
    let mut deleted = 0;
    let mut last = (String::new(), String::new());
    loop {
        let agents: Vec<(String, String)> = sqlx::query_as(AGENTS)
            .bind(&last.0)
            .bind(&last.1)
            .bind(BATCH)
            .fetch_all(&mut *connection)
            .await?;
        let Some(next) = agents.last().cloned() else {
            return Ok(deleted);
        };
        for (workspace, agent_id) in agents {
            deleted += purge_agent(connection, &workspace, &agent_id, before).await?;
        }
        last = next;
    }
}

async fn purge_batches(
    connection: &mut PgConnection,
    statement: &'static str,
) -> Result<(), sqlx::Error> {
    loop {
        let deleted: i64 = sqlx::query_scalar(statement)
            .bind(BATCH)
            .fetch_one(&mut *connection)
            .await?;
        if deleted < BATCH {
            return Ok(());
        }
    }
}

async fn purge_agent(
    connection: &mut PgConnection,
    workspace: &str,
    agent_id: &str,
    before: i64,
) -> Result<i64, sqlx::Error> {
    let mut deleted = 0;
    // Before the first: topics go down from the highest code point.
    let mut place = (i64::MIN, String::new(), i64::MAX);
    loop {
        let looked_at: Option<(i64, String, i64, i64)> = sqlx::query_as(STATUSES)
            .bind(workspace)
            .bind(agent_id)
            .bind(place.0)
            .bind(before)
            .bind(&place.1)
            .bind(place.2)
            .bind(BATCH)
            .fetch_optional(&mut *connection)
            .await?;
        let Some((at, topic, seq, count)) = looked_at else {
            return Ok(deleted);
        };
        deleted += count;
        place = (at, topic, seq);
    }
}
