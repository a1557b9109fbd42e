-- Each new token takes two expired ones away, so that they do not pile up where nothing runs between
-- requests. A family goes with its last token.

CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

CREATE INDEX refresh_tokens_by_family ON refresh_tokens (family_id);

CREATE TRIGGER purge_refresh_tokens AFTER INSERT ON refresh_tokens BEGIN
    DELETE FROM refresh_tokens WHERE token_hash IN (
        SELECT token_hash FROM refresh_tokens
        WHERE expires_at < NEW.created_at ORDER BY expires_at LIMIT 2
    );
END;

CREATE TRIGGER end_token_family AFTER DELETE ON refresh_tokens BEGIN
    DELETE FROM token_families WHERE family_id = OLD.family_id AND NOT EXISTS (
        SELECT 1 FROM refresh_tokens WHERE family_id = OLD.family_id
    );
END;
