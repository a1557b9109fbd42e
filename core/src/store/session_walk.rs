use std::ops::ControlFlow;

use chrono::TimeDelta;

use super::{Gathering, MAX_LOOKED_AT, MAX_PAGE_BYTES, Page, Row, WorkspaceCursor, WorkspaceQuery};
use crate::{MAX_TTL_MINUTES, NamedSession, Timestamp, search_key};

/// The most sessions that a store reads at once.
const WINDOW: usize = 2048;

/// A walk over a workspace's sessions in the order of their list. The store reads the next of them,
/// a window; which of them are wanted is decided here, alike for every store. A filter that finds
/// little would make one page read a whole workspace; so the walk ends after [`MAX_LOOKED_AT`], with
/// the place to go on from.
#[derive(Debug)]
pub struct SessionWalk<'q> {
    query: &'q WorkspaceQuery,
    now: Timestamp,
    at_once: usize,
    found: Gathering<NamedSession>,
    looked_at: usize,
    /// The size of those, where there is a filter.
    bytes: usize,
    after: Option<WorkspaceCursor>,
}

impl<'q> SessionWalk<'q> {
    /// A walk from where the query begins. A store reads at most `at_once` sessions of which it does
    /// not know how large they are. One that ends what it reads at [`MAX_PAGE_BYTES`] needs no limit.
    pub fn new(query: &'q WorkspaceQuery, now: Timestamp, at_once: usize) -> Self {
        Self {
            query,
            now,
            at_once,
            found: Gathering::new(query.limit),
            looked_at: 0,
            bytes: 0,
            after: query.after.clone(),
        }
    }

    /// The place after which the next window begins; `None` at the beginning.
    pub fn after(&self) -> Option<&WorkspaceCursor> {
        self.after.as_ref()
    }

    /// Only sessions updated later than this can be wanted; `None`: all.
    pub fn updated_after(&self) -> Option<Timestamp> {
        let state = self.query.state?;
        let longest = TimeDelta::minutes(MAX_TTL_MINUTES.into());
        state.is_unexpired().then(|| self.now - longest)
    }

    /// The size of the next window. The less is found, the larger it becomes, as far as what it
    /// holds is not larger than a page.
    pub fn window(&self) -> usize {
        let wanted = self.found.missing().min(self.at_once);
        if !self.query.filters() {
            return wanted;
        }
        let row = self.bytes / self.looked_at.max(1);
        let room = MAX_PAGE_BYTES / row.max(1);
        let left = MAX_LOOKED_AT.saturating_sub(self.looked_at);
        let window = wanted.max(self.looked_at).min(WINDOW);
        window.min(room).min(left).max(1)
    }

    /// Adds what was read of a window; breaks at the end of the walk. `is_last`: no other session
    /// follows, unless these are as large as a page.
    pub fn add(&mut self, rows: Vec<NamedSession>, mut is_last: bool) -> ControlFlow<()> {
        if let Some(last) = rows.last() {
            self.after = Some(WorkspaceCursor::after(last));
        }
        self.looked_at += rows.len();
        if self.query.filters() {
            let bytes = rows.iter().map(|row| row.size(str::len)).sum::<usize>();
            self.bytes += bytes;
            is_last &= bytes < MAX_PAGE_BYTES;
        }
        for row in rows {
            if self.wants(&row) {
                self.found.push(row)?;
            }
        }
        if is_last {
            self.after = None;
            return ControlFlow::Break(());
        }
        match self.query.filters() && self.looked_at >= MAX_LOOKED_AT {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn wants(&self, row: &NamedSession) -> bool {
        let NamedSession {
            agent_name,
            session,
        } = row;
        let WorkspaceQuery {
            state,
            status,
            search,
            ..
        } = self.query;
        let is_found = |search: &String| {
            let texts = [
                &session.session_topic,
                &session.title,
                &session.agent_id,
                agent_name,
            ];
            texts
                .into_iter()
                .any(|text| search_key(text).contains(search))
        };
        state.is_none_or(|state| session.state(self.now) == state)
            && status.is_none_or(|status| session.current_status == status)
            && search.as_ref().is_none_or(is_found)
    }

    /// The page: what was found, and where to go on.
    pub fn page(self) -> Page<NamedSession, WorkspaceCursor> {
        let page = self.found.page(WorkspaceCursor::after);
        Page {
            next: page.next.or(self.after),
            ..page
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Session, StatusKind};

    /// A session of this place in the list, whose texts take up about so many bytes.
    fn session(place: i64, bytes: usize) -> NamedSession {
        NamedSession {
            agent_name: String::new(),
            session: Session {
                agent_id: "a".into(),
                session_topic: place.to_string(),
                title: String::new(),
                created: Timestamp::UNIX_EPOCH,
                last_updated: Timestamp::UNIX_EPOCH - TimeDelta::seconds(place),
                ttl_minutes: 1,
                current_status: StatusKind::Running,
                status_since: Timestamp::UNIX_EPOCH,
                reason: String::new(),
                message: "x".repeat(bytes),
                context: Context::new(),
            },
        }
    }

    /// Walks through endless sessions; returns the sizes of the windows, and the page.
    fn walk(
        query: &WorkspaceQuery,
        bytes: usize,
    ) -> (Vec<usize>, Page<NamedSession, WorkspaceCursor>) {
        let mut walk = SessionWalk::new(query, Timestamp::UNIX_EPOCH, 200);
        let mut windows = Vec::new();
        let mut place = 0;
        loop {
            let window = walk.window();
            windows.push(window);
            let rows = (0..window).map(|_| {
                place += 1;
                session(place, bytes)
            });
            if walk.add(rows.collect(), false).is_break() {
                return (windows, walk.page());
            }
        }
    }

    #[test]
    fn a_filter_that_finds_nothing_ends_its_page_after_so_many_sessions() {
        let query = WorkspaceQuery {
            search: Some("nothing".into()),
            limit: 5,
            ..WorkspaceQuery::default()
        };
        let (windows, page) = walk(&query, 0);
        assert_eq!(windows.iter().sum::<usize>(), MAX_LOOKED_AT);
        assert!(windows.len() < 20, "{windows:?}");
        assert_eq!(page.items, []);
        let last = session(MAX_LOOKED_AT as i64, 0);
        assert_eq!(page.next, Some(WorkspaceCursor::after(&last)));
    }

    #[test]
    fn what_is_read_at_once_is_not_larger_than_a_page() {
        let query = WorkspaceQuery {
            search: Some("nothing".into()),
            limit: 5,
            ..WorkspaceQuery::default()
        };
        let (windows, _) = walk(&query, 20_000);
        let largest = windows.iter().max().unwrap();
        assert!(largest * 20_000 <= MAX_PAGE_BYTES, "{largest}");
    }

    #[test]
    fn a_full_page_goes_on_after_its_last_session() {
        for (search, limit, last) in [(None, 300, 300), (Some("7".to_owned()), 2, 17)] {
            let query = WorkspaceQuery {
                search,
                limit,
                ..WorkspaceQuery::default()
            };
            let (_, page) = walk(&query, 0);
            assert_eq!(page.items.len(), limit);
            let last = session(last, 0);
            assert_eq!(page.items.last(), Some(&last));
            assert_eq!(page.next, Some(WorkspaceCursor::after(&last)));
        }
    }

    #[test]
    fn a_walk_ends_with_the_last_session() {
        let query = WorkspaceQuery {
            limit: 2,
            ..WorkspaceQuery::default()
        };
        let mut walk = SessionWalk::new(&query, Timestamp::UNIX_EPOCH, 200);
        assert!(
            walk.add(vec![session(1, 0), session(2, 0)], true)
                .is_break()
        );
        let page = walk.page();
        assert_eq!((page.items.len(), page.next), (2, None));
    }
}
