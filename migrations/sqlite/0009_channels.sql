-- Channels: who is told of what, and in which form.

-- `events`: names with commas between. `delay_seconds`: NULL is what is usual for each event. `gone`:
-- the receiver has said that it is gone for good. No two versions of a channel have the same
-- `updated_at`.
CREATE TABLE channels (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    format TEXT NOT NULL,
    secret TEXT NOT NULL,
    events TEXT NOT NULL,
    delay_seconds INTEGER,
    detail TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    gone INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (workspace, id)
) WITHOUT ROWID;
