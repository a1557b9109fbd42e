//! Recording a report: load, decide, commit, and again when another was faster.

use std::fmt::{self, Debug, Formatter};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::ports::{Clock, Entropy, random_uuid};
use crate::settings::Host;
use crate::store::{Accounts, Audience, Channels, CommitOutcome, Sessions};
use crate::{
    AuthMode, Channel, Commit, Decision, Incoming, Quotas, Receiver, SessionKey, Settings,
    Snapshot, StoreError, Unstored, Workspace,
};

/// What the instance's configuration says about reports.
#[derive(Debug, Clone)]
pub struct ReportPolicy {
    /// The TTL of a session whose first report names none, 1 to 1440 minutes.
    pub default_ttl_minutes: u32,
    /// Whether every account is told of what happens in the shared workspace.
    pub mode: AuthMode,
    /// Who else is told of what happens in the shared workspace, in the plain form.
    pub notification_webhook_url: Option<String>,
    /// The channel of the shared workspace that is configured.
    pub shared_channel: Option<Channel>,
    /// The most statuses that a session's history keeps; `None`: all.
    pub kept_entries: Option<NonZeroU32>,
    /// Whether the host delivers by itself what is due later, without a request.
    pub has_timer: bool,
    /// The most that a workspace may hold.
    pub quotas: Quotas,
}

/// Who is to be told of what happens in a workspace.
#[derive(Debug, Clone, Default)]
pub struct Listeners {
    /// Who is told of transitions.
    pub receivers: Vec<Receiver>,
    /// Who is told of what they ask for.
    pub channels: Vec<Channel>,
}

impl ReportPolicy {
    /// The part of the settings that reports need.
    pub fn new(settings: &Settings) -> Self {
        let shared_channel = settings.shared_channel();
        let plain = &settings.values.notification_webhook_url;
        Self {
            default_ttl_minutes: settings.values.default_ttl_minutes,
            mode: settings.mode,
            notification_webhook_url: plain.clone().filter(|_| shared_channel.is_none()),
            shared_channel,
            kept_entries: NonZeroU32::new(settings.values.max_history_per_session),
            has_timer: settings.host == Host::Native,
            quotas: Quotas {
                agents: settings.values.max_agents,
                sessions_per_agent: settings.values.max_sessions_per_agent,
            },
        }
    }

    /// The channels that are told of what happens in a workspace.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn channels(
        &self,
        store: &impl Channels,
        workspace: &Workspace,
    ) -> Result<Vec<Channel>, StoreError> {
        let mut channels = store.channels(workspace).await?;
        let is_shared = *workspace == Workspace::Shared;
        channels.extend(self.shared_channel.clone().filter(|_| is_shared));
        Ok(channels)
    }
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is stored.
    Stored {
        /// True if the report queued notifications.
        notifications: bool,
        /// For how many minutes it lasts.
        ttl_minutes: u32,
    },
    /// Nothing was to be stored.
    Unstored(Unstored),
}

/// Learns what was committed, for those who follow it live.
#[derive(Clone, Default)]
pub struct Witness(Option<Tell>);

type Tell = Arc<dyn Fn(&SessionKey, bool) + Send + Sync>;

impl Witness {
    /// A witness that is told of the session of every commit once its fate is settled. Where that is
    /// unknown it is told too: who wants to know must look. True: a known agent has got another name,
    /// which all its sessions show.
    pub fn new(tell: impl Fn(&SessionKey, bool) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// Tells of a commit that gives its agent this name instead of the one before, where it had one.
    pub(crate) fn tell(&self, key: &SessionKey, name: Option<&str>, before: Option<&str>) {
        if let Some(tell) = &self.0 {
            let is_new = |name| before.is_some_and(|before| before != name);
            tell(key, name.is_some_and(is_new));
        }
    }
}

impl Debug for Witness {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = if self.0.is_some() {
            "somebody"
        } else {
            "nobody"
        };
        write!(f, "Witness({kind})")
    }
}

/// Turns reports into commits on a store.
#[derive(Debug, Clone)]
pub struct Recorder<S, C, E> {
    /// Where sessions are.
    pub store: S,
    /// The host's clock.
    pub clock: C,
    /// Ids for notifications.
    pub entropy: E,
    /// The instance's configuration.
    pub policy: ReportPolicy,
    /// Who learns of commits.
    pub witness: Witness,
}

impl<S: Sessions + Accounts + Channels, C: Clock, E: Entropy> Recorder<S, C, E> {
    /// A decision as it is to be stored, notifications included.
    ///
    /// # Errors
    /// Those of reading who is told, which is done only where there is something to tell.
    async fn prepare(
        &self,
        workspace: &Workspace,
        decision: Decision,
    ) -> Result<Commit, StoreError> {
        let listeners = self.listeners(workspace, [&decision]).await?;
        Ok(self.commit(decision, &listeners))
    }

    /// Works out what a report changes of a session in this state, by the host's clock.
    ///
    /// # Errors
    /// [`Unstored`] when nothing is to be stored.
    pub fn decide(
        &self,
        workspace: &Workspace,
        incoming: &Incoming,
        snapshot: &Snapshot,
    ) -> Result<Decision, Unstored> {
        let ttl = self.policy.default_ttl_minutes;
        let decision = incoming.decide(workspace, snapshot, self.clock.now(), ttl)?;
        let quotas = self.policy.quotas;
        quotas.check(snapshot).map_err(Unstored::LimitReached)?;
        if let Some(ahead) = decision.clock_error {
            tracing::warn!(
                agent = decision.commit.key.agent_id,
                session = decision.commit.key.session_topic,
                seconds_ahead = ahead.num_seconds(),
                "a session's stored time was ahead of this host's clock by more than its TTL; the clock is right again"
            );
        }
        Ok(decision)
    }

    /// A decision with the notifications of what it tells to these listeners.
    pub fn commit(&self, decision: Decision, listeners: &Listeners) -> Commit {
        let Decision {
            mut commit,
            happenings,
            transition,
            ..
        } = decision;
        let Listeners {
            receivers,
            channels,
        } = listeners;
        commit.kept_entries = self.policy.kept_entries;
        let notifications = &mut commit.notifications;
        if let Some(transition) = transition {
            let to = |to| transition.notification(random_uuid(&self.entropy), to);
            notifications.extend(receivers.iter().filter_map(to));
        }
        for happening in happenings {
            let to = |to| happening.notification(&commit.key, to, self.policy.has_timer);
            notifications.extend(channels.iter().filter_map(to));
        }
        commit
    }

    /// Stores a report. When another report on the session was faster, `retry` is asked with the
    /// number of conflicts so far: it may wait, and answers whether to try again.
    ///
    /// # Errors
    /// [`StoreError::Contended`] when `retry` gave up; nothing is stored then.
    /// [`StoreError::Unavailable`] when storage failed; then it is unknown whether the report is
    /// stored, and it is not tried again, lest it be stored twice.
    pub async fn record(
        &self,
        workspace: &Workspace,
        incoming: &Incoming,
        mut retry: impl AsyncFnMut(u32) -> bool,
    ) -> Result<Recorded, StoreError> {
        let mut conflicts = 0;
        loop {
            match self.attempt(workspace, incoming).await {
                Ok(Some(recorded)) => return Ok(recorded),
                Ok(None) | Err(StoreError::Contended) => conflicts += 1,
                Err(error) => return Err(error),
            }
            if !retry(conflicts).await {
                return Err(StoreError::Contended);
            }
        }
    }

    /// Loads, decides and commits once; `None` when another report on the session was faster.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn attempt(
        &self,
        workspace: &Workspace,
        incoming: &Incoming,
    ) -> Result<Option<Recorded>, StoreError> {
        let key = incoming.session_key(workspace);
        let snapshot = self.store.load(&key).await?;
        let decision = match self.decide(workspace, incoming, &snapshot) {
            Ok(decision) => decision,
            Err(unstored) => return Ok(Some(Recorded::Unstored(unstored))),
        };
        let commit = self.prepare(workspace, decision).await?;
        let outcome = self.store.commit(&commit).await;
        let before = snapshot.agent_name.as_deref();
        self.witness
            .tell(&key, commit.agent.name.as_deref(), before);
        Ok(match outcome? {
            CommitOutcome::Committed => Some(Recorded::of(&commit)),
            CommitOutcome::Conflict => None,
            CommitOutcome::Refused(quota) => {
                Some(Recorded::Unstored(Unstored::LimitReached(quota)))
            }
        })
    }

    /// Who is to be told of these decisions in a workspace. They are read only where there is
    /// something to tell.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn listeners<'d>(
        &self,
        workspace: &Workspace,
        decisions: impl IntoIterator<Item = &'d Decision>,
    ) -> Result<Listeners, StoreError> {
        let (mut for_receivers, mut for_channels) = (false, false);
        for decision in decisions {
            for_receivers |= decision.transition.is_some();
            for_channels |= !decision.happenings.is_empty();
        }
        let mut listeners = Listeners::default();
        if for_receivers {
            listeners.receivers = self.receivers(workspace).await?;
        }
        if for_channels {
            listeners.channels = self.policy.channels(&self.store, workspace).await?;
        }
        Ok(listeners)
    }

    /// Where notifications of transitions in a workspace go.
    async fn receivers(&self, workspace: &Workspace) -> Result<Vec<Receiver>, StoreError> {
        let audience = match (workspace, self.policy.mode) {
            (Workspace::Account(id), _) => Some(Audience::Account(id.clone())),
            (Workspace::Shared, AuthMode::Open) => Some(Audience::EveryAccount),
            (Workspace::Shared, AuthMode::Required) => None,
        };
        let mut receivers = match audience {
            Some(audience) => self.store.receivers(&audience).await?,
            None => Vec::new(),
        };
        if *workspace == Workspace::Shared {
            let url = self.policy.notification_webhook_url.clone();
            receivers.extend(url.map(|url| Receiver {
                workspace: Workspace::Shared,
                url,
            }));
        }
        Ok(receivers)
    }
}

impl Recorded {
    /// What to tell of a commit that is stored.
    pub fn of(commit: &Commit) -> Self {
        Self::Stored {
            notifications: !commit.notifications.is_empty(),
            ttl_minutes: commit.session.ttl_minutes,
        }
    }
}

/// How long to wait before the next try after `conflicts` of them: growing, up to 100 ms, and
/// jittered (`random` is any number), so that writers on one session fall out of step.
pub fn conflict_pause(conflicts: u32, random: u32) -> Duration {
    let ceiling_micros = (1 << conflicts.min(7)).min(100) * 1000;
    Duration::from_micros((random % ceiling_micros + 1).into())
}
