//! Typed rows for the stores on SQL databases: the fields of a result one by one, and the records
//! that statements of every store return with their columns in one order.
//!
//! Instants are microseconds since 1970.
#![forbid(unsafe_code)]

mod agent_walk;
mod records;
mod row;
mod tally;

pub use agent_walk::{AgentWalk, Seen};
pub use records::{FinishedDelivery, QueuedNotification, QueuedSilence, context_text};
pub use row::{Cell, Row, UnexpectedResult};
pub use tally::Tally;
