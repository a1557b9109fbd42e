-- Workspaces take turns in the outbox, and what is due is found without a look at what is not. What is
-- given up is deleted, as on every other storage: the log has told of it.

DELETE FROM kubeagents_data.outbox WHERE abandoned_at IS NOT NULL;

ALTER TABLE kubeagents_data.outbox
    DROP COLUMN abandoned_at,
    ALTER COLUMN due_at SET NOT NULL,
    -- Of the receiver.
    ADD COLUMN workspace text COLLATE "C" NOT NULL DEFAULT 'shared',
    -- False while a pause or a lease lasts, and until a lease after its end sees that.
    ADD COLUMN ready boolean NOT NULL DEFAULT true;

ALTER TABLE kubeagents_data.outbox ALTER COLUMN workspace DROP DEFAULT;

UPDATE kubeagents_data.outbox AS entry SET ready = false, workspace = coalesce(owner.id, 'shared')
FROM kubeagents_data.outbox AS same LEFT JOIN (
    SELECT notification_webhook_url AS url, min(id) AS id FROM kubeagents_data.accounts
    WHERE notification_webhook_url <> '' GROUP BY notification_webhook_url
) AS owner USING (url)
WHERE same.id = entry.id;

DROP INDEX kubeagents_data.outbox_due;
CREATE INDEX outbox_ready ON kubeagents_data.outbox (workspace, due_at, created_at, id)
    INCLUDE (host) WHERE ready;
CREATE INDEX outbox_resting ON kubeagents_data.outbox (due_at) WHERE NOT ready;
CREATE INDEX outbox_by_workspace ON kubeagents_data.outbox (workspace);
