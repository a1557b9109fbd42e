-- How many of a channel's notifications found no room in the outbox, and no message has counted yet. A
-- channel has a row for each host that counted at the same time as another.

CREATE TABLE kubeagents_data.overflows (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace text COLLATE "C" NOT NULL,
    channel text COLLATE "C" NOT NULL,
    dropped bigint NOT NULL
);

CREATE INDEX overflows_by_channel ON kubeagents_data.overflows (channel);
CREATE INDEX overflows_by_workspace ON kubeagents_data.overflows (workspace);
