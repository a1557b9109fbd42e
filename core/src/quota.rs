//! Limits of what workspaces hold.

use crate::{Limit, Snapshot};

/// More agents or sessions than reports that are under way at once register in one workspace.
const UNDER_WAY: u64 = 1024;

/// The most that a workspace may hold; 0: any number.
///
/// What is stored is counted when a report is decided on. Hosts that decide at the same moment may
/// exceed a limit by as many reports as they record one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quotas {
    /// The most agents of one workspace.
    pub agents: u32,
    /// The most sessions of one agent.
    pub sessions_per_agent: u32,
}

impl Quotas {
    /// The limit that a report on a session in this state would come nearer to, if there is one.
    fn of(self, before: &Snapshot) -> Option<(u32, Quota)> {
        let (limit, quota) = match (&before.session, &before.agent_name) {
            (Some(_), _) => return None,
            (None, Some(_)) => {
                let limit = self.sessions_per_agent;
                (limit, Quota::Sessions { limit })
            }
            (None, None) => {
                let limit = self.agents;
                (limit, Quota::Agents { limit })
            }
        };
        (limit > 0).then_some((limit, quota))
    }

    /// Checks that a report on a session in this state registers nothing beyond a limit.
    ///
    /// # Errors
    /// The limit.
    pub fn check(self, before: &Snapshot) -> Result<(), Quota> {
        match self.of(before) {
            Some((limit, quota)) if before.siblings >= limit.into() => Err(quota),
            _ => Ok(()),
        }
    }

    /// Checks whether reports that are decided on together might exceed a limit which one alone
    /// does not.
    pub(crate) fn is_near(self, before: &Snapshot) -> bool {
        let limit = self.of(before).map(|(limit, _)| u64::from(limit));
        limit.is_some_and(|limit| before.siblings < limit && limit - before.siblings < UNDER_WAY)
    }
}

/// A limit that a new agent or session would exceed. Its `Display` is the message that clients get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Quota {
    /// The workspace has as many agents as it may.
    #[error(
        "this workspace has as many agents as MAX_AGENTS allows ({limit}): report under an agent_id \
         that it knows, or ask for a larger MAX_AGENTS"
    )]
    Agents {
        /// The limit.
        limit: u32,
    },
    /// The agent has as many sessions as it may.
    #[error(
        "this agent has as many sessions as MAX_SESSIONS_PER_AGENT allows ({limit}): report on a \
         session that it has, or under another agent_id, or ask for a larger MAX_SESSIONS_PER_AGENT"
    )]
    Sessions {
        /// The limit.
        limit: u32,
    },
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

impl Quota {
    /// The limit.
    pub(crate) const fn limit(self) -> Limit {
        match self {
            Self::Agents { .. } => Limit::Agents,
            Self::Sessions { .. } => Limit::Sessions,
            Self::Memory { .. } => Limit::Memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Report, StatusKind, Workspace, decide};

    fn snapshot(agent: bool, session: bool, siblings: u64) -> Snapshot {
        let report = Report::new("a", "t", StatusKind::Running);
        let none = Snapshot::default();
        let decision = decide(
            &Workspace::Shared,
            &report,
            &none,
            crate::Timestamp::UNIX_EPOCH,
            60,
        );
        let known = none.after(&decision.unwrap().commit);
        Snapshot {
            agent_name: known.agent_name.filter(|_| agent || session),
            session: known.session.filter(|_| session),
            siblings,
        }
    }

    #[test]
    fn messages_name_the_limit_and_the_way_out() {
        let quotas = Quotas {
            agents: 2,
            sessions_per_agent: 3,
        };
        let refused = quotas.check(&snapshot(false, false, 2)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "this workspace has as many agents as MAX_AGENTS allows (2): report under an agent_id \
             that it knows, or ask for a larger MAX_AGENTS"
        );
        let refused = quotas.check(&snapshot(true, false, 3)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "this agent has as many sessions as MAX_SESSIONS_PER_AGENT allows (3): report on a \
             session that it has, or under another agent_id, or ask for a larger \
             MAX_SESSIONS_PER_AGENT"
        );
    }

    proptest! {
        /// What is known always passes, what is new passes below the limit of its kind only, and
        /// groups are far enough from it.
        #[test]
        fn only_what_is_new_is_limited(
            agents in 0..3000u32,
            sessions_per_agent in 0..3000u32,
            agent: bool,
            session: bool,
            siblings in 0..4000u64,
        ) {
            let quotas = Quotas { agents, sessions_per_agent };
            let before = snapshot(agent, session, siblings);
            let limit = if agent { sessions_per_agent } else { agents };
            let is_limited = !session && limit > 0;
            let passes = quotas.check(&before).is_ok();
            prop_assert_eq!(passes, !is_limited || siblings < limit.into());
            let stays_below = siblings + UNDER_WAY <= limit.into();
            prop_assert_eq!(quotas.is_near(&before), is_limited && passes && !stays_below);
        }
    }
}
