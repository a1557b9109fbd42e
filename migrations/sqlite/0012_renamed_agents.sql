-- Agents that have got another name, which all their sessions show, and when.
CREATE TABLE renamed_agents (
    workspace TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    renamed INTEGER NOT NULL,
    PRIMARY KEY (workspace, agent_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX renamed_agents_by_time ON renamed_agents (workspace, renamed DESC);

CREATE TRIGGER note_name AFTER UPDATE OF name ON agents WHEN NEW.name <> OLD.name BEGIN
    INSERT INTO renamed_agents VALUES (NEW.workspace, NEW.agent_id, NEW.last_seen)
    ON CONFLICT DO UPDATE SET renamed = excluded.renamed;
END;

CREATE TRIGGER forget_name AFTER DELETE ON agents BEGIN
    DELETE FROM renamed_agents WHERE workspace = OLD.workspace AND agent_id = OLD.agent_id;
END;
