//! The commit of one report, which waits for rows that others have locked.

use kubeagents_core::store::{CommitOutcome, MAX_DELIVERIES, MAX_WAITING, NO_ROOM};
use kubeagents_core::{Commit, REMOVED_AT_ONCE, StoreError};
use kubeagents_store_sql::context_text;

use super::{
    count_agents, gathered, is_new_agent, last_seen, notifications_json, this_transaction,
};
use crate::value::saturating;
use crate::{Query, Value};

/// The session is the only gate: where it yields no row, nothing else is written.
macro_rules! commit_statement {
    ($($gate:expr),+) => {
        concat!(
            "WITH gate AS (",
            $($gate,)+
            " RETURNING seq), \
            agent_patch AS (\
                INSERT INTO kubeagents_data.agents AS agent (workspace, agent_id, agent_id_key, \
                    name, name_key, source, registered, last_seen, session_count) \
                SELECT $1::text, $2::text, $9::text, coalesce($10::text, ''), \
                    coalesce($11::text, ''), coalesce($12::text, ''), $13::bigint, $13::bigint, \
                    CASE seq WHEN 1 THEN 1 ELSE 0 END \
                FROM gate \
                ON CONFLICT (workspace, agent_id) DO UPDATE SET \
                    name = coalesce($10::text, agent.name), \
                    renamed = CASE WHEN $10::text <> agent.name THEN ",
            this_transaction!(),
            " ELSE agent.renamed END, \
                    name_key = coalesce($11::text, agent.name_key), \
                    source = coalesce($12::text, agent.source), \
                    last_seen = ",
            last_seen!(),
            ", \
                    session_count = agent.session_count + excluded.session_count",
            is_new_agent!(),
            "), ",
            count_agents!("agent_patch"),
            ", \
            entry AS (\
                INSERT INTO kubeagents_data.statuses (workspace, agent_id, session_topic, seq, \
                    \"timestamp\", status, reason, message, content, number) \
                SELECT $1::text, $2::text, $3::text, seq, $14::bigint, $15::text, $16::text, \
                    $17::text, $18::text, $32::bigint \
                FROM gate WHERE $14::bigint IS NOT NULL), \
            removed AS (\
                DELETE FROM kubeagents_data.statuses AS entry USING (\
                    SELECT entry.ctid AS at, coalesce(entry.number, entry.seq) AS number \
                    FROM kubeagents_data.statuses AS entry \
                    WHERE entry.workspace = $1::text AND entry.agent_id = $2::text \
                    AND entry.session_topic = $3::text ORDER BY entry.seq LIMIT $34::bigint\
                ) AS oldest \
                WHERE entry.ctid = oldest.at AND oldest.number <= $33::bigint \
                AND EXISTS (SELECT FROM gate)), \
            queued AS (\
                SELECT n.*, ",
            queue_place!("$28"),
            " FROM gate, jsonb_to_recordset($19::text::jsonb) ",
            queued_columns!(),
            "), ",
            insert_queued!("$28", "$29", "$30"),
            " SELECT seq, NULL FROM gate \
            UNION ALL SELECT NULL, workspace FROM queued WHERE place = $28::bigint"
        )
    };
}

/// `$4` is when the session was created. The lock is taken by whoever creates this session, and not
/// waited for: one who waited for another's uncommitted row could be what that other waits for.
const COMMIT_FIRST: &str = commit_statement!(
    "INSERT INTO kubeagents_data.sessions (workspace, agent_id, session_topic, seq, created, \
        last_updated, ttl_minutes, status, run_started, title, reason, message, \
        status_since, context, sequence, noted_at, hook, silence, entries, changed) \
    SELECT $1::text, $2::text, $3::text, 1, $4::bigint, $5::bigint, $6::bigint, $7::text, \
        $8::bigint, $20::text, $21::text, $22::text, $23::bigint, $24::text, $25::bigint, \
        $26::bigint, $27::text, $31::bigint, $32::bigint, ",
    this_transaction!(),
    " \
    WHERE pg_try_advisory_xact_lock(kubeagents_data.session_lock($1::text, $2::text, $3::text)) \
    ON CONFLICT DO NOTHING"
);

/// `$4` is the version that the session must still have. The agent is locked before the session, as
/// in a group: a group that holds the agent may wait for this session, when it takes it for a new
/// one.
const COMMIT_NEXT: &str = commit_statement!(
    "UPDATE kubeagents_data.sessions AS session SET seq = session.seq + 1, \
        last_updated = $5::bigint, ttl_minutes = $6::bigint, status = $7::text, \
        run_started = $8::bigint, title = $20::text, reason = $21::text, message = $22::text, \
        status_since = $23::bigint, context = $24::text, sequence = $25::bigint, \
        noted_at = $26::bigint, hook = $27::text, silence = $31::bigint, \
        entries = $32::bigint, changed = ",
    this_transaction!(),
    " \
    FROM (SELECT FROM kubeagents_data.agents \
        WHERE workspace = $1::text AND agent_id = $2::text FOR UPDATE) AS agent \
    WHERE session.workspace = $1::text AND session.agent_id = $2::text \
        AND session.session_topic = $3::text AND session.seq = $4::bigint"
);

pub(super) async fn commit(
    query: &impl Query,
    commit: &Commit,
) -> Result<CommitOutcome, StoreError> {
    let Commit {
        key,
        expected_seq,
        agent,
        session,
        status,
        notifications,
        kept_entries,
    } = commit;
    let first = *expected_seq == 0;
    let agent_id_key = commit.agent_id_key();
    let name_key = agent.name_key();
    let notifications = notifications_json(notifications);
    let context = context_text(&session.context);
    let entry = status.as_ref();
    let removed = kept_entries.map_or(0, |_| REMOVED_AT_ONCE);
    let params = [
        key.workspace.key().into(),
        Value::from(&key.agent_id),
        Value::from(&key.session_topic),
        match first {
            true => session.created.into(),
            false => Value::from(*expected_seq),
        },
        session.last_updated.into(),
        session.ttl_minutes.into(),
        session.status.as_str().into(),
        session.run_started.into(),
        Value::from(&agent_id_key),
        agent.name.as_deref().into(),
        name_key.as_deref().into(),
        agent.source.as_deref().into(),
        agent.last_seen.into(),
        entry.map(|entry| entry.timestamp).into(),
        entry.map(|entry| entry.status.as_str()).into(),
        entry.map(|entry| entry.reason.as_str()).into(),
        entry.map(|entry| entry.message.as_str()).into(),
        entry.map(|entry| entry.content.as_str()).into(),
        notifications.as_deref().into(),
        Value::from(&session.title),
        Value::from(&session.reason),
        Value::from(&session.message),
        session.status_since.into(),
        Value::from(&context),
        session.sequence.into(),
        session.noted_at.into(),
        Value::from(&session.hook),
        saturating(MAX_WAITING).into(),
        NO_ROOM.into(),
        saturating(MAX_DELIVERIES).into(),
        i64::from(session.silence.code()).into(),
        saturating(session.entries).into(),
        saturating(commit.outdated()).into(),
        saturating(removed).into(),
    ];
    let sql = if first { COMMIT_FIRST } else { COMMIT_NEXT };
    Ok(match gathered(query, sql, &params).await?.is_empty() {
        true => CommitOutcome::Conflict,
        false => CommitOutcome::Committed,
    })
}
