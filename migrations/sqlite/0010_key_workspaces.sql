-- Where an API key works: in its account's 'own' workspace, or in the 'shared' one.
ALTER TABLE api_keys ADD COLUMN workspace TEXT NOT NULL DEFAULT 'own';
