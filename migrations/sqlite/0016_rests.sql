-- A receiver that asks for time is left alone by every instance, with all that waits for it.

-- Until when the receiver of this entry is left alone, by its answer to it.
ALTER TABLE outbox ADD COLUMN rests_until INTEGER;

CREATE INDEX outbox_rests ON outbox (workspace, channel, host, rests_until)
    WHERE rests_until IS NOT NULL;
