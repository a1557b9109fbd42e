//! The audit.

use super::{AuditCursor, Page, StoreError};
use crate::audit::AuditEntry;
use crate::{Timestamp, Workspace};

/// What is kept of a workspace's audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditBounds {
    /// Entries from before it go.
    pub since: Timestamp,
    /// The most entries with a count, and the most without; 2 or more.
    pub most: usize,
}

/// The audit. It belongs to workspaces: what a deleted account's holds goes like the rest
/// ([`Accounts::purge_deleted`](super::Accounts::purge_deleted)).
pub trait Audit {
    /// Stores an entry. Where its id is known already, adds its count to that entry's, and nothing
    /// else.
    ///
    /// What is out of bounds goes with it: the oldest of those that have a count as this has, or have
    /// none. Beside these, a store whose entries are rows takes two of any workspace away that are
    /// from before `since`, so that they do not pile up.
    fn append_audit(
        &self,
        entry: &AuditEntry,
        bounds: &AuditBounds,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// A page of a workspace's entries since an instant, from after this place: newest first, then by
    /// id.
    fn audit(
        &self,
        workspace: &Workspace,
        since: Timestamp,
        after: Option<&AuditCursor>,
        limit: usize,
    ) -> impl Future<Output = Result<Page<AuditEntry, AuditCursor>, StoreError>>;
}
