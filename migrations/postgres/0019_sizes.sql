-- Workspaces and agents may differ in size a millionfold, and the planner takes each for one of average size.
-- Where that is a single row, every index on the workspace looks as good as the key, and a session may be looked up
-- by one that reads all of its workspace. So each is to be taken for a large one. This holds from the next
-- ANALYZE on.
ALTER TABLE kubeagents_data.agents ALTER COLUMN workspace SET (n_distinct = 10);
ALTER TABLE kubeagents_data.sessions
    ALTER COLUMN workspace SET (n_distinct = 10),
    ALTER COLUMN agent_id SET (n_distinct = 10);
ALTER TABLE kubeagents_data.statuses
    ALTER COLUMN workspace SET (n_distinct = 10),
    ALTER COLUMN agent_id SET (n_distinct = 10);
IF EXISTS (SELECT FROM kubeagents_data.sessions) THEN
    ANALYZE kubeagents_data.agents, kubeagents_data.sessions, kubeagents_data.statuses;
END IF;
