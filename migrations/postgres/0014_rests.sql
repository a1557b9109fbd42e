-- A receiver that asks for time is left alone by every host, with all that waits for it.

-- Until when the receiver of this entry is left alone, by its answer to it.
ALTER TABLE kubeagents_data.outbox ADD COLUMN rests_until bigint;

CREATE INDEX outbox_rests ON kubeagents_data.outbox (workspace, channel, host, rests_until)
    WHERE rests_until IS NOT NULL;
