INSERT INTO users VALUES
    ('u-1', 'Ann@Example.com', 'hash 1', 'Ann', true, '',
        '2025-01-02 03:04:05.123456+00', '2025-01-02 03:04:06+00', 'https://ann.example/hook'),
    -- Older, but not verified: the address in any other case is not theirs.
    ('u-0', 'ANN@example.com', 'hash 0', NULL, false, NULL,
        '2025-01-01 00:00:00+00', '2025-01-01 00:00:00+00', NULL),
    ('u-2', 'ann@example.com', 'hash 2', '', true, NULL,
        '2025-01-03 00:00:00+00', '2025-01-03 00:00:00+00', ''),
    ('u-3', 'bob@example.com', 'hash 3', 'Bob', false, 'pending-token',
        '2025-01-04 00:00:00+00', '2025-01-04 00:00:00+00', NULL);
INSERT INTO agents VALUES
    ('mine', 'u-1', 'МОСКВА', 'Cursor', '2025-01-02 00:00:00+00', '2025-01-02 01:00:00+00'),
    ('nobody''s', NULL, NULL, '', '2025-01-02 00:00:00+00', '2025-01-02 00:00:00+00');
INSERT INTO sessions VALUES
    ('mine', 'run', '2025-01-02 00:00:00+00', '2025-01-02 01:00:00+00', true,
        '2025-01-02 02:00:00+00', 30),
    ('mine', 'done', '2025-01-02 00:00:00+00', '2025-01-02 00:30:00+00', false, NULL, 0),
    ('mine', 'empty', '2025-01-02 00:00:00+00', '2025-01-02 00:10:00+00', false, NULL, NULL),
    ('nobody''s', 'run', '2025-01-02 00:00:00+00', '2025-01-02 00:00:00+00', false, NULL, 5);
INSERT INTO agent_statuses (agent_id, session_topic, status, "timestamp", message, content) VALUES
    ('mine', 'run', 'running', '2025-01-02 00:00:00.000001+00', 'one', NULL),
    ('mine', 'run', 'failed', '2025-01-02 00:10:00+00', '', 'two'),
    -- Another host's clock: later in the table, earlier in time.
    ('mine', 'run', 'running', '2025-01-02 01:00:00.5+00', 'four', ''),
    ('mine', 'run', 'running', '2025-01-02 00:20:00+00', 'three', ''),
    ('mine', 'done', 'success', '2025-01-02 00:30:00+00', NULL, NULL),
    ('nobody''s', 'run', 'running', '2025-01-02 00:00:00+00', 'm', 'c');
INSERT INTO refresh_tokens VALUES
    ('t-1', 'u-1', 'good', '2999-01-01', '2025-01-01', false),
    ('t-2', 'u-1', 'bad', '2999-01-01', '2025-01-01', true),
    ('t-3', 'u-2', 'twice', '2998-01-01', '2025-01-01', false),
    ('t-4', 'u-2', 'twice', '2999-01-01', '2025-01-02', true);
INSERT INTO api_keys VALUES
    ('k-1', 'u-1', 'key', 'key hash', 'abcdefgh', NULL, NULL, '2025-01-01', false),
    ('k-2', 'u-1', 'old key', 'old hash', 'ijklmnop', '2025-02-01', '2025-01-15', '2025-01-01',
        true);
INSERT INTO system_config (key, value) VALUES ('jwt_secret', 'the secret'), ('other', 'x');
