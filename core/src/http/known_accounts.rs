//! Accounts that were there a moment ago, so that not every request with an access token asks
//! storage.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::TimeDelta;

use crate::{AccountId, Timestamp};

/// How long an account is believed to be there. Streams of events ask once a second, so that another
/// host's deletion is noticed within five seconds.
pub(super) const LIFETIME: TimeDelta = TimeDelta::seconds(4);

/// Number of accounts beyond which all are forgotten.
const CAPACITY: usize = 10_000;

/// The accounts that were found lately, and when.
#[derive(Debug, Default)]
pub(super) struct KnownAccounts(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    found: HashMap<AccountId, Known>,
    deletions: u64,
}

#[derive(Debug)]
struct Known {
    found: Timestamp,
    membership: Membership,
}

/// Whether an account may work in the shared workspace, and what it is called there.
pub(super) type Membership = Option<String>;

impl KnownAccounts {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock leaves the state half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The membership of an account that was found within the last four seconds.
    pub(super) fn find(&self, id: &AccountId, now: Timestamp) -> Option<Membership> {
        let state = self.lock();
        let known = state.found.get(id);
        let known = known.filter(|known| known.found <= now && now - known.found < LIFETIME);
        known.map(|known| known.membership.clone())
    }

    /// The number of deletions by this instance so far.
    pub(super) fn deletions(&self) -> u64 {
        self.lock().deletions
    }

    /// Remembers an account that was found after `deletions` had been asked for; not, if there was
    /// another deletion since: the account may be the one.
    pub(super) fn remember(
        &self,
        id: AccountId,
        membership: Membership,
        now: Timestamp,
        deletions: u64,
    ) {
        let mut state = self.lock();
        if state.deletions != deletions {
            return;
        }
        if state.found.len() >= CAPACITY {
            state.found.clear();
        }
        let found = now;
        state.found.insert(id, Known { found, membership });
    }

    /// Forgets an account that has been deleted.
    pub(super) fn forget(&self, id: &AccountId) {
        let mut state = self.lock();
        state.deletions += 1;
        state.found.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn an_account_is_known_for_seconds_and_not_after_its_deletion() {
        let known = KnownAccounts::default();
        let (id, other) = (AccountId::new("a"), AccountId::new("b"));
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        known.remember(id.clone(), Some("Ann".into()), now, known.deletions());
        known.remember(other.clone(), None, now, known.deletions());
        assert_eq!(known.find(&id, now), Some(Some("Ann".into())));
        assert!(
            known
                .find(&id, now + LIFETIME - TimeDelta::microseconds(1))
                .is_some()
        );
        assert!(known.find(&id, now + LIFETIME).is_none());
        assert!(known.find(&id, now - TimeDelta::microseconds(1)).is_none());

        let before = known.deletions();
        known.forget(&id);
        known.remember(id.clone(), None, now, before);
        assert!(known.find(&id, now).is_none(), "read before the deletion");
        assert!(known.find(&other, now).is_some());
    }
}
