-- Times are microseconds since 1970, ids and hashes are text, empty text stands for "none".
-- Text compares by code point (SQLite's BINARY collation on UTF-8). Statements end with a semicolon
-- before an empty line, which no statement contains: the component runs them one at a time.

CREATE TABLE agents (
    workspace TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    agent_key TEXT NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    source TEXT NOT NULL,
    registered INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    session_count INTEGER NOT NULL,
    PRIMARY KEY (workspace, agent_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX agents_by_last_seen ON agents (workspace, last_seen DESC, agent_id);

-- `seq` is the version that commits are checked against, and the place of the newest status.
CREATE TABLE sessions (
    workspace TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    seq INTEGER NOT NULL,
    created INTEGER NOT NULL,
    last_updated INTEGER NOT NULL,
    ttl_minutes INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    status TEXT NOT NULL,
    run_started INTEGER,
    PRIMARY KEY (workspace, agent_id, topic)
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_by_update ON sessions (workspace, agent_id, last_updated DESC, topic);

CREATE INDEX sessions_by_expiry ON sessions (workspace, agent_id, expires_at);

CREATE TABLE statuses (
    workspace TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    seq INTEGER NOT NULL,
    status TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    message TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (workspace, agent_id, topic, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX statuses_by_time ON statuses (workspace, agent_id, timestamp DESC, topic, seq DESC);

-- What waits for delivery. `due_at` moves into the future with every lease and every failure: it is
-- the end of a lease where `leased`, else of a pause. `round` counts leases.
CREATE TABLE outbox (
    id TEXT NOT NULL PRIMARY KEY,
    url TEXT NOT NULL,
    host TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    round INTEGER NOT NULL,
    leased INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX outbox_by_due ON outbox (due_at);

CREATE INDEX outbox_by_host ON outbox (host, due_at, id);

CREATE INDEX outbox_leased ON outbox (host, due_at) WHERE leased;

-- A row inserted here is a whole commit. One statement is one transaction on every connection, also
-- one that several requests share. When the session's version has moved, nothing is changed and
-- `RETURNING` returns no row.
CREATE VIEW commits (
    workspace, agent_id, topic, expected_seq, agent_key, name, name_key, source,
    created, last_updated, ttl_minutes, expires_at, status, run_started,
    message, content, notifications
) AS SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL WHERE FALSE;

CREATE TRIGGER apply_commit INSTEAD OF INSERT ON commits BEGIN
    SELECT RAISE(IGNORE) WHERE NEW.expected_seq IS NOT coalesce((
        SELECT seq FROM sessions
        WHERE workspace = NEW.workspace AND agent_id = NEW.agent_id AND topic = NEW.topic
    ), 0);
    INSERT INTO agents VALUES (
        NEW.workspace, NEW.agent_id, NEW.agent_key, coalesce(NEW.name, ''),
        coalesce(NEW.name_key, ''), coalesce(NEW.source, ''), NEW.last_updated, NEW.last_updated, 1
    ) ON CONFLICT DO UPDATE SET
        name = coalesce(NEW.name, name),
        name_key = coalesce(NEW.name_key, name_key),
        source = coalesce(NEW.source, source),
        last_seen = max(last_seen, NEW.last_updated),
        session_count = session_count + (NEW.expected_seq = 0);
    INSERT INTO sessions VALUES (
        NEW.workspace, NEW.agent_id, NEW.topic, NEW.expected_seq + 1, NEW.created, NEW.last_updated,
        NEW.ttl_minutes, NEW.expires_at, NEW.status, NEW.run_started
    ) ON CONFLICT DO UPDATE SET
        seq = excluded.seq,
        last_updated = excluded.last_updated,
        ttl_minutes = excluded.ttl_minutes,
        expires_at = excluded.expires_at,
        status = excluded.status,
        run_started = excluded.run_started;
    INSERT INTO statuses VALUES (
        NEW.workspace, NEW.agent_id, NEW.topic, NEW.expected_seq + 1, NEW.status, NEW.last_updated,
        NEW.message, NEW.content
    );
    INSERT INTO outbox
        SELECT value ->> 'id', value ->> 'url', value ->> 'host', value ->> 'body',
            value ->> 'created_at', value ->> 'created_at', 0, FALSE
        FROM json_each(NEW.notifications);
END;

CREATE TABLE accounts (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    name TEXT NOT NULL,
    notification_webhook_url TEXT NOT NULL,
    email_verified INTEGER NOT NULL,
    verification_hash TEXT UNIQUE,
    verification_expires_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX accounts_to_notify ON accounts (notification_webhook_url)
    WHERE notification_webhook_url <> '';

CREATE TABLE token_families (
    family_id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    revoked INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX token_families_by_account ON token_families (account_id);

CREATE TABLE refresh_tokens (
    token_hash TEXT NOT NULL PRIMARY KEY,
    family_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    spent_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TRIGGER found_token_family AFTER INSERT ON refresh_tokens BEGIN
    INSERT INTO token_families VALUES (NEW.family_id, NEW.account_id, FALSE)
        ON CONFLICT DO NOTHING;
END;

-- A row inserted here spends `spent_hash` and stores its successor, as one statement. When the token
-- is spent or its family revoked, nothing is changed and `RETURNING` returns no row.
CREATE VIEW rotations (
    spent_hash, spent_at, token_hash, created_at, expires_at
) AS SELECT NULL, NULL, NULL, NULL, NULL WHERE FALSE;

CREATE TRIGGER apply_rotation INSTEAD OF INSERT ON rotations BEGIN
    SELECT RAISE(IGNORE) WHERE NOT EXISTS (
        SELECT 1 FROM refresh_tokens NATURAL JOIN token_families
        WHERE token_hash = NEW.spent_hash AND spent_at IS NULL AND NOT revoked
    );
    INSERT INTO refresh_tokens
        SELECT NEW.token_hash, family_id, account_id, NEW.created_at, NEW.expires_at, NULL
        FROM refresh_tokens WHERE token_hash = NEW.spent_hash;
    UPDATE refresh_tokens SET spent_at = NEW.spent_at WHERE token_hash = NEW.spent_hash;
END;

CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    key_hash TEXT NOT NULL UNIQUE,
    key_prefix TEXT NOT NULL,
    scopes TEXT NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER,
    created_at INTEGER NOT NULL,
    revoked INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX api_keys_by_account ON api_keys (account_id, created_at DESC, id);

CREATE TABLE secrets (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
