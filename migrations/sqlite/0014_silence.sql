-- Sessions that expire while they are running are noticed without a report.

DROP TRIGGER apply_chain;

DROP VIEW chains;

-- 0: nobody is told of its expiry; 1: somebody is; 2: somebody was.
ALTER TABLE sessions ADD COLUMN silence INTEGER NOT NULL DEFAULT 0;

UPDATE sessions SET silence = 1
    WHERE status = 'running' AND expires_at > unixepoch() * 1000000;

CREATE INDEX sessions_watched ON sessions (expires_at) WHERE silence = 1;

-- As before, with that.
CREATE VIEW chains (
    place, workspace, agent_id, topic, expected_seq, agent_key, name, name_key, source,
    seq, created, last_updated, ttl_minutes, expires_at, status, run_started,
    title, reason, message, status_since, context, sequence, noted_at, hook,
    silence, statuses, notifications
) AS SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE FALSE;

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
        run_started, title, reason, message, status_since, context, sequence, noted_at, hook,
        silence
    ) VALUES (
        NEW.workspace, NEW.agent_id, NEW.topic, NEW.seq, NEW.created, NEW.last_updated,
        NEW.ttl_minutes, NEW.expires_at, NEW.status, NEW.run_started, NEW.title, NEW.reason,
        NEW.message, NEW.status_since, NEW.context, NEW.sequence, NEW.noted_at, NEW.hook,
        NEW.silence
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
        hook = excluded.hook,
        silence = excluded.silence;
    INSERT INTO statuses (workspace, agent_id, topic, seq, status, timestamp, reason, message, content)
        SELECT NEW.workspace, NEW.agent_id, NEW.topic, value ->> 'seq', value ->> 'status',
            value ->> 'timestamp', value ->> 'reason', value ->> 'message', value ->> 'content'
        FROM json_each(NEW.statuses);
    INSERT OR IGNORE INTO outbox (
        id, workspace, url, host, body, channel, created_at, due_at, round, leased, ready
    ) SELECT value ->> 'id', value ->> 'workspace', value ->> 'url', value ->> 'host',
            value ->> 'body', value ->> 'channel', value ->> 'created_at',
            (value ->> 'created_at') + (value ->> 'delay'), 0, FALSE, value ->> 'delay' = 0
        FROM json_each(NEW.notifications);
END;

-- A row inserted here notes that a session has fallen silent. When its version has moved, nothing is
-- changed and `RETURNING` returns no row.
CREATE VIEW silences (place, workspace, agent_id, topic, seq, notifications)
    AS SELECT NULL, NULL, NULL, NULL, NULL, NULL WHERE FALSE;

CREATE TRIGGER note_silence INSTEAD OF INSERT ON silences BEGIN
    SELECT RAISE(IGNORE) WHERE NOT EXISTS (
        SELECT 1 FROM sessions
        WHERE workspace = NEW.workspace AND agent_id = NEW.agent_id AND topic = NEW.topic
            AND seq = NEW.seq AND silence = 1
    );
    UPDATE sessions SET seq = seq + 1, silence = 2
        WHERE workspace = NEW.workspace AND agent_id = NEW.agent_id AND topic = NEW.topic;
    INSERT OR IGNORE INTO outbox (
        id, workspace, url, host, body, channel, created_at, due_at, round, leased, ready
    ) SELECT value ->> 'id', value ->> 'workspace', value ->> 'url', value ->> 'host',
            value ->> 'body', value ->> 'channel', value ->> 'created_at',
            (value ->> 'created_at') + (value ->> 'delay'), 0, FALSE, value ->> 'delay' = 0
        FROM json_each(NEW.notifications);
END;
