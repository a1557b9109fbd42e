//! Limits of what workspaces hold.

/// A limit that a new agent or session would exceed. Its `Display` is the message that clients get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Quota {
    /// The memory store is full, and holds no session that has ended or expired.
    #[error(
        "the server's memory is full: MAX_MEMORY_MIB ({mib}) is reached, and no session that has \
         ended or expired is left to make room; end sessions, or ask for a larger MAX_MEMORY_MIB or \
         a database"
    )]
    Memory {
        /// The limit.
        mib: u32,
    },
}
