-- Channels: who is told of what, and in which form.

CREATE TABLE kubeagents_data.channels (
    workspace text COLLATE "C" NOT NULL,
    -- From 1 to the most that a workspace may have, so that the bound holds however many are created
    -- at once.
    slot bigint NOT NULL,
    id text COLLATE "C" NOT NULL UNIQUE,
    name text NOT NULL,
    url text NOT NULL,
    format text NOT NULL,
    secret text NOT NULL,
    -- Names with commas between.
    events text NOT NULL,
    -- NULL: what is usual for each event.
    delay_seconds bigint,
    detail text NOT NULL,
    enabled boolean NOT NULL,
    -- The receiver has said that it is gone for good.
    gone boolean NOT NULL,
    created_at bigint NOT NULL,
    -- No two versions of a channel have the same.
    updated_at bigint NOT NULL,
    PRIMARY KEY (workspace, slot)
);
