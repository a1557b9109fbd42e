//! Channels.

use kubeagents_core::store::{ChannelCreation, Channels};
use kubeagents_core::{Channel, StoreError, Timestamp, Workspace};

use crate::query::Fetch;
use crate::value::saturating;
use crate::{PostgresStore, Query, Row, Value};

const OF_WORKSPACE: &str = "\
SELECT id, workspace, name, url, format, secret, events, delay_seconds, detail, enabled, gone, \
    created_at, updated_at \
FROM kubeagents_data.channels WHERE workspace = $1::text ORDER BY created_at, id";

/// Takes the first free slot of `$14`. Of those who take it at once one gets it.
const INSERT: &str = "\
INSERT INTO kubeagents_data.channels (workspace, slot, id, name, url, format, secret, events, \
    delay_seconds, detail, enabled, gone, created_at, updated_at) \
SELECT $2::text, slot, $1::text, $3::text, $4::text, $5::text, $6::text, $7::text, $8::bigint, \
    $9::text, $10::boolean, $11::boolean, $12::bigint, $13::bigint \
FROM generate_series(1, $14::bigint) AS slot WHERE slot NOT IN (\
    SELECT channel.slot FROM kubeagents_data.channels AS channel \
    WHERE channel.workspace = $2::text) \
ORDER BY slot LIMIT 1 ON CONFLICT (workspace, slot) DO NOTHING RETURNING id";

const COUNT: &str = "\
SELECT count(*) FROM kubeagents_data.channels WHERE workspace = $1::text AND slot <= $2::bigint";

/// The most races for a workspace's slots that one creation loses before it gives up.
const MAX_ROUNDS: usize = 50;

const UPDATE: &str = "\
UPDATE kubeagents_data.channels SET name = $3::text, url = $4::text, format = $5::text, \
    secret = $6::text, events = $7::text, delay_seconds = $8::bigint, detail = $9::text, \
    enabled = $10::boolean, gone = $11::boolean, created_at = $12::bigint, updated_at = $13::bigint \
WHERE workspace = $2::text AND id = $1::text AND updated_at = $14::bigint RETURNING id";

/// What became of what the channel was told goes with it.
const DELETE: &str = "\
WITH deleted AS (\
    DELETE FROM kubeagents_data.channels WHERE workspace = $1::text AND id = $2::text \
    RETURNING id), \
forgotten AS (\
    DELETE FROM kubeagents_data.deliveries AS delivery USING deleted \
    WHERE delivery.channel = deleted.id), \
uncounted AS (\
    DELETE FROM kubeagents_data.overflows AS overflow USING deleted \
    WHERE overflow.channel = deleted.id) \
SELECT id FROM deleted";

/// The columns of a channel, and one more parameter.
fn params<'a>(channel: &'a Channel, events: &'a str, last: Value<'a>) -> [Value<'a>; 14] {
    [
        Value::from(&channel.id),
        channel.workspace.key().into(),
        Value::from(&channel.name),
        Value::from(&channel.url),
        channel.format.as_str().into(),
        Value::from(&channel.secret),
        events.into(),
        Value::Int(channel.delay_seconds.map(i64::from)),
        channel.detail.as_str().into(),
        channel.enabled.into(),
        channel.gone.into(),
        channel.created_at.into(),
        channel.updated_at.into(),
        last,
    ]
}

impl<Q: Query, C> Channels for PostgresStore<Q, C> {
    async fn channels(&self, workspace: &Workspace) -> Result<Vec<Channel>, StoreError> {
        let params = [workspace.key().into()];
        self.query.all(OF_WORKSPACE, &params, Row::channel).await
    }

    async fn create_channel(
        &self,
        channel: &Channel,
        most: usize,
    ) -> Result<ChannelCreation, StoreError> {
        let (events, most) = (channel.events.to_text(), saturating(most));
        for _ in 0..MAX_ROUNDS {
            let params = params(channel, &events, most.into());
            match self.query.returns_row(INSERT, &params).await {
                Ok(true) => return Ok(ChannelCreation::Created),
                // Others were at the same slot, for a moment or for longer.
                Ok(false) | Err(StoreError::Contended) => {}
                Err(error) => return Err(error),
            }
            let params = [channel.workspace.key().into(), most.into()];
            if self.query.one(COUNT, &params, Row::int::<i64>).await? >= most {
                return Ok(ChannelCreation::TooMany);
            }
        }
        Err(StoreError::Contended)
    }

    async fn update_channel(
        &self,
        channel: &Channel,
        version: Timestamp,
    ) -> Result<bool, StoreError> {
        let events = channel.events.to_text();
        let params = params(channel, &events, version.into());
        self.query.returns_row(UPDATE, &params).await
    }

    async fn delete_channel(&self, workspace: &Workspace, id: &str) -> Result<bool, StoreError> {
        let params = [workspace.key().into(), id.into()];
        self.query.returns_row(DELETE, &params).await
    }
}
