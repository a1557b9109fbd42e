-- The audit: who logged in, and who changed passwords, keys and channels.
CREATE TABLE kubeagents_data.audit (
    id text COLLATE "C" PRIMARY KEY,
    workspace text COLLATE "C" NOT NULL,
    happened_at bigint NOT NULL,
    event text NOT NULL,
    actor text NOT NULL,
    user_name text NOT NULL,
    client_address text NOT NULL,
    user_agent text NOT NULL,
    target text NOT NULL,
    target_id text NOT NULL,
    -- How often it happened within a minute; 0 where that is not counted.
    times bigint NOT NULL
);

CREATE INDEX audit_by_workspace ON kubeagents_data.audit (workspace, happened_at DESC, id);
CREATE INDEX audit_by_age ON kubeagents_data.audit (happened_at);
