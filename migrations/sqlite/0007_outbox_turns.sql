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
