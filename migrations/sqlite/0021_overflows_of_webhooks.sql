-- Notifications that found no room are counted also where they are no channel's: then `channel` is ''.

CREATE TABLE counted (
    channel TEXT NOT NULL,
    workspace TEXT NOT NULL,
    dropped INTEGER NOT NULL,
    PRIMARY KEY (channel, workspace)
) WITHOUT ROWID;

INSERT INTO counted SELECT channel, workspace, dropped FROM overflows;

DROP TRIGGER forget_overflow;

DROP TRIGGER bound_outbox;

DROP TABLE overflows;

ALTER TABLE counted RENAME TO overflows;

CREATE INDEX overflows_by_workspace ON overflows (workspace);

CREATE TRIGGER forget_overflow AFTER DELETE ON channels BEGIN
    DELETE FROM overflows WHERE channel = OLD.id;
END;

-- As before, but for what is counted.
CREATE TRIGGER bound_outbox BEFORE INSERT ON outbox WHEN 1000 = (
    SELECT count(*) FROM (
        SELECT 1 FROM outbox WHERE workspace = NEW.workspace AND channel = NEW.channel LIMIT 1000
    )
) BEGIN
    INSERT INTO overflows (channel, workspace, dropped) SELECT NEW.channel, NEW.workspace, 1
        WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE id = NEW.id)
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
