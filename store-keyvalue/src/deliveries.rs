//! What became of what channels were told, one document for each channel.

use kubeagents_core::store::{Channels, newest};
use kubeagents_core::{Delivery, DeliveryState, Event, StoreError, Timestamp, Workspace};
use serde::{Deserialize, Serialize};

use crate::documents::{Change, Document, key};
use crate::{KeyValue, KeyValueStore, micros};

/// A finished delivery as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct DeliveryDocument {
    id: String,
    event: String,
    agent: String,
    topic: String,
    attempts: u32,
    status: Option<u16>,
    error: String,
    state: String,
    #[serde(with = "micros")]
    created: Timestamp,
    #[serde(with = "micros::option")]
    finished: Option<Timestamp>,
}

impl From<&Delivery> for DeliveryDocument {
    fn from(delivery: &Delivery) -> Self {
        Self {
            id: delivery.id.clone(),
            event: delivery.event.as_str().to_owned(),
            agent: delivery.agent_id.clone(),
            topic: delivery.session_topic.clone(),
            attempts: delivery.attempts,
            status: delivery.status,
            error: delivery.error.clone(),
            state: delivery.state.as_str().to_owned(),
            created: delivery.created_at,
            finished: delivery.finished_at,
        }
    }
}

impl DeliveryDocument {
    fn delivery(self, workspace: &Workspace, channel: &str) -> Result<Delivery, StoreError> {
        let unknown = |what| StoreError::unavailable(format!("a delivery has an unknown {what}"));
        Ok(Delivery {
            event: Event::parse(&self.event).ok_or_else(|| unknown("event"))?,
            state: DeliveryState::parse(&self.state).ok_or_else(|| unknown("state"))?,
            id: self.id,
            workspace: workspace.clone(),
            channel: channel.to_owned(),
            agent_id: self.agent,
            session_topic: self.topic,
            attempts: self.attempts,
            status: self.status,
            error: self.error,
            created_at: self.created,
            finished_at: self.finished,
        })
    }
}

fn deliveries_key(workspace: &Workspace, channel: &str) -> String {
    key("deliveries", &[workspace.key(), channel])
}

fn overflow_key(workspace: &Workspace, channel: &str) -> String {
    key("overflows", &[workspace.key(), channel])
}

impl<K: KeyValue> KeyValueStore<K> {
    /// How many of a channel's notifications found no room, and no message has counted yet.
    pub(crate) async fn read_overflow(
        &self,
        workspace: &Workspace,
        channel: &str,
    ) -> Result<u64, StoreError> {
        let key = overflow_key(workspace, channel);
        let stored: Option<Document<u64>> = self.documents.read(&key).await?;
        Ok(stored.map(|stored| stored.value).unwrap_or_default())
    }

    /// Changes that.
    pub(crate) async fn change_overflow(
        &self,
        workspace: &Workspace,
        channel: &str,
        change: impl Fn(u64) -> u64,
    ) -> Result<(), StoreError> {
        let change = |stored: Option<u64>| (Change::Write(change(stored.unwrap_or_default())), ());
        self.documents
            .update(&overflow_key(workspace, channel), change)
            .await
    }

    /// Keeps what became of these, which are of one channel.
    pub(crate) async fn keep_deliveries(&self, deliveries: &[Delivery]) -> Result<(), StoreError> {
        let Some(Delivery {
            workspace, channel, ..
        }) = deliveries.first()
        else {
            return Ok(());
        };
        let keep = |stored: Option<Vec<DeliveryDocument>>| {
            let stored = stored.unwrap_or_default().into_iter();
            // What a later version has written is left out.
            let stored = stored.filter_map(|stored| stored.delivery(workspace, channel).ok());
            let kept = newest(stored.collect(), deliveries.to_vec());
            let kept: Vec<_> = kept.iter().map(DeliveryDocument::from).collect();
            (Change::Write(kept), ())
        };
        self.documents
            .update(&deliveries_key(workspace, channel), keep)
            .await?;
        // The channel may be deleted meanwhile. Either that removes these, or it is seen here.
        let channels = self.channels(workspace).await?;
        match channels.iter().any(|known| known.id == *channel) {
            true => Ok(()),
            false => self.forget_deliveries(workspace, channel).await,
        }
    }

    /// What became of what a channel was told.
    pub(crate) async fn finished_deliveries(
        &self,
        workspace: &Workspace,
        channel: &str,
    ) -> Result<Vec<Delivery>, StoreError> {
        let stored: Option<Document<Vec<DeliveryDocument>>> = self
            .documents
            .read(&deliveries_key(workspace, channel))
            .await?;
        let stored = stored.map(|stored| stored.value).unwrap_or_default();
        stored
            .into_iter()
            .map(|delivery| delivery.delivery(workspace, channel))
            .collect()
    }

    /// Removes what became of what a channel was told.
    pub(crate) async fn forget_deliveries(
        &self,
        workspace: &Workspace,
        channel: &str,
    ) -> Result<(), StoreError> {
        self.documents
            .delete(&overflow_key(workspace, channel))
            .await?;
        self.documents
            .delete(&deliveries_key(workspace, channel))
            .await
    }
}
