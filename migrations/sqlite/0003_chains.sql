-- Commits are applied in chains: all that waits for one session is stored together or not at all.

DROP TRIGGER apply_commit;

DROP VIEW commits;

-- A row inserted here is a chain of commits on one session, its statuses and notifications as JSON.
-- One statement may insert many. A row whose session has another version changes nothing, and
-- `RETURNING` leaves it out; the others are applied.
CREATE VIEW chains (
    place, workspace, agent_id, topic, expected_seq, agent_key, name, name_key, source,
    seq, created, last_updated, ttl_minutes, expires_at, status, run_started,
    statuses, notifications
) AS SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL WHERE FALSE;

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
        last_seen = max(last_seen, NEW.last_updated),
        session_count = session_count + (NEW.expected_seq = 0);
    INSERT INTO sessions VALUES (
        NEW.workspace, NEW.agent_id, NEW.topic, NEW.seq, NEW.created, NEW.last_updated,
        NEW.ttl_minutes, NEW.expires_at, NEW.status, NEW.run_started
    ) ON CONFLICT DO UPDATE SET
        seq = excluded.seq,
        last_updated = excluded.last_updated,
        ttl_minutes = excluded.ttl_minutes,
        expires_at = excluded.expires_at,
        status = excluded.status,
        run_started = excluded.run_started;
    INSERT INTO statuses
        SELECT NEW.workspace, NEW.agent_id, NEW.topic, value ->> 'seq', value ->> 'status',
            value ->> 'timestamp', value ->> 'message', value ->> 'content'
        FROM json_each(NEW.statuses);
    INSERT INTO outbox
        SELECT value ->> 'id', value ->> 'url', value ->> 'host', value ->> 'body',
            value ->> 'created_at', value ->> 'created_at', 0, FALSE
        FROM json_each(NEW.notifications);
END;
