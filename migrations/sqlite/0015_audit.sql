-- The audit: who logged in, and who changed passwords, keys and channels.
CREATE TABLE audit (
    id TEXT NOT NULL PRIMARY KEY,
    workspace TEXT NOT NULL,
    happened_at INTEGER NOT NULL,
    event TEXT NOT NULL,
    actor TEXT NOT NULL,
    user_name TEXT NOT NULL,
    client_address TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    target TEXT NOT NULL,
    target_id TEXT NOT NULL,
    -- How often it happened within a minute; 0 where that is not counted.
    times INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_by_workspace ON audit (workspace, happened_at DESC, id);

CREATE INDEX audit_by_age ON audit (happened_at);

-- Entries that are stored, with what is kept beside them: those since an instant, and the most of them.
CREATE VIEW audit_appends AS SELECT *, 0 AS since, 0 AS most FROM audit;

CREATE TRIGGER append_audit INSTEAD OF INSERT ON audit_appends BEGIN
    INSERT INTO audit VALUES (NEW.id, NEW.workspace, NEW.happened_at, NEW.event, NEW.actor,
        NEW.user_name, NEW.client_address, NEW.user_agent, NEW.target, NEW.target_id, NEW.times)
    ON CONFLICT (id) DO UPDATE SET times = times + excluded.times;
    DELETE FROM audit WHERE id IN (
        SELECT id FROM audit WHERE happened_at < NEW.since ORDER BY happened_at LIMIT 2
    );
    DELETE FROM audit WHERE id IN (
        SELECT id FROM audit WHERE workspace = NEW.workspace AND (times > 0) = (NEW.times > 0)
        ORDER BY happened_at DESC, id LIMIT -1 OFFSET NEW.most
    );
END;
