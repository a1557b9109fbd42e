-- What a session's newest report says stands in its row, and a commit may come without a history
-- entry. So the newest status is not always at the place `seq` of the history.

DROP TRIGGER apply_chain;

DROP VIEW chains;

ALTER TABLE sessions ADD COLUMN title TEXT NOT NULL DEFAULT '';

ALTER TABLE sessions ADD COLUMN reason TEXT NOT NULL DEFAULT '';

ALTER TABLE sessions ADD COLUMN message TEXT NOT NULL DEFAULT '';

ALTER TABLE sessions ADD COLUMN status_since INTEGER NOT NULL DEFAULT 0;

-- A JSON object of strings.
ALTER TABLE sessions ADD COLUMN context TEXT NOT NULL DEFAULT '';

ALTER TABLE sessions ADD COLUMN sequence INTEGER;

-- When the newest history entry was made.
ALTER TABLE sessions ADD COLUMN noted_at INTEGER NOT NULL DEFAULT 0;

-- What hooks keep; only the program reads it.
ALTER TABLE sessions ADD COLUMN hook TEXT NOT NULL DEFAULT '';

UPDATE sessions SET
    status_since = coalesce(run_started, last_updated),
    noted_at = last_updated,
    message = coalesce((
        SELECT h.message FROM statuses h
        WHERE h.workspace = sessions.workspace AND h.agent_id = sessions.agent_id
            AND h.topic = sessions.topic AND h.seq = sessions.seq
    ), '');

ALTER TABLE statuses ADD COLUMN reason TEXT NOT NULL DEFAULT '';

-- Serves the list of a workspace's sessions.
CREATE INDEX sessions_of_workspace ON sessions (workspace, last_updated DESC, agent_id, topic);

-- As before, with what came to be stored. `last_seen` is a maximum, unless what is there is ahead by
-- more than a day, the longest TTL: then it is the error of a clock.
CREATE VIEW chains (
    place, workspace, agent_id, topic, expected_seq, agent_key, name, name_key, source,
    seq, created, last_updated, ttl_minutes, expires_at, status, run_started,
    title, reason, message, status_since, context, sequence, noted_at, hook,
    statuses, notifications
) AS SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE FALSE;

CREATE TRIGGER apply_chain INSTEAD OF INSERT ON chains BEGIN
    SELECT RAISE(IGNORE) WHERE NEW.expected_seq IS NOT coalesce((
        SELECT seq FROM sessions
        WHERE workspace = NEW.workspace AND agent_id = NEW.agent_id AND topic = NEW.topic
    ), 0);
    INSERT INTO agents VALUES (
        NEW.workspace, NEW.agent_id, NEW.agent_key, coalesce(NEW.name, ''),
        coalesce(NEW.name_key, ''), coalesce(NEW.source, ''), NEW.created, NEW.last_updated, 1
    ) ON CONFLICT DO UPDATE SET
        name = coalesce(NEW.name, name),
        name_key = coalesce(NEW.name_key, name_key),
        source = coalesce(NEW.source, source),
        last_seen = iif(last_seen > NEW.last_updated + 86400000000, NEW.last_updated,
            max(last_seen, NEW.last_updated)),
        session_count = session_count + (NEW.expected_seq = 0);
    INSERT INTO sessions (
        workspace, agent_id, topic, seq, created, last_updated, ttl_minutes, expires_at, status,
        run_started, title, reason, message, status_since, context, sequence, noted_at, hook
    ) VALUES (
        NEW.workspace, NEW.agent_id, NEW.topic, NEW.seq, NEW.created, NEW.last_updated,
        NEW.ttl_minutes, NEW.expires_at, NEW.status, NEW.run_started, NEW.title, NEW.reason,
        NEW.message, NEW.status_since, NEW.context, NEW.sequence, NEW.noted_at, NEW.hook
    ) ON CONFLICT DO UPDATE SET
        seq = excluded.seq,
        last_updated = excluded.last_updated,
        ttl_minutes = excluded.ttl_minutes,
        expires_at = excluded.expires_at,
        status = excluded.status,
        run_started = excluded.run_started,
        title = excluded.title,
        reason = excluded.reason,
        message = excluded.message,
        status_since = excluded.status_since,
        context = excluded.context,
        sequence = excluded.sequence,
        noted_at = excluded.noted_at,
        hook = excluded.hook;
    INSERT INTO statuses (workspace, agent_id, topic, seq, status, timestamp, reason, message, content)
        SELECT NEW.workspace, NEW.agent_id, NEW.topic, value ->> 'seq', value ->> 'status',
            value ->> 'timestamp', value ->> 'reason', value ->> 'message', value ->> 'content'
        FROM json_each(NEW.statuses);
    INSERT INTO outbox (id, workspace, url, host, body, created_at, due_at, round, leased, ready)
        SELECT value ->> 'id', value ->> 'workspace', value ->> 'url', value ->> 'host',
            value ->> 'body', value ->> 'created_at', value ->> 'created_at', 0, FALSE, TRUE
        FROM json_each(NEW.notifications);
END;
