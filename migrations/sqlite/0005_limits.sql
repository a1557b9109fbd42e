-- What limits count: when each bucket of draws is full again, and when it was first drawn from.
CREATE TABLE buckets (
    bucket TEXT NOT NULL PRIMARY KEY,
    full_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX buckets_by_age ON buckets (full_at);

-- Each new bucket takes two full ones away.
CREATE TRIGGER purge_buckets AFTER INSERT ON buckets BEGIN
    DELETE FROM buckets WHERE bucket IN (
        SELECT bucket FROM buckets WHERE full_at <= NEW.created_at ORDER BY full_at LIMIT 2
    );
END;
