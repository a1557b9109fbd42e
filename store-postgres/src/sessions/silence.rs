//! Sessions that fall silent.

use kubeagents_core::store::{MAX_DELIVERIES, MAX_WAITING, NO_ROOM, SilenceNote};
use kubeagents_core::{SessionKey, Snapshot, StoreError, Timestamp};
use kubeagents_store_sql::QueuedSilence;

use super::gathered;
use crate::query::Fetch;
use crate::value::saturating;
use crate::{Query, Row, UnexpectedResult, Value};

/// By the index of what is watched. `$1`: after when; `$2`: until when; `$3`: how many.
const SILENCES: &str = "\
SELECT session.workspace, session.agent_id, session.session_topic, \
    (SELECT agent.name FROM kubeagents_data.agents AS agent \
        WHERE agent.workspace = session.workspace AND agent.agent_id = session.agent_id), \
    0::bigint, session.seq, session.created, session.last_updated, session.ttl_minutes, session.title, \
    session.status, session.reason, session.message, session.status_since, session.run_started, \
    session.context, session.sequence, session.noted_at, session.hook, session.silence, \
    coalesce(session.entries, session.seq) \
FROM kubeagents_data.sessions AS session \
WHERE session.silence = 1 AND session.expires_at > $1::bigint AND session.expires_at <= $2::bigint \
ORDER BY session.expires_at LIMIT $3::bigint";

/// Sessions that another transaction has locked are passed over: a report, or another host that notes
/// the same. `$1`: notes in JSON; `$2`: how many notifications
/// wait at most; `$3`: why one is dropped; `$4`: of how many that is kept.
const NOTE: &str = concat!(
    "\
WITH input AS MATERIALIZED (\
    SELECT note.value ->> 'workspace' AS workspace, note.value ->> 'agent_id' AS agent_id, \
        note.value ->> 'topic' AS topic, (note.value ->> 'seq')::bigint AS seq, \
        note.value -> 'notifications' AS notifications, note.place \
    FROM jsonb_array_elements($1::text::jsonb) WITH ORDINALITY AS note(value, place)), \
free AS MATERIALIZED (\
    SELECT input.place, mine.at FROM input CROSS JOIN LATERAL (\
        SELECT session.ctid AS at FROM kubeagents_data.sessions AS session \
        WHERE session.workspace = input.workspace AND session.agent_id = input.agent_id \
        AND session.session_topic = input.topic AND session.seq = input.seq \
        AND session.silence = 1 \
        FOR UPDATE SKIP LOCKED\
    ) AS mine), \
noted AS (\
    UPDATE kubeagents_data.sessions AS session SET seq = session.seq + 1, silence = 2 \
    FROM free WHERE session.ctid = free.at \
    RETURNING free.place), \
queued AS (\
    SELECT n.*, ",
    queue_place!("$2"),
    " FROM noted JOIN input USING (place), jsonb_to_recordset(input.notifications) ",
    queued_columns!(),
    "), ",
    insert_queued!("$2", "$3", "$4"),
    " SELECT place, NULL FROM noted \
    UNION ALL SELECT NULL, workspace FROM queued WHERE place = $2::bigint"
);

/// The database's clock, since those of hosts may differ.
const CLOCK: &str = "SELECT kubeagents_data.now_micros()";

pub(super) async fn clock(query: &impl Query) -> Result<Timestamp, StoreError> {
    query.one(CLOCK, &[], Row::instant).await
}

pub(super) async fn find(
    query: &impl Query,
    after: Timestamp,
    until: Timestamp,
    limit: usize,
) -> Result<Vec<(SessionKey, Snapshot)>, StoreError> {
    let params = [after.into(), until.into(), saturating(limit).into()];
    query.all(SILENCES, &params, Row::named_snapshot).await
}

pub(super) async fn note(
    query: &impl Query,
    notes: &[SilenceNote],
) -> Result<Vec<bool>, StoreError> {
    let rows: Vec<QueuedSilence<'_>> = notes.iter().map(QueuedSilence::from).collect();
    let rows = serde_json::json!(rows).to_string();
    let params = [
        Value::from(&rows),
        saturating(MAX_WAITING).into(),
        NO_ROOM.into(),
        saturating(MAX_DELIVERIES).into(),
    ];
    let mut noted = vec![false; notes.len()];
    for place in gathered(query, NOTE, &params).await? {
        let place = usize::try_from(place).unwrap_or(0);
        let noted = noted.get_mut(place.wrapping_sub(1));
        *noted.ok_or(UnexpectedResult("a place beyond the notes"))? = true;
    }
    Ok(noted)
}
