-- How many of a channel's notifications found no room in the outbox, and no message has counted yet.

CREATE TABLE overflows (
    channel TEXT PRIMARY KEY,
    workspace TEXT NOT NULL,
    dropped INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX overflows_by_workspace ON overflows (workspace);

CREATE TRIGGER forget_overflow AFTER DELETE ON channels BEGIN
    DELETE FROM overflows WHERE channel = OLD.id;
END;

DROP TRIGGER bound_outbox;

-- As before, and counted.
CREATE TRIGGER bound_outbox BEFORE INSERT ON outbox WHEN 1000 = (
    SELECT count(*) FROM (
        SELECT 1 FROM outbox WHERE workspace = NEW.workspace AND channel = NEW.channel LIMIT 1000
    )
) BEGIN
    INSERT INTO overflows (channel, workspace, dropped) SELECT NEW.channel, NEW.workspace, 1
        WHERE NEW.channel <> '' AND NOT EXISTS (SELECT 1 FROM outbox WHERE id = NEW.id)
            AND NOT EXISTS (SELECT 1 FROM deliveries WHERE id = NEW.id)
        ON CONFLICT DO UPDATE SET dropped = dropped + 1;
    INSERT OR IGNORE INTO deliveries (
        id, workspace, channel, event, agent_id, session_topic, attempts, error, state, created_at,
        finished_at
    ) SELECT NEW.id, NEW.workspace, NEW.channel, NEW.body ->> 'event', NEW.body ->> 'agent_id',
            NEW.body ->> 'session_topic', 0, 'too many are waiting', 'dropped', NEW.created_at,
            NEW.created_at
        WHERE NEW.channel <> '' AND NOT EXISTS (SELECT 1 FROM outbox WHERE id = NEW.id);
    SELECT RAISE(IGNORE);
END;
