//! Registrations whose mails are still to be sent.

use kubeagents_core::store::RegistrationMails;
use kubeagents_core::{Account, AccountId, StoreError, Timestamp};

use crate::query::Fetch;
use crate::value::saturating;
use crate::{PostgresStore, Query, Row, Value};

/// A read, so that hosts may look often.
const ANY: &str = "\
SELECT id FROM kubeagents_data.accounts WHERE mail_due_at <= $1::bigint LIMIT 1";

const LEASE: &str = "\
WITH due AS MATERIALIZED (\
    SELECT id, mail_due_at FROM kubeagents_data.accounts WHERE mail_due_at <= $1::bigint \
    ORDER BY mail_due_at, id LIMIT $3::bigint FOR UPDATE SKIP LOCKED), \
leased AS (\
    UPDATE kubeagents_data.accounts AS account SET mail_due_at = $2::bigint FROM due \
    WHERE account.id = due.id \
    RETURNING account.id, account.email, account.password_hash, account.name, \
        account.notification_webhook_url, account.email_verified, account.created_at, \
        account.updated_at) \
SELECT leased.* FROM leased JOIN due ON due.id = leased.id ORDER BY due.mail_due_at, due.id";

const SETTLE: &str = "\
UPDATE kubeagents_data.accounts SET mail_due_at = $2::bigint WHERE id = $1::text \
AND NOT email_verified";

impl<Q: Query, C> RegistrationMails for PostgresStore<Q, C> {
    async fn lease_registration_mails(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError> {
        if !self.query.returns_row(ANY, &[now.into()]).await? {
            return Ok(Vec::new());
        }
        let params = [now.into(), until.into(), saturating(limit).into()];
        self.query.all(LEASE, &params, Row::account).await
    }

    async fn settle_registration_mail(
        &self,
        id: &AccountId,
        due: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let params = [id.as_str().into(), Value::from(due)];
        self.query.execute(SETTLE, &params).await
    }
}
