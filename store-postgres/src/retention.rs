//! Deletion of what nobody needs any more, in small statements that no report waits for.

use kubeagents_core::StoreError;

use crate::query::Fetch;
use crate::{Query, Row, Value, refresh_tokens};

/// Number of rows that one statement looks at.
const BATCH: i64 = 1000;

const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// Taken by one host at a time, for as long as its connection lasts. Any number that is not the
/// schema's lock.
const TRY_LOCK: &str = "SELECT pg_try_advisory_lock(7743203321898820975)";

const UNLOCK: &str = "SELECT pg_advisory_unlock(7743203321898820975)";

const BEFORE: &str = "SELECT kubeagents_data.now_micros() - $1::bigint";

const AGENTS: &str = "\
SELECT workspace, agent_id FROM kubeagents_data.agents \
WHERE (workspace, agent_id) > ($1::text, $2::text) ORDER BY workspace, agent_id LIMIT $3::bigint";

/// Looks at some of an agent's old statuses, oldest first, after the place of the last one looked
/// at; deletes all but those that the present depends on, and returns the last place.
const STATUSES: &str = "\
WITH old AS MATERIALIZED (\
    SELECT entry.session_topic, entry.seq, entry.\"timestamp\" AS at, \
        entry.\"timestamp\" < session.noted_at AND entry.\"timestamp\" IS DISTINCT FROM session.run_started \
            AS useless \
    FROM kubeagents_data.statuses AS entry \
    JOIN kubeagents_data.sessions AS session USING (workspace, agent_id, session_topic) \
    WHERE entry.workspace = $1::text AND entry.agent_id = $2::text \
    AND entry.\"timestamp\" >= $3::bigint AND entry.\"timestamp\" < $4::bigint \
    AND (entry.\"timestamp\" > $3::bigint OR entry.session_topic < $5::text \
        OR entry.session_topic = $5::text AND entry.seq > $6::bigint) \
    ORDER BY entry.\"timestamp\", entry.session_topic DESC, entry.seq LIMIT $7::bigint), \
deleted AS (\
    DELETE FROM kubeagents_data.statuses AS entry USING old \
    WHERE old.useless AND entry.workspace = $1::text AND entry.agent_id = $2::text \
    AND entry.session_topic = old.session_topic AND entry.seq = old.seq RETURNING 1) \
SELECT at, session_topic, seq, (SELECT count(*) FROM deleted) FROM old \
ORDER BY at DESC, session_topic, seq DESC LIMIT 1";

/// Deletes what is old now, unless another host is at it; returns how many statuses went.
/// `history_days`: how long statuses are kept; `None`: for ever. All statements must run on one
/// connection.
///
/// # Errors
/// Those of the driver.
pub async fn purge(query: &impl Query, history_days: Option<u32>) -> Result<i64, StoreError> {
    if !query.one(TRY_LOCK, &[], Row::bool).await? {
        return Ok(0);
    }
    let result = purge_all(query, history_days).await;
    // A connection that cannot do this any more has lost the lock, too.
    query.execute(UNLOCK, &[]).await?;
    result
}

async fn purge_all(query: &impl Query, history_days: Option<u32>) -> Result<i64, StoreError> {
    while query
        .one(refresh_tokens::PURGE, &[BATCH.into()], Row::int::<i64>)
        .await?
        == BATCH
    {}
    let Some(days) = history_days else {
        return Ok(0);
    };
    let age = Value::from(i64::from(days) * DAY);
    let before = query.one(BEFORE, &[age], Row::int).await?;
    let mut deleted = 0;
    let mut last = (String::new(), String::new());
    loop {
        let params = [
            Value::from(&last.0),
            Value::from(&last.1),
            Value::from(BATCH),
        ];
        let read = |row: &mut Row| Ok((row.text()?, row.text()?));
        let agents = query.all(AGENTS, &params, read).await?;
        let Some(next) = agents.last().cloned() else {
            return Ok(deleted);
        };
        for (workspace, agent_id) in agents {
            deleted += purge_agent(query, &workspace, &agent_id, before).await?;
        }
        last = next;
    }
}

async fn purge_agent(
    query: &impl Query,
    workspace: &str,
    agent_id: &str,
    before: i64,
) -> Result<i64, StoreError> {
    let mut deleted = 0;
    // Before the first: topics go down from the highest code point.
    let mut place = (i64::MIN, String::new(), i64::MAX);
    loop {
        let params = [
            workspace.into(),
            agent_id.into(),
            place.0.into(),
            before.into(),
            Value::from(&place.1),
            place.2.into(),
            BATCH.into(),
        ];
        let read = |row: &mut Row| {
            let last = (row.int()?, row.text()?, row.int()?);
            Ok((last, row.int::<i64>()?))
        };
        let Some((last, count)) = query.optional(STATUSES, &params, read).await? else {
            return Ok(deleted);
        };
        deleted += count;
        place = last;
    }
}
