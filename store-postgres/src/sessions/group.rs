//! Group commit: many reports in one statement.
//!
//! Parameters are columns, as arrays. They hold no NULL, which `wasmcloud:postgres` could not carry:
//! an empty name or source keeps what the agent has, [`NEVER`] is no instant, and 0 is no sequence.

use std::borrow::Cow;

use kubeagents_core::{
    Commit, SessionKey, Snapshot, StatusEntry, StoreError,
    batch::Chain,
    search_key,
    store::{CommitOutcome, MAX_DELIVERIES, MAX_WAITING, NO_ROOM},
};
use kubeagents_store_sql::context_text;

use super::{
    count_agents, gathered, is_new_agent, last_seen, notifications_json, this_transaction,
};
use crate::query::Fetch;
use crate::value::saturating;
use crate::{Query, Row, UnexpectedResult, Value};

/// One row for each session, in the order of the arrays. Laterals and scalar subqueries, and not
/// joins, keep every look-up an index scan whatever the planner believes about a growing table.
const LOAD: &str = "\
SELECT agent.name, CASE WHEN session.seq IS NULL THEN coalesce(agent.session_count, (\
        SELECT counted.agents FROM kubeagents_data.agent_counts AS counted \
        WHERE counted.workspace = wanted.workspace), 0) ELSE 0 END, \
    session.seq, session.created, session.last_updated, session.ttl_minutes, session.title, \
    session.status, session.reason, session.message, session.status_since, session.run_started, \
    session.context, session.sequence, session.noted_at, session.hook, session.silence, \
    coalesce(session.entries, session.seq) \
FROM unnest($1::text[], $2::text[], $3::text[]) \
    WITH ORDINALITY AS wanted(workspace, agent_id, session_topic, place) \
LEFT JOIN LATERAL (\
    SELECT agent.name, agent.session_count FROM kubeagents_data.agents AS agent \
    WHERE agent.workspace = wanted.workspace AND agent.agent_id = wanted.agent_id OFFSET 0\
) AS agent ON true \
LEFT JOIN LATERAL (\
    SELECT * FROM kubeagents_data.sessions AS session \
    WHERE session.workspace = wanted.workspace AND session.agent_id = wanted.agent_id \
    AND session.session_topic = wanted.session_topic OFFSET 0\
) AS session ON true \
ORDER BY wanted.place";

/// Agents first and sessions second, never waiting for either: a row that another transaction has
/// locked is passed over with all that depends on it. A new session takes the same advisory lock as
/// in the single statement, so that nothing here waits for another's uncommitted session either.
/// Agents are patched from what passed, in the order of the reports, so that a report which did not
/// pass leaves no trace.
///
/// Returns the places of the chains that were stored.
macro_rules! commit_statement {
    ($($more:expr),+) => {
        concat!(
            "\
            WITH agent_input AS MATERIALIZED (\
                SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) \
                    WITH ORDINALITY AS i(workspace, agent_id, agent_id_key, agent)), \
            free_agents AS MATERIALIZED (\
                SELECT i.* FROM agent_input AS i \
                LEFT JOIN LATERAL (\
                    SELECT true AS locked FROM kubeagents_data.agents AS agent \
                    WHERE agent.workspace = i.workspace AND agent.agent_id = i.agent_id \
                    FOR UPDATE SKIP LOCKED\
                ) AS mine ON true \
                WHERE mine.locked OR (SELECT true FROM kubeagents_data.agents AS agent \
                    WHERE agent.workspace = i.workspace AND agent.agent_id = i.agent_id) IS NULL), \
            input AS MATERIALIZED (\
                SELECT i.*, nullif(i.started, -9223372036854775808) AS run_started, \
                    nullif(i.last_sequence, 0) AS sequence, a.workspace, a.agent_id, a.agent_id_key \
                FROM unnest($4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], \
                    $9::bigint[], $10::bigint[], $11::text[], $12::bigint[], $13::text[], $14::text[], $15::text[], \
                    $24::text[], $25::text[], $26::text[], $27::bigint[], $28::text[], $29::bigint[], \
                    $30::bigint[], $31::text[], $32::bigint[], $33::bigint[]) \
                    WITH ORDINALITY AS i(agent, session_topic, expected_seq, seq, created, last_updated, \
                        ttl_minutes, status, started, name, name_key, source, title, reason, \
                        message, status_since, context, last_sequence, noted_at, hook, silence, \
                        entries, place) \
                JOIN free_agents AS a USING (agent)), \
            free_sessions AS MATERIALIZED (\
                SELECT i.*, mine.at FROM input AS i CROSS JOIN LATERAL (\
                    SELECT session.ctid AS at FROM kubeagents_data.sessions AS session \
                    WHERE session.workspace = i.workspace AND session.agent_id = i.agent_id \
                    AND session.session_topic = i.session_topic AND session.seq = i.expected_seq \
                    FOR UPDATE SKIP LOCKED\
                ) AS mine), \
            updated AS (\
                UPDATE kubeagents_data.sessions AS session SET seq = i.seq, last_updated = i.last_updated, \
                    ttl_minutes = i.ttl_minutes, status = i.status, run_started = i.run_started, \
                    title = i.title, reason = i.reason, \
                    message = i.message, status_since = i.status_since, context = i.context, \
                    sequence = i.sequence, noted_at = i.noted_at, hook = i.hook, silence = i.silence, \
                    entries = i.entries, changed = ",
                this_transaction!(),
                " \
                FROM free_sessions AS i WHERE session.ctid = i.at \
                RETURNING i.place), \
            created AS (\
                INSERT INTO kubeagents_data.sessions AS session (workspace, agent_id, session_topic, seq, \
                    created, last_updated, ttl_minutes, status, run_started, title, reason, \
                    message, status_since, context, sequence, noted_at, hook, silence, entries, changed) \
                SELECT workspace, agent_id, session_topic, seq, created, last_updated, ttl_minutes, status, \
                    run_started, title, reason, message, status_since, context, \
                    sequence, noted_at, hook, silence, entries, ",
                this_transaction!(),
                " \
                FROM input \
                WHERE CASE expected_seq WHEN 0 THEN pg_try_advisory_xact_lock(\
                    kubeagents_data.session_lock(workspace, agent_id, session_topic)) ELSE false END \
                ORDER BY place ON CONFLICT DO NOTHING \
                RETURNING session.workspace, session.agent_id, session.session_topic), \
            gate AS MATERIALIZED (\
                SELECT place FROM updated \
                UNION ALL \
                SELECT place FROM created JOIN input USING (workspace, agent_id, session_topic)), \
            patches AS (\
                INSERT INTO kubeagents_data.agents AS agent (workspace, agent_id, agent_id_key, name, \
                    name_key, source, registered, last_seen, session_count) \
                SELECT workspace, agent_id, agent_id_key, \
                    coalesce((array_agg(name ORDER BY place DESC) FILTER (WHERE name <> ''))[1], ''), \
                    coalesce((array_agg(name_key ORDER BY place DESC) FILTER (WHERE name <> ''))[1], ''), \
                    coalesce((array_agg(source ORDER BY place DESC) FILTER (WHERE source <> ''))[1], ''), \
                    min(created), max(last_updated), count(*) FILTER (WHERE expected_seq = 0) \
                FROM input JOIN gate USING (place) \
                GROUP BY agent, workspace, agent_id, agent_id_key ORDER BY agent \
                ON CONFLICT (workspace, agent_id) DO UPDATE SET \
                    name = coalesce(nullif(excluded.name, ''), agent.name), \
                    renamed = CASE WHEN excluded.name NOT IN ('', agent.name) THEN ",
                this_transaction!(),
                " ELSE agent.renamed END, \
                    name_key = coalesce(nullif(excluded.name_key, ''), agent.name_key), \
                    source = coalesce(nullif(excluded.source, ''), agent.source), \
                    last_seen = ",
                last_seen!(),
                ", \
                    session_count = agent.session_count + excluded.session_count",
                is_new_agent!(),
                "), ",
                count_agents!("patches"),
                ", \
            entries AS (\
                INSERT INTO kubeagents_data.statuses (workspace, agent_id, session_topic, seq, \
                    \"timestamp\", status, reason, message, content, number) \
                SELECT input.workspace, input.agent_id, input.session_topic, entry.seq, entry.at, \
                    entry.status, entry.reason, entry.message, entry.content, entry.number \
                FROM unnest($16::bigint[], $17::bigint[], $18::bigint[], $19::text[], $20::text[], \
                    $21::text[], $22::text[], $23::bigint[]) \
                    AS entry(place, seq, at, status, reason, message, content, number) \
                JOIN gate USING (place) JOIN input USING (place))",
            $($more),+
        )
    };
}

/// For chains that only add to histories, as nearly all do: the rest would cost more to set up than it
/// takes to store a report.
const COMMIT: &str = commit_statement!(" SELECT place, NULL::text FROM gate");

/// The parameters of [`COMMIT`], which are the first of [`COMMIT_WITH_MORE`].
const PARAMS: usize = 33;

/// For groups that queue notifications or remove what histories no longer keep.
const COMMIT_WITH_MORE: &str = commit_statement!(
    ", \
outdated AS (\
    SELECT oldest.at FROM unnest($34::bigint[], $35::bigint[]) \
            WITH ORDINALITY AS of_chain(outdated, removed, place) \
    JOIN gate USING (place) JOIN input AS i USING (place) CROSS JOIN LATERAL (\
        SELECT entry.ctid AS at, coalesce(entry.number, entry.seq) AS number \
        FROM kubeagents_data.statuses AS entry \
        WHERE entry.workspace = i.workspace AND entry.agent_id = i.agent_id \
        AND entry.session_topic = i.session_topic ORDER BY entry.seq LIMIT of_chain.removed\
    ) AS oldest WHERE oldest.number <= of_chain.outdated), \
removed AS (\
    DELETE FROM kubeagents_data.statuses AS entry USING outdated WHERE entry.ctid = outdated.at), \
queued AS (\
    SELECT n.*, ",
    queue_place!("$38"),
    " FROM unnest($36::bigint[], $37::text[]) AS of_chain(place, entries) \
    JOIN gate USING (place), jsonb_to_recordset(of_chain.entries::jsonb) ",
    queued_columns!(),
    "), ",
    insert_queued!("$38", "$39", "$40"),
    " SELECT place, NULL FROM gate \
    UNION ALL SELECT NULL, workspace FROM queued WHERE place = $38::bigint"
);

/// Stands for NULL in an array of instants.
const NEVER: i64 = i64::MIN;

pub(super) async fn load(
    query: &impl Query,
    keys: &[SessionKey],
) -> Result<Vec<Snapshot>, StoreError> {
    let texts = |of: fn(&SessionKey) -> &str| -> Vec<Cow<'_, str>> {
        keys.iter().map(|key| of(key).into()).collect()
    };
    let workspaces = texts(|key| key.workspace.key());
    let agents = texts(|key| &key.agent_id);
    let topics = texts(|key| &key.session_topic);
    let params = [&workspaces, &agents, &topics].map(|column| Value::Texts(column));
    query.all(LOAD, &params, Row::snapshot).await
}

pub(super) async fn commit(
    query: &impl Query,
    chains: &[Chain],
) -> Result<Vec<CommitOutcome>, StoreError> {
    let columns = Columns::of(chains);
    let params = columns.params();
    let stored = match columns.only_adds() {
        true => gathered(query, COMMIT, &params[..PARAMS]).await?,
        false => gathered(query, COMMIT_WITH_MORE, &params).await?,
    };
    let mut outcomes = vec![CommitOutcome::Conflict; chains.len()];
    for place in stored {
        let place = usize::try_from(place).unwrap_or(0);
        let outcome = outcomes.get_mut(place.wrapping_sub(1));
        *outcome.ok_or(UnexpectedResult("a place beyond the group"))? = CommitOutcome::Committed;
    }
    Ok(outcomes)
}

/// The parameters of a commit: columns of agents, of chains, of statuses and of notifications.
#[derive(Default)]
struct Columns<'a> {
    workspace: Vec<Cow<'a, str>>,
    agent_id: Vec<Cow<'a, str>>,
    agent_id_key: Vec<Cow<'a, str>>,
    agent: Vec<i64>,
    topic: Vec<Cow<'a, str>>,
    expected_seq: Vec<i64>,
    seq: Vec<i64>,
    created: Vec<i64>,
    last_updated: Vec<i64>,
    ttl_minutes: Vec<i64>,
    status: Vec<Cow<'a, str>>,
    run_started: Vec<i64>,
    name: Vec<Cow<'a, str>>,
    name_key: Vec<Cow<'a, str>>,
    source: Vec<Cow<'a, str>>,
    title: Vec<Cow<'a, str>>,
    reason: Vec<Cow<'a, str>>,
    message: Vec<Cow<'a, str>>,
    status_since: Vec<i64>,
    context: Vec<Cow<'a, str>>,
    sequence: Vec<i64>,
    noted_at: Vec<i64>,
    hook: Vec<Cow<'a, str>>,
    silence: Vec<i64>,
    entries: Vec<i64>,
    outdated: Vec<i64>,
    removed: Vec<i64>,
    entry_place: Vec<i64>,
    entry_seq: Vec<i64>,
    entry_timestamp: Vec<i64>,
    entry_status: Vec<Cow<'a, str>>,
    entry_reason: Vec<Cow<'a, str>>,
    entry_message: Vec<Cow<'a, str>>,
    entry_number: Vec<i64>,
    entry_content: Vec<Cow<'a, str>>,
    queued_place: Vec<i64>,
    queued: Vec<Cow<'a, str>>,
}

impl<'a> Columns<'a> {
    fn of(chains: &'a [Chain]) -> Self {
        let mut columns = Self::default();
        for (chain, place) in chains.iter().zip(1..) {
            columns.add_agent(chain.first());
            columns.add_chain(chain);
            for (commit, entry) in chain.with_kept_entries() {
                columns.add_entry(place, commit, entry);
            }
            for commit in chain.commits() {
                columns.add_queued(place, commit);
            }
        }
        columns
    }

    /// Adds the agent, unless it is that of the chain before: chains are in the order of their keys.
    fn add_agent(&mut self, commit: &'a Commit) {
        let workspace = commit.key.workspace.key();
        let agent_id = commit.key.agent_id.as_str();
        let before = (self.workspace.last(), self.agent_id.last());
        if before != (Some(&workspace.into()), Some(&agent_id.into())) {
            self.workspace.push(workspace.into());
            self.agent_id.push(agent_id.into());
            self.agent_id_key.push(commit.agent_id_key().into());
        }
    }

    fn add_chain(&mut self, chain: &'a Chain) {
        let head = chain.head();
        let name = chain.agent_name().unwrap_or_default();
        let run_started = head.run_started.map(|instant| instant.timestamp_micros());
        self.agent.push(saturating(self.agent_id.len()));
        self.topic.push(chain.key().session_topic.as_str().into());
        self.expected_seq.push(saturating(chain.expected_seq()));
        self.seq.push(saturating(head.seq));
        self.created.push(head.created.timestamp_micros());
        self.last_updated.push(head.last_updated.timestamp_micros());
        self.ttl_minutes.push(head.ttl_minutes.into());
        self.status.push(head.status.as_str().into());
        self.run_started.push(run_started.unwrap_or(NEVER));
        self.name.push(name.into());
        self.name_key.push(search_key(name).into());
        let source = chain.agent_source().unwrap_or_default();
        self.source.push(source.into());
        self.title.push(head.title.as_str().into());
        self.reason.push(head.reason.as_str().into());
        self.message.push(head.message.as_str().into());
        self.status_since.push(head.status_since.timestamp_micros());
        self.context.push(context_text(&head.context).into());
        self.sequence.push(head.sequence.map_or(0, saturating));
        self.noted_at.push(head.noted_at.timestamp_micros());
        self.hook.push(head.hook.as_str().into());
        self.silence.push(head.silence.code().into());
        self.entries.push(saturating(head.entries));
        self.outdated.push(saturating(chain.last().outdated()));
        self.removed.push(saturating(chain.removed_at_most()));
    }

    fn add_entry(&mut self, place: i64, commit: &Commit, entry: &'a StatusEntry) {
        self.entry_place.push(place);
        self.entry_seq.push(saturating(commit.session.seq));
        self.entry_number.push(saturating(commit.session.entries));
        let timestamp = entry.timestamp.timestamp_micros();
        self.entry_timestamp.push(timestamp);
        self.entry_status.push(entry.status.as_str().into());
        self.entry_reason.push(entry.reason.as_str().into());
        self.entry_message.push(entry.message.as_str().into());
        self.entry_content.push(entry.content.as_str().into());
    }

    fn add_queued(&mut self, place: i64, commit: &'a Commit) {
        if let Some(entries) = notifications_json(&commit.notifications) {
            self.queued_place.push(place);
            self.queued.push(entries.into());
        }
    }

    /// Checks whether histories only grow, and nobody is told.
    fn only_adds(&self) -> bool {
        self.queued.is_empty() && self.removed.iter().all(|&removed| removed == 0)
    }

    fn params(&self) -> [Value<'_>; 40] {
        [
            Value::Texts(&self.workspace),
            Value::Texts(&self.agent_id),
            Value::Texts(&self.agent_id_key),
            Value::Ints(&self.agent),
            Value::Texts(&self.topic),
            Value::Ints(&self.expected_seq),
            Value::Ints(&self.seq),
            Value::Ints(&self.created),
            Value::Ints(&self.last_updated),
            Value::Ints(&self.ttl_minutes),
            Value::Texts(&self.status),
            Value::Ints(&self.run_started),
            Value::Texts(&self.name),
            Value::Texts(&self.name_key),
            Value::Texts(&self.source),
            Value::Ints(&self.entry_place),
            Value::Ints(&self.entry_seq),
            Value::Ints(&self.entry_timestamp),
            Value::Texts(&self.entry_status),
            Value::Texts(&self.entry_reason),
            Value::Texts(&self.entry_message),
            Value::Texts(&self.entry_content),
            Value::Ints(&self.entry_number),
            Value::Texts(&self.title),
            Value::Texts(&self.reason),
            Value::Texts(&self.message),
            Value::Ints(&self.status_since),
            Value::Texts(&self.context),
            Value::Ints(&self.sequence),
            Value::Ints(&self.noted_at),
            Value::Texts(&self.hook),
            Value::Ints(&self.silence),
            Value::Ints(&self.entries),
            Value::Ints(&self.outdated),
            Value::Ints(&self.removed),
            Value::Ints(&self.queued_place),
            Value::Texts(&self.queued),
            saturating(MAX_WAITING).into(),
            NO_ROOM.into(),
            saturating(MAX_DELIVERIES).into(),
        ]
    }
}
