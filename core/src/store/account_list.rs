//! Every account, for the operator.

use super::StoreError;
use crate::{Account, AccountId};

/// Every account, on a storage that an operator's commands reach.
pub trait AccountList {
    /// The accounts from after this id, by id.
    fn accounts(
        &self,
        after: Option<&AccountId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Account>, StoreError>>;
}
