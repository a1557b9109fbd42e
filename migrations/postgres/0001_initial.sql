-- Everything lives in a schema of its own: a Go server started by mistake on this database then
-- finds none of its table names and can drop none of these tables. The schema is not called
-- `kubeagents`, since that is a common user name, and the default search_path begins with "$user".
--
-- Instants are bigint microseconds since 1970, which every driver can bind. Text compares by code
-- point (COLLATE "C"), so that order does not depend on the server's locale.
--
-- There are no foreign keys among agents, sessions and statuses: the commit statement is their only
-- writer, and each key would cost every report another lock.

CREATE FUNCTION kubeagents_data.now_micros() RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint $$;

-- The advisory lock of whoever creates a session.
CREATE FUNCTION kubeagents_data.session_lock(workspace text, agent_id text, session_topic text)
    RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT hashtextextended(workspace || E'\n' || agent_id || E'\n' || session_topic, 0) $$;

CREATE TABLE kubeagents_data.secrets (
    name text COLLATE "C" PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE kubeagents_data.accounts (
    id text COLLATE "C" PRIMARY KEY,
    email text COLLATE "C" NOT NULL UNIQUE,
    -- NULL for an adopted account whose address another account owns in another case.
    email_key text COLLATE "C" UNIQUE,
    password_hash text NOT NULL,
    name text NOT NULL,
    notification_webhook_url text NOT NULL DEFAULT '',
    email_verified boolean NOT NULL DEFAULT false,
    verification_hash text COLLATE "C" UNIQUE,
    verification_expires_at bigint,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
);

CREATE INDEX accounts_with_notifications ON kubeagents_data.accounts (id)
    INCLUDE (notification_webhook_url) WHERE notification_webhook_url <> '';

-- Revocation is a property of the family, so that a rotation cannot outrun it.
CREATE TABLE kubeagents_data.token_families (
    id text COLLATE "C" PRIMARY KEY,
    account_id text COLLATE "C" NOT NULL REFERENCES kubeagents_data.accounts ON DELETE CASCADE,
    revoked boolean NOT NULL DEFAULT false
);

CREATE INDEX token_families_by_account ON kubeagents_data.token_families (account_id);

CREATE TABLE kubeagents_data.refresh_tokens (
    token_hash text COLLATE "C" PRIMARY KEY,
    family_id text COLLATE "C" NOT NULL
        REFERENCES kubeagents_data.token_families ON DELETE CASCADE,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    spent_at bigint
);

CREATE INDEX refresh_tokens_by_family ON kubeagents_data.refresh_tokens (family_id);
CREATE INDEX refresh_tokens_by_expiry ON kubeagents_data.refresh_tokens (expires_at);

CREATE TABLE kubeagents_data.api_keys (
    id text COLLATE "C" PRIMARY KEY,
    account_id text COLLATE "C" NOT NULL REFERENCES kubeagents_data.accounts ON DELETE CASCADE,
    name text NOT NULL,
    key_hash text COLLATE "C" NOT NULL UNIQUE,
    key_prefix text NOT NULL,
    scopes text NOT NULL,
    expires_at bigint,
    last_used_at bigint,
    created_at bigint NOT NULL,
    revoked boolean NOT NULL DEFAULT false
);

CREATE INDEX api_keys_by_account ON kubeagents_data.api_keys (account_id, created_at DESC, id);

CREATE TABLE kubeagents_data.agents (
    -- The account whose workspace it is, or 'shared'.
    workspace text COLLATE "C" NOT NULL,
    agent_id text COLLATE "C" NOT NULL,
    agent_id_key text COLLATE "C" NOT NULL,
    name text NOT NULL,
    name_key text COLLATE "C" NOT NULL,
    source text NOT NULL,
    registered bigint NOT NULL,
    last_seen bigint NOT NULL,
    session_count bigint NOT NULL,
    PRIMARY KEY (workspace, agent_id)
);

CREATE INDEX agents_by_last_seen ON kubeagents_data.agents (workspace, last_seen DESC, agent_id);

CREATE TABLE kubeagents_data.sessions (
    workspace text COLLATE "C" NOT NULL,
    agent_id text COLLATE "C" NOT NULL,
    session_topic text COLLATE "C" NOT NULL,
    -- The number of statuses reported so far: the version that commits are checked against.
    seq bigint NOT NULL,
    created bigint NOT NULL,
    last_updated bigint NOT NULL,
    ttl_minutes bigint NOT NULL,
    expires_at bigint NOT NULL GENERATED ALWAYS AS (last_updated + ttl_minutes * 60000000) STORED,
    status text COLLATE "C" NOT NULL,
    run_started bigint,
    PRIMARY KEY (workspace, agent_id, session_topic)
);

-- Serves lists, and also counts of unexpired sessions: no TTL exceeds a day, so only sessions
-- updated within the last one can be unexpired.
CREATE INDEX sessions_by_last_updated ON kubeagents_data.sessions
    (workspace, agent_id, last_updated DESC, session_topic) INCLUDE (expires_at);

CREATE TABLE kubeagents_data.statuses (
    workspace text COLLATE "C" NOT NULL,
    agent_id text COLLATE "C" NOT NULL,
    session_topic text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    "timestamp" bigint NOT NULL,
    status text COLLATE "C" NOT NULL,
    message text NOT NULL,
    content text NOT NULL,
    PRIMARY KEY (workspace, agent_id, session_topic, seq)
);

CREATE INDEX statuses_by_timestamp ON kubeagents_data.statuses
    (workspace, agent_id, "timestamp" DESC, session_topic, seq DESC);

-- Delivered notifications are deleted; abandoned ones stay a while for whoever looks into it.
CREATE TABLE kubeagents_data.outbox (
    id text COLLATE "C" PRIMARY KEY,
    host text COLLATE "C" NOT NULL,
    url text NOT NULL,
    body text NOT NULL,
    created_at bigint NOT NULL,
    rounds bigint NOT NULL DEFAULT 0,
    -- When the next delivery may begin: the end of a pause or of a lease, by the database's clock.
    due_at bigint DEFAULT kubeagents_data.now_micros(),
    abandoned_at bigint,
    CHECK ((due_at IS NULL) <> (abandoned_at IS NULL))
);

CREATE INDEX outbox_due ON kubeagents_data.outbox (host, due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_abandoned ON kubeagents_data.outbox (abandoned_at)
    WHERE abandoned_at IS NOT NULL;
