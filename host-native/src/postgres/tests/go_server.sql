-- What the Go server's migrations up to 000006 leave behind.
CREATE TABLE schema_migrations (
    version varchar(255) PRIMARY KEY,
    applied_at timestamp NOT NULL DEFAULT now()
);
INSERT INTO schema_migrations (version)
VALUES ('000001'), ('000002'), ('000003'), ('000004'), ('000005'), ('000006');

CREATE TABLE users (
    id varchar(36) PRIMARY KEY,
    email varchar(255) NOT NULL UNIQUE,
    password_hash varchar(255) NOT NULL,
    name varchar(200),
    email_verified boolean NOT NULL DEFAULT false,
    verify_token varchar(100),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    notification_webhook_url text
);
CREATE TABLE agents (
    agent_id varchar(100) PRIMARY KEY,
    user_id varchar(36) CONSTRAINT fk_agent_user REFERENCES users ON DELETE CASCADE,
    name varchar(200),
    source varchar(200),
    registered timestamptz NOT NULL,
    last_seen timestamptz NOT NULL
);
CREATE TABLE sessions (
    agent_id varchar(100) NOT NULL CONSTRAINT fk_session_agent REFERENCES agents ON DELETE CASCADE,
    session_topic varchar(500) NOT NULL,
    created timestamptz NOT NULL,
    last_updated timestamptz NOT NULL,
    expired boolean NOT NULL DEFAULT false,
    expired_at timestamptz,
    ttl_minutes integer CHECK (ttl_minutes >= 0 AND ttl_minutes <= 1440),
    PRIMARY KEY (agent_id, session_topic)
);
CREATE TABLE agent_statuses (
    id bigserial PRIMARY KEY,
    agent_id varchar(100) NOT NULL,
    session_topic varchar(500) NOT NULL,
    status varchar(20) NOT NULL CHECK (status IN ('running', 'success', 'failed', 'pending')),
    "timestamp" timestamptz NOT NULL,
    message varchar(1000),
    content text,
    CONSTRAINT fk_status_session FOREIGN KEY (agent_id, session_topic)
        REFERENCES sessions ON DELETE CASCADE
);
CREATE TABLE refresh_tokens (
    id varchar(36) PRIMARY KEY,
    user_id varchar(36) NOT NULL REFERENCES users ON DELETE CASCADE,
    token_hash varchar(255) NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked boolean NOT NULL DEFAULT false
);
CREATE TABLE api_keys (
    id varchar(36) PRIMARY KEY,
    user_id varchar(36) NOT NULL REFERENCES users ON DELETE CASCADE,
    name varchar(100) NOT NULL,
    key_hash varchar(255) NOT NULL UNIQUE,
    key_prefix varchar(8) NOT NULL,
    expires_at timestamptz,
    last_used_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked boolean NOT NULL DEFAULT false
);
CREATE TABLE system_config (
    key varchar(100) PRIMARY KEY,
    value text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_users_email ON users (email);
CREATE INDEX idx_users_verify_token ON users (verify_token);
CREATE INDEX idx_agents_user_id ON agents (user_id);
CREATE INDEX idx_refresh_tokens_user_id ON refresh_tokens (user_id);
CREATE INDEX idx_refresh_tokens_token_hash ON refresh_tokens (token_hash);
CREATE INDEX idx_api_keys_key_hash ON api_keys (key_hash);
CREATE INDEX idx_api_keys_user_id ON api_keys (user_id);
CREATE INDEX idx_agent_statuses_agent_session ON agent_statuses (agent_id, session_topic);
CREATE INDEX idx_agent_statuses_timestamp ON agent_statuses ("timestamp" DESC);
CREATE INDEX idx_sessions_agent_id ON sessions (agent_id);
CREATE INDEX idx_sessions_expired ON sessions (expired);
CREATE INDEX idx_system_config_key ON system_config (key);
