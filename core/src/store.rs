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

/// The most agents or sessions that a filtered list looks at for one page, a few more than an
/// unfiltered page can have. The page ends there, however little was found.
pub const MAX_LOOKED_AT: usize = 10_240;

/// A row of a list, which takes up a part of a page.
pub trait Row {
    /// The most of them that a store reads at once for a page, where it knows their sizes only then:
    /// as many as are not much larger than a page at worst.
    const AT_ONCE: usize;

    /// Its size in bytes, or a little more, where its texts have these sizes.
    fn size(&self, of_text: impl Fn(&str) -> usize) -> usize;

    /// Its size in bytes as the JSON that is sent, or a little more.
    fn bytes(&self) -> usize {
        self.size(json::size)
    }
}

/// The rows for a page, gathered as storage gives them: as many as its limit, or as reach
/// [`MAX_PAGE_BYTES`], whichever comes first.
#[derive(Debug)]
pub struct Gathering<T> {
    rows: Vec<T>,
    /// So many of them have been measured, which costs more than to say how large they are at most.
    measured: usize,
    /// The size of those.
    bytes: usize,
    /// The size of all of them at most.
    bytes_at_most: usize,
    limit: usize,
    /// Whether another row follows.
    has_more: bool,
}

impl<T: Row> Gathering<T> {
    /// Nothing yet, for a page of at most `limit` rows.
    pub fn new(limit: usize) -> Self {
        Self {
            rows: Vec::new(),
            measured: 0,
            bytes: 0,
            bytes_at_most: 0,
            limit,
            has_more: false,
        }
    }

    /// The number of rows to read next.
    pub fn wanted(&self) -> usize {
        self.missing().min(T::AT_ONCE)
    }

    /// The number of rows that the page has room for, and one that would follow.
    pub(crate) fn missing(&self) -> usize {
        self.limit.saturating_add(1).saturating_sub(self.rows.len())
    }

    /// Adds the next row, or, if there is no room for it, notes that one follows and breaks.
    pub fn push(&mut self, row: T) -> ControlFlow<()> {
        if self.rows.len() >= self.limit || self.is_full() {
            self.has_more = true;
            return ControlFlow::Break(());
        }
        self.bytes_at_most += row.size(json::size_at_most);
        self.rows.push(row);
        ControlFlow::Continue(())
    }

    fn is_full(&mut self) -> bool {
        if self.bytes_at_most >= MAX_PAGE_BYTES {
            let unmeasured = &self.rows[self.measured..];
            self.bytes += unmeasured.iter().map(Row::bytes).sum::<usize>();
            self.measured = self.rows.len();
            self.bytes_at_most = self.bytes;
        }
        self.bytes_at_most >= MAX_PAGE_BYTES
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

/// The size of a row with these texts.
fn row_size<const N: usize>(texts: [&str; N], of_text: impl Fn(&str) -> usize) -> usize {
    ROW_BYTES + texts.into_iter().map(of_text).sum::<usize>()
}

impl Row for Agent {
    const AT_ONCE: usize = 1000;

    fn size(&self, of_text: impl Fn(&str) -> usize) -> usize {
        let Self {
            agent_id,
            name,
            source,
            latest_message,
            ..
        } = self;
        row_size([agent_id, name, source, latest_message], of_text)
    }
}

impl Row for Session {
    const AT_ONCE: usize = 200;

    fn size(&self, of_text: impl Fn(&str) -> usize) -> usize {
        let Self {
            agent_id,
            session_topic,
            title,
            reason,
            message,
            context,
            ..
        } = self;
        let pairs = context.iter().map(|(key, text)| {
            // With their quotation marks, colon and comma.
            of_text(key) + of_text(text) + 6
        });
        let pairs = pairs.sum::<usize>();
        100 + pairs + row_size([agent_id, session_topic, title, reason, message], &of_text)
    }
}

impl Row for NamedSession {
    const AT_ONCE: usize = Session::AT_ONCE;

    fn size(&self, of_text: impl Fn(&str) -> usize) -> usize {
        // The name of the field with its quotation marks, colon and comma.
        of_text(&self.agent_name) + 18 + self.session.size(of_text)
    }
}

impl Row for Status {
    const AT_ONCE: usize = 200;

    fn size(&self, of_text: impl Fn(&str) -> usize) -> usize {
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
        row_size([agent_id, session_topic, reason, message, content], of_text)
    }
}

impl Row for AuditEntry {
    const AT_ONCE: usize = 1000;

    fn size(&self, of_text: impl Fn(&str) -> usize) -> usize {
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
        row_size(texts.map(String::as_str), of_text)
    }
}

impl Row for ApiKey {
    const AT_ONCE: usize = 1000;

    fn size(&self, of_text: impl Fn(&str) -> usize) -> usize {
        row_size([&self.name, &self.key_prefix], of_text)
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
            for (bytes, json) in [
                (status.bytes(), serde_json::to_string(&status)),
                (
                    session.bytes(),
                    serde_json::to_string(&session.view(Timestamp::MAX_UTC)),
                ),
                (agent.bytes(), serde_json::to_string(&agent)),
            ] {
                let json = json.unwrap();
                let sizes = json.len()..=json.len() + 300;
                assert!(sizes.contains(&bytes), "{bytes} and not {sizes:?}");
            }
        }
    }

    struct Sized(usize);

    impl Row for Sized {
        const AT_ONCE: usize = 1;

        fn size(&self, of_text: impl Fn(&str) -> usize) -> usize {
            of_text(&"x".repeat(self.0))
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
