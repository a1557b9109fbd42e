-- A history may be limited to its newest statuses. They are numbered without gaps, which places are not.

DROP TRIGGER apply_chain;

DROP VIEW chains;

-- The number of statuses so far, and of each its number. NULL: `seq`, from before they were counted.
ALTER TABLE sessions ADD COLUMN entries INTEGER;

ALTER TABLE statuses ADD COLUMN number INTEGER;

-- As before, with that: of the oldest statuses as many as the chain may remove, up to the newest that is not
-- to be kept.
CREATE VIEW chains (
    place, workspace, agent_id, topic, expected_seq, agent_key, name, name_key, source,
    seq, created, last_updated, ttl_minutes, expires_at, status, run_started,
    title, reason, message, status_since, context, sequence, noted_at, hook,
    silence, entries, outdated, removed, statuses, notifications
) AS SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
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
        silence, entries
    ) VALUES (
        NEW.workspace, NEW.agent_id, NEW.topic, NEW.seq, NEW.created, NEW.last_updated,
        NEW.ttl_minutes, NEW.expires_at, NEW.status, NEW.run_started, NEW.title, NEW.reason,
        NEW.message, NEW.status_since, NEW.context, NEW.sequence, NEW.noted_at, NEW.hook,
        NEW.silence, NEW.entries
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
        silence = excluded.silence,
        entries = excluded.entries;
    INSERT INTO statuses (
        workspace, agent_id, topic, seq, status, timestamp, reason, message, content, number
    )
        SELECT NEW.workspace, NEW.agent_id, NEW.topic, value ->> 'seq', value ->> 'status',
            value ->> 'timestamp', value ->> 'reason', value ->> 'message', value ->> 'content',
            value ->> 'number'
        FROM json_each(NEW.statuses);
    DELETE FROM statuses
        WHERE workspace = NEW.workspace AND agent_id = NEW.agent_id AND topic = NEW.topic
            AND seq IN (
                SELECT seq FROM (
                    SELECT seq, coalesce(number, seq) AS number FROM statuses
                    WHERE workspace = NEW.workspace AND agent_id = NEW.agent_id
                        AND topic = NEW.topic
                    ORDER BY seq LIMIT NEW.removed
                ) WHERE number <= NEW.outdated
            );
    INSERT OR IGNORE INTO outbox (
        id, workspace, url, host, body, channel, created_at, due_at, round, leased, ready
    ) SELECT value ->> 'id', value ->> 'workspace', value ->> 'url', value ->> 'host',
            value ->> 'body', value ->> 'channel', value ->> 'created_at',
            (value ->> 'created_at') + (value ->> 'delay'), 0, FALSE, value ->> 'delay' = 0
        FROM json_each(NEW.notifications);
END;
