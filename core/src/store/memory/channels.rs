use super::MemoryStore;
use crate::store::{ChannelCreation, Channels, StoreError};
use crate::{Channel, Timestamp, Workspace};

impl Channels for MemoryStore {
    async fn channels(&self, workspace: &Workspace) -> Result<Vec<Channel>, StoreError> {
        let state = self.lock();
        let mut channels = state.channels.get(workspace).cloned().unwrap_or_default();
        channels.sort_by_key(|channel| (channel.created_at, channel.id.clone()));
        Ok(channels)
    }

    async fn create_channel(
        &self,
        channel: &Channel,
        most: usize,
    ) -> Result<ChannelCreation, StoreError> {
        let mut state = self.lock();
        let channels = state.channels.entry(channel.workspace.clone()).or_default();
        if channels.len() >= most {
            return Ok(ChannelCreation::TooMany);
        }
        channels.push(channel.clone());
        Ok(ChannelCreation::Created)
    }

    async fn update_channel(
        &self,
        channel: &Channel,
        version: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let channels = state.channels.get_mut(&channel.workspace);
        let stored = channels
            .into_iter()
            .flatten()
            .find(|stored| stored.id == channel.id && stored.updated_at == version);
        Ok(stored.map(|stored| channel.clone_into(stored)).is_some())
    }

    async fn delete_channel(&self, workspace: &Workspace, id: &str) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let Some(channels) = state.channels.get_mut(workspace) else {
            return Ok(false);
        };
        let before = channels.len();
        channels.retain(|channel| channel.id != id);
        let deleted = channels.len() < before;
        if channels.is_empty() {
            state.channels.remove(workspace);
        }
        if deleted {
            state.outbox.forget_channel(id);
        }
        Ok(deleted)
    }
}
