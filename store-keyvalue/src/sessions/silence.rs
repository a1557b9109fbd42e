//! Sessions that fall silent.

use futures_util::{StreamExt, TryStreamExt, stream};
use kubeagents_core::store::SilenceNote;
use kubeagents_core::{SessionKey, Silence, Snapshot, StoreError, Timestamp, Workspace, causes};

use super::head::{Head, Row, agent_hash, head_key};
use super::{AGENTS_AT_ONCE, LONGEST_TTL};
use crate::documents::{Document, Rounds};
use crate::outbox::Place;
use crate::watch::{Noted, minute};
use crate::{KeyValue, KeyValueStore};

/// The most silences of one agent that are noted with one swap.
const NOTED_AT_ONCE: usize = 8;

/// What an agent's sessions are like that are watched.
struct Look {
    /// Those that expire in the range that was asked for.
    due: Vec<Row>,
    /// When the first of the others does that expire after it.
    next: Option<Timestamp>,
}

impl<K: KeyValue> KeyValueStore<K> {
    pub(super) async fn find_silences(
        &self,
        after: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Snapshot)>, StoreError> {
        let mut found = Vec::new();
        for begun in self.watched_minutes(until).await? {
            let agents = self.watched(begun).await?;
            let count = agents.len();
            let looks: Vec<_> = stream::iter(agents)
                .map(|noted| async move {
                    let (due, stays) = self.look_at(&noted, begun, after, until).await?;
                    Ok::<_, StoreError>((noted, due, stays))
                })
                .buffered(AGENTS_AT_ONCE)
                .try_collect()
                .await?;
            let mut gone = Vec::new();
            for (noted, due, stays) in looks {
                if !stays {
                    gone.push(noted);
                }
                found.extend(due);
            }
            self.unwatch(begun, &gone).await?;
            if gone.len() == count {
                self.forget_minute(begun, until).await?;
            }
            if found.len() >= limit {
                break;
            }
        }
        let expiry = |(_, snapshot): &(SessionKey, Snapshot)| {
            let head = snapshot.session.as_ref();
            head.map(|head| head.expires_at())
        };
        found.sort_by_key(expiry);
        found.truncate(limit);
        Ok(found)
    }

    /// Looks at an agent that is noted for a minute; what of it is due, and whether it stays there. An
    /// agent of which nothing is due is noted for when something is.
    async fn look_at(
        &self,
        noted: &Noted,
        begun: i64,
        after: Timestamp,
        until: Timestamp,
    ) -> Result<(Vec<(SessionKey, Snapshot)>, bool), StoreError> {
        let workspace = Workspace::from_key(noted.workspace.clone());
        let mut rounds = Rounds::default();
        let mut current = self.head(&workspace, &noted.agent).await?;
        loop {
            let Some(Document {
                value: mut head,
                version,
            }) = current
            else {
                return Ok((Vec::new(), false));
            };
            let Look { due, next } = self.look(&workspace, &head, after, until).await?;
            if !due.is_empty() {
                let snapshot = |row: Row| {
                    let key = SessionKey {
                        workspace: workspace.clone(),
                        agent_id: noted.agent.clone(),
                        session_topic: row.topic.clone(),
                    };
                    let snapshot = Snapshot {
                        agent_name: Some(head.name.clone()),
                        session: Some(row.head()),
                        siblings: 0,
                    };
                    (key, snapshot)
                };
                return Ok((due.into_iter().map(snapshot).collect(), true));
            }
            let next = next.map(minute);
            if next == Some(begun) {
                return Ok((Vec::new(), true));
            }
            // Another may have noted it for later meanwhile.
            let relies = head.watched.is_some_and(|watched| watched <= begun);
            if !relies && head.watched.is_some() == next.is_some() {
                return Ok((Vec::new(), false));
            }
            head.watched = match next {
                Some(next) => Some(self.watch(next, noted).await?),
                None => None,
            };
            let key = head_key(&agent_hash(&workspace, &noted.agent));
            match self.documents.swap(&key, &head, &version).await? {
                None => return Ok((Vec::new(), head.watched == Some(begun))),
                Some(head) => current = head,
            }
            rounds.lost()?;
        }
    }

    async fn look(
        &self,
        workspace: &Workspace,
        head: &Head,
        after: Timestamp,
        until: Timestamp,
    ) -> Result<Look, StoreError> {
        let mut places = self.places(workspace, head, None).await?;
        let (mut due, mut next) = (Vec::new(), None);
        while let Some(place) = places.next().await? {
            if place.updated + LONGEST_TTL <= after {
                break;
            }
            if !place.watched || place.expires <= after {
                continue;
            }
            match place.expires <= until {
                true => due.push(place),
                false => next = Some(next.map_or(place.expires, |at| place.expires.min(at))),
            }
        }
        let mut due = self.rows(workspace, head, due).await?;
        due.retain(|row| row.silence == Silence::Watched.code());
        Ok(Look { due, next })
    }

    pub(super) async fn note_agent_silences(
        &self,
        notes: &[SilenceNote],
    ) -> Result<Vec<bool>, StoreError> {
        let mut noted = Vec::with_capacity(notes.len());
        for notes in notes.chunks(NOTED_AT_ONCE) {
            noted.extend(self.swap_in_silences(notes).await?);
        }
        Ok(noted)
    }

    /// Notes silences of one agent with one swap of its head.
    async fn swap_in_silences(&self, notes: &[SilenceNote]) -> Result<Vec<bool>, StoreError> {
        let Some(SilenceNote { key: first, .. }) = notes.first() else {
            return Ok(Vec::new());
        };
        let (workspace, agent_id) = (&first.workspace, &first.agent_id);
        let agent = agent_hash(workspace, agent_id);
        let mut rounds = Rounds::default();
        let mut current = self.head(workspace, agent_id).await?;
        loop {
            let Some(Document {
                value: mut head,
                version,
            }) = current
            else {
                return Ok(vec![false; notes.len()]);
            };
            let mut rows = Vec::new();
            for note in notes {
                let row = self.row(workspace, &head, &note.key.session_topic).await?;
                rows.push(
                    row.filter(|row| row.seq == note.seq && row.silence == Silence::Watched.code()),
                );
            }
            let noted: Vec<bool> = rows.iter().map(Option::is_some).collect();
            if !noted.contains(&true) {
                return Ok(noted);
            }
            let topics: Vec<&str> = notes
                .iter()
                .map(|note| note.key.session_topic.as_str())
                .collect();
            self.tidy(workspace, &topics, topics.len(), &agent, &mut head)
                .await?;
            let queued = notes.iter().zip(&rows).filter(|(_, row)| row.is_some());
            let queued = queued.map(|(note, _)| {
                let place = Place::Session(&note.key.session_topic);
                (note.notifications.as_slice(), place)
            });
            let queued: Vec<_> = queued.collect();
            let (told, dropped) = self.announce(&agent, &head, &queued).await?;
            for (row, told) in rows.into_iter().flatten().zip(told) {
                head.fall_silent(row, told);
            }
            let key = head_key(&agent);
            match self.documents.swap(&key, &head, &version).await? {
                None => {
                    // What is stored is stored, whether or not this can be.
                    if let Err(error) = self.keep_dropped(dropped).await {
                        tracing::warn!(causes = %causes(&error), "what was dropped is not listed");
                    }
                    return Ok(noted);
                }
                Some(head) => current = head,
            }
            rounds.lost()?;
        }
    }
}
