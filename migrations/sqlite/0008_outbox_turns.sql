-- Workspaces take turns in the outbox, each has a bounded number of entries there, and what is due is
-- found without a look at what is not. An entry is not `ready` while a pause or a lease lasts, and
-- until a lease after its end sees that.

ALTER TABLE outbox ADD COLUMN workspace TEXT NOT NULL DEFAULT 'shared';

ALTER TABLE outbox ADD COLUMN ready INTEGER NOT NULL DEFAULT FALSE;

UPDATE outbox SET workspace = owner.id FROM (
    SELECT notification_webhook_url AS url, min(id) AS id FROM accounts
    WHERE notification_webhook_url <> '' GROUP BY notification_webhook_url
) AS owner WHERE owner.url = outbox.url;

DROP INDEX outbox_by_due;

DROP INDEX outbox_by_host;

CREATE INDEX outbox_ready ON outbox (workspace, due_at, created_at, id, host) WHERE ready;

CREATE INDEX outbox_resting ON outbox (due_at) WHERE NOT ready;

CREATE INDEX outbox_by_workspace ON outbox (workspace);

CREATE TRIGGER bound_outbox BEFORE INSERT ON outbox BEGIN
    SELECT RAISE(IGNORE) WHERE 1000 = (
        SELECT count(*) FROM (SELECT 1 FROM outbox WHERE workspace = NEW.workspace LIMIT 1000)
    );
END;

DROP TRIGGER apply_chain;

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
