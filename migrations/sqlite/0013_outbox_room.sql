-- Each channel has room of its own in the outbox, and so have the plain webhooks of a workspace. What
-- finds none is dropped, and a channel's deliveries say so.

DROP TRIGGER bound_outbox;

CREATE INDEX outbox_by_receiver ON outbox (workspace, channel);

DROP INDEX outbox_by_workspace;

CREATE TRIGGER bound_outbox BEFORE INSERT ON outbox WHEN 1000 = (
    SELECT count(*) FROM (
        SELECT 1 FROM outbox WHERE workspace = NEW.workspace AND channel = NEW.channel LIMIT 1000
    )
) BEGIN
    INSERT OR IGNORE INTO deliveries (
        id, workspace, channel, event, agent_id, session_topic, attempts, error, state, created_at,
        finished_at
    ) SELECT NEW.id, NEW.workspace, NEW.channel, NEW.body ->> 'event', NEW.body ->> 'agent_id',
            NEW.body ->> 'session_topic', 0, 'too many are waiting', 'dropped', NEW.created_at,
            NEW.created_at
        WHERE NEW.channel <> '' AND NOT EXISTS (SELECT 1 FROM outbox WHERE id = NEW.id);
    SELECT RAISE(IGNORE);
END;
