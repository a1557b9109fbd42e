-- How many agents each workspace has.

CREATE TABLE kubeagents_data.agent_counts (
    workspace text COLLATE "C" PRIMARY KEY,
    agents bigint NOT NULL
);

INSERT INTO kubeagents_data.agent_counts
    SELECT workspace, count(*) FROM kubeagents_data.agents GROUP BY workspace;
