//! Registrations whose mails are still to be sent.

use kubeagents_core::store::RegistrationMails;
use kubeagents_core::{Account, AccountId, StoreError, Timestamp};
use kubeagents_store_sql::Row;

use crate::{Connection, SqliteStore};

const DUE: &str = "
    SELECT id FROM accounts WHERE mail_due_at <= ?1 ORDER BY mail_due_at, id LIMIT ?2";

/// Nothing comes back where another host was faster.
const LEASE: &str = "
    UPDATE accounts SET mail_due_at = ?3 WHERE id = ?1 AND mail_due_at <= ?2
    RETURNING id, email, password_hash, name, notification_webhook_url, email_verified, created_at,
        updated_at";

const SETTLE: &str = "
    UPDATE accounts SET mail_due_at = ?2 WHERE id = ?1 AND NOT email_verified";

impl<C: Connection> RegistrationMails for SqliteStore<C> {
    async fn lease_registration_mails(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError> {
        let due = self.lookups.all(DUE, [now.into(), limit.into()], Row::text);
        let mut leased = Vec::new();
        for id in due.await? {
            let parameters = [(&id).into(), now.into(), until.into()];
            leased.extend(self.writer.first(LEASE, parameters, Row::account).await?);
        }
        Ok(leased)
    }

    async fn settle_registration_mail(
        &self,
        id: &AccountId,
        due: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.writer
            .run(SETTLE, [id.into(), due.into()])
            .await
            .map(drop)
    }
}
