//! How many streams there may be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kubeagents_core::Workspace;

/// The most streams at once.
const MOST: usize = 10_000;

/// Places for streams. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Places {
    most: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_workspace: HashMap<Workspace, usize>,
}

/// A place; free for another when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    workspace: Workspace,
}

impl Places {
    /// Places for half of the clients that may be connected: a stream takes up a connection. A
    /// workspace may have half of them.
    pub(super) fn new(clients: usize) -> Self {
        Self {
            most: (clients / 2).clamp(2, MOST),
            taken: Arc::default(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing that holds the lock leaves the numbers half-changed.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are taken.
    pub(super) fn count(&self) -> usize {
        self.taken().all
    }

    /// A place for a reader of this workspace, if one is free.
    pub(super) fn take(&self, workspace: &Workspace) -> Option<Place> {
        let mut taken = self.taken();
        let of_workspace = taken.by_workspace.get(workspace).copied().unwrap_or(0);
        if taken.all >= self.most || of_workspace >= self.most / 2 {
            return None;
        }
        taken.all += 1;
        taken
            .by_workspace
            .insert(workspace.clone(), of_workspace + 1);
        Some(Place {
            places: self.clone(),
            workspace: workspace.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(count) = taken.by_workspace.get_mut(&self.workspace) {
            *count -= 1;
            if *count == 0 {
                taken.by_workspace.remove(&self.workspace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_has_half_of_the_places_and_gives_them_back() {
        let places = Places::new(8);
        let other = Workspace::from_key("other".to_owned());
        let third = Workspace::from_key("third".to_owned());
        let mut held = Vec::new();
        for workspace in [&Workspace::Shared, &other] {
            held.extend([places.take(workspace), places.take(workspace)]);
            assert!(places.take(workspace).is_none());
        }
        assert!(held.iter().all(Option::is_some));
        assert!(places.take(&third).is_none());
        held.pop();
        assert!(places.take(&third).is_some());
        assert!(places.take(&other).is_some());
        drop(held);
        let taken = places.taken();
        assert_eq!((taken.all, taken.by_workspace.len()), (0, 0));
    }
}
