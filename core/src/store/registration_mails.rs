//! Registrations whose mails are still to be sent.

use super::StoreError;
use crate::{Account, AccountId, Timestamp};

/// Registrations whose mails are still to be sent, on a storage of hosts that send mail. A mail that is
/// stored with its registration is lost neither with the process nor for want of room in a queue.
pub trait RegistrationMails {
    /// Leases registrations that are due at `now`, longest due first: they are due again at `until`,
    /// unless they are settled. None of them is verified.
    fn lease_registration_mails(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Account>, StoreError>>;

    /// Ends a lease: due again then, or `None`: sent, or given up.
    fn settle_registration_mail(
        &self,
        id: &AccountId,
        due: Option<Timestamp>,
    ) -> impl Future<Output = Result<(), StoreError>>;
}
