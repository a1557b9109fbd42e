-- Hosts find what others have changed by the transactions that did it: a commit may land long after
-- the time that it stores. 0: before this version of the schema.
ALTER TABLE kubeagents_data.sessions ADD COLUMN changed bigint NOT NULL DEFAULT 0;
-- The transaction that gave the agent another name.
ALTER TABLE kubeagents_data.agents ADD COLUMN renamed bigint NOT NULL DEFAULT 0;

CREATE INDEX sessions_by_change ON kubeagents_data.sessions (workspace, changed) WHERE changed > 0;
