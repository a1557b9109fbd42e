//! Group commit: many reports in one statement.
//!
//! Reports wait in a queue of their session. A worker takes what waits in several sessions, loads
//! them with one statement, decides on them one after the other in memory, and commits them with
//! one statement. While it does, no other worker touches these sessions or their agents, so that
//! conflicts come only from other hosts.
//!
//! What the group statement passed over (its session or agent was locked, or had been changed by
//! another host) and what it failed for is recorded singly, where it harms nobody else.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use kubeagents_core::ports::Reports;
use kubeagents_core::store::{CommitOutcome, Sessions};
use kubeagents_core::{
    Commit, Decision, Recorded, Recorder, Report, ReportPolicy, Snapshot, StoreError, Workspace,
    conflict_pause,
};
use kubeagents_postgres::reports::notifications_json;
use kubeagents_postgres::{PostgresStore, reports};
use sqlx::postgres::PgPool;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::NativeStore;
use super::driver::{InTransaction, decode, within_deadline};
use super::queue::{Queue, Taken};
use crate::ports::{SystemClock, SystemEntropy, random_u32};

/// The most reports in one statement.
const MAX_REPORTS: usize = 256;

/// One worker's statements reach the disk while the other's are put together.
const WORKERS: usize = 2;

/// How often another host may be faster on a session before its row is locked.
const MAX_CONFLICTS: u32 = 3;

/// How long a report waits for its turn among those that are recorded singly.
const SINGLE_PATIENCE: Duration = Duration::from_secs(2);

/// Both lists are in the order of the parameter's arrays. Laterals and scalar subqueries, and not
/// joins, keep every look-up an index scan whatever the planner believes about a growing table.
const LOAD: &str = "\
SELECT (SELECT agent.name FROM kubeagents_data.agents AS agent \
        WHERE agent.workspace = wanted.workspace AND agent.agent_id = wanted.agent_id), \
    session.seq, session.created, session.last_updated, session.ttl_minutes, session.status, \
    session.run_started \
FROM unnest($1::text[], $2::text[], $3::text[]) \
    WITH ORDINALITY AS wanted(workspace, agent_id, session_topic, place) \
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
const COMMIT: &str = "\
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
    SELECT i.*, a.workspace, a.agent_id, a.agent_id_key \
    FROM unnest($4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], \
        $10::bigint[], $11::text[], $12::bigint[], $13::text[], $14::text[], $15::text[]) \
        WITH ORDINALITY AS i(agent, session_topic, expected_seq, seq, created, last_updated, \
            ttl_minutes, status, run_started, name, name_key, source, place) \
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
        ttl_minutes = i.ttl_minutes, status = i.status, run_started = i.run_started \
    FROM free_sessions AS i WHERE session.ctid = i.at \
    RETURNING i.place), \
created AS (\
    INSERT INTO kubeagents_data.sessions AS session (workspace, agent_id, session_topic, seq, \
        created, last_updated, ttl_minutes, status, run_started) \
    SELECT workspace, agent_id, session_topic, seq, created, last_updated, ttl_minutes, status, \
        run_started \
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
        coalesce((array_agg(name ORDER BY place DESC) FILTER (WHERE name IS NOT NULL))[1], ''), \
        coalesce((array_agg(name_key ORDER BY place DESC) \
            FILTER (WHERE name IS NOT NULL))[1], ''), \
        coalesce((array_agg(source ORDER BY place DESC) FILTER (WHERE source IS NOT NULL))[1], \
            ''), \
        min(created), max(last_updated), count(*) FILTER (WHERE expected_seq = 0) \
    FROM input JOIN gate USING (place) \
    GROUP BY agent, workspace, agent_id, agent_id_key ORDER BY agent \
    ON CONFLICT (workspace, agent_id) DO UPDATE SET \
        name = coalesce(nullif(excluded.name, ''), agent.name), \
        name_key = coalesce(nullif(excluded.name_key, ''), agent.name_key), \
        source = coalesce(nullif(excluded.source, ''), agent.source), \
        last_seen = greatest(agent.last_seen, excluded.last_seen), \
        session_count = agent.session_count + excluded.session_count), \
entries AS (\
    INSERT INTO kubeagents_data.statuses (workspace, agent_id, session_topic, seq, \
        \"timestamp\", status, message, content) \
    SELECT input.workspace, input.agent_id, input.session_topic, entry.seq, entry.at, \
        entry.status, entry.message, entry.content \
    FROM unnest($16::bigint[], $17::bigint[], $18::bigint[], $19::text[], $20::text[], \
        $21::text[]) AS entry(place, seq, at, status, message, content) \
    JOIN gate USING (place) JOIN input USING (place)), \
notifications AS (\
    INSERT INTO kubeagents_data.outbox (id, host, url, body, created_at) \
    SELECT n.id, n.host, n.url, n.body, n.created_at \
    FROM unnest($22::bigint[], $23::text[]) AS queued(place, entries) JOIN gate USING (place), \
        jsonb_to_recordset(queued.entries::jsonb) \
            AS n(id text, host text, url text, body text, created_at bigint)) \
SELECT place FROM gate";

/// Records reports in groups.
#[derive(Clone)]
pub(crate) struct BatchedReports(Arc<Batcher>);

struct Batcher {
    recorder: Recorder<NativeStore, SystemClock, SystemEntropy>,
    pool: PgPool,
    queue: Mutex<Queue<Waiting>>,
    waiting: Notify,
    /// Reports that are recorded singly may have to wait for locks, and must not take all
    /// connections while they do.
    singles: Semaphore,
}

struct Waiting {
    report: Report,
    answer: oneshot::Sender<Result<Recorded, StoreError>>,
}

/// Why a group was not stored.
enum GroupFailure {
    /// The server refused the statement: nothing is stored, and alone most of it may pass.
    Refused,
    /// The database did not answer: nobody knows what is stored.
    Unavailable(StoreError),
}

#[derive(Debug, thiserror::Error)]
#[error("a group of reports failed: {0}")]
struct GroupFailed(String);

impl BatchedReports {
    /// Starts the workers on the current runtime.
    pub(crate) fn start(store: NativeStore, policy: ReportPolicy) -> Self {
        let pool = store.driver().pool().clone();
        let recorder = Recorder {
            store,
            clock: SystemClock,
            entropy: SystemEntropy,
            policy,
        };
        let singles = (pool.options().get_max_connections() / 2).max(1);
        let batcher = Arc::new(Batcher {
            recorder,
            pool,
            queue: Mutex::default(),
            waiting: Notify::new(),
            singles: Semaphore::new(singles as usize),
        });
        for _ in 0..WORKERS {
            tokio::spawn(Arc::clone(&batcher).work());
        }
        Self(batcher)
    }
}

impl Reports for BatchedReports {
    async fn record(&self, workspace: &Workspace, report: Report) -> Result<Recorded, StoreError> {
        let (answer, answered) = oneshot::channel();
        let key = report.session_key(workspace);
        self.0
            .change_queue(|queue| queue.push(key, Waiting { report, answer }));
        answered
            .await
            .unwrap_or_else(|_| Err(StoreError::unavailable("the server is shutting down")))
    }
}

impl Batcher {
    fn queue(&self) -> MutexGuard<'_, Queue<Waiting>> {
        // Nothing that holds the lock leaves the queue half-changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue, and wakes a worker if that may have left it something to take.
    fn change_queue(&self, change: impl FnOnce(&mut Queue<Waiting>)) {
        let mut queue = self.queue();
        change(&mut queue);
        if queue.is_ready() {
            self.waiting.notify_one();
        }
    }

    async fn work(self: Arc<Self>) {
        loop {
            self.waiting.notified().await;
            loop {
                let taken = self.queue().take(MAX_REPORTS);
                if taken.is_empty() {
                    break;
                }
                self.record_group(taken).await;
            }
        }
    }

    async fn record_group(self: &Arc<Self>, mut taken: Vec<Taken<Waiting>>) {
        // In key order, so that hosts that create the same agents do so in the same order.
        taken.sort_by(|a, b| a.key.cmp(&b.key));
        let stored = self.try_group(&taken).await;
        self.change_queue(|queue| queue.release_agents(&taken));
        let stored = match stored {
            Ok(stored) => stored,
            Err(GroupFailure::Refused) => HashMap::new(),
            Err(GroupFailure::Unavailable(error)) => {
                let message = crate::causes(&error);
                for session in taken {
                    for waiting in session.waiting {
                        let error = StoreError::unavailable(GroupFailed(message.clone()));
                        let _ = waiting.answer.send(Err(error));
                    }
                    self.change_queue(|queue| queue.give_back(session.key));
                }
                return;
            }
        };
        for (place, session) in taken.into_iter().enumerate() {
            match stored.get(&place) {
                Some(recorded) => {
                    for (waiting, recorded) in session.waiting.into_iter().zip(recorded) {
                        let _ = waiting.answer.send(Ok(*recorded));
                    }
                    self.change_queue(|queue| queue.give_back(session.key));
                }
                None => {
                    tokio::spawn(Arc::clone(self).record_singly(session));
                }
            }
        }
    }

    /// Loads, decides and commits a group; returns what was stored, by the session's place in it.
    async fn try_group(
        &self,
        taken: &[Taken<Waiting>],
    ) -> Result<HashMap<usize, Vec<Recorded>>, GroupFailure> {
        let snapshots = self.load(taken).await?;
        let mut decisions: Vec<Vec<Decision>> = Vec::with_capacity(taken.len());
        for (session, mut snapshot) in taken.iter().zip(snapshots) {
            let workspace = &session.key.workspace;
            let chain = session.waiting.iter().map(|waiting| {
                let decision = self.recorder.decide(workspace, &waiting.report, &snapshot);
                snapshot = snapshot.after(&decision.commit);
                decision
            });
            decisions.push(chain.collect());
        }
        let receivers = self.receivers(taken, &decisions).await?;
        let none = Vec::new();
        let commits: Vec<Vec<Commit>> = taken
            .iter()
            .zip(decisions)
            .map(|(session, chain)| {
                let receivers = receivers.get(&session.key.workspace).unwrap_or(&none);
                chain
                    .into_iter()
                    .map(|decision| self.recorder.commit(decision, receivers))
                    .collect()
            })
            .collect();
        let places = self.commit(&commits).await?;
        Ok(places
            .into_iter()
            .filter_map(|place| {
                let chain = commits.get(place)?;
                Some((place, chain.iter().map(Recorded::of).collect()))
            })
            .collect())
    }

    async fn load(&self, taken: &[Taken<Waiting>]) -> Result<Vec<Snapshot>, GroupFailure> {
        let keys = || taken.iter().map(|session| &session.key);
        let workspaces: Vec<&str> = keys().map(|key| key.workspace.key()).collect();
        let agents: Vec<&str> = keys().map(|key| &*key.agent_id).collect();
        let topics: Vec<&str> = keys().map(|key| &*key.session_topic).collect();
        let statement = sqlx::query(LOAD).bind(workspaces).bind(agents).bind(topics);
        let rows = group(statement.fetch_all(&self.pool)).await?;
        rows.iter()
            .map(|row| {
                let mut row = decode(row).map_err(StoreError::unavailable)?;
                Ok(reports::snapshot(&mut row)?)
            })
            .collect::<Result<_, _>>()
            .map_err(GroupFailure::Unavailable)
    }

    /// Who is told of this group's transitions, by workspace.
    async fn receivers(
        &self,
        taken: &[Taken<Waiting>],
        decisions: &[Vec<Decision>],
    ) -> Result<HashMap<Workspace, Vec<String>>, GroupFailure> {
        let with_transition: HashSet<Workspace> = taken
            .iter()
            .zip(decisions)
            .filter(|(_, chain)| chain.iter().any(|decision| decision.transition.is_some()))
            .map(|(session, _)| session.key.workspace.clone())
            .collect();
        stream::iter(with_transition)
            .map(|workspace| async move {
                let receivers = self.recorder.receivers(&workspace).await?;
                Ok((workspace, receivers))
            })
            .buffer_unordered(4)
            .try_collect()
            .await
            .map_err(GroupFailure::Unavailable)
    }

    async fn commit(&self, commits: &[Vec<Commit>]) -> Result<Vec<usize>, GroupFailure> {
        let group_statement = GroupStatement::new(commits);
        let rows = group(group_statement.query().fetch_all(&self.pool)).await?;
        rows.iter()
            .map(|row| {
                let mut row = decode(row).map_err(StoreError::unavailable)?;
                Ok(row.int::<usize>()? - 1)
            })
            .collect::<Result<_, _>>()
            .map_err(GroupFailure::Unavailable)
    }

    /// Records the reports of one session one after the other. When one cannot be recorded, neither
    /// can those behind it, which would wait as long.
    async fn record_singly(self: Arc<Self>, session: Taken<Waiting>) {
        let Taken { key, waiting } = session;
        let permit = tokio::time::timeout(SINGLE_PATIENCE, self.singles.acquire()).await;
        let mut contended = permit.is_err();
        for Waiting { report, answer } in waiting {
            let result = match contended {
                true => Err(StoreError::Contended),
                false => self.record_one(&key.workspace, &report).await,
            };
            contended = matches!(result, Err(StoreError::Contended));
            let _ = answer.send(result);
        }
        drop(permit);
        self.change_queue(|queue| queue.give_back(key));
    }

    async fn record_one(
        &self,
        workspace: &Workspace,
        report: &Report,
    ) -> Result<Recorded, StoreError> {
        let Recorder { store, .. } = &self.recorder;
        let key = report.session_key(workspace);
        for conflicts in 1..=MAX_CONFLICTS {
            let snapshot = store.load(&key).await?;
            let commit = self.recorder.prepare(workspace, report, &snapshot).await?;
            if store.commit(&commit).await? == CommitOutcome::Committed {
                return Ok(Recorded::of(&commit));
            }
            tokio::time::sleep(conflict_pause(conflicts, random_u32())).await;
        }
        self.record_locked(workspace, report).await
    }

    /// Records a report while its session's row is locked, so that no other host can be faster.
    async fn record_locked(
        &self,
        workspace: &Workspace,
        report: &Report,
    ) -> Result<Recorded, StoreError> {
        const LOCK: &str = "\
            SELECT seq FROM kubeagents_data.sessions \
            WHERE workspace = $1 AND agent_id = $2 AND session_topic = $3 FOR UPDATE";
        let mut transaction = within_deadline(self.pool.begin()).await?;
        let lock = sqlx::query(LOCK)
            .bind(workspace.key())
            .bind(&report.agent_id)
            .bind(&report.session_topic);
        within_deadline(lock.execute(&mut *transaction)).await?;
        let Recorder {
            clock,
            entropy,
            policy,
            ..
        } = self.recorder.clone();
        let store = PostgresStore::new(InTransaction::new(transaction));
        let recorder = Recorder {
            store,
            clock,
            entropy,
            policy,
        };
        let recorded = recorder.record(workspace, report, async |_| false).await?;
        recorder.store.into_driver().commit().await?;
        Ok(recorded)
    }
}

/// Runs a statement of a group.
async fn group<T>(
    operation: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, GroupFailure> {
    let mut refused = false;
    let operation = async {
        let result = operation.await;
        refused = matches!(&result, Err(error) if error.as_database_error().is_some_and(|error| {
            // Class 57 is the server going down or ending the session.
            !error.code().is_some_and(|code| code.starts_with("57P"))
        }));
        result
    };
    let result = within_deadline(operation).await;
    result.map_err(|error| match refused {
        true => {
            tracing::warn!(
                error = crate::causes(&error),
                "a group of reports was refused; recording them one by one"
            );
            GroupFailure::Refused
        }
        false => GroupFailure::Unavailable(error),
    })
}

/// The parameters of [`COMMIT`], column by column.
#[derive(Default)]
struct GroupStatement<'a> {
    agents: (Vec<&'a str>, Vec<&'a str>, Vec<String>),
    agent: Vec<i64>,
    topic: Vec<&'a str>,
    expected_seq: Vec<i64>,
    seq: Vec<i64>,
    created: Vec<i64>,
    last_updated: Vec<i64>,
    ttl_minutes: Vec<i64>,
    status: Vec<&'static str>,
    run_started: Vec<Option<i64>>,
    name: Vec<Option<&'a str>>,
    name_key: Vec<Option<String>>,
    source: Vec<Option<&'a str>>,
    entry_place: Vec<i64>,
    entry_seq: Vec<i64>,
    entry_timestamp: Vec<i64>,
    entry_status: Vec<&'static str>,
    entry_message: Vec<&'a str>,
    entry_content: Vec<&'a str>,
    queued_place: Vec<i64>,
    queued: Vec<String>,
}

impl<'a> GroupStatement<'a> {
    /// Each inner list is the chain of one session; the sessions are in key order.
    fn new(commits: &'a [Vec<Commit>]) -> Self {
        let mut all = Self::default();
        for (chain, place) in commits.iter().zip(1..) {
            let (Some(first), Some(last)) = (chain.first(), chain.last()) else {
                continue;
            };
            all.add_session(first, last);
            let latest = |of: fn(&Commit) -> Option<&String>| chain.iter().rev().find_map(of);
            let name = latest(|commit| commit.agent.name.as_ref());
            let source = latest(|commit| commit.agent.source.as_ref());
            all.name.push(name.map(String::as_str));
            all.name_key
                .push(name.map(|name| kubeagents_core::search_key(name)));
            all.source.push(source.map(String::as_str));
            for commit in chain {
                all.add_entry(place, commit);
            }
        }
        all
    }

    fn add_session(&mut self, first: &'a Commit, last: &'a Commit) {
        let workspace = first.key.workspace.key();
        let agent_id = first.key.agent_id.as_str();
        let (workspaces, ids, keys) = &mut self.agents;
        if (workspaces.last(), ids.last()) != (Some(&workspace), Some(&agent_id)) {
            workspaces.push(workspace);
            ids.push(agent_id);
            keys.push(first.agent_id_key());
        }
        self.agent.push(int(ids.len()));
        self.topic.push(&first.key.session_topic);
        self.expected_seq.push(int(first.expected_seq));
        let head = &last.session;
        self.seq.push(int(head.seq));
        self.created.push(head.created.timestamp_micros());
        self.last_updated.push(head.last_updated.timestamp_micros());
        self.ttl_minutes.push(head.ttl_minutes.into());
        self.status.push(head.status.as_str());
        let run_started = head.run_started.map(|instant| instant.timestamp_micros());
        self.run_started.push(run_started);
    }

    fn add_entry(&mut self, place: i64, commit: &'a Commit) {
        let entry = &commit.status;
        self.entry_place.push(place);
        self.entry_seq.push(int(commit.session.seq));
        self.entry_timestamp
            .push(entry.timestamp.timestamp_micros());
        self.entry_status.push(entry.status.as_str());
        self.entry_message.push(&entry.message);
        self.entry_content.push(&entry.content);
        if let Some(entries) = notifications_json(&commit.notifications) {
            self.queued_place.push(place);
            self.queued.push(entries);
        }
    }

    fn query(
        &self,
    ) -> sqlx::query::Query<'_, sqlx::Postgres, <sqlx::Postgres as sqlx::Database>::Arguments> {
        sqlx::query(COMMIT)
            .bind(&self.agents.0)
            .bind(&self.agents.1)
            .bind(&self.agents.2)
            .bind(&self.agent)
            .bind(&self.topic)
            .bind(&self.expected_seq)
            .bind(&self.seq)
            .bind(&self.created)
            .bind(&self.last_updated)
            .bind(&self.ttl_minutes)
            .bind(&self.status)
            .bind(&self.run_started)
            .bind(&self.name)
            .bind(&self.name_key)
            .bind(&self.source)
            .bind(&self.entry_place)
            .bind(&self.entry_seq)
            .bind(&self.entry_timestamp)
            .bind(&self.entry_status)
            .bind(&self.entry_message)
            .bind(&self.entry_content)
            .bind(&self.queued_place)
            .bind(&self.queued)
    }
}

/// Counts and versions are far below `bigint`'s limit.
fn int(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
