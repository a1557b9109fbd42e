//! What became of what a channel was to be told.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Happening, Notification};
use crate::{Event, Timestamp, Workspace};

/// One thing that a channel is told, or was to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Delivery {
    /// Its id, the same for every attempt (`Webhook-Id`).
    pub id: String,
    /// Whose channel it is.
    #[serde(skip)]
    pub workspace: Workspace,
    /// The channel.
    #[serde(skip)]
    pub channel: String,
    /// What has happened.
    pub event: Event,
    /// The agent that it has happened to.
    pub agent_id: String,
    /// The session that it has happened to.
    pub session_topic: String,
    /// How often it has been tried.
    pub attempts: u32,
    /// The status that the receiver answered with last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it is not delivered; empty when there is nothing to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Its state.
    pub state: DeliveryState,
    /// When it happened.
    #[serde(serialize_with = "crate::time::serialize")]
    pub created_at: Timestamp,
    /// When nothing more was to be done.
    #[serde(
        serialize_with = "crate::time::serialize_option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Timestamp")]
    pub finished_at: Option<Timestamp>,
}

/// The state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// It waits: until it has lasted, or for another attempt.
    Pending,
    /// The receiver has taken it.
    Delivered,
    /// The receiver has taken a message which counts it among others.
    Merged,
    /// It is given up.
    Failed,
    /// It was not to be told any more.
    Dropped,
}

impl DeliveryState {
    const ALL: [Self; 5] = [
        Self::Pending,
        Self::Delivered,
        Self::Merged,
        Self::Failed,
        Self::Dropped,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Merged => "merged",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }

    /// The state of exactly this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl Delivery {
    /// A delivery that waits in the outbox; `None` for an entry that is not a channel's.
    pub fn pending(notification: &Notification, attempts: u32) -> Option<Self> {
        let happening: Happening = serde_json::from_str(&notification.body).ok()?;
        let is_channels = !notification.channel.is_empty();
        is_channels.then(|| Self {
            id: notification.id.clone(),
            workspace: notification.workspace.clone(),
            channel: notification.channel.clone(),
            event: happening.event,
            agent_id: happening.agent_id,
            session_topic: happening.session_topic,
            attempts,
            status: None,
            error: String::new(),
            state: DeliveryState::Pending,
            created_at: notification.created_at,
            finished_at: None,
        })
    }
}
