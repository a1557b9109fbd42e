-- Ten million statuses: 100 workspaces of 100 agents with 100 sessions of 10 statuses each, but one
-- session of a million in the workspace `shared`, which the benchmarks report to.
--   psql -v statuses=10000000 -f bench/postgres/seed.sql
-- on a database whose schema kubeagents has made.
BEGIN;
DROP INDEX kubeagents_data.statuses_by_timestamp;
ALTER TABLE kubeagents_data.statuses DROP CONSTRAINT statuses_pkey;

CREATE TEMP TABLE seeded ON COMMIT DROP AS
SELECT 'workspace ' || n % 100 AS workspace, 'agent ' || n / 100 % 100 AS agent_id,
    'topic ' || n / 10000 AS session_topic, kubeagents_data.now_micros() - n * 3600000::bigint AS at
FROM generate_series(0, :statuses / 10 - 100000 - 1) AS n;

INSERT INTO kubeagents_data.statuses
SELECT workspace, agent_id, session_topic, seq, at + seq - 10, 'running', 'message', 'content'
FROM seeded, generate_series(1, 10) AS seq;
INSERT INTO kubeagents_data.statuses
SELECT 'shared', 'long', 'long', n, kubeagents_data.now_micros() - 1000000 + n, 'running', 'message', 'content'
FROM generate_series(1, 1000000) AS n;

INSERT INTO kubeagents_data.sessions (workspace, agent_id, session_topic, seq, created,
    last_updated, ttl_minutes, status, run_started, status_since, noted_at)
SELECT workspace, agent_id, session_topic, 10, at - 9, at, 60, 'running', at - 9, at - 9, at FROM seeded;
INSERT INTO kubeagents_data.sessions (workspace, agent_id, session_topic, seq, created,
    last_updated, ttl_minutes, status, run_started, status_since, noted_at)
SELECT 'shared', 'long', 'long', 1000000, t, t, 60, 'running', t, t, t
FROM kubeagents_data.now_micros() AS t;

INSERT INTO kubeagents_data.agents
SELECT workspace, agent_id, agent_id, '', '', '', min(created), max(last_updated), count(*)
FROM kubeagents_data.sessions GROUP BY workspace, agent_id;

ALTER TABLE kubeagents_data.statuses
    ADD PRIMARY KEY (workspace, agent_id, session_topic, seq);
CREATE INDEX statuses_by_timestamp ON kubeagents_data.statuses
    (workspace, agent_id, "timestamp" DESC, session_topic, seq DESC);
COMMIT;
VACUUM ANALYZE kubeagents_data.statuses, kubeagents_data.sessions, kubeagents_data.agents;
