use crate::{Commit, REMOVED_AT_ONCE, SessionHead, SessionKey, StatusEntry};

/// Consecutive commits on one session, which are stored together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    first: Commit,
    rest: Vec<Commit>,
}

impl From<Commit> for Chain {
    fn from(commit: Commit) -> Self {
        Self {
            first: commit,
            rest: Vec::new(),
        }
    }
}

impl Chain {
    /// The commits, oldest first, as a chain; `None` without any. Each must have been decided on
    /// the snapshot [after](crate::Snapshot::after) the one before it.
    pub fn new(commits: impl IntoIterator<Item = Commit>) -> Option<Self> {
        let mut commits = commits.into_iter();
        let first = commits.next()?;
        let rest = commits.collect();
        Some(Self { first, rest })
    }

    /// The session.
    pub fn key(&self) -> &SessionKey {
        &self.first.key
    }

    /// The version that the session must still have: 0 when it must not exist.
    pub fn expected_seq(&self) -> u64 {
        self.first.expected_seq
    }

    /// The session's new row, after the last commit.
    pub fn head(&self) -> &SessionHead {
        &self.last().session
    }

    /// The commits, oldest first.
    pub fn commits(&self) -> impl DoubleEndedIterator<Item = &Commit> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// The commits whose entries are kept once all are applied.
    pub fn with_kept_entries(&self) -> impl Iterator<Item = (&Commit, &StatusEntry)> {
        let outdated = self.last().outdated();
        self.commits().filter_map(move |commit| {
            let entry = commit.status.as_deref()?;
            (commit.session.entries > outdated).then_some((commit, entry))
        })
    }

    /// How many of the oldest entries the chain may remove at most.
    pub fn removed_at_most(&self) -> u64 {
        match self.last().kept_entries {
            Some(_) => REMOVED_AT_ONCE * self.commits().count() as u64,
            None => 0,
        }
    }

    /// The first commit.
    pub fn first(&self) -> &Commit {
        &self.first
    }

    /// The last commit.
    pub fn last(&self) -> &Commit {
        self.rest.last().unwrap_or(&self.first)
    }

    /// The name that the agent has after the chain; `None` keeps the old one.
    pub fn agent_name(&self) -> Option<&str> {
        let names = self.commits().rev();
        names
            .filter_map(|commit| commit.agent.name.as_deref())
            .next()
    }

    /// The source that the agent has after the chain; `None` keeps the old one.
    pub fn agent_source(&self) -> Option<&str> {
        let sources = self.commits().rev();
        sources
            .filter_map(|commit| commit.agent.source.as_deref())
            .next()
    }
}
