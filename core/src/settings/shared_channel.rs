//! The channel of the shared workspace that is configured without a request.

use super::{InvalidSetting, Settings, Values};
use crate::channel::check_place;
use crate::{Channel, Format, Timestamp, Workspace};

/// Its id, which no other channel has.
pub(crate) const SHARED_CHANNEL: &str = "NOTIFICATION_WEBHOOK_URL";

const FORMAT: &str = "NOTIFICATION_WEBHOOK_FORMAT";
const SECRET: &str = "NOTIFICATION_WEBHOOK_SECRET";
const EVENTS: &str = "NOTIFICATION_EVENTS";

/// A variable, and what would be right.
pub(super) type Misfit = (&'static str, InvalidSetting);

impl Values {
    /// The channel that `NOTIFICATION_WEBHOOK_URL` and what belongs to it make; `None` where there is no
    /// address, or a plain one, which has the form of the Go server.
    pub(super) fn shared_channel(&self) -> Result<Option<Channel>, Misfit> {
        let has = [
            (FORMAT, self.notification_webhook_format.is_some()),
            (SECRET, self.notification_webhook_secret.is_some()),
            (EVENTS, self.notification_events.is_some()),
        ];
        let further = has.into_iter().find(|(_, is_set)| *is_set);
        let needs = |needed: &str| match further {
            Some((variable, _)) => Err((variable, format!("needs {needed} beside it").into())),
            None => Ok(None),
        };
        let Some(url) = &self.notification_webhook_url else {
            return needs(SHARED_CHANNEL);
        };
        let found = url::Url::parse(url).map_or(Format::Webhook, |url| Format::of(&url));
        let format = self.notification_webhook_format;
        if format.is_none() && found == Format::Webhook {
            return needs(FORMAT);
        }
        let secret = self.notification_webhook_secret.clone();
        let secret = secret.unwrap_or_default();
        let format = check_place(url, format, &secret).map_err(|error| {
            let variable = match error.field {
                "secret" => SECRET,
                _ => SHARED_CHANNEL,
            };
            let sentence = error.to_string();
            let rule = sentence.trim_start_matches(error.field).trim_start();
            (variable, rule.to_owned().into())
        })?;
        let id = SHARED_CHANNEL.to_owned();
        Ok(Some(Channel {
            name: id.clone(),
            url: url.clone(),
            format,
            secret,
            events: self.notification_events.unwrap_or_default(),
            ..Channel::new(id, Workspace::Shared, Timestamp::UNIX_EPOCH)
        }))
    }
}

impl Settings {
    /// The channel of the shared workspace that is configured, if there is one.
    pub(crate) fn shared_channel(&self) -> Option<Channel> {
        // What does not fit together has stopped the start.
        self.values.shared_channel().ok().flatten()
    }
}
