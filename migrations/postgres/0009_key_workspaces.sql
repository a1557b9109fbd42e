-- Where an API key works: in its account's 'own' workspace, or in the 'shared' one.
ALTER TABLE kubeagents_data.api_keys ADD COLUMN workspace text NOT NULL DEFAULT 'own';
