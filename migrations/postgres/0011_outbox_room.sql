-- Each channel has room of its own in the outbox, and so have the plain webhooks of a workspace.

CREATE INDEX outbox_by_receiver ON kubeagents_data.outbox (workspace, channel);
DROP INDEX kubeagents_data.outbox_by_workspace;
