-- What limits count: when each bucket of draws is full again.
CREATE TABLE kubeagents_data.buckets (
    bucket text COLLATE "C" PRIMARY KEY,
    full_at bigint NOT NULL
);

CREATE INDEX buckets_by_age ON kubeagents_data.buckets (full_at);
