-- Sessions are counted by their state without a look at the rows. What ended is told apart from the rest,
-- and most reports end nothing, so most reports do not write here.
CREATE INDEX sessions_ended ON sessions (status, reason, expires_at)
    WHERE status IN ('success', 'failed');
