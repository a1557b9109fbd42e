//! Storage: the state of an instance, behind one trait for each noun. A store executes and never
//! decides: it does not know what a status means.
//!
//! Every implementation passes the shared suite (feature `store-suite`).

use std::error::Error;
use std::ops::ControlFlow;

mod account_list;
mod accounts;
mod api_keys;
mod audit;
mod buckets;
mod census;
mod channels;
mod memory;
mod operations;
mod outbox;
mod registration_mails;
mod session_walk;
mod sessions;
#[cfg(feature = "store-suite")]
pub mod suite;
mod tokens;

pub use crate::paging::{
    AgentCursor, ApiKeyCursor, AuditCursor, HistoryCursor, SessionCursor, WorkspaceCursor,
};
pub use account_list::AccountList;
pub use accounts::{Accounts, Audience, LATE_REPORTS, Registration};
pub use api_keys::{ApiKeyCreation, ApiKeys};
pub use audit::{Audit, AuditBounds};
pub use buckets::Buckets;
pub use census::{Census, Counts};
pub use channels::{ChannelCreation, Channels};
pub use memory::MemoryStore;
pub use outbox::{
    Failure, LONGEST_REST, LeaseRequest, LeasedNotification, MAX_DELIVERIES, MAX_WAITING, NO_ROOM,
    Outbox, PutOff, log_full, newest, without_room,
};
pub use registration_mails::RegistrationMails;
pub use session_walk::SessionWalk;
pub use sessions::{
    AgentQuery, CommitOutcome, Expiry, SessionHistory, SessionQuery, Sessions, SilenceNote,
    WorkspaceQuery,
};
pub use tokens::RefreshTokens;

use crate::audit::AuditEntry;
use crate::json;
use crate::{Agent, ApiKey, NamedSession, Session, Status, StatusEntry};

/// Why storage did not do what it was asked. Clients see 503 for either.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Storage did not answer, or answered with a failure. Whether a commit took effect may be
    /// unknown.
    #[error("storage is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// Storage refused what it was asked, and nothing was stored. A part of it, alone, may pass.
    #[error("storage refused the operation")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
    /// Others were at the same rows for too long; nothing was stored.
    #[error("storage is too contended")]
    Contended,
}

impl StoreError {
    /// Wraps the failure of a driver.
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, C> {
    /// The rows, in the list's order. May be fewer than the limit even where more follow.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<C>,
}

/// The most bytes of rows in one page, beyond which only its last row may go.
pub const MAX_PAGE_BYTES: usize = 4 << 20;

/// The most rows that a store reads at once for a page, since it knows their sizes only then.
const ROWS_AT_ONCE: usize = 200;

/// The most agents or sessions that a filtered list looks at for one page, a few more than an
/// unfiltered page can have. The page ends there, however little was found.
pub const MAX_LOOKED_AT: usize = 10_240;

/// A row of a list, which takes up a part of a page.
pub trait Row {
    /// Its size in bytes as the JSON that is sent, or a little more.
    fn bytes(&self) -> usize;
}

/// The rows for a page, gathered as storage gives them: as many as its limit, or as reach
/// [`MAX_PAGE_BYTES`], whichever comes first.
#[derive(Debug)]
pub struct Gathering<T> {
    rows: Vec<T>,
    bytes: usize,
    limit: usize,
    /// Whether another row follows.
    has_more: bool,
}

impl<T: Row> Gathering<T> {
    /// Nothing yet, for a page of at most `limit` rows.
    pub fn new(limit: usize) -> Self {
        Self {
            rows: Vec::new(),
            bytes: 0,
            limit,
            has_more: false,
        }
    }

    /// The number of rows to read next.
    pub fn wanted(&self) -> usize {
        let missing = self.limit.saturating_add(1).saturating_sub(self.rows.len());
        missing.min(ROWS_AT_ONCE)
    }

    /// Adds the next row, or, if there is no room for it, notes that one follows and breaks.
    pub fn push(&mut self, row: T) -> ControlFlow<()> {
        if self.rows.len() >= self.limit || self.bytes >= MAX_PAGE_BYTES {
            self.has_more = true;
            return ControlFlow::Break(());
        }
        self.bytes += row.bytes();
        self.rows.push(row);
        ControlFlow::Continue(())
    }

    /// Adds what was read when [`Gathering::wanted`] rows were asked for. Returns the row to go on
    /// after, unless that is enough.
    pub fn extend(&mut self, rows: Vec<T>) -> Option<&T> {
        let at_end = rows.len() < self.wanted();
        let enough = rows.into_iter().try_for_each(|row| self.push(row));
        self.rows.last().filter(|_| !at_end && enough.is_continue())
    }

    /// The page, with the place of its last row if another follows.
    pub fn page<C>(self, place: impl FnOnce(&T) -> C) -> Page<T, C> {
        let last = self.rows.last().filter(|_| self.has_more);
        Page {
            next: last.map(place),
            items: self.rows,
        }
    }
}

impl<T: Row, C> Page<T, C> {
    /// The first of `rows`, as a [`Gathering`] takes them; and the place of the last of them if more
    /// follow. No row after those is asked for but one.
    pub fn cut(
        rows: impl IntoIterator<Item = T>,
        limit: usize,
        place: impl FnOnce(&T) -> C,
    ) -> Self {
        let mut found = Gathering::new(limit);
        let _full = rows.into_iter().try_for_each(|row| found.push(row));
        found.page(place)
    }
}

impl<T, C> Page<T, C> {
    /// The page up to the row at which the sizes of its rows reach `room`.
    pub(crate) fn within(
        mut self,
        room: usize,
        size: impl Fn(&T) -> usize,
        place: impl FnOnce(&T) -> C,
    ) -> Self {
        let mut taken = 0;
        let kept = self.items.iter().take_while(|row| {
            let fits = taken < room;
            taken += size(row);
            fits
        });
        let kept = kept.count();
        if kept < self.items.len() {
            self.items.truncate(kept);
            self.next = self.items.last().map(place);
        }
        self
    }

    /// A page of nothing.
    pub fn empty() -> Self {
        Self {
            items: Vec::new(),
            next: None,
        }
    }
}

/// What the names, times and numbers of a row take up in JSON.
const ROW_BYTES: usize = 320;

/// The size of these texts in JSON, in bytes, without their quotation marks.
pub(crate) fn json_bytes<'a>(texts: impl IntoIterator<Item = &'a str>) -> usize {
    texts.into_iter().map(json::size).sum()
}

impl Row for Agent {
    fn bytes(&self) -> usize {
        let Self {
            agent_id,
            name,
            source,
            latest_message,
            ..
        } = self;
        ROW_BYTES + json_bytes([agent_id.as_str(), name, source, latest_message])
    }
}

impl Row for Session {
    fn bytes(&self) -> usize {
        let Self {
            agent_id,
            session_topic,
            title,
            reason,
            message,
            context,
            ..
        } = self;
        let texts = [agent_id, session_topic, title, reason, message];
        let pairs = context.iter().map(|(key, text)| {
            // With their quotation marks, colon and comma.
            json_bytes([key.as_str(), text]) + 6
        });
        ROW_BYTES + 100 + json_bytes(texts.map(String::as_str)) + pairs.sum::<usize>()
    }
}

impl Row for NamedSession {
    fn bytes(&self) -> usize {
        // The name of the field with its quotation marks, colon and comma.
        self.session.bytes() + json_bytes([self.agent_name.as_str()]) + 18
    }
}

impl Row for Status {
    fn bytes(&self) -> usize {
        let Self {
            agent_id,
            session_topic,
            entry,
            ..
        } = self;
        let StatusEntry {
            reason,
            message,
            content,
            ..
        } = &**entry;
        ROW_BYTES + json_bytes([&**agent_id, session_topic, reason, message, content])
    }
}

impl Row for AuditEntry {
    fn bytes(&self) -> usize {
        let Self {
            id,
            user,
            client_address,
            user_agent,
            target,
            target_id,
            ..
        } = self;
        let texts = [id, user, client_address, user_agent, target, target_id];
        ROW_BYTES + json_bytes(texts.map(String::as_str))
    }
}

impl Row for ApiKey {
    fn bytes(&self) -> usize {
        ROW_BYTES + json_bytes([self.name.as_str(), &self.key_prefix])
    }
}

/// Durable (or, in memory, living) state. Each operation is atomic; a successful answer means that
/// it is stored. Futures that are dropped midway leave an operation done or not done, never half.
///
/// `now` is the caller's clock wherever expiry is a question; nothing expires by itself.
pub trait Store:
    Sessions + Accounts + RefreshTokens + ApiKeys + Channels + Outbox + Buckets + Audit
{
    /// Whether what is queued in the outbox survives the process, so that delivery can be tried
    /// for longer than a moment.
    const DURABLE: bool;

    /// Checks whether storage answers at all.
    fn ping(&self) -> impl Future<Output = Result<(), StoreError>>;

    /// The instance's secret of this name: `candidate` becomes it if there is none yet. Every host
    /// on one storage gets the same.
    fn secret(
        &self,
        name: &str,
        candidate: &str,
    ) -> impl Future<Output = Result<String, StoreError>>;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::DateTime;

    use super::*;
    use crate::{AccountId, StatusKind, Timestamp};

    #[test]
    fn rows_are_no_larger_in_json_than_they_count() {
        let every: String = (0..=0x7f).map(char::from).chain("é中🦀".chars()).collect();
        let instant = DateTime::from_timestamp(1_800_000_000, 1000).unwrap_or_default();
        for text in [every.repeat(100), "\u{1}".repeat(1000), String::new()] {
            let status = Status {
                agent_id: text.as_str().into(),
                session_topic: text.as_str().into(),
                entry: Arc::new(StatusEntry {
                    status: StatusKind::Running,
                    timestamp: instant,
                    reason: text.clone(),
                    message: text.clone(),
                    content: text.clone(),
                }),
                seq: 1,
            };
            let session = Session {
                agent_id: text.clone(),
                session_topic: text.clone(),
                title: text.clone(),
                created: instant,
                last_updated: instant,
                ttl_minutes: 1440,
                current_status: StatusKind::Running,
                status_since: instant,
                reason: text.clone(),
                message: text.clone(),
                context: (0..20).map(|n| (format!("{n}"), text.clone())).collect(),
            };
            let agent = Agent {
                agent_id: text.clone(),
                user_id: Some(AccountId::new("x".repeat(36))),
                name: text.clone(),
                source: text.clone(),
                registered: instant,
                last_seen: instant,
                session_count: u32::MAX.into(),
                active_session_count: u32::MAX.into(),
                latest_status: Some(StatusKind::Running),
                latest_message: text.clone(),
            };
            for (row, json) in [
                (&status as &dyn Row, serde_json::to_string(&status)),
                (
                    &session,
                    serde_json::to_string(&session.view(Timestamp::MAX_UTC)),
                ),
                (&agent, serde_json::to_string(&agent)),
            ] {
                let json = json.unwrap();
                let bytes = row.bytes();
                let sizes = json.len()..=json.len() + 300;
                assert!(sizes.contains(&bytes), "{bytes} and not {sizes:?}");
            }
        }
    }

    struct Sized(usize);

    impl Row for Sized {
        fn bytes(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn a_page_ends_at_its_rows_or_its_bytes() {
        let half = MAX_PAGE_BYTES / 2;
        for (rows, limit, kept, more) in [
            (&[][..], 2, 0, false),
            (&[1, 1], 2, 2, false),
            (&[1, 1, 1], 2, 2, true),
            (&[half, half, 1], 9, 2, true),
            (&[half, half], 9, 2, false),
            (&[half, half - 1, 1, 1], 9, 3, true),
            (&[9 * MAX_PAGE_BYTES, 1], 9, 1, true),
        ] {
            let page = Page::cut(rows.iter().copied().map(Sized), limit, |row| row.0);
            assert_eq!(page.items.len(), kept, "{rows:?} {limit}");
            assert_eq!(page.next.is_some(), more, "{rows:?} {limit}");
        }
    }
}
