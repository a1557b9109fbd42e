//! Channels, one document for those of a workspace.

use kubeagents_core::hook::Detail;
use kubeagents_core::store::{ChannelCreation, Channels};
use kubeagents_core::{Channel, Events, Format, StoreError, Timestamp, Workspace};
use serde::{Deserialize, Serialize};

use crate::documents::{Change, Document, key};
use crate::{KeyValue, KeyValueStore, micros};

/// A channel as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ChannelDocument {
    id: String,
    name: String,
    url: String,
    format: String,
    secret: String,
    events: String,
    delay: Option<u32>,
    detail: String,
    enabled: bool,
    gone: bool,
    #[serde(with = "micros")]
    created: Timestamp,
    #[serde(with = "micros")]
    updated: Timestamp,
}

impl From<&Channel> for ChannelDocument {
    fn from(channel: &Channel) -> Self {
        Self {
            id: channel.id.clone(),
            name: channel.name.clone(),
            url: channel.url.clone(),
            format: channel.format.as_str().to_owned(),
            secret: channel.secret.clone(),
            events: channel.events.to_text(),
            delay: channel.delay_seconds,
            detail: channel.detail.as_str().to_owned(),
            enabled: channel.enabled,
            gone: channel.gone,
            created: channel.created_at,
            updated: channel.updated_at,
        }
    }
}

impl ChannelDocument {
    fn channel(self, workspace: &Workspace) -> Result<Channel, StoreError> {
        let unknown = |what| StoreError::unavailable(format!("a channel has an unknown {what}"));
        Ok(Channel {
            format: Format::parse(&self.format).ok_or_else(|| unknown("format"))?,
            events: Events::from_text(&self.events).ok_or_else(|| unknown("event"))?,
            detail: Detail::parse(&self.detail).ok_or_else(|| unknown("detail"))?,
            id: self.id,
            workspace: workspace.clone(),
            name: self.name,
            url: self.url,
            secret: self.secret,
            delay_seconds: self.delay,
            enabled: self.enabled,
            gone: self.gone,
            created_at: self.created,
            updated_at: self.updated,
        })
    }
}

fn channels_key(workspace: &Workspace) -> String {
    key("channels", &[workspace.key()])
}

impl<K: KeyValue> KeyValueStore<K> {
    /// Changes the list of a workspace's channels, unless `change` returns false.
    async fn change_channels(
        &self,
        workspace: &Workspace,
        mut change: impl FnMut(&mut Vec<ChannelDocument>) -> bool,
    ) -> Result<bool, StoreError> {
        let change = |channels: Option<Vec<ChannelDocument>>| {
            let mut channels = channels.unwrap_or_default();
            match change(&mut channels) {
                true => (Change::Write(channels), true),
                false => (Change::Keep, false),
            }
        };
        self.documents
            .update(&channels_key(workspace), change)
            .await
    }

    /// Removes the channels of a workspace.
    pub(crate) async fn delete_channels(&self, workspace: &Workspace) -> Result<(), StoreError> {
        for channel in self.channels(workspace).await? {
            self.forget_deliveries(workspace, &channel.id).await?;
        }
        self.documents.delete(&channels_key(workspace)).await
    }
}

impl<K: KeyValue> Channels for KeyValueStore<K> {
    async fn channels(&self, workspace: &Workspace) -> Result<Vec<Channel>, StoreError> {
        let stored: Option<Document<Vec<ChannelDocument>>> =
            self.documents.read(&channels_key(workspace)).await?;
        let stored = stored.map(|stored| stored.value).unwrap_or_default();
        let channels = stored.into_iter().map(|channel| channel.channel(workspace));
        let mut channels: Vec<Channel> = channels.collect::<Result<_, _>>()?;
        channels.sort_by_key(|channel| (channel.created_at, channel.id.clone()));
        Ok(channels)
    }

    async fn create_channel(
        &self,
        channel: &Channel,
        most: usize,
    ) -> Result<ChannelCreation, StoreError> {
        let create = |channels: &mut Vec<ChannelDocument>| {
            let has_room = channels.len() < most;
            if has_room {
                channels.push(channel.into());
            }
            has_room
        };
        Ok(
            match self.change_channels(&channel.workspace, create).await? {
                true => ChannelCreation::Created,
                false => ChannelCreation::TooMany,
            },
        )
    }

    async fn update_channel(
        &self,
        channel: &Channel,
        version: Timestamp,
    ) -> Result<bool, StoreError> {
        let update = |channels: &mut Vec<ChannelDocument>| {
            let mut channels = channels.iter_mut();
            let stored =
                channels.find(|stored| stored.id == channel.id && stored.updated == version);
            stored.map(|stored| *stored = channel.into()).is_some()
        };
        self.change_channels(&channel.workspace, update).await
    }

    async fn delete_channel(&self, workspace: &Workspace, id: &str) -> Result<bool, StoreError> {
        let delete = |channels: &mut Vec<ChannelDocument>| {
            let before = channels.len();
            channels.retain(|channel| channel.id != id);
            channels.len() < before
        };
        let deleted = self.change_channels(workspace, delete).await?;
        if deleted {
            self.forget_deliveries(workspace, id).await?;
        }
        Ok(deleted)
    }
}
