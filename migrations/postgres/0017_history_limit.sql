-- A history may be limited to its newest statuses. They are numbered without gaps, which places are not.

-- The number of statuses so far, and of each its number. NULL: `seq`, from before they were counted.
ALTER TABLE kubeagents_data.sessions ADD COLUMN entries bigint;
ALTER TABLE kubeagents_data.statuses ADD COLUMN number bigint;
