//! Pure decisions: from what is stored and what has come to what is to be stored.
//!
//! Time is an argument, and nothing here is `async`: the same inputs give the same decision.

mod refresh;
mod report;

pub use refresh::{RefreshDecision, decide_refresh};
pub use report::{
    AgentPatch, Commit, Decision, HookEffect, LAST_SEEN_LEAD, REMOVED_AT_ONCE, SessionHead,
    Snapshot, Unstored, decide, decide_hook,
};
