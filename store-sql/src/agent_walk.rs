use std::ops::ControlFlow;

use kubeagents_core::store::{AgentCursor, AgentQuery, Gathering, MAX_LOOKED_AT, Page};
use kubeagents_core::{Agent, Workspace};

use crate::{Row, UnexpectedResult};

/// The most agents that one statement looks at.
const WINDOW: usize = 2048;

/// A walk over agents in the order of their list. Each statement looks at the next of them, a
/// window, and returns those that are wanted. A filter that finds little would otherwise make one
/// statement read a whole workspace; so the walk ends after [`MAX_LOOKED_AT`], with the place to go
/// on from.
pub struct AgentWalk {
    found: Gathering<Agent>,
    filtered: bool,
    /// The size that the next window should have, within its bounds.
    window: usize,
    looked_at: usize,
    after: Option<AgentCursor>,
}

/// A row of a window's result.
pub struct Seen {
    /// The number of agents in the window.
    looked_at: usize,
    /// The place of the last of them.
    end: AgentCursor,
    /// A wanted agent; the only row has none if none is wanted.
    agent: Option<Agent>,
}

impl AgentWalk {
    /// A walk from where the query begins.
    pub fn new(query: &AgentQuery) -> Self {
        Self {
            found: Gathering::new(query.limit),
            filtered: query.search.is_some() || query.status.is_some(),
            window: 0,
            looked_at: 0,
            after: query.after.clone(),
        }
    }

    /// The place after which the next window begins; `None` at the beginning.
    pub fn after(&self) -> Option<&AgentCursor> {
        self.after.as_ref()
    }

    /// The size of the next window. The less is found, the larger it becomes.
    pub fn window(&self) -> usize {
        let left = MAX_LOOKED_AT.saturating_sub(self.looked_at);
        match self.filtered {
            true => self.window.max(self.wanted()).min(WINDOW).min(left),
            false => self.wanted(),
        }
    }

    /// The most agents that the next statement is to return.
    pub fn wanted(&self) -> usize {
        self.found.wanted()
    }

    /// Reads a row: the window's size, the last seen and the id of its last agent, and, after a
    /// truth value that tells whether there is one, an agent.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the row holds something else.
    pub fn read(row: &mut Row, workspace: &Workspace) -> Result<Seen, UnexpectedResult> {
        Ok(Seen {
            looked_at: row.int()?,
            end: AgentCursor {
                last_seen: row.instant()?,
                agent_id: row.text()?,
            },
            agent: match row.bool()? {
                true => Some(row.agent(workspace)?),
                false => None,
            },
        })
    }

    /// Adds what a statement returned; breaks at the end of the walk.
    pub fn add(&mut self, rows: Vec<Seen>) -> ControlFlow<()> {
        let (window, wanted) = (self.window(), self.wanted());
        let Some(Seen { looked_at, end, .. }) = rows.first() else {
            self.after = None;
            return ControlFlow::Break(());
        };
        let (looked_at, end) = (*looked_at, end.clone());
        let agents: Vec<Agent> = rows.into_iter().filter_map(|row| row.agent).collect();
        self.after = match agents.last().filter(|_| agents.len() == wanted) {
            Some(last) => Some(AgentCursor::after(last)),
            None => (looked_at == window).then_some(end),
        };
        self.looked_at += looked_at;
        // What a window holds beyond the agents that are wanted of it is looked at in vain.
        self.window = match agents.len() {
            found if found == wanted => window / 2,
            found if found < wanted / 2 => window * 2,
            _ => window,
        };
        agents
            .into_iter()
            .try_for_each(|agent| self.found.push(agent))?;
        let goes_on = self.after.is_some() && self.looked_at < MAX_LOOKED_AT;
        match goes_on {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }

    /// The page: what was found, and where to go on.
    pub fn page(self) -> Page<Agent, AgentCursor> {
        let page = self.found.page(AgentCursor::after);
        Page {
            next: page.next.or(self.after),
            ..page
        }
    }
}
