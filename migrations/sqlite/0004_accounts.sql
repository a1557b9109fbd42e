-- Passwords can be reset, accounts deleted, and registrations that nobody verifies go.

ALTER TABLE accounts ADD COLUMN reset_hash TEXT;

ALTER TABLE accounts ADD COLUMN reset_expires_at INTEGER;

CREATE UNIQUE INDEX accounts_by_reset ON accounts (reset_hash);

CREATE INDEX accounts_unverified ON accounts (verification_expires_at) WHERE NOT email_verified;

-- Each new account takes two away whose links have run out.
CREATE TRIGGER purge_accounts AFTER INSERT ON accounts BEGIN
    DELETE FROM accounts WHERE id IN (
        SELECT id FROM accounts
        WHERE NOT email_verified AND verification_expires_at < NEW.created_at
        ORDER BY verification_expires_at LIMIT 2
    );
END;

CREATE TRIGGER end_logins AFTER UPDATE OF password_hash ON accounts BEGIN
    UPDATE token_families SET revoked = TRUE WHERE account_id = NEW.id;
END;

-- Accounts that are deleted while their workspaces may still hold something.
CREATE TABLE deleted_accounts (
    id TEXT NOT NULL PRIMARY KEY,
    deleted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A row inserted here deletes the account with this password, as one statement. When there is none,
-- nothing is changed and `RETURNING` returns no row.
CREATE VIEW deletions (
    id, password_hash, deleted_at
) AS SELECT NULL, NULL, NULL WHERE FALSE;

CREATE TRIGGER apply_deletion INSTEAD OF INSERT ON deletions BEGIN
    SELECT RAISE(IGNORE) WHERE NOT EXISTS (
        SELECT 1 FROM accounts WHERE id = NEW.id AND password_hash = NEW.password_hash
    );
    INSERT INTO deleted_accounts VALUES (NEW.id, NEW.deleted_at);
    DELETE FROM refresh_tokens WHERE family_id IN (
        SELECT family_id FROM token_families WHERE account_id = NEW.id
    );
    DELETE FROM token_families WHERE account_id = NEW.id;
    DELETE FROM api_keys WHERE account_id = NEW.id;
    DELETE FROM accounts WHERE id = NEW.id;
END;
