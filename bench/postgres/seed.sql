-- A history to measure in, in the workspace `shared`: `agents` agents of 100 sessions of 9 statuses each,
-- spread over six weeks, and one more agent with one session of `long` statuses. Beside it `workspaces`
-- other workspaces of one agent with one session of 9 statuses each. A status has a message of 60
-- characters and a content of 200. A million sessions and ten million statuses are
--   psql -v agents=10000 -v long=1000000 -v workspaces=0 -f bench/postgres/seed.sql
-- on an empty database whose schema kubeagents has made.
BEGIN;
DROP INDEX kubeagents_data.statuses_by_timestamp;
ALTER TABLE kubeagents_data.statuses DROP CONSTRAINT statuses_pkey;

CREATE TEMP TABLE seeded ON COMMIT DROP AS
SELECT 'shared' AS workspace, 'agent ' || n % :agents AS agent_id, 'topic ' || n / :agents AS session_topic, 9 AS seq,
    kubeagents_data.now_micros() - (n * 6 * 7 * 86400000000. / (:agents * 100))::bigint AS at
FROM generate_series(0, :agents * 100 - 1) AS n
UNION ALL
SELECT 'workspace ' || n, 'agent', 'topic', 9, kubeagents_data.now_micros() - n * 1000000::bigint
FROM generate_series(0, :workspaces - 1) AS n
UNION ALL
SELECT 'shared', 'long', 'long', :long, kubeagents_data.now_micros();

INSERT INTO kubeagents_data.statuses (workspace, agent_id, session_topic, seq, "timestamp", status, message,
    content, number)
SELECT workspace, agent_id, session_topic, n, at - (seeded.seq - n) * 1000000::bigint, 'running',
    rpad('a line of progress', 60, '.'), rpad('what came of it', 200, '.'), n
FROM seeded, generate_series(1, seeded.seq) AS n;

INSERT INTO kubeagents_data.sessions (workspace, agent_id, session_topic, seq, entries, created,
    last_updated, ttl_minutes, status, run_started, status_since, noted_at, message)
SELECT workspace, agent_id, session_topic, seq, seq, start, at, 60, 'running', start, start, at,
    rpad('a line of progress', 60, '.')
FROM (SELECT *, at - (seq - 1) * 1000000::bigint AS start FROM seeded) AS seeded;

INSERT INTO kubeagents_data.agents (workspace, agent_id, agent_id_key, name, name_key, source, registered,
    last_seen, session_count)
SELECT workspace, agent_id, agent_id, '', '', '', min(created), max(last_updated), count(*)
FROM kubeagents_data.sessions GROUP BY workspace, agent_id;
INSERT INTO kubeagents_data.agent_counts
SELECT workspace, count(*) FROM kubeagents_data.agents GROUP BY workspace;

ALTER TABLE kubeagents_data.statuses
    ADD PRIMARY KEY (workspace, agent_id, session_topic, seq);
CREATE INDEX statuses_by_timestamp ON kubeagents_data.statuses
    (workspace, agent_id, "timestamp" DESC, session_topic, seq DESC);
COMMIT;
VACUUM ANALYZE kubeagents_data.statuses, kubeagents_data.sessions, kubeagents_data.agents;
