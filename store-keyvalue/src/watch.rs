//! Which agents have sessions that may fall silent, by the minute in which the first of them may.
//!
//! A report leaves its agent where it stands, for most renew what was to expire: an agent is only ever
//! noted too early, and whoever looks there and finds nothing due notes it for later. So what a report
//! costs more is a note an agent and TTL.
//!
//! A note is made before the head that relies on it is swapped, and removed after a head that does not.
//! A head relies on no note of a minute that is over.

use kubeagents_core::{StoreError, Timestamp, Workspace};
use serde::{Deserialize, Serialize};

use crate::documents::{Change, json_size};
use crate::{KeyValue, KeyValueStore};

/// Key of the list of minutes that have a document.
const MINUTES: &str = "watch";

/// The most bytes of one minute's agents. More are noted for the minute before.
const MINUTE_BYTES: usize = 256 * 1024;

/// How long a document without agents stays: nobody notes one for a minute that was over then.
const STAYS: i64 = 2;

/// An agent that is noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Noted {
    pub(crate) workspace: String,
    pub(crate) agent: String,
}

impl Noted {
    pub(crate) fn new(workspace: &Workspace, agent_id: &str) -> Self {
        Self {
            workspace: workspace.key().to_owned(),
            agent: agent_id.to_owned(),
        }
    }

    fn size(&self) -> usize {
        json_size(&self.workspace) + json_size(&self.agent) + 30
    }
}

/// The minute of an instant, counted from 1970.
pub(crate) fn minute(instant: Timestamp) -> i64 {
    instant.timestamp().div_euclid(60)
}

fn minute_key(minute: i64) -> String {
    format!("{MINUTES}/{minute}")
}

impl<K: KeyValue> KeyValueStore<K> {
    /// Notes an agent for a minute, or for one a little before it. Returns which.
    pub(crate) async fn watch(&self, minute: i64, noted: &Noted) -> Result<i64, StoreError> {
        let mut minute = minute;
        loop {
            let add = |agents: Option<Vec<Noted>>| {
                let mut agents = agents.unwrap_or_default();
                if agents.contains(noted) {
                    return (Change::Keep, true);
                }
                let size: usize = agents.iter().map(Noted::size).sum();
                if size > MINUTE_BYTES {
                    return (Change::Keep, false);
                }
                agents.push(noted.clone());
                (Change::Write(agents), true)
            };
            if self.documents.update(&minute_key(minute), add).await? {
                break;
            }
            minute -= 1;
        }
        self.documents
            .update(MINUTES, |minutes: Option<Vec<i64>>| {
                let mut minutes = minutes.unwrap_or_default();
                match minutes.binary_search(&minute) {
                    Ok(_) => (Change::Keep, ()),
                    Err(place) => {
                        minutes.insert(place, minute);
                        (Change::Write(minutes), ())
                    }
                }
            })
            .await?;
        Ok(minute)
    }

    /// The minutes that have begun by `until` and that agents may be noted for, oldest first.
    pub(crate) async fn watched_minutes(&self, until: Timestamp) -> Result<Vec<i64>, StoreError> {
        let minutes = self.documents.read::<Vec<i64>>(MINUTES).await?;
        let mut minutes = minutes.map(|minutes| minutes.value).unwrap_or_default();
        minutes.retain(|begun| *begun <= minute(until));
        Ok(minutes)
    }

    /// The agents noted for a minute.
    pub(crate) async fn watched(&self, minute: i64) -> Result<Vec<Noted>, StoreError> {
        let key = minute_key(minute);
        let agents = self.documents.read::<Vec<Noted>>(&key).await?;
        let agents = agents.map(|agents| agents.value);
        Ok(agents.unwrap_or_default())
    }

    /// Removes agents from a minute.
    pub(crate) async fn unwatch(&self, minute: i64, gone: &[Noted]) -> Result<(), StoreError> {
        if gone.is_empty() {
            return Ok(());
        }
        let remove = |agents: Option<Vec<Noted>>| {
            let mut agents = agents.unwrap_or_default();
            agents.retain(|noted| !gone.contains(noted));
            (Change::Write(agents), ())
        };
        self.documents.update(&minute_key(minute), remove).await
    }

    /// Removes the agents of a workspace from all minutes.
    pub(crate) async fn forget_watched(&self, workspace: &Workspace) -> Result<(), StoreError> {
        let minutes = self.documents.read::<Vec<i64>>(MINUTES).await?;
        for minute in minutes.map(|minutes| minutes.value).unwrap_or_default() {
            let mut gone = self.watched(minute).await?;
            gone.retain(|noted| noted.workspace == workspace.key());
            self.unwatch(minute, &gone).await?;
        }
        Ok(())
    }

    /// Forgets a minute without agents, once nobody notes one for it any more.
    pub(crate) async fn forget_minute(&self, over: i64, now: Timestamp) -> Result<(), StoreError> {
        if minute(now) - over < STAYS {
            return Ok(());
        }
        self.documents
            .update(MINUTES, |minutes: Option<Vec<i64>>| {
                let mut minutes = minutes.unwrap_or_default();
                minutes.retain(|minute| *minute != over);
                (Change::Write(minutes), ())
            })
            .await?;
        self.documents.delete(&minute_key(over)).await
    }
}
