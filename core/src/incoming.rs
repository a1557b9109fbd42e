//! What comes in to be decided on a session: a report, or what a coding agent's hook means.

use crate::hook::Intent;
use crate::{
    Decision, Report, SessionKey, Snapshot, Timestamp, Unstored, Workspace, decide, decide_hook,
};

/// Something that is to be recorded on a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A report.
    Report(Report),
    /// What a hook means, which depends on what the session was doing.
    Hook(Intent),
}

impl From<Report> for Incoming {
    fn from(report: Report) -> Self {
        Self::Report(report)
    }
}

impl From<Intent> for Incoming {
    fn from(intent: Intent) -> Self {
        Self::Hook(intent)
    }
}

impl Incoming {
    /// The same, as it comes from this person, where a workspace has several.
    pub(crate) fn by_user(mut self, user: Option<&str>) -> Self {
        let place = match &mut self {
            Self::Report(report) => &mut report.user,
            Self::Hook(intent) => &mut intent.user,
        };
        *place = user.map(str::to_owned);
        self
    }

    /// The session that it is on.
    pub fn session_key(&self, workspace: &Workspace) -> SessionKey {
        match self {
            Self::Report(report) => report.session_key(workspace),
            Self::Hook(intent) => intent.session_key(workspace),
        }
    }

    /// Works out what it changes, as [`decide()`] does.
    ///
    /// # Errors
    /// [`Unstored`] when nothing is to be stored.
    pub fn decide(
        &self,
        workspace: &Workspace,
        snapshot: &Snapshot,
        now: Timestamp,
        default_ttl_minutes: u32,
    ) -> Result<Decision, Unstored> {
        let ttl = default_ttl_minutes;
        match self {
            Self::Report(report) => decide(workspace, report, snapshot, now, ttl),
            Self::Hook(intent) => {
                let meant = intent.resolve(snapshot.session.as_ref(), now);
                let (report, effect) = meant.ok_or(Unstored::SaysNothing)?;
                decide_hook(workspace, &report, &effect, snapshot, now, ttl)
            }
        }
    }
}
