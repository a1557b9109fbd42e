//! `/api/channels…`: who else is told, of what, and in which form.

use chrono::TimeDelta;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::response::{Answer, confirm, ok, secret};
use super::{Admitted, ApiError, App};
use crate::audit::{Act, AuditEvent};
use crate::channel::{ChannelView, check_place};
use crate::delivery::send_sample;
use crate::hook::Detail;
use crate::json::integer;
use crate::ports::{Ports, random_uuid};
use crate::store::{ChannelCreation, Channels, Outbox};
use crate::validation::{NOT_BLANK, limited, required};
use crate::{
    Channel, Delivery, Event, Events, Format, InvalidField, Limit, MAX_CHANNELS, MAX_DELAY_SECONDS,
    Rule, Settings, StoreError, Workspace,
};

const MAX_NAME_CHARACTERS: usize = 100;
const MAX_URL_CHARACTERS: usize = 2048;
const MAX_SECRET_CHARACTERS: usize = 200;

/// The most changes by others that one change survives.
const MAX_ROUNDS: u32 = 20;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct ChannelRequest {
    #[schemars(length(max = MAX_NAME_CHARACTERS), regex(pattern = NOT_BLANK))]
    name: Option<String>,
    /// Where messages go; `mailto:` for mail. It is never shown again.
    #[schemars(length(max = MAX_URL_CHARACTERS))]
    url: Option<String>,
    /// Found from the URL's host where it is not given.
    #[schemars(with = "Option<Format>")]
    format: Option<String>,
    /// What signs or admits messages; empty clears it. It is never shown again, and does not follow to
    /// another URL, with which it must be given again.
    #[schemars(length(max = MAX_SECRET_CHARACTERS))]
    secret: Option<String>,
    /// All but `started` where they are not given.
    #[schemars(with = "Option<Events>")]
    events: Option<Vec<String>>,
    /// How long each event must last before it is told; null: as long as is usual for the event.
    #[serde(deserialize_with = "given_integer")]
    #[schemars(with = "Option<u32>", range(min = 0, max = MAX_DELAY_SECONDS))]
    delay_seconds: Option<Option<i64>>,
    /// `full` where it is not given.
    #[schemars(with = "Option<Detail>")]
    detail: Option<String>,
    enabled: Option<bool>,
}

/// Tells an integer that is null from one that is not given.
fn given_integer<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<i64>>, D::Error> {
    integer(deserializer).map(Some)
}

/// What a sample came to.
#[derive(Serialize, JsonSchema)]
pub(super) struct Tested {
    delivered: bool,
    /// What the receiver answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Why it is not delivered.
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

/// The last hundred, newest first.
#[derive(Serialize, JsonSchema)]
pub(super) struct DeliveryList {
    deliveries: Vec<Delivery>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ChannelList<'a> {
    channels: Vec<ChannelView<'a>>,
}

impl<P: Ports> App<P> {
    pub(super) async fn list_channels(&self, request: Admitted<'_>) -> Answer {
        let channels = self
            .ports
            .store()
            .channels(&request.caller.workspace)
            .await?;
        let channels = channels.iter().map(Channel::view).collect();
        ok(&ChannelList { channels })
    }

    pub(super) async fn create_channel(&self, request: Admitted<'_>) -> Answer {
        let id = random_uuid(self.ports.entropy());
        let blank = Channel::new(id, request.caller.workspace.clone(), self.now());
        let channel = self.changed(blank, request.fields()?)?;
        match self
            .ports
            .store()
            .create_channel(&channel, MAX_CHANNELS)
            .await?
        {
            ChannelCreation::Created => {
                let event = AuditEvent::ChannelCreated;
                self.note_channel(&request, event, &channel).await;
                secret(StatusCode::CREATED, &channel.view())
            }
            ChannelCreation::TooMany => Err(ApiError::limit_reached(
                Limit::Channels,
                "too many channels",
            )),
        }
    }

    pub(super) async fn update_channel(&self, request: Admitted<'_>) -> Answer {
        let id = request.route.parameter("id")?;
        for _ in 0..MAX_ROUNDS {
            let stored = self.channel(&request.caller.workspace, &id).await?;
            let version = stored.updated_at;
            let mut channel = self.changed(stored, request.fields()?)?;
            channel.updated_at = self.now().max(version + TimeDelta::microseconds(1));
            if self.ports.store().update_channel(&channel, version).await? {
                let event = AuditEvent::ChannelChanged;
                self.note_channel(&request, event, &channel).await;
                return ok(&channel.view());
            }
        }
        Err(StoreError::Contended.into())
    }

    pub(super) async fn test_channel(&self, request: Admitted<'_>) -> Answer {
        let id = request.route.parameter("id")?;
        let channel = self.channel(&request.caller.workspace, &id).await?;
        self.draw_test(&channel.workspace).await?;
        let id = random_uuid(self.ports.entropy());
        let (poster, base_url) = (self.ports.poster(), self.settings.dashboard());
        let sample = send_sample(poster, &channel, &id, self.now(), base_url).await;
        ok(&Tested {
            delivered: sample.delivered,
            status: sample.status,
            error: sample.error,
        })
    }

    pub(super) async fn list_deliveries(&self, request: Admitted<'_>) -> Answer {
        let id = request.route.parameter("id")?;
        let workspace = &request.caller.workspace;
        self.channel(workspace, &id).await?;
        let deliveries = self.ports.store().deliveries(workspace, &id).await?;
        ok(&DeliveryList { deliveries })
    }

    pub(super) async fn delete_channel(&self, request: Admitted<'_>) -> Answer {
        let id = request.route.parameter("id")?;
        let workspace = &request.caller.workspace;
        let channel = self.channel(workspace, &id).await?;
        if !self.ports.store().delete_channel(workspace, &id).await? {
            return Err(unknown_channel());
        }
        let event = AuditEvent::ChannelRemoved;
        self.note_channel(&request, event, &channel).await;
        confirm("Channel deleted successfully")
    }

    /// Writes what a request did to a channel into the audit of its workspace.
    async fn note_channel(&self, request: &Admitted<'_>, event: AuditEvent, channel: &Channel) {
        let caller = &request.caller;
        let act = Act::new(channel.workspace.clone(), event, caller.actor);
        let act = act.from(self.origin(request.parts));
        let act = act.by(caller.user.clone().unwrap_or_default());
        self.note(act.on(&channel.name, &channel.id)).await;
    }

    /// The channel of this id in a workspace.
    async fn channel(&self, workspace: &Workspace, id: &str) -> Result<Channel, ApiError> {
        let channels = self.ports.store().channels(workspace).await?;
        let found = channels.into_iter().find(|channel| channel.id == id);
        found.ok_or_else(unknown_channel)
    }

    /// A channel with what a request says of it. Fields are checked in the order of the contract.
    fn changed(&self, mut channel: Channel, body: ChannelRequest) -> Result<Channel, InvalidField> {
        if channel.name.is_empty() || body.name.is_some() {
            channel.name = required("name", body.name, MAX_NAME_CHARACTERS)?;
        }
        let kept_format = match &body.url {
            None if channel.url.is_empty() => return Err(Rule::Required.broken_by("url")),
            None => Some(channel.format),
            Some(_) => None,
        };
        let mut leads_elsewhere = false;
        if let Some(url) = body.url.as_deref().map(str::trim) {
            leads_elsewhere = channel.url != url;
            url.clone_into(&mut channel.url);
        }
        if channel.url.is_empty() {
            return Err(Rule::Required.broken_by("url"));
        }
        let format = match body.format.as_deref() {
            None => kept_format,
            Some(name) => {
                let format = Format::parse(name);
                Some(format.ok_or(Rule::Words(&Format::NAMES).broken_by("format"))?)
            }
        };
        match limited("secret", body.secret, MAX_SECRET_CHARACTERS)? {
            Some(secret) => secret.trim().clone_into(&mut channel.secret),
            // Whoever may change a channel could have it sent to themselves.
            None if leads_elsewhere && !channel.secret.is_empty() => {
                let rule = "must be given again with another url; \"\" clears it";
                return Err(Rule::Sentence(rule).broken_by("secret"));
            }
            None => {}
        }
        channel.format = check_place(&channel.url, format, &channel.secret)?;
        self.check_place(&channel)?;
        if let Some(events) = &body.events {
            let events = Events::parse(events.iter().map(String::as_str));
            channel.events = events.ok_or(Rule::ListOf(&Event::NAMES).broken_by("events"))?;
        }
        if let Some(delay) = body.delay_seconds {
            channel.delay_seconds = match delay.map(u32::try_from) {
                None => None,
                Some(Ok(seconds @ 0..=MAX_DELAY_SECONDS)) => Some(seconds),
                Some(_) => {
                    let rule = Rule::Range {
                        min: 0,
                        max: MAX_DELAY_SECONDS.into(),
                    };
                    return Err(rule.broken_by("delay_seconds"));
                }
            };
        }
        if let Some(name) = &body.detail {
            let detail = Detail::parse(name);
            channel.detail = detail.ok_or(Rule::Words(&Detail::WORDS).broken_by("detail"))?;
        }
        if let Some(enabled) = body.enabled {
            channel.enabled = enabled;
            channel.gone &= !enabled;
        }
        Ok(channel)
    }

    /// Checks that this instance can send to a channel.
    fn check_place(&self, channel: &Channel) -> Result<(), InvalidField> {
        let Settings {
            values, host, mode, ..
        } = &self.settings;
        let checked = match channel.format {
            Format::Email => values.check_mail(*host),
            _ => values.check_receiver(*host, *mode, &channel.url),
        };
        checked.map_err(|rule| Rule::Sentence(rule).broken_by("url"))
    }
}

fn unknown_channel() -> ApiError {
    ApiError::not_found("Channel not found")
}
