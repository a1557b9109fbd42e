-- A session for each client of pgbench.
INSERT INTO kubeagents_data.agents (workspace, agent_id, agent_id_key, name, name_key, source,
    registered, last_seen, session_count)
SELECT 'bench', 'agent ' || n % 16, 'agent ' || n % 16, '', '', '', 1, 1, 1
FROM generate_series(0, 999) AS n ON CONFLICT DO NOTHING;
INSERT INTO kubeagents_data.sessions (workspace, agent_id, session_topic, seq, created,
    last_updated, ttl_minutes, status, run_started, status_since, noted_at)
SELECT 'bench', 'agent ' || n % 16, 'topic ' || n, 1, 1, 1, 60, 'running', 1, 1, 1
FROM generate_series(0, 999) AS n ON CONFLICT (workspace, agent_id, session_topic) DO UPDATE SET seq = 1;
DELETE FROM kubeagents_data.statuses WHERE workspace = 'bench';
