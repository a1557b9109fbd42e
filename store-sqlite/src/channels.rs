//! Channels.

use kubeagents_core::store::{ChannelCreation, Channels};
use kubeagents_core::{Channel, StoreError, Timestamp, Workspace};

use kubeagents_store_sql::Row;

use crate::{Connection, SqliteStore, Value};

const CHANNELS: &str = "
    SELECT id, workspace, name, url, format, secret, events, delay_seconds, detail, enabled, gone,
        created_at, updated_at
    FROM channels WHERE workspace = ?1 ORDER BY created_at, id";

/// ?14 the most channels of the workspace.
const CREATE_CHANNEL: &str = "
    INSERT INTO channels (id, workspace, name, url, format, secret, events, delay_seconds, detail,
        enabled, gone, created_at, updated_at)
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13
    WHERE (SELECT count(*) FROM channels WHERE workspace = ?2) < ?14
    RETURNING TRUE";

/// ?14 when the version that is replaced was last changed.
const UPDATE_CHANNEL: &str = "
    UPDATE channels SET name = ?3, url = ?4, format = ?5, secret = ?6, events = ?7,
        delay_seconds = ?8, detail = ?9, enabled = ?10, gone = ?11, created_at = ?12,
        updated_at = ?13
    WHERE workspace = ?2 AND id = ?1 AND updated_at = ?14 RETURNING TRUE";

const DELETE_CHANNEL: &str = "
    DELETE FROM channels WHERE workspace = ?1 AND id = ?2 RETURNING TRUE";

/// The columns of a channel, and one more parameter.
fn parameters(channel: &Channel, last: Value) -> [Value; 14] {
    [
        (&channel.id).into(),
        (&channel.workspace).into(),
        (&channel.name).into(),
        (&channel.url).into(),
        channel.format.as_str().into(),
        (&channel.secret).into(),
        (&channel.events.to_text()).into(),
        channel.delay_seconds.into(),
        channel.detail.as_str().into(),
        u32::from(channel.enabled).into(),
        u32::from(channel.gone).into(),
        channel.created_at.into(),
        channel.updated_at.into(),
        last,
    ]
}

impl<C: Connection> Channels for SqliteStore<C> {
    async fn channels(&self, workspace: &Workspace) -> Result<Vec<Channel>, StoreError> {
        let parameters = [workspace.into()];
        self.lookups.all(CHANNELS, parameters, Row::channel).await
    }

    async fn create_channel(
        &self,
        channel: &Channel,
        most: usize,
    ) -> Result<ChannelCreation, StoreError> {
        let parameters = parameters(channel, most.into());
        let created = self.writer.run(CREATE_CHANNEL, parameters).await?;
        Ok(match created.is_empty() {
            false => ChannelCreation::Created,
            true => ChannelCreation::TooMany,
        })
    }

    async fn update_channel(
        &self,
        channel: &Channel,
        version: Timestamp,
    ) -> Result<bool, StoreError> {
        let parameters = parameters(channel, version.into());
        let updated = self.writer.run(UPDATE_CHANNEL, parameters).await?;
        Ok(!updated.is_empty())
    }

    async fn delete_channel(&self, workspace: &Workspace, id: &str) -> Result<bool, StoreError> {
        let parameters = [workspace.into(), id.into()];
        let deleted = self.writer.run(DELETE_CHANNEL, parameters).await?;
        Ok(!deleted.is_empty())
    }
}
