//! Memory that is lent for a while. Everybody's requests share it, and nobody's may take up all of
//! it: whoever has much of it leaves some to those who have little.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Workspace;

/// How many times as much as is still free one owner may have. Alone, it has all but a sixteenth;
/// beside another like it, not quite half.
const SHARE: usize = 15;

/// Whose memory it is: a workspace's, or that of all requests without credentials (`None`).
pub(super) type Owner = Option<Workspace>;

/// Memory to lend. Clones lend the same.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    bytes: usize,
    lent: Arc<Mutex<Lent>>,
}

#[derive(Debug, Default)]
struct Lent {
    total: usize,
    of: HashMap<Owner, usize>,
}

/// What one request or answer has of it; given back when dropped.
#[derive(Debug)]
pub(super) struct Loan {
    shares: Shares,
    owner: Owner,
    bytes: usize,
}

/// There is not enough left for this owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Shares {
    /// So many bytes to lend.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            bytes,
            lent: Arc::default(),
        }
    }

    /// A loan of nothing yet.
    pub(super) fn open(&self, owner: Owner) -> Loan {
        Loan {
            shares: self.clone(),
            owner,
            bytes: 0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lent> {
        // Nothing that holds the lock leaves the state half-changed.
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loan {
    /// Borrows more, where what the owner has then is at most `most` and leaves enough to others.
    pub(super) fn grow(&mut self, bytes: usize, most: usize) -> Result<(), Exhausted> {
        let mut lent = self.shares.lock();
        let own = lent.of.get(&self.owner).copied().unwrap_or_default() + bytes;
        let free = self.shares.bytes.checked_sub(lent.total + bytes);
        if own > most || free.is_none_or(|free| own > free * SHARE) {
            return Err(Exhausted);
        }
        lent.total += bytes;
        match lent.of.get_mut(&self.owner) {
            Some(of_owner) => *of_owner = own,
            None => drop(lent.of.insert(self.owner.clone(), own)),
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut lent = self.shares.lock();
        lent.total -= self.bytes;
        if let Some(own) = lent.of.get_mut(&self.owner) {
            *own -= self.bytes;
            if *own == 0 {
                lent.of.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AccountId;

    fn workspace(name: &str) -> Owner {
        Some(Workspace::Account(AccountId::new(name)))
    }

    /// Borrows piece by piece as long as there is any, and returns how many pieces there were.
    fn take_all(shares: &Shares, owner: &Owner, held: &mut Vec<Loan>) -> usize {
        let before = held.len();
        loop {
            let mut loan = shares.open(owner.clone());
            match loan.grow(1, usize::MAX) {
                Ok(()) => held.push(loan),
                Err(Exhausted) => return held.len() - before,
            }
        }
    }

    #[test]
    fn nobody_takes_up_everything_and_each_newcomer_finds_something() {
        let shares = Shares::new(160_000);
        let mut held = Vec::new();
        assert_eq!(take_all(&shares, &workspace("first"), &mut held), 150_000);
        let mut last = 150_000;
        for name in ["second", "third", "fourth"] {
            let taken = take_all(&shares, &workspace(name), &mut held);
            assert!((1..last).contains(&taken), "{name} has {taken}");
            last = taken;
        }
        assert_eq!(take_all(&shares, &workspace("first"), &mut held), 0);
        held.clear();
        let lent = shares.lock();
        assert_eq!((lent.total, lent.of.len()), (0, 0), "all is given back");
    }

    #[test]
    fn who_is_refused_keeps_what_it_has_and_takes_no_more() {
        let shares = Shares::new(160);
        let mut loan = shares.open(None);
        assert_eq!(loan.grow(100, 120), Ok(()));
        assert_eq!(loan.grow(21, 120), Err(Exhausted));
        assert_eq!(loan.grow(usize::MAX / 2, usize::MAX), Err(Exhausted));
        assert_eq!(loan.grow(20, 120), Ok(()));
        assert_eq!(shares.lock().total, 120);
    }
}
