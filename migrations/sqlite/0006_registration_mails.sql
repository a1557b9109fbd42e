-- Mails of registrations are sent from here, so that none is lost.

-- When the mail of a registration is to be sent: at once, after a pause, or when the host that is at it
-- has not come to an end.
ALTER TABLE accounts ADD COLUMN mail_due_at INTEGER;

CREATE INDEX accounts_to_mail ON accounts (mail_due_at, id) WHERE mail_due_at IS NOT NULL;
