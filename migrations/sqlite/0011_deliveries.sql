-- What channels are told goes through the outbox, and what became of it is kept.

DROP TRIGGER apply_chain;

-- Whom it tells; empty for the plain webhooks of accounts and of the instance.
ALTER TABLE outbox ADD COLUMN channel TEXT NOT NULL DEFAULT '';

-- What the last attempt came to.
ALTER TABLE outbox ADD COLUMN last_status INTEGER;

ALTER TABLE outbox ADD COLUMN last_error TEXT NOT NULL DEFAULT '';

CREATE INDEX outbox_by_channel ON outbox (channel, created_at DESC, id) WHERE channel <> '';

-- What a channel was told, and what it was not.
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY,
    workspace TEXT NOT NULL,
    channel TEXT NOT NULL,
    event TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    session_topic TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    status INTEGER,
    error TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    finished_at INTEGER
) WITHOUT ROWID;

CREATE INDEX deliveries_by_channel ON deliveries (channel, created_at DESC, id);

CREATE INDEX deliveries_by_workspace ON deliveries (workspace);

-- The newest hundred of each channel stay.
CREATE TRIGGER bound_deliveries AFTER INSERT ON deliveries BEGIN
    DELETE FROM deliveries WHERE channel = NEW.channel AND id IN (
        SELECT id FROM deliveries WHERE channel = NEW.channel
        ORDER BY created_at DESC, id LIMIT -1 OFFSET 100
    );
END;

-- What is finished waits no more.
CREATE TRIGGER finish_delivery AFTER INSERT ON deliveries BEGIN
    DELETE FROM outbox WHERE id = NEW.id;
END;

CREATE TRIGGER forget_deliveries AFTER DELETE ON channels BEGIN
    DELETE FROM deliveries WHERE channel = OLD.id;
END;

-- As before, with what is due later and what is for a channel. The id of what a channel is told says
-- what that is, so that what is noticed twice is told once.
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
    INSERT OR IGNORE INTO outbox (
        id, workspace, url, host, body, channel, created_at, due_at, round, leased, ready
    ) SELECT value ->> 'id', value ->> 'workspace', value ->> 'url', value ->> 'host',
            value ->> 'body', value ->> 'channel', value ->> 'created_at',
            (value ->> 'created_at') + (value ->> 'delay'), 0, FALSE, value ->> 'delay' = 0
        FROM json_each(NEW.notifications);
END;
