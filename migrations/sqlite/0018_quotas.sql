-- How many agents each workspace has.
CREATE TABLE agent_counts (
    workspace TEXT NOT NULL PRIMARY KEY,
    agents INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO agent_counts SELECT workspace, count(*) FROM agents GROUP BY workspace;

CREATE TRIGGER count_agent AFTER INSERT ON agents BEGIN
    INSERT INTO agent_counts VALUES (NEW.workspace, 1) ON CONFLICT DO UPDATE SET agents = agents + 1;
END;

CREATE TRIGGER discount_agent AFTER DELETE ON agents BEGIN
    UPDATE agent_counts SET agents = agents - 1 WHERE workspace = OLD.workspace;
    DELETE FROM agent_counts WHERE workspace = OLD.workspace AND agents = 0;
END;
