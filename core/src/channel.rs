//! Channels: where people are told, of what, and in which form.

mod place;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::hook::Detail;
use crate::validation::words;
use crate::{Timestamp, Workspace};

pub use place::Format;
use place::url_hint;
pub(crate) use place::{chat_id, check_place, is_mail, mail_address, signing_keys, topic};

/// The most channels of one workspace.
pub const MAX_CHANNELS: usize = 20;

/// The longest delay before a channel is told, in seconds.
pub const MAX_DELAY_SECONDS: u32 = 3600;

/// A place where people are told what becomes of a workspace's sessions.
#[derive(Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its id, a UUID in text form.
    pub id: String,
    /// Whose sessions it tells of.
    pub workspace: Workspace,
    /// What people call it.
    pub name: String,
    /// Where messages go. A secret: whoever has it can write there.
    pub url: String,
    /// How messages are written.
    pub format: Format,
    /// What signs or admits messages; empty when there is none.
    pub secret: String,
    /// What it is told of.
    pub events: Events,
    /// How long each event must last before it is told; `None`: as long as is usual for the event.
    pub delay_seconds: Option<u32>,
    /// How much of a session it is told.
    pub detail: Detail,
    /// False while nothing is sent.
    pub enabled: bool,
    /// True if its receiver has said that it is gone for good, which has disabled the channel.
    pub gone: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed: no two versions of a channel have the same.
    pub updated_at: Timestamp,
}

impl Channel {
    /// A channel without a name or a place, told of what is usual, in full.
    pub(crate) fn new(id: String, workspace: Workspace, created_at: Timestamp) -> Self {
        Self {
            id,
            workspace,
            name: String::new(),
            url: String::new(),
            format: Format::Webhook,
            secret: String::new(),
            events: Events::default(),
            delay_seconds: None,
            detail: Detail::Full,
            enabled: true,
            gone: false,
            created_at,
            updated_at: created_at,
        }
    }
}

// What is secret is kept out of logs.
impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("id", &self.id)
            .field("workspace", &self.workspace)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// Something that people may want to be told of a session.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ChannelEvent")]
pub enum Event {
    /// Its first report.
    Started,
    /// It waits for a person.
    Waiting,
    /// It failed.
    Failed,
    /// It succeeded, or a turn of it is over.
    Finished,
    /// It expired while it was running.
    Silent,
    /// It reports again after it was silent or had failed.
    Recovered,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 6] = [
        Self::Started,
        Self::Waiting,
        Self::Failed,
        Self::Finished,
        Self::Silent,
        Self::Recovered,
    ];

    /// The name of each.
    pub(crate) const NAMES: [&str; Self::ALL.len()] = words!(Self);

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Finished => "finished",
            Self::Silent => "silent",
            Self::Recovered => "recovered",
        }
    }

    /// The event of exactly this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == name)
    }
}

/// A set of events, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Events(u8);

impl Default for Events {
    /// All but `started`, which is of no use to most.
    fn default() -> Self {
        Self(Event::ALL.map(Self::bit).iter().sum::<u8>() - Self::bit(Event::Started))
    }
}

impl Events {
    const fn bit(event: Event) -> u8 {
        1 << event as u8
    }

    /// The set of the events of these names; `None` if one is no event or there are none.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut bits = 0;
        for name in names {
            bits |= Self::bit(Event::parse(name)?);
        }
        (bits > 0).then_some(Self(bits))
    }

    /// Checks whether an event is among them.
    pub fn contains(self, event: Event) -> bool {
        self.0 & Self::bit(event) > 0
    }

    /// The events, in the order of [`Event::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Event> {
        Event::ALL
            .into_iter()
            .filter(move |event| self.contains(*event))
    }

    /// The form in which stores keep the set: its names with commas between.
    pub fn to_text(self) -> String {
        self.iter().map(Event::as_str).collect::<Vec<_>>().join(",")
    }

    /// Reads what [`Events::to_text`] wrote.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::parse(text.split(','))
    }
}

impl Serialize for Events {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl JsonSchema for Events {
    fn schema_name() -> Cow<'static, str> {
        "ChannelEvents".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let event = generator.subschema_for::<Event>();
        json_schema!({"type": "array", "items": event, "minItems": 1})
    }
}

/// A channel as its owner sees it: neither its URL nor its secret is shown again.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Channel")]
pub(crate) struct ChannelView<'a> {
    id: &'a str,
    name: &'a str,
    /// Its scheme, its host and its last characters.
    url_hint: String,
    format: Format,
    has_secret: bool,
    events: Events,
    /// Absent: as long as is usual for each event.
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_seconds: Option<u32>,
    detail: Detail,
    enabled: bool,
    /// The receiver has said that it is gone for good.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
    #[serde(serialize_with = "crate::time::serialize")]
    created_at: Timestamp,
    #[serde(serialize_with = "crate::time::serialize")]
    updated_at: Timestamp,
}

impl Channel {
    pub(crate) fn view(&self) -> ChannelView<'_> {
        ChannelView {
            id: &self.id,
            name: &self.name,
            url_hint: url_hint(&self.url),
            format: self.format,
            has_secret: !self.secret.is_empty(),
            events: self.events,
            delay_seconds: self.delay_seconds,
            detail: self.detail,
            enabled: self.enabled,
            gone: self.gone,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_events_are_read_in_any_order_and_written_in_one() {
        let events = Events::parse(["failed", "started", "failed"]).unwrap();
        assert_eq!(events.to_text(), "started,failed");
        assert_eq!(Events::from_text("started,failed"), Some(events));
        assert_eq!(Events::parse([]), None);
        assert_eq!(Events::parse(["Failed"]), None);
        assert_eq!(
            Events::default().to_text(),
            "waiting,failed,finished,silent,recovered"
        );
    }
}
