//! What the server is measured against.

pub(crate) mod bare;
pub(crate) mod pgbench;
pub(crate) mod sqlite;
