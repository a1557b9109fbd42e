-- Sessions that expire while they are running are noticed without a report.

-- 0: nobody is told of its expiry; 1: somebody is; 2: somebody was.
ALTER TABLE kubeagents_data.sessions ADD COLUMN silence bigint NOT NULL DEFAULT 0;

UPDATE kubeagents_data.sessions SET silence = 1
    WHERE status = 'running' AND expires_at > kubeagents_data.now_micros();

CREATE INDEX sessions_watched ON kubeagents_data.sessions (expires_at) WHERE silence = 1;
