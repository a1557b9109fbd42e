-- What channels are told goes through the outbox, and what became of it is kept.

ALTER TABLE kubeagents_data.outbox
    -- Whom it tells; empty for the plain webhooks of accounts and of the instance.
    ADD COLUMN channel text COLLATE "C" NOT NULL DEFAULT '',
    -- What the last attempt came to.
    ADD COLUMN last_status bigint,
    ADD COLUMN last_error text NOT NULL DEFAULT '';

CREATE INDEX outbox_by_channel ON kubeagents_data.outbox (channel, created_at DESC, id)
    WHERE channel <> '';

-- What a channel was told, and what it was not.
CREATE TABLE kubeagents_data.deliveries (
    id text COLLATE "C" PRIMARY KEY,
    workspace text COLLATE "C" NOT NULL,
    channel text COLLATE "C" NOT NULL,
    event text NOT NULL,
    agent_id text NOT NULL,
    session_topic text NOT NULL,
    attempts bigint NOT NULL,
    status bigint,
    error text NOT NULL,
    state text NOT NULL,
    created_at bigint NOT NULL,
    finished_at bigint
);

CREATE INDEX deliveries_by_channel ON kubeagents_data.deliveries (channel, created_at DESC, id);
CREATE INDEX deliveries_by_workspace ON kubeagents_data.deliveries (workspace);
