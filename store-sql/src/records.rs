//! Records whose columns every store selects in the order of their fields.

use std::time::Duration;

use chrono::TimeDelta;
use kubeagents_core::audit::{Actor, AuditEntry, AuditEvent};
use kubeagents_core::hook::Detail;
use kubeagents_core::store::{LeasedNotification, SilenceNote};
use kubeagents_core::{
    Account, AccountId, Agent, ApiKey, Channel, Context, Delivery, DeliveryState, Event, Events,
    Format, NamedSession, Notification, Receiver, RefreshToken, Scopes, Session, SessionHead,
    SessionKey, Silence, Snapshot, Workspace, WorkspaceChoice,
};

use serde::Serialize;

use crate::{Row, UnexpectedResult};

impl Row {
    /// The next fields: an account.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the row holds something else.
    pub fn account(&mut self) -> Result<Account, UnexpectedResult> {
        Ok(Account {
            id: AccountId::new(self.text()?),
            email: self.text()?,
            password_hash: self.text()?,
            name: self.text()?,
            notification_webhook_url: self.text()?,
            email_verified: self.bool()?,
            created_at: self.instant()?,
            updated_at: self.instant()?,
        })
    }

    /// The next fields: an agent of this workspace, with what its sessions amount to.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the row holds something else.
    pub fn agent(&mut self, workspace: &Workspace) -> Result<Agent, UnexpectedResult> {
        Ok(Agent {
            agent_id: self.text()?,
            user_id: workspace.account().cloned(),
            name: self.text()?,
            source: self.text()?,
            registered: self.instant()?,
            last_seen: self.instant()?,
            session_count: self.int()?,
            active_session_count: self.int()?,
            latest_status: self.optional_status()?,
            latest_message: self.optional_text()?.unwrap_or_default(),
        })
    }

    /// The next fields: an entry of the audit.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the row holds something else.
    pub fn audit_entry(&mut self) -> Result<AuditEntry, UnexpectedResult> {
        Ok(AuditEntry {
            id: self.text()?,
            workspace: Workspace::from_key(self.text()?),
            at: self.instant()?,
            event: AuditEvent::parse(&self.text()?).ok_or(UnexpectedResult("an unknown event"))?,
            actor: Actor::parse(&self.text()?).ok_or(UnexpectedResult("an unknown actor"))?,
            user: self.text()?,
            client_address: self.text()?,
            user_agent: self.text()?,
            target: self.text()?,
            target_id: self.text()?,
            count: self.int()?,
        })
    }

    /// The next fields: an API key.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the row holds something else.
    pub fn api_key(&mut self) -> Result<ApiKey, UnexpectedResult> {
        Ok(ApiKey {
            id: self.text()?,
            account_id: AccountId::new(self.text()?),
            name: self.text()?,
            key_hash: self.text()?,
            key_prefix: self.text()?,
            scopes: Scopes::from_text(&self.text()?).ok_or(UnexpectedResult("unknown scopes"))?,
            expires_at: self.optional_instant()?,
            last_used_at: self.optional_instant()?,
            created_at: self.instant()?,
            revoked: self.bool()?,
            workspace: WorkspaceChoice::parse(&self.text()?)
                .ok_or(UnexpectedResult("an unknown workspace"))?,
        })
    }

    /// The next fields: a channel.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the row holds something else.
    pub fn channel(&mut self) -> Result<Channel, UnexpectedResult> {
        Ok(Channel {
            id: self.text()?,
            workspace: Workspace::from_key(self.text()?),
            name: self.text()?,
            url: self.text()?,
            format: Format::parse(&self.text()?).ok_or(UnexpectedResult("an unknown format"))?,
            secret: self.text()?,
            events: Events::from_text(&self.text()?).ok_or(UnexpectedResult("unknown events"))?,
            delay_seconds: self.optional_int()?,
            detail: Detail::parse(&self.text()?).ok_or(UnexpectedResult("an unknown detail"))?,
            enabled: self.bool()?,
            gone: self.bool()?,
            created_at: self.instant()?,
            updated_at: self.instant()?,
        })
    }

    /// The next fields: a refresh token.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the row holds something else.
    pub fn refresh_token(&mut self) -> Result<RefreshToken, UnexpectedResult> {
        Ok(RefreshToken {
            token_hash: self.text()?,
            account_id: AccountId::new(self.text()?),
            family_id: self.text()?,
            created_at: self.instant()?,
            expires_at: self.instant()?,
            spent_at: self.optional_instant()?,
            revoked: self.bool()?,
        })
    }

    /// The next fields: a session of this agent.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the row holds something else.
    pub fn session(&mut self, agent_id: String) -> Result<Session, UnexpectedResult> {
        Ok(Session {
            agent_id,
            session_topic: self.text()?,
            title: self.text()?,
            created: self.instant()?,
            last_updated: self.instant()?,
            ttl_minutes: self.int()?,
            current_status: self.status()?,
            status_since: self.instant()?,
            reason: self.text()?,
            message: self.text()?,
            context: self.context()?,
        })
    }

    /// The next fields: the agent of a session, its name, and the session.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the row holds something else.
    pub fn named_session(&mut self) -> Result<NamedSession, UnexpectedResult> {
        let agent_id = self.text()?;
        Ok(NamedSession {
            agent_name: self.text()?,
            session: self.session(agent_id)?,
        })
    }

    /// The next field: the number that a session's silence is stored as.
    fn silence(&mut self) -> Result<Silence, UnexpectedResult> {
        Silence::from_code(self.int()?).ok_or(UnexpectedResult("an unknown silence"))
    }

    /// The next fields: what names a session, and what a report on it is decided on.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the row holds something else.
    pub fn named_snapshot(&mut self) -> Result<(SessionKey, Snapshot), UnexpectedResult> {
        let key = SessionKey {
            workspace: Workspace::from_key(self.text()?),
            agent_id: self.text()?,
            session_topic: self.text()?,
        };
        Ok((key, self.snapshot()?))
    }

    /// The next field: a session's context, as [`context_text`] writes it.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the field holds something else.
    pub fn context(&mut self) -> Result<Context, UnexpectedResult> {
        let text = self.text()?;
        match text.as_str() {
            "" => Ok(Context::new()),
            json => serde_json::from_str(json).map_err(|_| UnexpectedResult("no context")),
        }
    }

    /// The next fields: a leased notification. The first is NULL where there is none.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the row holds something else.
    pub fn optional_lease(&mut self) -> Result<Option<LeasedNotification>, UnexpectedResult> {
        let Some(id) = self.optional_text()? else {
            return Ok(None);
        };
        Ok(Some(LeasedNotification {
            notification: Notification {
                id,
                workspace: Workspace::from_key(self.text()?),
                host: self.text()?,
                url: self.text()?,
                body: self.text()?,
                channel: self.text()?,
                created_at: self.instant()?,
                delay: TimeDelta::zero(),
            },
            round: self.int()?,
            rest: Duration::ZERO,
        }))
    }

    /// The next fields: a notification that waits, as [`Row::optional_lease`] reads it, and what its
    /// last attempt came to.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the row holds something else.
    pub fn pending_delivery(&mut self) -> Result<Option<Delivery>, UnexpectedResult> {
        let Some(waiting) = self.optional_lease()? else {
            return Ok(None);
        };
        let (status, error) = (self.optional_int()?, self.text()?);
        let pending = Delivery::pending(&waiting.notification, waiting.round);
        Ok(pending.map(|pending| Delivery {
            status,
            error,
            ..pending
        }))
    }

    /// The next fields: a delivery that is finished.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the row holds something else.
    pub fn delivery(&mut self) -> Result<Delivery, UnexpectedResult> {
        Ok(Delivery {
            id: self.text()?,
            workspace: Workspace::from_key(self.text()?),
            channel: self.text()?,
            event: Event::parse(&self.text()?).ok_or(UnexpectedResult("an unknown event"))?,
            agent_id: self.text()?,
            session_topic: self.text()?,
            attempts: self.int()?,
            status: self.optional_int()?,
            error: self.text()?,
            state: DeliveryState::parse(&self.text()?)
                .ok_or(UnexpectedResult("an unknown state"))?,
            created_at: self.instant()?,
            finished_at: self.optional_instant()?,
        })
    }

    /// The next fields: a place that an account's notifications go to.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the row holds something else.
    pub fn receiver(&mut self) -> Result<Receiver, UnexpectedResult> {
        Ok(Receiver {
            workspace: Workspace::Account(AccountId::new(self.text()?)),
            url: self.text()?,
        })
    }

    /// The next fields: what a report on a session is decided on. They are NULL for an agent and a
    /// session that are unknown.
    ///
    /// # Errors
    /// [`UnexpectedResult`] when the row holds something else.
    pub fn snapshot(&mut self) -> Result<Snapshot, UnexpectedResult> {
        let agent_name = self.optional_text()?;
        let siblings = self.int()?;
        let session = match self.optional_int()? {
            None => None,
            Some(seq) => Some(SessionHead {
                seq,
                created: self.instant()?,
                last_updated: self.instant()?,
                ttl_minutes: self.int()?,
                title: self.text()?,
                status: self.status()?,
                reason: self.text()?,
                message: self.text()?,
                status_since: self.instant()?,
                run_started: self.optional_instant()?,
                context: self.context()?,
                sequence: self.optional_int()?,
                noted_at: self.instant()?,
                hook: self.text()?,
                silence: self.silence()?,
                entries: self.int()?,
            }),
        };
        Ok(Snapshot {
            agent_name,
            session,
            siblings,
        })
    }
}

/// A session's context as the databases keep it: a JSON object, or nothing when it is empty.
pub fn context_text(context: &Context) -> String {
    match context.is_empty() {
        true => String::new(),
        false => serde_json::json!(context).to_string(),
    }
}

/// A notification as statements read it from JSON.
#[derive(Serialize)]
pub struct QueuedNotification<'a> {
    id: &'a str,
    workspace: &'a str,
    host: &'a str,
    url: &'a str,
    body: &'a str,
    channel: &'a str,
    created_at: i64,
    delay: i64,
}

impl<'a> From<&'a Notification> for QueuedNotification<'a> {
    fn from(notification: &'a Notification) -> Self {
        Self {
            id: &notification.id,
            workspace: notification.workspace.key(),
            host: &notification.host,
            url: &notification.url,
            body: &notification.body,
            channel: &notification.channel,
            created_at: notification.created_at.timestamp_micros(),
            delay: notification.delay.num_microseconds().unwrap_or(i64::MAX),
        }
    }
}

/// The notice that a session has fallen silent, as statements read it from JSON.
#[derive(Serialize)]
pub struct QueuedSilence<'a> {
    workspace: &'a str,
    agent_id: &'a str,
    topic: &'a str,
    seq: u64,
    notifications: Vec<QueuedNotification<'a>>,
}

impl<'a> From<&'a SilenceNote> for QueuedSilence<'a> {
    fn from(note: &'a SilenceNote) -> Self {
        let queued = note.notifications.iter().map(QueuedNotification::from);
        Self {
            workspace: note.key.workspace.key(),
            agent_id: &note.key.agent_id,
            topic: &note.key.session_topic,
            seq: note.seq,
            notifications: queued.collect(),
        }
    }
}

/// A finished delivery as statements read it from JSON.
#[derive(Serialize)]
pub struct FinishedDelivery<'a> {
    id: &'a str,
    workspace: &'a str,
    channel: &'a str,
    event: &'a str,
    agent_id: &'a str,
    session_topic: &'a str,
    attempts: u32,
    status: Option<u16>,
    error: &'a str,
    state: &'a str,
    created_at: i64,
    finished_at: Option<i64>,
}

impl<'a> From<&'a Delivery> for FinishedDelivery<'a> {
    fn from(delivery: &'a Delivery) -> Self {
        Self {
            id: &delivery.id,
            workspace: delivery.workspace.key(),
            channel: &delivery.channel,
            event: delivery.event.as_str(),
            agent_id: &delivery.agent_id,
            session_topic: &delivery.session_topic,
            attempts: delivery.attempts,
            status: delivery.status,
            error: &delivery.error,
            state: delivery.state.as_str(),
            created_at: delivery.created_at.timestamp_micros(),
            finished_at: delivery.finished_at.map(|end| end.timestamp_micros()),
        }
    }
}
