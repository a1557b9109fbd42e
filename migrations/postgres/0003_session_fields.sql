-- What a session's newest report says stands in its row, and a commit may come without a history
-- entry. So the newest status is not always at the place `seq` of the history.
--
-- Empty text stands for "none".
ALTER TABLE kubeagents_data.sessions
    ADD COLUMN title text NOT NULL DEFAULT '',
    ADD COLUMN reason text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN message text NOT NULL DEFAULT '',
    ADD COLUMN status_since bigint,
    -- A JSON object of strings.
    ADD COLUMN context text NOT NULL DEFAULT '',
    ADD COLUMN sequence bigint,
    -- When the newest history entry was made.
    ADD COLUMN noted_at bigint,
    -- What hooks keep; only the program reads it.
    ADD COLUMN hook text NOT NULL DEFAULT '';

UPDATE kubeagents_data.sessions AS session
    SET status_since = coalesce(session.run_started, session.last_updated),
        noted_at = session.last_updated,
        message = coalesce((SELECT entry.message FROM kubeagents_data.statuses AS entry
            WHERE entry.workspace = session.workspace AND entry.agent_id = session.agent_id
            AND entry.session_topic = session.session_topic AND entry.seq = session.seq), '');

ALTER TABLE kubeagents_data.sessions
    ALTER COLUMN status_since SET NOT NULL,
    ALTER COLUMN noted_at SET NOT NULL;

ALTER TABLE kubeagents_data.statuses
    ADD COLUMN reason text COLLATE "C" NOT NULL DEFAULT '';

-- Serves the list of a workspace's sessions.
CREATE INDEX sessions_of_workspace ON kubeagents_data.sessions
    (workspace, last_updated DESC, agent_id, session_topic);
