-- Passwords can be reset, accounts deleted, and registrations that nobody verifies go.

ALTER TABLE kubeagents_data.accounts
    ADD COLUMN reset_hash text COLLATE "C" UNIQUE,
    ADD COLUMN reset_expires_at bigint;

-- The address's key is what is unique. Where two registrations of one address meet, a second unique
-- index would fail the one that is to wait for the other.
ALTER TABLE kubeagents_data.accounts DROP CONSTRAINT accounts_email_key;
CREATE INDEX accounts_by_email ON kubeagents_data.accounts (email);

CREATE INDEX accounts_unverified ON kubeagents_data.accounts (verification_expires_at)
    WHERE NOT email_verified;

-- Accounts that are deleted while their workspaces may still hold something.
CREATE TABLE kubeagents_data.deleted_accounts (
    id text COLLATE "C" PRIMARY KEY,
    deleted_at bigint NOT NULL
);

CREATE INDEX deleted_accounts_by_age ON kubeagents_data.deleted_accounts (deleted_at, id);
