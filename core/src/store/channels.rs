//! Channels.

use super::StoreError;
use crate::{Channel, Timestamp, Workspace};

/// What became of a new channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the workspace may have too many"]
pub enum ChannelCreation {
    /// The channel is stored.
    Created,
    /// The workspace has as many as it may have; nothing is stored.
    TooMany,
}

/// Channels.
pub trait Channels {
    /// The channels of a workspace: oldest first, then by id.
    fn channels(
        &self,
        workspace: &Workspace,
    ) -> impl Future<Output = Result<Vec<Channel>, StoreError>>;

    /// Stores a new channel, unless its workspace has `most` already.
    fn create_channel(
        &self,
        channel: &Channel,
        most: usize,
    ) -> impl Future<Output = Result<ChannelCreation, StoreError>>;

    /// Replaces the version of a channel that was last changed at `version`; `false` when there is
    /// none: it has been changed since, or deleted.
    fn update_channel(
        &self,
        channel: &Channel,
        version: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>>;

    /// Deletes a channel of this workspace; `false` when the workspace has no such one.
    fn delete_channel(
        &self,
        workspace: &Workspace,
        id: &str,
    ) -> impl Future<Output = Result<bool, StoreError>>;
}
